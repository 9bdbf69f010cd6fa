/* What the fuzz targets share. A target defines the two functions of libFuzzer and fuzz_report; it runs under libFuzzer, or with
 * standalone.c, which needs gcc or clang only. An input is a frame (extract_fuzz.c) or a list of packets (packet_input.h). */
#ifndef TAPECAST_FUZZ_H
#define TAPECAST_FUZZ_H
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

/* Prints on one line what became of the inputs so far: it shows whether they reach the code behind the first checks. */
void fuzz_report(void);

/* An invariant does not hold. */
static inline _Noreturn void fuzz_fail(const char *what) {
    fprintf(stderr, "fuzz: %s\n", what);
    abort();
}

static inline void fuzz_check(int holds, const char *what) {
    if (!holds) fuzz_fail(what);
}

static inline void *fuzz_allocate(size_t size) {
    void *p = malloc(size ? size : 1);
    fuzz_check(p != NULL, "out of memory");
    return p;
}

/* A copy in memory of exactly its size, where the address sanitizer sees every byte read beyond it. */
static inline uint8_t *fuzz_copy(const void *data, size_t size) {
    uint8_t *copy = calloc(1, size);
    fuzz_check(copy != NULL || size == 0, "out of memory");
    if (size) memcpy(copy, data, size);
    return copy;
}

static inline uint8_t *fuzz_read_file(const char *name, size_t *size) {
    FILE *file = fopen(name, "rb");
    long end = -1;
    if (file != NULL && fseek(file, 0, SEEK_END) == 0) end = ftell(file);
    fuzz_check(end >= 0, name);
    rewind(file);
    uint8_t *data = fuzz_allocate((size_t)end);
    fuzz_check(fread(data, 1, (size_t)end, file) == (size_t)end, name);
    fclose(file);
    *size = (size_t)end;
    return data;
}

/* splitmix64: every seed, also 0, 1, 2, gives a sequence of its own. */
static inline uint64_t fuzz_random64(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* A number in 0 .. below - 1. */
static inline uint32_t fuzz_random(uint64_t *state, uint32_t below) {
    return below ? (uint32_t)((fuzz_random64(state) >> 32) * below >> 32) : 0;
}

/* FNV-1a, to compare two results. */
static inline uint64_t fuzz_hash(uint64_t hash, const void *data, size_t size) {
    const uint8_t *p = data;
    for (size_t i = 0; i < size; i++) hash = (hash ^ p[i]) * UINT64_C(0x100000001B3);
    return hash;
}

#define FUZZ_HASH_START UINT64_C(0xCBF29CE484222325)

#endif

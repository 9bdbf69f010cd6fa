/* Runs a fuzz target without libFuzzer: mutates the given inputs for a number of seconds or of inputs, whichever ends first.
 *
 * TARGET [--seconds S] [--count N] [--seed N] [--save FILE] INPUT_FILE...
 *
 * Each file runs once as it is, then mutations of a file picked at random. The same seed gives the same inputs in the same order.
 * At a finding the process dies with the sanitizer's report, and the input stands in the file named by --save.
 * Built with PLANT_DEFECT it reads one byte past the end of inputs of some sizes: a harness that finds nothing there is broken. */
#include <sanitizer/common_interface_defs.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

#define ROOM 65536
#define CLOCK_EVERY 64
#define HANG_S 30

static const uint8_t *running;
static size_t running_size;
static uint64_t inputs, first_seed;
static const char *save_name;

const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

const char *__asan_default_options(void) {
    return "handle_abort=1";
}

/* Its own way to die does not call back; that of the address sanitizer does. */
const char *__ubsan_default_options(void) {
    return "abort_on_error=1:print_stacktrace=1";
}

static void on_death(void) {
    if (running == NULL) return;
    fprintf(stderr, "fuzz: input %llu of seed %llu, %zu bytes\n", (unsigned long long)inputs, (unsigned long long)first_seed, running_size);
    FILE *file = save_name ? fopen(save_name, "wb") : NULL;
    if (file == NULL) return;
    fwrite(running, 1, running_size, file);
    fclose(file);
}

static void on_alarm(int number) {
    (void)number;
    fuzz_fail("one input takes too long");
}

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void run(const uint8_t *data, size_t size) {
    uint8_t *input = fuzz_copy(data, size);
    running = input;
    running_size = size;
    LLVMFuzzerTestOneInput(input, size);
    inputs++;
#ifdef PLANT_DEFECT
    if (size % 16 == 15) (void)((volatile uint8_t *)input)[size];
#endif
    running = NULL;
    free(input);
}

int main(int argc, char **argv) {
    double seconds = 1e9;
    uint64_t count = UINT64_MAX;
    int at = 1;
    for (; at + 1 < argc && argv[at][0] == '-'; at += 2) {
        if (!strcmp(argv[at], "--seconds")) seconds = strtod(argv[at + 1], NULL);
        else if (!strcmp(argv[at], "--count")) count = strtoull(argv[at + 1], NULL, 10);
        else if (!strcmp(argv[at], "--seed")) first_seed = strtoull(argv[at + 1], NULL, 10);
        else if (!strcmp(argv[at], "--save")) save_name = argv[at + 1];
        else break;
    }
    if (at >= argc || argv[at][0] == '-') {
        fprintf(stderr, "usage: %s [--seconds S] [--count N] [--seed N] [--save FILE] INPUT_FILE...\n", argv[0]);
        return 2;
    }
    __sanitizer_set_death_callback(on_death);
    signal(SIGALRM, on_alarm);
    alarm(HANG_S);
    uint32_t files = (uint32_t)(argc - at);
    uint8_t **data = fuzz_allocate(files * sizeof *data), *scratch = fuzz_allocate(ROOM);
    size_t *sizes = fuzz_allocate(files * sizeof *sizes);
    double start = now_s(), elapsed = 0;
    for (uint32_t i = 0; i < files; i++) {
        data[i] = fuzz_read_file(argv[at + (int)i], &sizes[i]);
        fuzz_check(sizes[i] <= ROOM, "an input file is too large");
        run(data[i], sizes[i]);
    }
    uint64_t state = first_seed;
    while (inputs < count) {
        uint32_t file = fuzz_random(&state, files);
        memcpy(scratch, data[file], sizes[file]);
        run(scratch, LLVMFuzzerCustomMutator(scratch, sizes[file], ROOM, (unsigned)fuzz_random64(&state)));
        if (inputs % CLOCK_EVERY) continue;
        alarm(HANG_S);
        elapsed = now_s() - start;
        if (elapsed >= seconds) break;
    }
    elapsed = now_s() - start;
    printf("%llu inputs, %.0f/s, seed %llu: ", (unsigned long long)inputs, (double)inputs / elapsed, (unsigned long long)first_seed);
    fuzz_report();
    for (uint32_t i = 0; i < files; i++) free(data[i]);
    free(data);
    free(sizes);
    free(scratch);
    return 0;
}

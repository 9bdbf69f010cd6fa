/* Fuzz the extractor over compiled shapes. The tables come from `python -m tests.support.fuzz_tables DIRECTORY`.
 *
 * libFuzzer: define TC_LIBFUZZER, link ../extract*.c ../number.c ../iso_time.c ../blake2b.c, name the tables in TAPECAST_FUZZ_TABLES.
 * Standalone (gcc, ASan and UBSan): extract_fuzz TABLES COUNT SEED FRAME_FILE... mutates the given frames COUNT times.
 * Every frame lies in a buffer of exactly its size; every result is checked against the wire's invariants. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../extract.h"
#include "../wire.h"

#define SYMBOLS 64
#define SYMBOL_TEXT 4096

static tcx_extractor x;
static tcx_instrument instruments[SYMBOLS];
static int32_t table[2 * SYMBOLS];
static uint8_t symbols[SYMBOL_TEXT];
static uint32_t symbols_used;

static void die(const char *what) {
    fprintf(stderr, "extract_fuzz: %s\n", what);
    abort();
}

static void *allocate(size_t bytes) {
    void *p = malloc(bytes ? bytes : 1);
    if (p == NULL) die("out of memory");
    return p;
}

static uint8_t *read_file(const char *name, size_t *size) {
    FILE *file = fopen(name, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) die(name);
    long end = ftell(file);
    rewind(file);
    uint8_t *data = allocate((size_t)end);
    if (fread(data, 1, (size_t)end, file) != (size_t)end) die(name);
    fclose(file);
    *size = (size_t)end;
    return data;
}

/* File: u32 programs; each: 4 x i32 (shapes, slots, envelope, by caller), 7 x u32 sizes, 7 arrays in that order. */
static void load_tables(const char *name) {
    size_t size;
    uint8_t *file = read_file(name, &size), *p = file;
    uint32_t count;
    memcpy(&count, p, 4);
    p += 4;
    x.programs = allocate(count * sizeof(tcx_program));
    x.program_count = (int32_t)count;
    for (uint32_t i = 0; i < count; i++) {
        int32_t head[4];
        uint32_t sizes[7];
        void *arrays[7];
        memcpy(head, p, sizeof head);
        memcpy(sizes, p + sizeof head, sizeof sizes);
        p += sizeof head + sizeof sizes;
        for (int a = 0; a < 7; a++) {
            arrays[a] = allocate(sizes[a]);
            memcpy(arrays[a], p, sizes[a]);
            p += sizes[a];
        }
        x.programs[i] = (tcx_program){arrays[0], arrays[1], arrays[2], arrays[3], arrays[4], arrays[5], arrays[6],
                                      head[0],   head[1],   head[2],   head[3]};
    }
    free(file);
    memset(table, 0xFF, sizeof table);
    x.instruments = instruments;
    x.table = table;
    x.table_mask = 2 * SYMBOLS - 1;
    x.symbols = symbols;
    x.max_payload = 1400;
    x.venue_id = x.channel_id = 1;
    x.out_capacity = 1 << 16;
    x.out = allocate((size_t)x.out_capacity);
    x.row_capacity = 4096;
    x.rows = allocate((size_t)x.row_capacity * sizeof(tcx_row));
    x.element_capacity = 64;
    x.elements = allocate((size_t)x.element_capacity * sizeof(tcx_element));
    x.trades = allocate((size_t)x.element_capacity * sizeof(tcx_raw_trade));
}

static int add_symbol(const uint8_t *text, int64_t length) {
    if (x.instrument_count >= SYMBOLS || length > 64 || symbols_used + (uint32_t)length > SYMBOL_TEXT) return 0;
    int32_t index = x.instrument_count++;
    memcpy(symbols + symbols_used, text, (size_t)length);
    instruments[index] = (tcx_instrument){(uint64_t)index + 1, 0, symbols_used, (uint32_t)length, -8, -8};
    symbols_used += (uint32_t)length;
    tcx_index_instrument(&x, index);
    return 1;
}

static void check_packets(void) {
    int64_t at = 0, items = 0;
    int32_t packets = 0;
    for (; at < x.r.nbytes; packets++) {
        tc_header header;
        if (x.r.nbytes - at < TC_HEADER_SIZE) die("cut header");
        memcpy(&header, x.out + at, sizeof header);
        if (header.magic != TC_MAGIC || header.item_size != tc_min_item_size(header.msg_type)) die("bad header");
        if (header.payload_len != header.item_count * header.item_size) die("bad length");
        if (header.bid_count > header.item_count || header.item_count > TC_MAX_ITEMS) die("bad counts");
        if (TC_HEADER_SIZE + header.payload_len > x.max_payload) die("too long");
        items += header.item_count;
        at += TC_HEADER_SIZE + header.payload_len;
    }
    if (at != x.r.nbytes || packets != x.r.packets || items != x.r.items) die("bad totals");
}

static int run(const uint8_t *data, size_t size) {
    char *frame = allocate(size);
    memcpy(frame, data, size);
    int status = tcx_extract(&x, frame, (int64_t)size, 1, 0);
    if (status == TC_UNKNOWN_SYMBOL && add_symbol((const uint8_t *)frame + x.r.symbol_offset, x.r.symbol_length))
        status = tcx_extract(&x, frame, (int64_t)size, 1, 0);
    if (status == TC_OK) check_packets();
    if (status == TC_MALFORMED && (x.r.error_offset < 0 || x.r.error_offset > (int64_t)size)) die("bad offset");
    if (x.instrument_count > 0 && tcx_extract_as(&x, 0, frame, (int64_t)size, 1, 0) == TC_OK) check_packets();
    free(frame);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (x.programs == NULL) {
        const char *name = getenv("TAPECAST_FUZZ_TABLES");
        if (name == NULL) die("TAPECAST_FUZZ_TABLES is not set");
        load_tables(name);
    }
    run(data, size);
    return 0;
}

#ifndef TC_LIBFUZZER
static uint64_t state;

static uint32_t next_random(uint32_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return below ? (uint32_t)(state >> 33) % below : 0;
}

static size_t mutate(uint8_t *data, size_t size, size_t room) {
    static const char *const pieces[] = {"\"",  "\\",  "\\u00e9", "{",    "}",  "[", "]", ",", ":", "null", "true", "-",   "1e-9",
                                         "0",   "999999999999999999999", ".5", "e99999999999", " ", "\n", "\xC3\xA9", "\xFF", "{}", "[]"};
    switch (next_random(12)) {
    case 0: /* cut */
        return next_random((uint32_t)size + 1);
    case 1: /* flip a bit */
    case 2:
        if (size) data[next_random((uint32_t)size)] ^= (uint8_t)(1u << next_random(8));
        return size;
    case 3: { /* remove a range */
        size_t from = next_random((uint32_t)size + 1), length = next_random(16);
        if (length > size - from) length = size - from;
        memmove(data + from, data + from + length, size - from - length);
        return size - length;
    }
    case 4: { /* repeat a range */
        size_t from = next_random((uint32_t)size + 1), length = next_random(64);
        if (length > size - from) length = size - from;
        if (size + length > room) return size;
        memmove(data + from + length, data + from, size - from);
        return size + length;
    }
    default: { /* insert or write a piece */
        const char *piece = pieces[next_random(sizeof pieces / sizeof *pieces)];
        size_t at = next_random((uint32_t)size + 1), length = strlen(piece);
        if (next_random(2)) {
            if (size + length > room) return size;
            memmove(data + at + length, data + at, size - at);
            size += length;
        } else if (length > size - at) {
            return size;
        }
        memcpy(data + at, piece, length);
        return size;
    }
    }
}

int main(int argc, char **argv) {
    if (argc < 5) {
        fprintf(stderr, "usage: extract_fuzz TABLES COUNT SEED FRAME_FILE...\n");
        return 2;
    }
    load_tables(argv[1]);
    long count = strtol(argv[2], NULL, 10), seen[10] = {0};
    state = strtoull(argv[3], NULL, 10) * UINT64_C(0x9E3779B97F4A7C15) + 1;
    int corpus = argc - 4;
    for (int i = 0; i < corpus; i++) {
        size_t size;
        uint8_t *frame = read_file(argv[4 + i], &size);
        size_t room = size + 4096;
        uint8_t *scratch = allocate(room);
        seen[run(frame, size)]++;
        for (long n = 0; n < count / corpus; n++) {
            memcpy(scratch, frame, size);
            size_t length = size;
            for (uint32_t k = next_random(3) + 1; k > 0; k--) length = mutate(scratch, length, room);
            seen[run(scratch, length)]++;
        }
        free(scratch);
        free(frame);
    }
    for (int status = 0; status < 10; status++) printf("status %d: %ld\n", status, seen[status]);
    return 0;
}
#endif

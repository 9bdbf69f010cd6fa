/* Fuzz the extractor over compiled shapes. `python -m tests.support.fuzz_tables DIRECTORY` writes the tables, whose file
 * TAPECAST_FUZZ_TABLES names, and frames to start from.
 *
 * Every frame lies in a buffer of exactly its size, and every result is checked against the wire's invariants. A frame that was
 * extracted is extracted again, into just the room it needs (the same packets must come out) and into less (NO_SPACE). */
#include "../extract.h"
#include "../wire.h"
#include "fuzz.h"

#define SYMBOLS 64
#define SYMBOL_TEXT 4096
#define OTHER_PACKETS 4000

static tcx_extractor x;
static tcx_instrument instruments[SYMBOLS];
static int32_t table[2 * SYMBOLS];
static uint8_t symbols[SYMBOL_TEXT];
static uint32_t symbols_used;

static uint64_t seen[10];

/* File: u32 programs; each: 4 x i32 (shapes, slots, envelope, by caller), 7 x u32 sizes, 7 arrays in that order. */
static void load_tables(const char *name) {
    size_t size;
    uint8_t *file = fuzz_read_file(name, &size), *p = file;
    uint32_t count;
    memcpy(&count, p, 4);
    p += 4;
    x.programs = fuzz_allocate(count * sizeof(tcx_program));
    x.program_count = (int32_t)count;
    for (uint32_t i = 0; i < count; i++) {
        int32_t head[4];
        uint32_t sizes[7];
        void *arrays[7];
        memcpy(head, p, sizeof head);
        memcpy(sizes, p + sizeof head, sizeof sizes);
        p += sizeof head + sizeof sizes;
        for (int a = 0; a < 7; a++) {
            arrays[a] = fuzz_allocate(sizes[a]);
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
    x.out = fuzz_allocate((size_t)x.out_capacity);
    x.row_capacity = 142; /* as the long frames need */
    x.rows = fuzz_allocate((size_t)x.row_capacity * sizeof(tcx_row));
    x.element_capacity = 4;
    x.elements = fuzz_allocate((size_t)x.element_capacity * sizeof(tcx_element));
    x.trades = fuzz_allocate((size_t)x.element_capacity * sizeof(tcx_raw_trade));
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
        if (x.r.nbytes - at < TC_HEADER_SIZE) fuzz_fail("cut header");
        memcpy(&header, x.out + at, sizeof header);
        if (header.magic != TC_MAGIC || header.item_size != tc_min_item_size(header.msg_type)) fuzz_fail("bad header");
        if (header.payload_len != header.item_count * header.item_size) fuzz_fail("bad length");
        if (header.bid_count > header.item_count || header.item_count > TC_MAX_ITEMS) fuzz_fail("bad counts");
        if (TC_HEADER_SIZE + header.payload_len > x.max_payload) fuzz_fail("too long");
        items += header.item_count;
        at += TC_HEADER_SIZE + header.payload_len;
    }
    if (at != x.r.nbytes || packets != x.r.packets || items != x.r.items) fuzz_fail("bad totals");
}

/* Again, behind other packets, with `room` bytes left: what the predictions learned from the first time must not show. */
static void repeat_behind_others(const char *frame, int64_t size, int by_index, int64_t room, int expected) {
    uint8_t *out = x.out, *first = fuzz_copy(x.out, (size_t)x.r.nbytes);
    int64_t capacity = x.out_capacity, nbytes = x.r.nbytes;
    x.out_capacity = OTHER_PACKETS + room;
    x.out = fuzz_allocate((size_t)x.out_capacity);
    int status = by_index ? tcx_extract_as(&x, 0, frame, size, 1, OTHER_PACKETS) : tcx_extract(&x, frame, size, 1, OTHER_PACKETS);
    fuzz_check(status == expected, "the same frame gives another status");
    if (status == TC_OK)
        fuzz_check(x.r.nbytes == nbytes && memcmp(first, x.out + OTHER_PACKETS, (size_t)nbytes) == 0, "the same frame gives other packets");
    else
        fuzz_check(x.r.need_bytes == nbytes, "the room asked for is not what the frame needs");
    free(first);
    free(x.out);
    x.out = out;
    x.out_capacity = capacity;
    x.r.nbytes = nbytes;
}

static void check_extracted(const char *frame, int64_t size, int by_index) {
    check_packets();
    if (x.r.nbytes == 0) return;
    repeat_behind_others(frame, size, by_index, x.r.nbytes, TC_OK);
    repeat_behind_others(frame, size, by_index, x.r.nbytes - 1, TC_NO_SPACE);
}

static void forget_symbols(void) {
    memset(table, 0xFF, sizeof table);
    x.instrument_count = 0;
    symbols_used = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (x.programs == NULL) {
        const char *name = getenv("TAPECAST_FUZZ_TABLES");
        if (name == NULL) fuzz_fail("TAPECAST_FUZZ_TABLES is not set");
        load_tables(name);
    }
    forget_symbols();
    char *frame = (char *)fuzz_copy(data, size);
    int status = tcx_extract(&x, frame, (int64_t)size, 1, 0);
    if (status == TC_UNKNOWN_SYMBOL && add_symbol((const uint8_t *)frame + x.r.symbol_offset, x.r.symbol_length))
        status = tcx_extract(&x, frame, (int64_t)size, 1, 0);
    fuzz_check(status >= 0 && status < 10, "unknown status");
    seen[status]++;
    if (status == TC_MALFORMED) fuzz_check(x.r.error_offset >= 0 && x.r.error_offset <= (int64_t)size, "bad offset");
    if (status == TC_OK) check_extracted(frame, (int64_t)size, 0);
    if (x.instrument_count == 0) add_symbol((const uint8_t *)"BTCUSDT", 7);
    if (tcx_extract_as(&x, 0, frame, (int64_t)size, 1, 0) == TC_OK) check_extracted(frame, (int64_t)size, 1);
    free(frame);
    return 0;
}

static size_t mutate(uint64_t *rng, uint8_t *data, size_t size, size_t room) {
    static const char *const pieces[] = {"\"",  "\\",  "\\u00e9", "{",    "}",  "[", "]", ",", ":", "null", "true", "-",   "1e-9",
                                         "0",   "999999999999999999999", ".5", "e99999999999", " ", "\n", "\xC3\xA9", "\xFF", "{}", "[]"};
    switch (fuzz_random(rng, 16)) {
    case 0: /* cut */
        return fuzz_random(rng, (uint32_t)size + 1);
    case 1: /* flip a bit */
    case 2:
        if (size) data[fuzz_random(rng, (uint32_t)size)] ^= (uint8_t)(1u << fuzz_random(rng, 8));
        return size;
    case 3: { /* remove a range */
        size_t from = fuzz_random(rng, (uint32_t)size + 1), length = fuzz_random(rng, 16);
        if (length > size - from) length = size - from;
        memmove(data + from, data + from + length, size - from - length);
        return size - length;
    }
    case 4: { /* repeat a range */
        size_t from = fuzz_random(rng, (uint32_t)size + 1), length = fuzz_random(rng, 64);
        if (length > size - from) length = size - from;
        if (size + length > room) return size;
        memmove(data + from + length, data + from, size - from);
        return size + length;
    }
    case 5: /* another digit, a few times over: the frame mostly stays one */
    case 6:
    case 7:
    case 8:
        for (uint32_t tries = 64; size && tries > 0; tries--) {
            uint8_t *c = &data[fuzz_random(rng, (uint32_t)size)];
            if (*c >= '0' && *c <= '9') *c = (uint8_t)('0' + fuzz_random(rng, 10));
        }
        return size;
    default: { /* insert or write a piece */
        const char *piece = pieces[fuzz_random(rng, sizeof pieces / sizeof *pieces)];
        size_t at = fuzz_random(rng, (uint32_t)size + 1), length = strlen(piece);
        if (fuzz_random(rng, 2)) {
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

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    uint64_t rng = seed;
    for (uint32_t n = fuzz_random(&rng, 3) + 1; n > 0; n--) size = mutate(&rng, data, size, max_size);
    return size;
}

void fuzz_report(void) {
    static const char *const NAMES[] = {"ok", "no shape", "declined", "malformed", "wrong type", "unknown symbol", "inexact",
                                        "too large", "no space", "suppressed"};
    for (int status = 0; status < 10; status++) printf("%s%s %llu", status ? ", " : "", NAMES[status], (unsigned long long)seen[status]);
    printf("\n");
}

/* Mutates packet inputs in the terms of the format, so that most packets stay valid and reach what lies behind validation:
 * header fields, levels, item counts, the order, loss and repetition of packets; and now and then plain bytes. */
#include "packet_input.h"

#include "../wire.h"

#define MAX_LENGTH 6000 /* longer than a packet may be, on purpose */

typedef struct {
    uint8_t *data; /* of its own */
    uint16_t length;
    uint8_t control;
    uint8_t value;
} record;

static const struct {
    uint8_t offset, size;
} FIELDS[] = {{0, 2}, {2, 1}, {3, 1}, {4, 2}, {6, 1}, {7, 1}, {8, 4}, {12, 2}, {14, 2}, {16, 8}, {24, 8},
              {32, 4}, {36, 1}, {37, 1}, {38, 1}, {39, 1}, {40, 8}, {48, 8}, {56, 8}, {64, 2}};
#define N_FIELDS (sizeof FIELDS / sizeof *FIELDS)

static uint64_t odd_number(uint64_t *rng, uint64_t old) {
    static const uint64_t ODD[] = {0, 1, 2, 16, 32, 127, 128, 255, 1023, 1024, 1025, 1472, 65535, (1u << 20), (1u << 20) + 1,
                                   INT32_MAX, UINT32_MAX, INT64_MAX, (uint64_t)INT64_MIN, UINT64_MAX, UINT64_C(1) << 62,
                                   (UINT64_C(1) << 62) - 1, -(UINT64_C(1) << 62), -((UINT64_C(1) << 62) - 1)};
    switch (fuzz_random(rng, 6)) {
    case 0: return ODD[fuzz_random(rng, sizeof ODD / sizeof *ODD)];
    case 1: return old + 1;
    case 2: return old - 1;
    case 3: return old + fuzz_random(rng, 2048) - 1024;
    case 4: return old ^ (UINT64_C(1) << fuzz_random(rng, 64));
    default: return fuzz_random(rng, 8);
    }
}

static void change_number(uint64_t *rng, uint8_t *at, size_t size, const uint8_t *same_of_another) {
    uint64_t value = 0;
    if (same_of_another != NULL && fuzz_random(rng, 3) == 0) {
        memcpy(at, same_of_another, size);
        return;
    }
    memcpy(&value, at, size);
    value = odd_number(rng, value);
    memcpy(at, &value, size);
}

static void resize(record *r, size_t length) {
    uint8_t *data = fuzz_allocate(length);
    memcpy(data, r->data, length < r->length ? length : r->length);
    if (length > r->length) memset(data + r->length, (int)length, length - r->length);
    free(r->data);
    r->data = data;
    r->length = (uint16_t)length;
}

/* Another number or size of items, and lengths that agree with it. */
static void change_items(uint64_t *rng, record *r) {
    tc_header header;
    memcpy(&header, r->data, sizeof header);
    if (fuzz_random(rng, 3)) header.item_count = (uint8_t)(fuzz_random(rng, 8) ? fuzz_random(rng, 88) : fuzz_random(rng, 256));
    else header.item_size = (uint8_t)(header.item_size + fuzz_random(rng, 24));
    unsigned payload = (unsigned)header.item_count * header.item_size;
    if (payload > MAX_LENGTH - TC_HEADER_SIZE - TC_TAG_SIZE) return;
    header.payload_len = (uint16_t)payload;
    if (header.bid_count > header.item_count || fuzz_random(rng, 2)) header.bid_count = (uint8_t)fuzz_random(rng, header.item_count + 1u);
    resize(r, TC_HEADER_SIZE + payload + (header.flags & TC_FLAG_AUTH ? TC_TAG_SIZE : 0));
    memcpy(r->data, &header, sizeof header);
}

static void change_item(uint64_t *rng, record *r) {
    uint32_t numbers = (uint32_t)(r->length - TC_HEADER_SIZE) / 8;
    if (numbers) change_number(rng, r->data + TC_HEADER_SIZE + 8 * fuzz_random(rng, numbers), 8, NULL);
}

/* The numbers of this and all later packets move: a loss, a jump or a repetition. */
static void shift(uint64_t *rng, record *records, uint32_t from, uint32_t count) {
    static const uint64_t STEPS[] = {1, 2, 7, 64, 1023, 1024, 1025, 1u << 20, (1u << 20) + 1, 1u << 21, UINT64_C(1) << 63};
    uint64_t step = STEPS[fuzz_random(rng, sizeof STEPS / sizeof *STEPS)];
    if (fuzz_random(rng, 4) == 0) step = -step;
    int session = fuzz_random(rng, 4) == 0;
    for (uint32_t i = from; i < count; i++) {
        tc_header header;
        if (records[i].length < TC_HEADER_SIZE) continue;
        memcpy(&header, records[i].data, sizeof header);
        header.channel_seq += step;
        header.session += session;
        memcpy(records[i].data, &header, sizeof header);
    }
}

static void change(uint64_t *rng, record *records, uint32_t *count, uint8_t *config) {
    uint32_t at = fuzz_random(rng, *count), other = fuzz_random(rng, *count);
    record *r = &records[at], swap;
    int whole = r->length >= TC_HEADER_SIZE;
    switch (fuzz_random(rng, 16)) {
    case 0:
        swap = *r;
        *r = records[other];
        records[other] = swap;
        return;
    case 1: /* repeated elsewhere */
        if (*count == FUZZ_RECORDS) return;
        swap = (record){fuzz_copy(r->data, r->length), r->length, (uint8_t)(r->control ^ fuzz_random(rng, 4)), r->value};
        memmove(records + other + 1, records + other, (*count - other) * sizeof *records);
        records[other] = swap;
        ++*count;
        return;
    case 2: /* lost */
        if (*count == 1) return;
        free(r->data);
        memmove(r, r + 1, (*count - at - 1) * sizeof *records);
        --*count;
        return;
    case 3: r->control ^= (uint8_t)(1u << fuzz_random(rng, 7)); return;
    case 4:
        r->control = (uint8_t)fuzz_random(rng, 256);
        r->value = (uint8_t)fuzz_random(rng, fuzz_random(rng, 2) ? 8 : 256);
        return;
    case 5: *config = (uint8_t)fuzz_random(rng, 256); return;
    case 6: resize(r, fuzz_random(rng, r->length + 40u)); return;
    case 7:
        if (r->length) r->data[fuzz_random(rng, r->length)] ^= (uint8_t)(1u << fuzz_random(rng, 8));
        return;
    case 8:
        if (whole) shift(rng, records, at, *count);
        return;
    case 9: case 10:
        if (whole) change_items(rng, r);
        return;
    case 11: case 12:
        if (whole) change_item(rng, r);
        return;
    default: {
        if (!whole) return;
        uint32_t field = fuzz_random(rng, N_FIELDS);
        size_t offset = FIELDS[field].offset;
        const uint8_t *same = records[other].length >= TC_HEADER_SIZE && other != at ? records[other].data + offset : NULL;
        change_number(rng, r->data + offset, FIELDS[field].size, same);
    }
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    uint64_t rng = seed;
    fuzz_input in;
    record records[FUZZ_RECORDS];
    fuzz_parse(&in, data, size);
    uint32_t count = in.count;
    for (uint32_t i = 0; i < count; i++) {
        const fuzz_record *r = &in.records[i];
        records[i] = (record){fuzz_copy(r->data, r->length), r->length, r->control, r->value};
    }
    if (count == 0) {
        records[0] = (record){fuzz_allocate(TC_HEADER_SIZE), TC_HEADER_SIZE, 0, 0};
        memset(records[0].data, 0, TC_HEADER_SIZE);
        count = 1;
    }
    for (uint32_t n = fuzz_random(&rng, 6) + 1; n > 0; n--) change(&rng, records, &count, &in.config);
    size_t at = 0;
    if (max_size) data[at++] = in.config;
    for (uint32_t i = 0; i < count; i++) {
        const record *r = &records[i];
        if (at + FUZZ_RECORD_HEAD + r->length <= max_size) {
            data[at] = r->control;
            data[at + 1] = r->value;
            memcpy(data + at + 2, &r->length, 2);
            if (r->length) memcpy(data + at + FUZZ_RECORD_HEAD, r->data, r->length);
            at += FUZZ_RECORD_HEAD + (size_t)r->length;
        }
        free(r->data);
    }
    return at;
}

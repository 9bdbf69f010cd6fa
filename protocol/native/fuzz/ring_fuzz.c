/* Fuzz the ring: batches of packets go in, and whatever comes out is compared with everything that went in. What is older than the
 * oldest packet must not be found, everything from it on must be, whole and in order.
 *
 * config: bits 0-2 bytes of the ring, 3-4 how the numbers begin. Records with FUZZ_END_BATCH end a batch; FUZZ_SPECIAL leaves numbers out
 * before the next one. `value` says which range is read after a batch, and in how many bytes. */
#include "../ring.h"
#include "packet_input.h"

typedef struct {
    const uint8_t *data;
    size_t length;
} kept_packet;

static uint64_t total_batches, total_packets, total_served, total_overrun, total_anew;

static tc_ring make_ring(uint64_t capacity) {
    uint64_t slots = 1;
    while (slots <= capacity / TC_HEADER_SIZE) slots *= 2;
    tc_ring r = {.data = fuzz_allocate(capacity), .capacity = capacity, .mask = slots - 1};
    r.firsts = fuzz_allocate(slots * sizeof *r.firsts);
    r.places = fuzz_allocate(slots * sizeof *r.places);
    return r;
}

/* Reads from `seq` on and compares; `first` is the number of packets[0]. Returns how many packets came. */
static uint64_t check_read(const tc_ring *r, const kept_packet *packets, uint64_t first, uint64_t count, uint64_t seq, uint64_t most,
                           uint64_t nbytes) {
    uint64_t offset, length, at = 0;
    uint64_t served = tc_ring_read(r, seq, most, nbytes, &offset, &length);
    fuzz_check(served <= most && length <= nbytes && offset + length <= r->capacity, "more than was asked for");
    for (uint64_t i = 0; i < served; i++) {
        fuzz_check(seq >= first && seq - first + i < count, "a packet that never was");
        const kept_packet *p = &packets[seq - first + i];
        fuzz_check(at + p->length <= length && memcmp(r->data + offset + at, p->data, p->length) == 0, "another packet");
        at += p->length;
    }
    fuzz_check(at == length, "bytes behind the packets");
    total_served += served;
    return served;
}

static void check_held(const tc_ring *r, const kept_packet *packets, uint64_t first, uint64_t count) {
    uint64_t oldest = r->tail < r->head ? r->firsts[r->tail & r->mask] : r->next_seq;
    fuzz_check(oldest >= first && r->next_seq == first + count, "numbers that never were");
    for (uint64_t seq = oldest; seq < first + count; seq++)
        fuzz_check(check_read(r, packets, first, count, seq, 1, TC_MAX_PACKET) == 1, "a packet that is held is not found");
    fuzz_check(!check_read(r, packets, first, count, oldest - 1, 1, TC_MAX_PACKET), "a packet before the oldest");
    fuzz_check(!check_read(r, packets, first, count, first + count, 1, TC_MAX_PACKET), "a packet that is still to come");
    total_overrun += oldest > first;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint64_t BYTES[] = {66, 200, 500, 1000, 1472, 3000, 8000, 1 << 16};
    static const uint64_t FIRSTS[] = {1, 2, UINT32_MAX, UINT64_C(1) << 60};
    fuzz_input in;
    fuzz_parse(&in, data, size);
    tc_ring r = make_ring(BYTES[in.config & 7]);
    uint64_t first = FIRSTS[in.config >> 3 & 3], count = 0, seq = first;
    kept_packet packets[FUZZ_RECORDS];
    for (uint32_t i = 0; i < in.count;) {
        size_t bytes = 0;
        uint32_t from = i, batch = 0;
        for (int end = 0; i < in.count && !end; i++) {
            const fuzz_record *record = &in.records[i];
            end = record->control & FUZZ_END_BATCH;
            if (tc_packet_length(record->data, record->length) == record->length && record->length) bytes += record->length;
        }
        if (in.records[from].control & FUZZ_SPECIAL) {
            first = seq += 1 + in.records[from].value;
            count = 0;
            total_anew++;
        }
        uint8_t *buffer = fuzz_allocate(bytes);
        size_t at = 0;
        for (uint32_t k = from; k < i; k++) {
            const fuzz_record *record = &in.records[k];
            if (!record->length || tc_packet_length(record->data, record->length) != record->length) continue;
            memcpy(buffer + at, record->data, record->length);
            at += record->length;
            packets[count + batch++] = (kept_packet){record->data, record->length};
        }
        tc_ring_append(&r, seq, batch, buffer, bytes);
        free(buffer);
        if (!batch) continue;
        seq += batch;
        count += batch;
        total_batches++;
        total_packets += batch;
        check_held(&r, packets, first, count);
        uint8_t value = in.records[from].value;
        check_read(&r, packets, first, count, first + value % count, 1 + value % 7, (uint64_t)value * 20);
    }
    free(r.data);
    free(r.firsts);
    free(r.places);
    return 0;
}

void fuzz_report(void) {
    printf("batches %llu, packets %llu, served %llu, overrun %llu, anew %llu\n", (unsigned long long)total_batches,
           (unsigned long long)total_packets, (unsigned long long)total_served, (unsigned long long)total_overrun,
           (unsigned long long)total_anew);
}

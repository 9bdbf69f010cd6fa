/* The ring; its rules stand in protocol/ring.py. A batch lies in one piece, so it is copied once and served without a copy. */
#include "ring.h"

#include <string.h>

/* Keeps the contiguous packets of `buffer`, numbered from `first_seq` on. */
void tc_ring_append(tc_ring *r, uint64_t first_seq, uint64_t packets, const uint8_t *buffer, uint64_t nbytes) {
    if (!packets)
        return;
    if (first_seq != r->next_seq || nbytes > r->capacity)
        r->tail = r->head;
    r->next_seq = first_seq + packets;
    if (nbytes > r->capacity)
        return;
    uint64_t place = r->end, at = place % r->capacity;
    if (at + nbytes > r->capacity) {
        r->skip_from = place;
        place += r->capacity - at;
        at = 0;
    }
    r->end = place + nbytes;
    while (r->tail < r->head && r->places[r->tail & r->mask] + r->capacity < r->end)
        r->tail++;
    r->firsts[r->head & r->mask] = first_seq;
    r->places[r->head & r->mask] = place;
    r->head++;
    memcpy(r->data + at, buffer, nbytes);
}

/* Number of the last batch that does not begin after `seq`; the oldest one does not. */
static uint64_t batch_of(const tc_ring *r, uint64_t seq) {
    uint64_t low = r->tail, high = r->head - 1;
    while (low < high) {
        uint64_t middle = low + (high - low + 1) / 2;
        if (r->firsts[middle & r->mask] <= seq)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* Walks over whole packets: at most `packets` of them, in at most `nbytes`. Returns how many; their bytes go to `length`. */
static uint64_t walk(const uint8_t *data, uint64_t have, uint64_t packets, uint64_t nbytes, uint64_t *length) {
    uint64_t pos = 0, count = 0;
    while (count < packets && pos < have) {
        size_t n = tc_packet_length(data + pos, have - pos);
        if (!n || pos + n > nbytes)
            break;
        pos += n;
        count++;
    }
    *length = pos;
    return count;
}

/* Finds packets from `first_seq` on: at most `packets`, in at most `nbytes`, as far as they lie in one piece of data, which is
 * told by `offset` and `length`. Returns how many. */
uint64_t tc_ring_read(const tc_ring *r, uint64_t first_seq, uint64_t packets, uint64_t nbytes, uint64_t *offset,
                      uint64_t *length) {
    *offset = *length = 0;
    if (r->tail == r->head || first_seq < r->firsts[r->tail & r->mask] || first_seq >= r->next_seq)
        return 0;
    uint64_t batch = batch_of(r, first_seq);
    uint64_t place = r->places[batch & r->mask], before = first_seq - r->firsts[batch & r->mask], skipped;
    uint64_t have = (place < r->skip_from ? r->skip_from : r->end) - place;
    const uint8_t *data = r->data + place % r->capacity;
    if (walk(data, have, before, UINT64_MAX, &skipped) != before)
        return 0;
    *offset = place % r->capacity + skipped;
    return walk(data + skipped, have - skipped, packets, nbytes, length);
}

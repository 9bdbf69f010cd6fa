/* A sealed packet is the packet with the AUTH flag, and behind it the keyed BLAKE2b of header and payload as they leave. */
#include "auth.h"

#include <string.h>

#include "blake2b.h"
#include "send.h"
#include "wire.h"

/* Returns how many bytes the contiguous packets of `buffer` have once they are sealed, or an error code with `error_offset` set. */
int64_t tc_seal_size(tc_sealer *s, const uint8_t *buffer, uint64_t nbytes) {
    uint64_t size = 0;
    for (uint64_t pos = 0; pos < nbytes;) {
        s->error_offset = pos;
        size_t n = tc_packet_length(buffer + pos, nbytes - pos);
        if (!n)
            return TC_SEAL_MALFORMED;
        if (((const tc_header *)(buffer + pos))->flags & TC_FLAG_AUTH)
            return TC_SEAL_SEALED;
        if (n + TC_TAG_SIZE > TC_MAX_PACKET)
            return TC_SEAL_NO_ROOM;
        size += n + TC_TAG_SIZE;
        if (size > s->capacity)
            return TC_SEAL_CAPACITY;
        pos += n;
    }
    return (int64_t)size;
}

/* Writes the sealed packets of `buffer`, which tc_seal_size has accepted, to `out`. */
void tc_seal(tc_sealer *s, const uint8_t *buffer, uint64_t nbytes) {
    uint8_t *out = s->out;
    for (uint64_t pos = 0; pos < nbytes;) {
        size_t n = TC_HEADER_SIZE + (size_t)((const tc_header *)(buffer + pos))->payload_len;
        uint64_t tag[2];
        memcpy(out, buffer + pos, n);
        ((tc_header *)out)->flags |= TC_FLAG_AUTH;
        tc_blake2b_tag(s->key, out, n, tag);
        memcpy(out + n, tag, TC_TAG_SIZE);
        out += n + TC_TAG_SIZE;
        pos += n;
    }
}

/* Whether a validated packet with a tag has the right one, under any key of its channel; a channel without keys has none.
 * Every byte of a tag is looked at, whatever the ones before it were. */
int tc_is_authentic(const tc_channel_keys *keys, uint32_t n_keys, const uint8_t *packet, uint32_t length) {
    uint16_t channel_id = ((const tc_header *)packet)->channel_id;
    uint64_t given[2], tag[2];
    memcpy(given, packet + length - TC_TAG_SIZE, TC_TAG_SIZE);
    for (uint32_t i = 0; i < n_keys; i++) {
        if (keys[i].channel_id != channel_id)
            continue;
        for (uint32_t k = 0; k < keys[i].n_keys; k++) {
            tc_blake2b_tag(keys[i].keys[k], packet, length - TC_TAG_SIZE, tag);
            if (!((given[0] ^ tag[0]) | (given[1] ^ tag[1])))
                return 1;
        }
        return 0;
    }
    return 0;
}

/* Authentication of packets; specification, section 10: sealing what leaves, checking what comes. */
#ifndef TAPECAST_AUTH_H
#define TAPECAST_AUTH_H
#include <stdint.h>

/* cdef */
typedef struct {
    uint64_t key[8];       /* tc_blake2b_key */
    uint8_t *out;          /* the sealed packets of the last call */
    uint64_t capacity;
    uint64_t error_offset; /* of the packet that was refused */
} tc_sealer;

typedef struct {
    uint64_t keys[2][8];   /* tc_blake2b_key: a second one while keys are being changed */
    uint32_t n_keys;       /* 1-2 */
    uint32_t channel_id;
} tc_channel_keys;

int64_t tc_seal_size(tc_sealer *s, const uint8_t *buffer, uint64_t nbytes);
void tc_seal(tc_sealer *s, const uint8_t *buffer, uint64_t nbytes);
int tc_is_authentic(const tc_channel_keys *keys, uint32_t n_keys, const uint8_t *packet, uint32_t length);
/* end cdef */

#define TC_SEAL_MALFORMED (-1) /* no packet at error_offset */
#define TC_SEAL_SEALED (-4)    /* the packet has a tag */
#define TC_SEAL_NO_ROOM (-5)   /* a datagram has no room for this packet and its tag */
#define TC_SEAL_CAPACITY (-6)  /* `out` is too small */

#endif

/* BLAKE2b (RFC 7693) of texts in one piece: the id of a trade that the venue names by a text, and the tags of packets. */
#ifndef TAPECAST_BLAKE2B_H
#define TAPECAST_BLAKE2B_H
#include <stddef.h>
#include <stdint.h>

/* cdef */
/* The digest of 8 bytes of a text without a key, read little-endian. */
uint64_t tc_blake2b64(const char *text, size_t length);
/* The state after a key of 32 bytes, for digests of 16 bytes: what every text under that key begins with. As secret as the key. */
void tc_blake2b_key(uint64_t state[8], const uint8_t *key);
/* The digest of a text of at least one byte, begun with the state of a key. */
void tc_blake2b_tag(const uint64_t state[8], const uint8_t *text, size_t length, uint64_t tag[2]);
/* end cdef */

#endif

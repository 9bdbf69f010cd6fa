/* BLAKE2b (RFC 7693) without key and with a digest of 8 bytes: the id of a trade that the venue names by a text. */
#ifndef TAPECAST_BLAKE2B_H
#define TAPECAST_BLAKE2B_H
#include <stddef.h>
#include <stdint.h>

/* cdef */
/* The digest of a text, read little-endian. */
uint64_t tc_blake2b64(const char *text, size_t length);
/* end cdef */

#endif

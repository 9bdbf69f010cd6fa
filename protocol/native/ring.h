/* The last packets of a channel, in their own bytes, within a bound of bytes: for the recovery service. */
#ifndef TAPECAST_RING_H
#define TAPECAST_RING_H
#include <stdint.h>

#include "send.h"

/* cdef */
typedef struct {
    uint8_t *data;
    uint64_t capacity;  /* bytes of data */
    uint64_t *firsts;   /* channel_seq of the first packet of each batch, by batch number & mask */
    uint64_t *places;   /* where each batch begins, in bytes since the beginning; & capacity it lies in data */
    uint64_t mask;      /* slots - 1; as many slots as packets can be in data */
    uint64_t tail;      /* number of the oldest batch */
    uint64_t head;      /* number that the next batch gets; equal to tail: empty */
    uint64_t end;       /* place behind the newest byte */
    uint64_t skip_from; /* place of the end of data that the last batch to wrap left empty */
    uint64_t next_seq;  /* behind the newest packet; 0 = there never was one */
} tc_ring;

void tc_ring_append(tc_ring *r, uint64_t first_seq, uint64_t packets, const uint8_t *buffer, uint64_t nbytes);
uint64_t tc_ring_read(const tc_ring *r, uint64_t first_seq, uint64_t packets, uint64_t nbytes, uint64_t *offset,
                      uint64_t *length);
/* end cdef */

#endif

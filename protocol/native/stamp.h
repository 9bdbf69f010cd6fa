/* Numbering packets at publication: session, channel and instrument sequence, send time; and sending in the same call. */
#ifndef TAPECAST_STAMP_H
#define TAPECAST_STAMP_H
#include <stdint.h>

#include "send.h"

/* cdef */
typedef struct {
    uint64_t next_seq;      /* channel_seq of the next sequenced packet */
    uint32_t session;
    uint32_t n_instruments; /* rows of seqs */
    uint32_t *seqs;         /* [n_instruments][16]: last instrument_seq by msg_type column */
    uint64_t error_offset;  /* of the packet that was refused */
} tc_stamper;

int tc_stamp_column(unsigned msg_type);
int64_t tc_stamp(tc_stamper *s, uint8_t *buffer, uint64_t nbytes, int keep, uint16_t flags, int64_t ts_send_ns);
int64_t tc_stamp_state(tc_stamper *s, uint8_t *buffer, uint64_t nbytes, int64_t ts_send_ns);
int64_t tc_publish(tc_stamper *s, tc_sender *line_a, tc_sender *line_b, uint8_t *buffer, uint64_t nbytes, int keep,
                   uint16_t flags);
/* end cdef */

#define TC_STAMP_COLUMNS 16
#define TC_STAMP_MALFORMED (-1)  /* no packet at error_offset */
#define TC_STAMP_BAD_INDEX (-2)  /* instrument index outside the table */
#define TC_STAMP_BAD_TYPE (-3)   /* names an instrument, but the type has no column */
#define TC_STAMP_BAD_FLAGS (-4)  /* AUTH cannot be added: it changes the length */

#endif

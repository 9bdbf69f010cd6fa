/* The input of the packet targets: one byte of configuration, then records of control u8, value u8, length u16 and that many bytes.
 * What control and value mean says each target. `tests/support/fuzz_packets.py` writes the inputs to start from. */
#ifndef TAPECAST_FUZZ_PACKET_INPUT_H
#define TAPECAST_FUZZ_PACKET_INPUT_H
#include "fuzz.h"

#define FUZZ_RECORDS 96 /* of an input; what follows is left out */
#define FUZZ_RECORD_HEAD 4

/* control */
#define FUZZ_LINE 0x03      /* line the packet arrives on */
#define FUZZ_END_BATCH 0x04 /* this record is the last of its call */
#define FUZZ_TIME 0x38      /* step of the clock before the record's batch */
#define FUZZ_SPECIAL 0x80   /* `value` says what */

typedef struct {
    const uint8_t *data;
    uint16_t length;
    uint8_t control;
    uint8_t value;
} fuzz_record;

typedef struct {
    fuzz_record records[FUZZ_RECORDS];
    uint32_t count;
    uint8_t config;
} fuzz_input;

/* Any bytes are an input; a record whose length is beyond the end is cut. */
static inline void fuzz_parse(fuzz_input *in, const uint8_t *data, size_t size) {
    in->count = 0;
    in->config = size ? data[0] : 0;
    for (size_t at = 1; in->count < FUZZ_RECORDS && size >= at + FUZZ_RECORD_HEAD;) {
        fuzz_record *r = &in->records[in->count++];
        r->control = data[at];
        r->value = data[at + 1];
        memcpy(&r->length, data + at + 2, 2);
        at += FUZZ_RECORD_HEAD;
        if (r->length > size - at) r->length = (uint16_t)(size - at);
        r->data = data + at;
        at += r->length;
    }
}

#endif

/* What the two halves of the sequencer share: sequence.c takes packets in, sequence_window.c keeps them in order. */
#ifndef TAPECAST_SEQUENCE_WINDOW_H
#define TAPECAST_SEQUENCE_WINDOW_H
#include "sequence.h"

static inline int is_behind(uint64_t seq, uint64_t next) {
    return (seq - next) >> 63 != 0;
}

static inline void deliver(tc_sequencer *s, const tc_span *span) {
    if (s->n_out == s->max_out)
        return;
    tc_run *run = s->n_runs ? &s->runs[s->n_runs - 1] : NULL;
    uint32_t held = (span->flags & TC_SPAN_HELD) != 0;
    if (run && run->held == held && run->offset + run->nbytes == span->offset) {
        run->nbytes += span->length;
        run->packets++;
    } else {
        s->runs[s->n_runs++] = (tc_run){.offset = span->offset, .nbytes = span->length, .first = s->n_out, .packets = 1, .held = held};
    }
    s->out[s->n_out++] = *span;
    s->counters[TC_COUNT_DELIVERED]++;
}

static inline tc_event *report(tc_sequencer *s, const tc_channel *ch, uint8_t kind, uint64_t first, uint64_t count) {
    if (s->n_events == s->max_events)
        return NULL;
    tc_event *e = &s->events[s->n_events++];
    *e = (tc_event){.kind = kind, .channel_id = ch->channel_id, .session = ch->session, .position = s->n_out};
    e->first = first;
    e->count = count;
    return e;
}

void tc_window_advance(tc_sequencer *s, tc_channel *ch);
void tc_window_check_end(tc_sequencer *s, tc_channel *ch);
void tc_window_flush(tc_sequencer *s, tc_channel *ch);
void tc_window_give_up(tc_sequencer *s, tc_channel *ch, uint64_t end);
void tc_window_place(tc_sequencer *s, tc_channel *ch, const tc_header *h, const tc_span *span);
int64_t tc_window_expire(tc_sequencer *s, tc_channel *ch);

#endif

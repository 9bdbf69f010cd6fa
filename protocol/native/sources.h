/* Who may send on a channel's lines, as far as addresses tell; a part of sequence.c. */
#ifndef TAPECAST_SOURCES_H
#define TAPECAST_SOURCES_H
#include "sequence.h"

static inline int is_allowed(const tc_sequencer *s, uint32_t addr) {
    for (uint32_t i = 0; i < s->n_allowed; i++)
        if (s->allowed[i] == addr)
            return 1;
    return !s->n_allowed;
}

/* A line's source is the one it was learned with; with a newer session (a restart) the same host from any port, and any host where
 * those that may send are listed. */
static inline int is_expected(const tc_sequencer *s, const tc_line *l, const tc_channel *ch, const tc_header *h, const tc_span *span) {
    if (!l)
        return 0;
    if (!l->used)
        return 1;
    int newer = h->session > ch->session;
    int host = l->addr == span->addr || l->used == TC_LINE_ANY_HOST || (newer && s->n_allowed);
    return host && (!l->port || l->port == span->port || newer);
}

static inline void learn_source(tc_line *l, const tc_span *span) {
    l->used = TC_LINE_HEARD;
    l->line = span->line;
    l->addr = span->addr;
    l->port = span->port;
}

/* A new session: the publisher has begun again, from other ports, and where senders are listed perhaps on another host. */
static inline void forget_sources(const tc_sequencer *s, tc_channel *ch) {
    for (unsigned i = 0; i < 4; i++) {
        ch->lines[i].port = 0;
        if (ch->lines[i].used && s->n_allowed)
            ch->lines[i].used = TC_LINE_ANY_HOST;
    }
}

#endif

/* The receiver's sequencing machine; specification sections 2 and 6. The rules are told in protocol/sequencing_reference.py, whose
 * answers these are. */
#include "sequence.h"

#include <string.h>
#include <time.h>

#include "sources.h"

static uint32_t *window_of(tc_sequencer *s, const tc_channel *ch) {
    return s->window + (size_t)(ch - s->channels) * TC_WINDOW;
}

static int is_behind(uint64_t seq, uint64_t next) {
    return (seq - next) >> 63 != 0;
}

static void deliver(tc_sequencer *s, const tc_span *span) {
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

static tc_event *report(tc_sequencer *s, const tc_channel *ch, uint8_t kind, uint64_t first, uint64_t count) {
    if (s->n_events == s->max_events)
        return NULL;
    tc_event *e = &s->events[s->n_events++];
    *e = (tc_event){.kind = kind, .channel_id = ch->channel_id, .session = ch->session, .position = s->n_out};
    e->first = first;
    e->count = count;
    return e;
}

static void check_end(tc_sequencer *s, tc_channel *ch) {
    if ((ch->state & TC_CHANNEL_ENDING) && !is_behind(ch->next, ch->end_seq)) {
        ch->state = (uint16_t)((ch->state & ~TC_CHANNEL_ENDING) | TC_CHANNEL_ENDED);
        report(s, ch, TC_EVENT_SESSION_END, ch->next, 0);
    }
}

static void find_oldest(tc_sequencer *s, tc_channel *ch) {
    const uint32_t *window = window_of(s, ch);
    ch->oldest_ns = INT64_MAX;
    for (uint32_t i = 1, left = ch->held; left && i < TC_WINDOW; i++) {
        uint32_t slot = window[(ch->next + i) % TC_WINDOW];
        if (!slot)
            continue;
        left--;
        if (s->slot_ns[slot - 1] < ch->oldest_ns)
            ch->oldest_ns = s->slot_ns[slot - 1];
    }
}

/* After `next` has moved: delivers what is held from there on, and drops announcements that are met. */
static void advance(tc_sequencer *s, tc_channel *ch) {
    uint32_t *window = window_of(s, ch);
    uint32_t before = ch->held;
    while (ch->held) {
        uint32_t *entry = &window[ch->next % TC_WINDOW];
        if (!*entry)
            break;
        uint32_t slot = *entry - 1;
        *entry = 0;
        deliver(s, &s->slot_span[slot]);
        s->used_slots[s->n_used++] = slot;
        ch->held--;
        ch->next++;
    }
    if (ch->held && ch->held != before)
        find_oldest(s, ch);
    if ((ch->state & TC_CHANNEL_TAIL) && !is_behind(ch->next, ch->tail_seq))
        ch->state &= (uint16_t)~TC_CHANNEL_TAIL;
    check_end(s, ch);
}

/* Gives up the oldest hole: up to the first held packet, or to `bound` where that comes first. */
static void close_hole(tc_sequencer *s, tc_channel *ch, uint64_t bound) {
    const uint32_t *window = window_of(s, ch);
    uint64_t end = bound;
    uint64_t reach = bound - ch->next < TC_WINDOW ? bound - ch->next : TC_WINDOW;
    for (uint64_t i = 1; ch->held && i < reach; i++)
        if (window[(ch->next + i) % TC_WINDOW]) {
            end = ch->next + i;
            break;
        }
    report(s, ch, TC_EVENT_GAP, ch->next, end - ch->next);
    s->counters[TC_COUNT_GAPS]++;
    s->counters[TC_COUNT_MISSING] += end - ch->next;
    ch->next = end;
    advance(s, ch);
}

/* Before a reset: everything held is delivered, everything known to be missing is reported. */
static void flush(tc_sequencer *s, tc_channel *ch) {
    while (ch->held)
        close_hole(s, ch, ch->next + TC_WINDOW);
    while (ch->state & TC_CHANNEL_TAIL)
        close_hole(s, ch, ch->tail_seq);
}

/* Puts the packet into the window. Returns 0 when the store is full. */
static int hold(tc_sequencer *s, tc_channel *ch, uint64_t seq, const uint8_t *packet, const tc_span *span, int64_t now_ns) {
    if (!s->n_free)
        return 0;
    uint32_t slot = s->free_slots[--s->n_free];
    memcpy(s->store + (size_t)slot * TC_SLOT_SIZE, packet, span->length);
    s->slot_span[slot] = *span;
    s->slot_span[slot].offset = slot * TC_SLOT_SIZE;
    s->slot_span[slot].flags |= TC_SPAN_HELD;
    s->slot_ns[slot] = now_ns;
    window_of(s, ch)[seq % TC_WINDOW] = slot + 1;
    if (!ch->held || now_ns < ch->oldest_ns)
        ch->oldest_ns = now_ns;
    ch->held++;
    s->counters[TC_COUNT_HELD]++;
    return 1;
}

static tc_line *line_of(tc_channel *ch, unsigned line) {
    for (unsigned i = 0; i < 4; i++) {
        if (!ch->lines[i].used)
            return &ch->lines[i];
        if (ch->lines[i].line == line)
            return &ch->lines[i];
    }
    return NULL;
}

static void count_line(tc_line *l, uint64_t seq) {
    if (!l || (l->received && is_behind(seq, l->base)))
        return;
    if (!l->received++) {
        l->base = l->highest = seq;
    } else if (!is_behind(seq, l->highest)) {
        l->highest = seq;
    }
}

static void forget_lines(tc_channel *ch) {
    for (unsigned i = 0; i < 4; i++)
        ch->lines[i].received = 0;
}

/* Two numbers in a row far ahead make a jump; one alone is a stray. Returns 1 when `seq` confirms, `then` is what would. */
static int confirm_jump(tc_sequencer *s, tc_channel *ch, uint64_t seq, uint64_t then) {
    if ((ch->state & TC_CHANNEL_CANDIDATE) && seq == ch->candidate) {
        ch->state &= (uint16_t)~TC_CHANNEL_CANDIDATE;
        flush(s, ch);
        report(s, ch, TC_EVENT_JUMP, ch->next, seq - ch->next);
        s->counters[TC_COUNT_JUMPS]++;
        forget_lines(ch);
        ch->next = seq;
        check_end(s, ch);
        return 1;
    }
    ch->state |= TC_CHANNEL_CANDIDATE;
    ch->candidate = then;
    s->counters[TC_COUNT_JUMP_UNCONFIRMED]++;
    return 0;
}

static void announce(tc_sequencer *s, tc_channel *ch, const tc_header *h, const tc_span *span, tc_line *line, int64_t now_ns) {
    uint64_t seq = h->channel_seq, ahead = seq - ch->next;
    if (!is_behind(seq, ch->next) && ahead > TC_MAX_JUMP) {
        if (!confirm_jump(s, ch, seq, seq))
            return;
        ahead = 0;
    }
    s->counters[TC_COUNT_UNSEQUENCED]++;
    deliver(s, span);
    if (line && line->received && !is_behind(seq - 1, line->highest))
        line->highest = seq - 1;
    if (ahead && !is_behind(seq, ch->next) && !(ch->state & TC_CHANNEL_TAIL)) {
        ch->state |= TC_CHANNEL_TAIL;
        ch->tail_seq = seq;
        ch->tail_ns = now_ns;
    }
    if (h->msg_type == TC_MSG_SESSION_END && !(ch->state & (TC_CHANNEL_ENDING | TC_CHANNEL_ENDED))) {
        ch->state |= TC_CHANNEL_ENDING;
        ch->end_seq = seq;
        check_end(s, ch);
    }
}

static void order(tc_sequencer *s, tc_channel *ch, const tc_header *h, const tc_span *span, tc_line *line, int64_t now_ns) {
    uint64_t seq = h->channel_seq;
    if (seq != ch->next) {
        if (is_behind(seq, ch->next)) {
            count_line(line, seq);
            s->counters[TC_COUNT_DUPLICATE]++;
            return;
        }
        if (seq - ch->next > TC_MAX_JUMP && !confirm_jump(s, ch, seq, seq + 1))
            return;
        count_line(line, seq);
        while (seq - ch->next >= s->window_packets)
            close_hole(s, ch, seq);
        if (seq != ch->next) {
            if (window_of(s, ch)[seq % TC_WINDOW]) {
                s->counters[TC_COUNT_DUPLICATE]++;
                return;
            }
            if (hold(s, ch, seq, (const uint8_t *)h, span, now_ns))
                return;
            while (seq != ch->next)
                close_hole(s, ch, seq);
        }
    } else {
        count_line(line, seq);
    }
    deliver(s, span);
    ch->next++;
    if (ch->held || ch->state)
        advance(s, ch);
}

static tc_channel *find_channel(tc_sequencer *s, uint16_t channel_id) {
    if (s->hint < s->n_channels && s->channels[s->hint].channel_id == channel_id)
        return &s->channels[s->hint];
    for (uint32_t i = 0; i < s->n_channels; i++)
        if (s->channels[i].channel_id == channel_id) {
            s->hint = i;
            return &s->channels[i];
        }
    return NULL;
}

static tc_channel *add_channel(tc_sequencer *s, const tc_header *h) {
    if (s->n_channels == s->max_channels)
        return NULL;
    tc_channel *ch = &s->channels[s->n_channels++];
    memset(ch, 0, sizeof *ch);
    ch->channel_id = h->channel_id;
    ch->session = h->session;
    ch->next = h->channel_seq;
    report(s, ch, TC_EVENT_JOINED, ch->next, 0);
    return ch;
}

static void new_session(tc_sequencer *s, tc_channel *ch, const tc_header *h) {
    flush(s, ch);
    uint32_t previous = ch->session;
    ch->session = h->session;
    ch->next = h->channel_seq - 1 < s->window_packets ? 1 : h->channel_seq;
    ch->state = 0;
    forget_lines(ch);
    forget_sources(s, ch);
    report(s, ch, TC_EVENT_NEW_SESSION, ch->next, previous);
    s->counters[TC_COUNT_SESSIONS]++;
}

static void other_source(tc_sequencer *s, const tc_header *h, const tc_span *span, int64_t now_ns) {
    s->counters[TC_COUNT_OTHER_SOURCE]++;
    if (s->alarm_ns != INT64_MIN && now_ns - s->alarm_ns < TC_ALARM_NS)
        return;
    s->alarm_ns = now_ns;
    tc_channel shown = {.channel_id = h->channel_id, .session = h->session};
    tc_event *e = report(s, &shown, TC_EVENT_OTHER_SOURCE, h->channel_seq, 0);
    if (e) {
        e->line = span->line;
        e->addr = span->addr;
        e->port = span->port;
    }
}

static void push(tc_sequencer *s, const uint8_t *base, const tc_span *span, int64_t now_ns) {
    const tc_header *h = (const tc_header *)(base + span->offset);
    s->counters[TC_COUNT_RECEIVED]++;
    int reason = tc_validate((const uint8_t *)h, span->length, span->flags, s->n_keys != 0);
    if (s->n_keys && !reason && !tc_is_authentic(s->keys, s->n_keys, (const uint8_t *)h, span->length))
        reason = TC_COUNT_BAD_AUTH;
    if (reason) {
        s->counters[reason]++;
        return;
    }
    if (s->n_allowed && !is_allowed(s, span->addr)) {
        other_source(s, h, span, now_ns);
        return;
    }
    tc_channel *ch = find_channel(s, h->channel_id);
    if (!ch && !(ch = add_channel(s, h))) {
        s->counters[TC_COUNT_CHANNEL_LIMIT]++;
        return;
    }
    tc_line *line = line_of(ch, span->line);
    if (s->learn_sources && !is_expected(s, line, ch, h, span)) {
        other_source(s, h, span, now_ns);
        return;
    }
    if (h->session != ch->session) {
        if (h->session < ch->session) {
            s->counters[TC_COUNT_OLD_SESSION]++;
            return;
        }
        new_session(s, ch, h);
    }
    if (line)
        learn_source(line, span);
    if (h->msg_type == TC_MSG_HEARTBEAT || h->msg_type == TC_MSG_SESSION_END) {
        announce(s, ch, h, span, line, now_ns);
        return;
    }
    if (!tc_min_item_size(h->msg_type))
        s->counters[TC_COUNT_UNKNOWN_TYPE]++;
    order(s, ch, h, span, line, now_ns);
}

static void expire(tc_sequencer *s, int64_t now_ns) {
    int64_t deadline = INT64_MAX;
    for (uint32_t i = 0; i < s->n_channels; i++) {
        tc_channel *ch = &s->channels[i];
        while ((ch->state & TC_CHANNEL_TAIL) && ch->tail_ns + s->window_ns <= now_ns)
            close_hole(s, ch, ch->tail_seq);
        while (ch->held && ch->oldest_ns + s->window_ns <= now_ns)
            close_hole(s, ch, ch->next + TC_WINDOW);
        if ((ch->state & TC_CHANNEL_TAIL) && ch->tail_ns + s->window_ns < deadline)
            deadline = ch->tail_ns + s->window_ns;
        if (ch->held && ch->oldest_ns + s->window_ns < deadline)
            deadline = ch->oldest_ns + s->window_ns;
    }
    s->deadline_ns = deadline;
}

static void start(tc_sequencer *s) {
    s->n_out = s->n_runs = s->n_events = 0;
    while (s->n_used)
        s->free_slots[s->n_free++] = s->used_slots[--s->n_used];
}

static int64_t finish(tc_sequencer *s, int64_t now_ns) {
    expire(s, now_ns);
    return s->n_out == s->max_out || s->n_events == s->max_events ? TC_SEQUENCE_SPACE : (int64_t)s->n_out;
}

/* Prepares the state; once, after every pointer and size is set. */
void tc_sequence_init(tc_sequencer *s) {
    s->n_channels = s->hint = s->n_used = 0;
    s->n_free = s->n_slots;
    for (uint32_t i = 0; i < s->n_slots; i++)
        s->free_slots[i] = s->n_slots - 1 - i;
    memset(s->window, 0, (size_t)s->max_channels * TC_WINDOW * sizeof *s->window);
    memset(s->counters, 0, TC_COUNTERS * sizeof *s->counters);
    s->alarm_ns = INT64_MIN;
    s->deadline_ns = INT64_MAX;
}

/* Takes `count` packets, then the time. Returns the number of deliveries in `out`, `runs` and `events`, or TC_SEQUENCE_SPACE. */
int64_t tc_sequence(tc_sequencer *s, const uint8_t *base, const tc_span *spans, uint32_t count, int64_t now_ns) {
    start(s);
    for (uint32_t i = 0; i < count; i++)
        push(s, base, &spans[i], now_ns);
    return finish(s, now_ns);
}

/* Takes the time alone: for the moment `deadline_ns` names. */
int64_t tc_sequence_timer(tc_sequencer *s, int64_t now_ns) {
    return tc_sequence(s, NULL, NULL, 0, now_ns);
}

/* Receives and sequences in one call; `now_ns` 0 reads CLOCK_MONOTONIC after the packets are in. */
int64_t tc_receive_sequence(tc_receiver *r, tc_sequencer *s, int64_t timeout_ns, int64_t now_ns) {
    tc_receive(r, timeout_ns);
    if (!now_ns) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        now_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    }
    return tc_sequence(s, r->buffer, r->spans, r->n_spans, now_ns);
}

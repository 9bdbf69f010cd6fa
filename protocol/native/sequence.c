/* The receiver's sequencing machine; specification sections 2 and 6. The rules are told in protocol/net/sequencing_reference.py, whose
 * answers these are. */
#include "sequence_window.h"

#include <stddef.h>
#include <string.h>
#include <time.h>

#include "sources.h"

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
        tc_window_flush(s, ch);
        report(s, ch, TC_EVENT_JUMP, ch->next, seq - ch->next);
        s->counters[TC_COUNT_JUMPS]++;
        forget_lines(ch);
        ch->next = ch->edge = seq;
        tc_window_check_end(s, ch);
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
    }
    s->counters[TC_COUNT_UNSEQUENCED]++;
    deliver(s, span);
    if (line && line->received && !is_behind(seq - 1, line->highest))
        line->highest = seq - 1;
    if (seq != ch->edge && !is_behind(seq, ch->edge) && !(ch->state & TC_CHANNEL_TAIL)) {
        ch->state |= TC_CHANNEL_TAIL;
        ch->tail_seq = seq;
        ch->tail_ns = now_ns;
    }
    if (h->msg_type == TC_MSG_SESSION_END && !(ch->state & (TC_CHANNEL_ENDING | TC_CHANNEL_ENDED))) {
        ch->state |= TC_CHANNEL_ENDING;
        ch->end_seq = seq;
        tc_window_check_end(s, ch);
    }
}

static void order(tc_sequencer *s, tc_channel *ch, const tc_header *h, const tc_span *span, tc_line *line) {
    uint64_t seq = h->channel_seq;
    if (seq == ch->next && seq == ch->edge) {
        count_line(line, seq);
        deliver(s, span);
        ch->edge = ++ch->next;
        if (ch->held || ch->state)
            tc_window_advance(s, ch);
        return;
    }
    if (is_behind(seq, ch->next)) {
        count_line(line, seq);
        s->counters[TC_COUNT_DUPLICATE]++;
        return;
    }
    if (seq - ch->next > TC_MAX_JUMP && !confirm_jump(s, ch, seq, seq + 1))
        return;
    count_line(line, seq);
    tc_window_place(s, ch, h, span);
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
    ch->venue_id = h->venue_id;
    ch->session = h->session;
    ch->next = ch->edge = h->channel_seq;
    report(s, ch, TC_EVENT_JOINED, ch->next, 0);
    return ch;
}

static void new_session(tc_sequencer *s, tc_channel *ch, const tc_header *h) {
    tc_window_flush(s, ch);
    uint32_t previous = ch->session;
    ch->session = h->session;
    ch->next = ch->edge = h->channel_seq - 1 < s->window_packets ? 1 : h->channel_seq;
    ch->state = 0;
    ch->service_port = 0;
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

/* What a heartbeat says of the recovery service, which answers at the heartbeat's source: of one line, where both are heard. */
static void learn_service(tc_channel *ch, const tc_header *h, const tc_span *span, const tc_line *line) {
    if (!h->item_count)
        return;
    const uint8_t *item = (const uint8_t *)h + TC_HEADER_SIZE;
    memcpy(&ch->oldest_seq, item + offsetof(tc_heartbeat, oldest_seq), sizeof ch->oldest_seq);
    if (ch->service_port && line != ch->lines)
        return;
    memcpy(&ch->service_port, item + offsetof(tc_heartbeat, recovery_port), sizeof ch->service_port);
    ch->service_addr = span->addr;
}

/* A packet from the recovery service: of use where a number is missing that has been asked for, and nowhere else. */
static void mend(tc_sequencer *s, const tc_header *h, const tc_span *span) {
    tc_channel *ch = find_channel(s, h->channel_id);
    uint64_t seq = h->channel_seq;
    if (!ch || h->session != ch->session || h->msg_type == TC_MSG_HEARTBEAT || h->msg_type == TC_MSG_SESSION_END ||
        !is_behind(seq, ch->edge)) {
        s->counters[TC_COUNT_UNASKED]++;
        return;
    }
    if (is_behind(seq, ch->next)) {
        s->counters[TC_COUNT_DUPLICATE]++;
        return;
    }
    tc_window_place(s, ch, h, span);
}

static void push(tc_sequencer *s, const uint8_t *base, const tc_span *span, int64_t now_ns) {
    const tc_header *h = (const tc_header *)(base + span->offset);
    s->first_event = s->n_events;
    s->counters[TC_COUNT_RECEIVED]++;
    int reason = tc_validate((const uint8_t *)h, span->length, span->flags, s->n_keys != 0);
    if (s->n_keys && !reason && !tc_is_authentic(s->keys, s->n_keys, (const uint8_t *)h, span->length))
        reason = TC_COUNT_BAD_AUTH;
    if (reason) {
        s->counters[reason]++;
        return;
    }
    if (span->flags & TC_SPAN_REPAIR) {
        mend(s, h, span);
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
    if (h->msg_type <= TC_MSG_SESSION_END && h->msg_type)
        learn_service(ch, h, span, line);
    if (h->msg_type == TC_MSG_HEARTBEAT || h->msg_type == TC_MSG_SESSION_END) {
        announce(s, ch, h, span, line, now_ns);
        return;
    }
    if (!tc_min_item_size(h->msg_type))
        s->counters[TC_COUNT_UNKNOWN_TYPE]++;
    order(s, ch, h, span, line);
}

static void expire(tc_sequencer *s) {
    s->deadline_ns = INT64_MAX;
    s->first_event = s->n_events;
    for (uint32_t i = 0; i < s->n_channels; i++) {
        int64_t deadline = tc_window_expire(s, &s->channels[i]);
        if (deadline < s->deadline_ns)
            s->deadline_ns = deadline;
    }
}

static void start(tc_sequencer *s, int64_t now_ns) {
    s->now_ns = now_ns;
    s->n_out = s->n_runs = s->n_events = 0;
    while (s->n_used)
        s->free_slots[s->n_free++] = s->used_slots[--s->n_used];
}

static int64_t finish(tc_sequencer *s) {
    expire(s);
    return s->n_out == s->max_out || s->n_events == s->max_events ? TC_SEQUENCE_SPACE : (int64_t)s->n_out;
}

/* Prepares the state; once, after every pointer and size is set. */
void tc_sequence_init(tc_sequencer *s) {
    s->n_channels = s->hint = s->n_used = 0;
    s->n_free = s->n_slots;
    for (uint32_t i = 0; i < s->n_slots; i++)
        s->free_slots[i] = s->n_slots - 1 - i;
    memset(s->window, 0, (size_t)s->max_channels * s->reach * sizeof *s->window);
    memset(s->counters, 0, TC_COUNTERS * sizeof *s->counters);
    s->alarm_ns = INT64_MIN;
    s->deadline_ns = INT64_MAX;
}

/* Takes `count` packets, then the time. Returns the number of deliveries in `out`, `runs` and `events`, or TC_SEQUENCE_SPACE. */
int64_t tc_sequence(tc_sequencer *s, const uint8_t *base, const tc_span *spans, uint32_t count, int64_t now_ns) {
    start(s, now_ns);
    for (uint32_t i = 0; i < count; i++)
        push(s, base, &spans[i], now_ns);
    return finish(s);
}

/* Takes the time alone: for the moment `deadline_ns` names. */
int64_t tc_sequence_timer(tc_sequencer *s, int64_t now_ns) {
    return tc_sequence(s, NULL, NULL, 0, now_ns);
}

/* Gives up what is missing and asked for before `end` in a channel, which cannot be had. Results as of tc_sequence. */
int64_t tc_sequence_give_up(tc_sequencer *s, uint16_t channel_id, uint32_t session, uint64_t end, int64_t now_ns) {
    start(s, now_ns);
    tc_channel *ch = find_channel(s, channel_id);
    if (ch && ch->session == session)
        tc_window_give_up(s, ch, is_behind(ch->edge, end) ? ch->edge : end);
    return finish(s);
}

/* Says whether a channel's recovery service can be reached at present. Returns 0 for a channel not heard. */
int tc_sequence_repairable(tc_sequencer *s, uint16_t channel_id, int repairable) {
    tc_channel *ch = find_channel(s, channel_id);
    if (!ch)
        return 0;
    ch->no_repair = !repairable;
    return 1;
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

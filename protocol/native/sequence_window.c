/* The sequencer's window: disorder, holes, their repair and their end; specification section 6. The rules are told in
 * protocol/net/sequencing_reference.py. */
#include "sequence_window.h"

#include <string.h>

static uint32_t *entry_of(tc_sequencer *s, const tc_channel *ch, uint64_t seq) {
    return s->window + (size_t)(ch - s->channels) * s->reach + (seq & (s->reach - 1));
}

void tc_window_check_end(tc_sequencer *s, tc_channel *ch) {
    if ((ch->state & TC_CHANNEL_ENDING) && !is_behind(ch->next, ch->end_seq)) {
        ch->state = (uint16_t)((ch->state & ~TC_CHANNEL_ENDING) | TC_CHANNEL_ENDED);
        report(s, ch, TC_EVENT_SESSION_END, ch->next, 0);
    }
}

static void find_oldest(tc_sequencer *s, tc_channel *ch) {
    ch->oldest_ns = INT64_MAX;
    uint64_t seq = ch->edge;
    for (uint32_t left = ch->beyond; left;) {
        uint32_t slot = *entry_of(s, ch, ++seq);
        if (!slot)
            continue;
        left--;
        if (s->slot_ns[slot - 1] < ch->oldest_ns)
            ch->oldest_ns = s->slot_ns[slot - 1];
    }
}

static tc_repair *first_repair(tc_channel *ch) {
    return ch->n_repairs ? &ch->repairs[ch->first_repair] : NULL;
}

/* Repairs whose numbers have all been delivered or given up. */
static void end_repairs(tc_sequencer *s, tc_channel *ch) {
    for (tc_repair *r; (r = first_repair(ch)) && !is_behind(ch->next, r->end);) {
        if (!r->lost)
            report(s, ch, TC_EVENT_REPAIRED, r->end, s->now_ns > r->since_ns ? (uint64_t)(s->now_ns - r->since_ns) : 0);
        ch->first_repair = (uint8_t)((ch->first_repair + 1) % TC_REPAIRS);
        ch->n_repairs--;
    }
}

static void drop_tail(tc_channel *ch) {
    if ((ch->state & TC_CHANNEL_TAIL) && !is_behind(ch->edge, ch->tail_seq))
        ch->state &= (uint16_t)~TC_CHANNEL_TAIL;
}

/* After `next` has moved: delivers what is held from there on, and drops announcements and repairs that are met. */
void tc_window_advance(tc_sequencer *s, tc_channel *ch) {
    uint32_t before = ch->beyond;
    if (is_behind(ch->edge, ch->next))
        ch->edge = ch->next;
    while (ch->held) {
        uint32_t *entry = entry_of(s, ch, ch->next);
        if (!*entry)
            break;
        uint32_t slot = *entry - 1;
        *entry = 0;
        deliver(s, &s->slot_span[slot]);
        s->used_slots[s->n_used++] = slot;
        ch->held--;
        if (ch->next++ == ch->edge) {
            ch->edge++;
            ch->beyond--;
        }
    }
    if (ch->beyond && ch->beyond != before)
        find_oldest(s, ch);
    drop_tail(ch);
    end_repairs(s, ch);
    tc_window_check_end(s, ch);
}

/* Where a hole that begins at `first` ends: at the first held packet behind it, or at `bound` where that comes first. */
static uint64_t hole_end(tc_sequencer *s, const tc_channel *ch, uint64_t first, uint64_t bound) {
    uint64_t reach = bound - first < s->reach ? bound - first : s->reach;
    for (uint64_t i = 1; ch->held && i < reach; i++)
        if (*entry_of(s, ch, first + i))
            return first + i;
    return bound;
}

/* Gives up the oldest hole: up to the first held packet, or to `bound` where that comes first. */
static void close_hole(tc_sequencer *s, tc_channel *ch, uint64_t bound) {
    uint64_t end = hole_end(s, ch, ch->next, bound);
    for (uint32_t i = 0; i < ch->n_repairs; i++) {
        tc_repair *r = &ch->repairs[(ch->first_repair + i) % TC_REPAIRS];
        r->lost = 1;
        if (!is_behind(r->end, end))
            break;
    }
    report(s, ch, TC_EVENT_GAP, ch->next, end - ch->next);
    s->counters[TC_COUNT_GAPS]++;
    s->counters[TC_COUNT_MISSING] += end - ch->next;
    ch->next = end;
    tc_window_advance(s, ch);
}

void tc_window_give_up(tc_sequencer *s, tc_channel *ch, uint64_t end) {
    while (is_behind(ch->next, end))
        close_hole(s, ch, end);
}

/* Before a reset: everything held is delivered, everything known to be missing is reported. */
void tc_window_flush(tc_sequencer *s, tc_channel *ch) {
    while (ch->held)
        close_hole(s, ch, ch->next + s->reach);
    tc_window_give_up(s, ch, ch->edge);
    while (ch->state & TC_CHANNEL_TAIL)
        close_hole(s, ch, ch->tail_seq);
}

/* Moves the edge to `end` and over what is held from there on. */
static void move_edge(tc_sequencer *s, tc_channel *ch, uint64_t end) {
    ch->edge = end;
    while (ch->beyond && *entry_of(s, ch, ch->edge)) {
        ch->edge++;
        ch->beyond--;
    }
    if (ch->beyond)
        find_oldest(s, ch);
    drop_tail(ch);
}

/* Asks for the hole at the edge, in one request with the hole before it where that is near. */
static void ask(tc_sequencer *s, tc_channel *ch, uint64_t end) {
    tc_event *last = s->n_events > s->first_event ? &s->events[s->n_events - 1] : NULL;
    if (last && last->kind == TC_EVENT_REPAIR && last->channel_id == ch->channel_id && last->session == ch->session &&
        last->position == s->n_out && ch->edge - (last->first + last->count) < TC_REPAIR_NEAR) {
        last->count = end - last->first;
        return;
    }
    tc_event *e = report(s, ch, TC_EVENT_REPAIR, ch->edge, end - ch->edge);
    if (e) {
        e->addr = ch->service_addr;
        e->port = (uint16_t)(ch->service_port >> 8 | ch->service_port << 8);
    }
}

static void begin_repair(tc_sequencer *s, tc_channel *ch, uint64_t end) {
    tc_repair *last = ch->n_repairs ? &ch->repairs[(ch->first_repair + ch->n_repairs - 1) % TC_REPAIRS] : NULL;
    if (last && (s->now_ns - last->since_ns <= s->repair_ns / TC_REPAIR_STEPS || ch->n_repairs == TC_REPAIRS))
        last->end = end;
    else
        ch->repairs[(ch->first_repair + ch->n_repairs++) % TC_REPAIRS] = (tc_repair){.end = end, .since_ns = s->now_ns};
}

/* The hole at the edge is more than disorder, up to `bound`: it is asked for where that can help, or else given up, at once or,
 * where numbers before it are still being repaired, with them. */
static void late(tc_sequencer *s, tc_channel *ch, uint64_t bound) {
    uint64_t end = hole_end(s, ch, ch->edge, bound);
    int served = s->repair_ns && ch->service_port && !ch->no_repair && ch->oldest_seq && end - ch->next < s->reach;
    if (served && is_behind(ch->edge, ch->oldest_seq)) {
        served = 0;
        if (is_behind(ch->oldest_seq, end))
            end = ch->oldest_seq;
    }
    if (!served && ch->edge == ch->next) {
        close_hole(s, ch, end);
        return;
    }
    if (served)
        ask(s, ch, end);
    begin_repair(s, ch, end);
    move_edge(s, ch, end);
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
    *entry_of(s, ch, seq) = slot + 1;
    ch->held++;
    s->counters[TC_COUNT_HELD]++;
    if (is_behind(seq, ch->edge))
        return 1;
    if (!ch->beyond || now_ns < ch->oldest_ns)
        ch->oldest_ns = now_ns;
    ch->beyond++;
    if (seq == ch->edge)
        move_edge(s, ch, ch->edge);
    return 1;
}

/* Takes a packet that is not before `next` and not a jump. */
void tc_window_place(tc_sequencer *s, tc_channel *ch, const tc_header *h, const tc_span *span) {
    uint64_t seq = h->channel_seq;
    while (seq - ch->next >= s->reach)
        close_hole(s, ch, seq);
    while (!is_behind(seq, ch->edge) && seq - ch->edge >= s->window_packets)
        late(s, ch, seq);
    if (seq != ch->next) {
        if (*entry_of(s, ch, seq)) {
            s->counters[TC_COUNT_DUPLICATE]++;
            return;
        }
        s->counters[TC_COUNT_REPAIRED] += (span->flags & TC_SPAN_REPAIR) != 0;
        if (hold(s, ch, seq, (const uint8_t *)h, span, s->now_ns))
            return;
        tc_window_give_up(s, ch, seq);
    } else {
        s->counters[TC_COUNT_REPAIRED] += (span->flags & TC_SPAN_REPAIR) != 0;
    }
    deliver(s, span);
    ch->next++;
    tc_window_advance(s, ch);
}

/* Lets a channel's time pass. Returns when it is due next; INT64_MAX = nothing waits. */
int64_t tc_window_expire(tc_sequencer *s, tc_channel *ch) {
    int64_t now_ns = s->now_ns, deadline = INT64_MAX;
    tc_repair *r;
    while ((r = first_repair(ch)) && r->since_ns + s->repair_ns <= now_ns)
        tc_window_give_up(s, ch, r->end);
    while ((ch->state & TC_CHANNEL_TAIL) && ch->tail_ns + s->window_ns <= now_ns)
        late(s, ch, ch->tail_seq);
    while (ch->beyond && ch->oldest_ns + s->window_ns <= now_ns)
        late(s, ch, ch->edge + s->reach);
    if (ch->state & TC_CHANNEL_TAIL)
        deadline = ch->tail_ns + s->window_ns;
    if (ch->beyond && ch->oldest_ns + s->window_ns < deadline)
        deadline = ch->oldest_ns + s->window_ns;
    if ((r = first_repair(ch)) && r->since_ns + s->repair_ns < deadline)
        deadline = r->since_ns + s->repair_ns;
    return deadline;
}

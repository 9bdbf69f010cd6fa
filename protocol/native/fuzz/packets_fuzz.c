/* Fuzz validation and sequencing. An oracle follows each channel through deliveries and events: every number is delivered, reported
 * missing or jumped, once and in order; what is delivered are the bytes that came in; packets are conserved over the counters. What is
 * asked for is missing, and nothing waits for a repair longer than it may.
 *
 * config: bits 0-1 window, 0 also repairs, which come on line 3, 2 authentication (what is a packet gets a tag first), 3 learned
 * sources, 4 allowed sources, 5 a small store, 6-7 channels.
 * Special values: 1 truncated, 2 bad tag, 3 another source, 4 another port, 5 a fifth line, 6 the clock steps back,
 * 7 from the recovery service, 8 the service cannot be reached, 9 holes are given up, 10 the service has forgotten. */
#include "../blake2b.h"
#include "../sequence.h"
#include "packet_input.h"

#define CHANNELS 4
#define EVENTS (6 * FUZZ_RECORDS + 2 * FUZZ_RECORDS + (4 + TC_REPAIRS) * CHANNELS + 1)
#define HOST 0x0100007Fu

typedef struct {
    uint64_t next;
    uint32_t session;
    uint16_t channel_id;
} followed;

typedef struct {
    tc_sequencer s;
    uint64_t counters[TC_COUNTERS];
    followed channels[CHANNELS];
    uint32_t n_channels;
    uint64_t ordered, missing;
    uint64_t hash;
    int made;
} machine;

static uint64_t total_repaired, total_asked, total_delivered, total_held, total_gaps, total_sessions, total_jumps, total_rejected;
static const uint32_t ALLOWED[] = {HOST};
static const uint8_t KEYS[3][32] = {{1}, {2}, {3}};
static tc_channel_keys channel_keys[CHANNELS]; /* of channels 0-3: the first key, the odd ones the second too */

static void *filled(size_t size, int fill) {
    return memset(fuzz_allocate(size), fill, size);
}

/* Memory of exactly the sizes that the configuration says. */
static void make_machine(machine *m, uint8_t config, int fill) {
    static const uint32_t COUNTS[] = {1, 2, CHANNELS, CHANNELS};
    tc_sequencer *s = &m->s;
    memset(m, fill, sizeof *m);
    s->n_slots = config & 32 ? 3 : FUZZ_RECORDS;
    s->max_channels = COUNTS[config >> 6];
    s->max_out = s->n_slots + FUZZ_RECORDS + 1;
    s->max_events = EVENTS;
    s->channels = filled(s->max_channels * sizeof *s->channels, fill);
    s->window = filled((size_t)s->max_channels * TC_LEAST_REACH * sizeof *s->window, fill);
    s->store = filled((size_t)s->n_slots * TC_SLOT_SIZE, fill);
    s->slot_span = filled(s->n_slots * sizeof *s->slot_span, fill);
    s->slot_ns = filled(s->n_slots * sizeof *s->slot_ns, fill);
    s->free_slots = filled(s->n_slots * sizeof *s->free_slots, fill);
    s->used_slots = filled(s->n_slots * sizeof *s->used_slots, fill);
    s->out = filled(s->max_out * sizeof *s->out, fill);
    s->runs = filled(s->max_out * sizeof *s->runs, fill);
    s->events = filled(s->max_events * sizeof *s->events, fill);
    s->counters = m->counters;
    m->made = 1;
}

static void start_machine(machine *m, uint8_t config) {
    static const uint32_t WINDOWS[] = {1, 8, 64, TC_LEAST_REACH};
    tc_sequencer *s = &m->s;
    s->window_ns = 5000000;
    s->window_packets = WINDOWS[config & 3];
    s->repair_ns = config & 1 ? 40000000 : 0;
    s->reach = TC_LEAST_REACH;
    s->keys = channel_keys;
    s->n_keys = config & 4 ? CHANNELS : 0;
    s->learn_sources = (config & 8) != 0;
    s->n_allowed = (config & 16) != 0;
    s->allowed = ALLOWED;
    tc_sequence_init(s);
    m->n_channels = 0;
    m->ordered = m->missing = 0;
    m->hash = FUZZ_HASH_START;
}

static followed *find(machine *m, uint16_t channel_id) {
    for (uint32_t i = 0; i < m->n_channels; i++)
        if (m->channels[i].channel_id == channel_id) return &m->channels[i];
    return NULL;
}

static void follow_event(machine *m, const tc_event *e) {
    followed *f = find(m, e->channel_id);
    switch (e->kind) {
    case TC_EVENT_OTHER_SOURCE: return;
    case TC_EVENT_JOINED:
        fuzz_check(f == NULL && m->n_channels < m->s.max_channels, "joined twice");
        m->channels[m->n_channels++] = (followed){e->first, e->session, e->channel_id};
        return;
    case TC_EVENT_NEW_SESSION:
        fuzz_check(f != NULL && e->session > f->session && e->count == f->session, "session does not follow");
        *f = (followed){e->first, e->session, e->channel_id};
        return;
    case TC_EVENT_GAP:
    case TC_EVENT_JUMP:
        fuzz_check(f != NULL && e->session == f->session && e->first == f->next, "a gap elsewhere than at the next number");
        fuzz_check(e->count > 0 && e->count >> 63 == 0, "a gap of nothing");
        if (e->kind == TC_EVENT_GAP) m->missing += e->count;
        f->next += e->count;
        return;
    case TC_EVENT_REPAIR:
        fuzz_check(f != NULL && e->session == f->session && e->count > 0, "a repair of nothing");
        fuzz_check(e->first - f->next < TC_LEAST_REACH && e->first - f->next + e->count < 2 * TC_LEAST_REACH, "a repair out of reach");
        total_asked++;
        return;
    case TC_EVENT_REPAIRED:
        fuzz_check(f != NULL && (f->next - e->first) >> 63 == 0, "repaired before it was delivered");
        fuzz_check((int64_t)e->count >= 0, "a repair that took less than no time");
        return;
    case TC_EVENT_SESSION_END: fuzz_check(f != NULL && e->first == f->next, "session end elsewhere than at the next number"); return;
    default: fuzz_fail("unknown event");
    }
}

static void follow_delivery(machine *m, const tc_span *span, const uint8_t *base, const fuzz_input *in) {
    const uint8_t *packet = (span->flags & TC_SPAN_HELD ? m->s.store : base) + span->offset;
    const fuzz_record *r = &in->records[span->kernel_ts_ns];
    fuzz_check(r->length == span->length && memcmp(packet, r->data, r->length) == 0, "delivered bytes are not those received");
    fuzz_check(tc_validate(packet, span->length, 0, m->s.n_keys != 0) == 0, "an invalid packet is delivered");
    fuzz_check(!m->s.n_keys || !(r->control & FUZZ_SPECIAL) || r->value != 2, "a packet with a wrong tag is delivered");
    tc_header h;
    memcpy(&h, packet, sizeof h);
    followed *f = find(m, h.channel_id);
    fuzz_check(f != NULL && h.session == f->session, "a packet of another session");
    m->hash = fuzz_hash(m->hash, packet, span->length);
    if (h.msg_type == TC_MSG_HEARTBEAT || h.msg_type == TC_MSG_SESSION_END) return;
    fuzz_check(h.channel_seq == f->next, "a packet out of order");
    f->next++;
    m->ordered++;
}

static void check_runs(const tc_sequencer *s) {
    uint32_t out = 0;
    for (uint32_t i = 0; i < s->n_runs; i++) {
        const tc_run *run = &s->runs[i];
        uint32_t offset = run->offset;
        fuzz_check(run->first == out && run->packets > 0, "runs do not follow each other");
        for (uint32_t k = 0; k < run->packets; k++, out++) {
            fuzz_check(out < s->n_out && s->out[out].offset == offset, "a run that is not contiguous");
            fuzz_check(((s->out[out].flags & TC_SPAN_HELD) != 0) == (run->held != 0), "a run over two buffers");
            offset += s->out[out].length;
        }
        fuzz_check(offset == run->offset + run->nbytes, "bytes of a run");
    }
    fuzz_check(out == s->n_out, "runs do not cover the deliveries");
}

static void check_totals(const machine *m) {
    static const int DROPS[] = {TC_COUNT_TRUNCATED, TC_COUNT_TOO_SHORT, TC_COUNT_OVERSIZE, TC_COUNT_BAD_MAGIC, TC_COUNT_BAD_VERSION,
                                TC_COUNT_UNKNOWN_CRITICAL, TC_COUNT_BAD_LENGTH, TC_COUNT_BAD_ITEMS, TC_COUNT_BAD_BID_COUNT,
                                TC_COUNT_SMALL_ITEM, TC_COUNT_AUTH_MISSING, TC_COUNT_BAD_AUTH, TC_COUNT_CHANNEL_LIMIT,
                                TC_COUNT_OTHER_SOURCE, TC_COUNT_OLD_SESSION, TC_COUNT_DUPLICATE, TC_COUNT_JUMP_UNCONFIRMED,
                                TC_COUNT_UNASKED};
    const tc_sequencer *s = &m->s;
    uint64_t dropped = 0, held = 0;
    for (size_t i = 0; i < sizeof DROPS / sizeof *DROPS; i++) dropped += m->counters[DROPS[i]];
    for (uint32_t i = 0; i < s->n_channels; i++) held += s->channels[i].held;
    fuzz_check(s->n_free + s->n_used + held == s->n_slots, "slots of the store are lost");
    fuzz_check(m->counters[TC_COUNT_RECEIVED] == dropped + m->counters[TC_COUNT_DELIVERED] + held, "packets are lost from the counters");
    fuzz_check(m->counters[TC_COUNT_DELIVERED] == m->ordered + m->counters[TC_COUNT_UNSEQUENCED], "deliveries are miscounted");
    fuzz_check(m->counters[TC_COUNT_MISSING] == m->missing, "missing packets are miscounted");
    fuzz_check(held == 0 || s->deadline_ns != INT64_MAX, "packets are held without a deadline");
}

static void check_call(machine *m, int64_t result, const uint8_t *base, const fuzz_input *in) {
    const tc_sequencer *s = &m->s;
    fuzz_check(result == (int64_t)s->n_out, "the result arrays are too small");
    uint32_t event = 0;
    for (uint32_t i = 0; i <= s->n_out; i++) {
        for (; event < s->n_events && s->events[event].position == i; event++) follow_event(m, &s->events[event]);
        if (i < s->n_out) follow_delivery(m, &s->out[i], base, in);
    }
    fuzz_check(event == s->n_events, "events are not in order");
    m->hash = fuzz_hash(m->hash, s->events, s->n_events * sizeof *s->events);
    check_runs(s);
    check_totals(m);
}

static tc_span span_of(const fuzz_record *r, uint32_t index, uint32_t offset, uint8_t config) {
    tc_span span = {.offset = offset, .length = r->length, .line = r->control & FUZZ_LINE, .addr = HOST, .port = 9001};
    span.kernel_ts_ns = index; /* tells the oracle which record was delivered */
    if ((config & 1) && span.line == 3) span.flags = TC_SPAN_REPAIR;
    if (!(r->control & FUZZ_SPECIAL)) return span;
    switch (r->value) {
    case 1: span.flags = TC_SPAN_TRUNCATED; break;
    case 3: span.addr++; break;
    case 4: span.port++; break;
    case 5: span.line = 4; break;
    case 7: span.flags = TC_SPAN_REPAIR; break;
    default: break;
    }
    return span;
}

static uint64_t run(const fuzz_input *in, int second) {
    static machine machines[2][8]; /* what earlier inputs left in their memory must not show */
    static const int64_t STEPS[] = {0, 0, 1000, 100000, 1000000, 5000000, 50000000, 2000000000};
    machine *m = &machines[second][in->config >> 5];
    if (!m->made) make_machine(m, in->config, second ? 0xA5 : 0);
    start_machine(m, in->config);
    int64_t now_ns = 1000000000;
    for (uint32_t i = 0; i < in->count;) {
        tc_span spans[FUZZ_RECORDS];
        uint32_t n = 0, first = i, nbytes = 0;
        for (int more = 1; more && i < in->count; i++) {
            more = !(in->records[i].control & FUZZ_END_BATCH);
            spans[n++] = span_of(&in->records[i], i, nbytes, in->config);
            nbytes += in->records[i].length;
        }
        uint8_t *base = fuzz_allocate(nbytes);
        for (uint32_t k = 0; k < n; k++)
            if (spans[k].length) memcpy(base + spans[k].offset, in->records[first + k].data, spans[k].length);
        const fuzz_record *r = &in->records[first];
        now_ns += STEPS[(r->control & FUZZ_TIME) >> 3];
        uint8_t special = r->control & FUZZ_SPECIAL ? r->value : 0;
        if (special == 6) now_ns -= 2000000;
        for (uint32_t k = 0; k < m->s.n_channels; k++) {
            m->s.channels[k].service_port = special == 10 ? 0 : 9100;
            m->s.channels[k].oldest_seq = 1;
            tc_sequence_repairable(&m->s, m->s.channels[k].channel_id, special != 8);
            if (special == 9) {
                const tc_channel *ch = &m->s.channels[k];
                check_call(m, tc_sequence_give_up(&m->s, ch->channel_id, ch->session, ch->next + 3, now_ns), NULL, in);
            }
        }
        check_call(m, tc_sequence(&m->s, base, spans, n, now_ns), base, in);
        free(base);
    }
    check_call(m, tc_sequence_timer(&m->s, now_ns + 1), NULL, in);
    int64_t due = m->s.deadline_ns;
    if (due != INT64_MAX) check_call(m, tc_sequence_timer(&m->s, due + m->s.window_ns), NULL, in);
    check_call(m, tc_sequence_timer(&m->s, now_ns + INT64_C(10000000000)), NULL, in);
    check_call(m, tc_sequence_timer(&m->s, now_ns + INT64_C(20000000000)), NULL, in);
    fuzz_check(m->s.n_free + m->s.n_used == m->s.n_slots && m->s.deadline_ns == INT64_MAX, "packets are held beyond the window");
    m->hash = fuzz_hash(m->hash, m->counters, sizeof m->counters);
    if (!second) {
        total_delivered += m->counters[TC_COUNT_DELIVERED];
        total_repaired += m->counters[TC_COUNT_REPAIRED];
        total_held += m->counters[TC_COUNT_HELD];
        total_gaps += m->counters[TC_COUNT_GAPS];
        total_sessions += m->counters[TC_COUNT_SESSIONS];
        total_jumps += m->counters[TC_COUNT_JUMPS];
        total_rejected += m->counters[TC_COUNT_RECEIVED] - m->counters[TC_COUNT_DELIVERED];
    }
    return m->hash;
}

static void make_keys(void) {
    for (uint32_t i = 0; i < CHANNELS; i++) {
        channel_keys[i].channel_id = i;
        channel_keys[i].n_keys = 1 + i % 2;
        for (uint32_t k = 0; k < channel_keys[i].n_keys; k++) tc_blake2b_key(channel_keys[i].keys[k], KEYS[k]);
    }
}

/* Gives what is a packet without a tag the tag of one of its channel's keys, or one that is a bit or a key wrong. */
static void seal_record(fuzz_record *r) {
    uint8_t out[TC_MAX_PACKET];
    tc_header h;
    if (tc_validate(r->data, r->length, 0, 0) || r->length > TC_MAX_PACKET - TC_TAG_SIZE) return;
    memcpy(&h, r->data, sizeof h);
    if (h.flags & TC_FLAG_AUTH) return;
    int wrong = (r->control & FUZZ_SPECIAL) && r->value == 2;
    tc_sealer sealer = {.out = out, .capacity = sizeof out};
    tc_blake2b_key(sealer.key, KEYS[wrong && h.channel_seq % 2 ? 2 : h.channel_id % 2 ? h.channel_seq % 2 : 0]);
    int64_t sealed = tc_seal_size(&sealer, r->data, r->length);
    fuzz_check(sealed == r->length + TC_TAG_SIZE, "the size of a sealed packet");
    tc_seal(&sealer, r->data, r->length);
    if (wrong && h.channel_seq % 2 == 0) {
        uint32_t from = h.channel_seq % 4 ? 0 : r->length; /* anywhere, or in the tag */
        out[from + (h.channel_seq >> 2) % (uint64_t)(sealed - from)] ^= (uint8_t)(1u << (h.channel_seq >> 1) % 8);
    }
    free((void *)(uintptr_t)r->data);
    r->data = fuzz_copy(out, (size_t)sealed);
    r->length = (uint16_t)sealed;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_input in;
    fuzz_parse(&in, data, size);
    make_keys();
    for (uint32_t i = 0; i < in.count; i++) {
        in.records[i].data = fuzz_copy(in.records[i].data, in.records[i].length);
        if (in.config & 4) seal_record(&in.records[i]);
    }
    fuzz_check(run(&in, 0) == run(&in, 1), "the same packets give another result over other memory");
    for (uint32_t i = 0; i < in.count; i++) free((void *)(uintptr_t)in.records[i].data);
    return 0;
}

void fuzz_report(void) {
    printf("asked %llu, repaired %llu, ", (unsigned long long)total_asked, (unsigned long long)total_repaired);
    printf("delivered %llu, rejected %llu, held %llu, gaps %llu, jumps %llu, new sessions %llu\n", (unsigned long long)total_delivered,
           (unsigned long long)total_rejected, (unsigned long long)total_held, (unsigned long long)total_gaps,
           (unsigned long long)total_jumps, (unsigned long long)total_sessions);
}

/* Stamping; the numbering rules are those of the specification, sections 2, 3 and 6. A refused buffer is left as it was. */
#include "stamp.h"

#include <time.h>

/* Column of the instrument counters for a message type; -1 = the type is not numbered by instrument. */
int tc_stamp_column(unsigned msg_type) {
    switch (msg_type) {
    case TC_MSG_BOOK: return 0;
    case TC_MSG_BBO: return 1;
    case TC_MSG_TRADE: return 2;
    case TC_MSG_STAT: return 3;
    case TC_MSG_LIQUIDATION: return 4;
    case TC_MSG_INSTRUMENT: return 5;
    case TC_MSG_TICK_TABLE: return 6;
    case TC_MSG_STATUS: return 7;
    case TC_MSG_TEXT: return 8;
    default: return -1;
    }
}

static int64_t check(tc_stamper *s, const uint8_t *buffer, uint64_t nbytes) {
    uint64_t pos = 0;
    int64_t packets = 0;
    while (pos < nbytes) {
        s->error_offset = pos;
        size_t n = tc_packet_length(buffer + pos, nbytes - pos);
        if (!n)
            return TC_STAMP_MALFORMED;
        const tc_header *h = (const tc_header *)(buffer + pos);
        if (h->instrument_id) {
            if (tc_stamp_column(h->msg_type) < 0)
                return TC_STAMP_BAD_TYPE;
            if (h->instrument_seq >= s->n_instruments)
                return TC_STAMP_BAD_INDEX;
        }
        packets++;
        pos += n;
    }
    return packets;
}

static int is_kept(const tc_header *h) {
    const uint16_t cycle = TC_FLAG_SNAPSHOT | TC_FLAG_RECOVERED;
    return (h->flags & cycle) == cycle;
}

static uint32_t instrument_seq(tc_stamper *s, const tc_header *h, int keep) {
    if (!h->instrument_id)
        return 0;
    uint32_t *last = &s->seqs[(size_t)h->instrument_seq * TC_STAMP_COLUMNS + (size_t)tc_stamp_column(h->msg_type)];
    if (h->fragment == 0 && !(keep && is_kept(h)))
        ++*last;
    return *last;
}

/* Stamps every packet of `buffer`: session, channel_seq (heartbeats and SESSION_END carry the next number and take none),
 * instrument_seq from the index that stands there, ts_send_ns (0: read CLOCK_REALTIME once), and `flags` added. With `keep`,
 * packets with SNAPSHOT and RECOVERED carry the last number of their type instead of a new one. Returns the number of packets, or an
 * error code with `error_offset` set and nothing changed. */
int64_t tc_stamp(tc_stamper *s, uint8_t *buffer, uint64_t nbytes, int keep, uint16_t flags, int64_t ts_send_ns) {
    if (flags & TC_FLAG_AUTH)
        return TC_STAMP_BAD_FLAGS;
    int64_t packets = check(s, buffer, nbytes);
    if (packets < 0)
        return packets;
    if (!ts_send_ns) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        ts_send_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    }
    uint8_t *p = buffer;
    for (int64_t i = 0; i < packets; i++) {
        tc_header *h = (tc_header *)p;
        p += TC_HEADER_SIZE + h->payload_len + ((h->flags & TC_FLAG_AUTH) ? TC_TAG_SIZE : 0);
        h->session = s->session;
        h->channel_seq = s->next_seq;
        if (h->msg_type != TC_MSG_HEARTBEAT && h->msg_type != TC_MSG_SESSION_END)
            s->next_seq++;
        h->instrument_seq = instrument_seq(s, h, keep);
        h->ts_send_ns = ts_send_ns;
        h->flags |= flags;
    }
    return packets;
}

/* Stamps packets that tell how things stand instead of what happened: no number is taken. Every packet carries the channel's last
 * number, 0 where there is none, and the last one of its instrument and type. Returns as tc_stamp does. */
int64_t tc_stamp_state(tc_stamper *s, uint8_t *buffer, uint64_t nbytes, int64_t ts_send_ns) {
    int64_t packets = check(s, buffer, nbytes);
    uint8_t *p = buffer;
    for (int64_t i = 0; i < packets; i++) {
        tc_header *h = (tc_header *)p;
        p += TC_HEADER_SIZE + h->payload_len + ((h->flags & TC_FLAG_AUTH) ? TC_TAG_SIZE : 0);
        size_t row = (size_t)h->instrument_seq * TC_STAMP_COLUMNS;
        h->session = s->session;
        h->channel_seq = s->next_seq - 1;
        h->instrument_seq = h->instrument_id ? s->seqs[row + (size_t)tc_stamp_column(h->msg_type)] : 0;
        h->ts_send_ns = ts_send_ns;
    }
    return packets;
}

/* Stamps, seals where there is a sealer, then sends on line A and, where given, the same bytes on line B. Returns the packets
 * stamped, or an error of stamping or sealing with nothing changed or sent. */
int64_t tc_publish(tc_stamper *s, tc_sender *line_a, tc_sender *line_b, tc_sealer *sealer, uint8_t *buffer, uint64_t nbytes,
                   int keep, uint16_t flags) {
    int64_t sealed = sealer ? tc_seal_size(sealer, buffer, nbytes) : 0;
    if (sealed < 0) {
        s->error_offset = sealer->error_offset;
        return sealed;
    }
    int64_t packets = tc_stamp(s, buffer, nbytes, keep, flags, 0);
    if (packets <= 0)
        return packets;
    if (sealer) {
        tc_seal(sealer, buffer, nbytes);
        buffer = sealer->out;
        nbytes = (uint64_t)sealed;
    }
    tc_send(line_a, buffer, nbytes, &s->error_offset);
    if (line_b)
        tc_send(line_b, buffer, nbytes, &s->error_offset);
    return packets;
}

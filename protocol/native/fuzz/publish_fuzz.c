/* Fuzz stamping, sealing and sending. The socket is a function here that takes what it is given, in part, or fails, as the input says; it
 * checks that messages are whole packets in order and that a GSO message would be cut at their boundaries. A refused buffer must be
 * left as it was, and every packet must be sent or counted as dropped.
 *
 * config: bit 0 keep, 1 GSO, 2 a destination address, 3 retries, 4-5 segments. The control bytes of the records say what the socket
 * does, one call after the other: see fake_outcome. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

static int fake_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags);
static ssize_t fake_sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t to_size);
static int fake_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *limit, const sigset_t *mask);

#define sendmmsg fake_sendmmsg
#define sendto fake_sendto
#define ppoll fake_ppoll
#include "../send.c"

#include "../blake2b.h"
#include "../stamp.h"
#include "packet_input.h"

#define INSTRUMENTS 16

static const fuzz_input *script;
static uint32_t script_at;
static const uint8_t *wire_next, *wire_end; /* where the last message ended, the end of the buffer */
static unsigned limit_segments;
static uint64_t taken;
static uint64_t total_stamped, total_refused, total_sealed, total_sent, total_dropped, total_gso;

static int fake_outcome(void) {
    static const int ERRORS[] = {EAGAIN, EINTR, ENOBUFS, EIO, EINVAL, EMSGSIZE, EPERM};
    if (script_at >= script->count) return 0;
    const fuzz_record *r = &script->records[script_at++];
    return r->control & FUZZ_SPECIAL ? ERRORS[r->value % 7] : 0;
}

/* Whole packets, after what was sent before. Returns their number. */
static uint32_t check_message(const uint8_t *data, size_t size) {
    fuzz_check(size > 0 && data >= wire_next && data + size <= wire_end, "a message out of order");
    uint32_t packets = 0;
    for (size_t at = 0; at < size; packets++) {
        size_t length = tc_packet_length(data + at, size - at);
        fuzz_check(length > 0, "a message of something else than packets");
        at += length;
    }
    return packets;
}

static void check_segments(const struct msghdr *m, uint32_t packets) {
    const uint8_t *data = m->msg_iov->iov_base;
    size_t size = m->msg_iov->iov_len;
    if (packets == 1) {
        fuzz_check(m->msg_controllen == 0, "GSO for one packet");
        return;
    }
    uint16_t segment;
    memcpy(&segment, CMSG_DATA(CMSG_FIRSTHDR(m)), sizeof segment);
    fuzz_check(size <= TC_MAX_GSO_BYTES && packets <= limit_segments && packets <= 64, "a GSO message too large");
    for (size_t at = 0; at < size; at += segment) {
        size_t rest = size - at < segment ? size - at : segment;
        fuzz_check(tc_packet_length(data + at, size - at) == rest, "a GSO message cut inside a packet");
    }
}

static int fake_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags) {
    (void)fd;
    fuzz_check(count > 0 && (flags & MSG_DONTWAIT), "a call that sends nothing or blocks");
    errno = fake_outcome();
    if (errno) return -1;
    unsigned some = script_at < script->count ? 1 + script->records[script_at].value % count : count;
    for (unsigned i = 0; i < some; i++) {
        const struct msghdr *m = &messages[i].msg_hdr;
        uint32_t packets = check_message(m->msg_iov->iov_base, m->msg_iov->iov_len);
        check_segments(m, packets);
        taken += packets;
        total_gso += packets > 1;
        wire_next = (const uint8_t *)m->msg_iov->iov_base + m->msg_iov->iov_len;
    }
    return (int)some;
}

static ssize_t fake_sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t to_size) {
    (void)fd, (void)to, (void)to_size;
    errno = fake_outcome();
    if (errno) return -1;
    fuzz_check((flags & MSG_DONTWAIT) && check_message(data, size) == 1, "not one packet");
    taken++;
    wire_next = (const uint8_t *)data + size;
    return (ssize_t)size;
}

static int fake_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *limit, const sigset_t *mask) {
    (void)fds, (void)count, (void)limit, (void)mask;
    return 1;
}

/* Packets up to the end or to the first thing that is none, whose offset it sets. */
static uint64_t count_packets(const uint8_t *buffer, size_t size, size_t *end) {
    uint64_t packets = 0;
    size_t length;
    for (*end = 0; *end < size && (length = tc_packet_length(buffer + *end, size - *end)); *end += length) packets++;
    return packets;
}

static void check_stamped(const tc_stamper *s, const uint8_t *before, const uint8_t *after, size_t size, uint64_t seq, uint16_t flags) {
    for (size_t at = 0; at < size;) {
        tc_header was, is;
        memcpy(&was, before + at, sizeof was);
        memcpy(&is, after + at, sizeof is);
        fuzz_check(is.session == s->session && is.channel_seq == seq && is.ts_send_ns == 1, "a stamp is missing");
        seq += is.msg_type != TC_MSG_HEARTBEAT && is.msg_type != TC_MSG_SESSION_END;
        fuzz_check(is.flags == (was.flags | flags) && (is.instrument_id || is.instrument_seq == 0), "a stamp of something else");
        was.session = is.session;
        was.channel_seq = is.channel_seq;
        was.instrument_seq = is.instrument_seq;
        was.ts_send_ns = is.ts_send_ns;
        was.flags = is.flags;
        size_t length = tc_packet_length(after + at, size - at);
        fuzz_check(length > 0 && memcmp(&was, &is, sizeof is) == 0, "stamping changes another field");
        fuzz_check(memcmp(before + at + sizeof is, after + at + sizeof is, length - sizeof is) == 0, "stamping changes an item");
        at += length;
    }
    fuzz_check(seq == s->next_seq, "numbers are left out");
}

static void stamp(uint8_t *buffer, size_t size, int keep) {
    tc_stamper s = {.next_seq = UINT64_MAX - 3, .session = 7, .n_instruments = INSTRUMENTS};
    size_t bytes = INSTRUMENTS * TC_STAMP_COLUMNS * sizeof(uint32_t);
    s.seqs = fuzz_allocate(bytes);
    memset(s.seqs, 0xFF, bytes);
    uint32_t *seqs = (uint32_t *)fuzz_copy(s.seqs, bytes);
    uint8_t *before = fuzz_copy(buffer, size);
    const uint16_t flags = TC_FLAG_REPLAY;
    int64_t packets = tc_stamp(&s, buffer, size, keep, flags, 1);
    if (packets < 0) {
        fuzz_check(s.error_offset < size && s.next_seq == UINT64_MAX - 3, "a refused buffer takes numbers");
        fuzz_check(memcmp(seqs, s.seqs, bytes) == 0 && memcmp(before, buffer, size) == 0, "a refused buffer is changed");
        total_refused++;
    } else {
        check_stamped(&s, before, buffer, size, UINT64_MAX - 3, flags);
        total_stamped += (uint64_t)packets;
    }
    free(before);
    free(seqs);
    free(s.seqs);
}

/* Sealing takes exactly the room that it says, or says why not. */
static void seal(const uint8_t *buffer, size_t size) {
    static const uint8_t KEY[32] = {7};
    tc_sealer s = {.capacity = UINT64_MAX};
    tc_blake2b_key(s.key, KEY);
    int64_t sealed = tc_seal_size(&s, buffer, size);
    if (sealed < 0) {
        fuzz_check(s.error_offset < size && sealed != TC_SEAL_CAPACITY, "refused without a reason");
        return;
    }
    s.capacity = (uint64_t)sealed - (sealed > 0);
    fuzz_check(sealed == 0 || tc_seal_size(&s, buffer, size) == TC_SEAL_CAPACITY, "packets that do not fit");
    s.out = fuzz_allocate((size_t)sealed);
    tc_seal(&s, buffer, size);
    size_t at = 0;
    for (size_t from = 0; from < size; total_sealed++) {
        size_t length = tc_packet_length(buffer + from, size - from);
        tc_header h;
        uint64_t tag[2];
        memcpy(&h, s.out + at, sizeof h);
        fuzz_check(tc_packet_length(s.out + at, (size_t)sealed - at) == length + TC_TAG_SIZE, "the length of a sealed packet");
        tc_blake2b_tag(s.key, s.out + at, length, tag);
        fuzz_check(memcmp(tag, s.out + at + length, sizeof tag) == 0, "a tag of something else");
        h.flags &= (uint16_t)~TC_FLAG_AUTH;
        fuzz_check(memcmp(&h, buffer + from, sizeof h) == 0, "sealing changes the header");
        fuzz_check(memcmp(buffer + from + sizeof h, s.out + at + sizeof h, length - sizeof h) == 0, "sealing changes an item");
        from += length;
        at += length + TC_TAG_SIZE;
    }
    fuzz_check(at == (size_t)sealed, "bytes of nothing");
    free(s.out);
}

static void send_all(const uint8_t *buffer, size_t size, uint8_t config) {
    static const uint8_t SEGMENTS[] = {2, 3, 64, 255};
    tc_sender s = {.addr = config & 4 ? 1 : 0, .gso = (config & 2) != 0, .retries = config & 8 ? 3 : 0};
    s.max_segments = limit_segments = SEGMENTS[config >> 4 & 3];
    size_t end;
    uint64_t expected = count_packets(buffer, size, &end), error_offset = UINT64_MAX;
    wire_next = buffer;
    wire_end = buffer + size;
    taken = 0;
    int64_t sent = tc_send(&s, buffer, size, &error_offset);
    fuzz_check(s.packets == taken && s.packets + s.dropped == expected, "packets are neither sent nor dropped");
    if (sent < 0)
        fuzz_check(error_offset == end && end < size, "the offset of the error");
    else
        fuzz_check((uint64_t)sent == taken, "the number of packets sent");
    total_sent += s.packets;
    total_dropped += s.dropped;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_input in;
    fuzz_parse(&in, data, size);
    size_t total = 0, at = 0;
    for (uint32_t i = 0; i < in.count; i++) total += in.records[i].length;
    uint8_t *buffer = fuzz_allocate(total);
    for (uint32_t i = 0; i < in.count; i++) {
        if (in.records[i].length) memcpy(buffer + at, in.records[i].data, in.records[i].length);
        at += in.records[i].length;
    }
    script = &in;
    script_at = 0;
    stamp(buffer, total, in.config & 1);
    seal(buffer, total);
    send_all(buffer, total, in.config);
    free(buffer);
    return 0;
}

void fuzz_report(void) {
    printf("stamped %llu, refused buffers %llu, sealed %llu, sent %llu, dropped %llu, GSO messages %llu\n",
           (unsigned long long)total_stamped, (unsigned long long)total_refused, (unsigned long long)total_sealed,
           (unsigned long long)total_sent, (unsigned long long)total_dropped, (unsigned long long)total_gso);
}

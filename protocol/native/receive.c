/* UDP receiving; specification section 5. The slab is used from its start in every call: consume before the next one. */
#include "receive.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef SO_RXQ_OVFL
#define SO_RXQ_OVFL 40
#endif

#define CONTROL_SIZE (CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct timespec)) + CMSG_SPACE(sizeof(uint32_t)))

typedef struct {
    struct iovec iov;
    struct sockaddr_in from;
    union {
        char bytes[CONTROL_SIZE];
        struct cmsghdr align;
    } control;
} slot;

static struct mmsghdr *messages(const tc_receiver *r) {
    return (struct mmsghdr *)r->scratch;
}

static slot *slots(const tc_receiver *r) {
    return (slot *)(r->scratch + (size_t)r->n_slots * sizeof(struct mmsghdr));
}

uint64_t tc_receive_scratch(uint32_t n_slots) {
    return (uint64_t)n_slots * (sizeof(struct mmsghdr) + sizeof(slot));
}

static void rearm(tc_receiver *r, uint32_t i) {
    struct msghdr *m = &messages(r)[i].msg_hdr;
    m->msg_namelen = sizeof(struct sockaddr_in);
    m->msg_controllen = CONTROL_SIZE;
    m->msg_flags = 0;
}

/* Prepares the scratch area; once, after every pointer and size is set. */
void tc_receive_init(tc_receiver *r) {
    memset(r->scratch, 0, tc_receive_scratch(r->n_slots));
    for (uint32_t i = 0; i < r->n_slots; i++) {
        slot *s = &slots(r)[i];
        struct msghdr *m = &messages(r)[i].msg_hdr;
        s->iov.iov_base = r->buffer + (size_t)i * r->slot_size;
        s->iov.iov_len = r->slot_size;
        m->msg_iov = &s->iov;
        m->msg_iovlen = 1;
        m->msg_name = &s->from;
        m->msg_control = s->control.bytes;
        rearm(r, i);
    }
}

/* Takes over the kernel's cumulative drop count (a u32 that wraps). */
void tc_receive_drops(tc_rx_socket *socket, uint32_t cumulative) {
    uint32_t more = cumulative - socket->drops_seen;
    if (more >> 31)
        return;
    socket->drops += more;
    socket->drops_seen = cumulative;
}

/* Describes datagram `i` by one span a packet. */
static void describe(tc_receiver *r, uint32_t i, uint32_t line) {
    struct mmsghdr *m = &messages(r)[i];
    slot *s = &slots(r)[i];
    tc_rx_socket *sock = &r->sockets[line];
    uint32_t length = m->msg_len;
    tc_span span = {.line = (uint8_t)line, .addr = s->from.sin_addr.s_addr, .port = s->from.sin_port};
    uint32_t segment = length;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m->msg_hdr); c; c = CMSG_NXTHDR(&m->msg_hdr, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) {
            struct timespec ts;
            memcpy(&ts, CMSG_DATA(c), sizeof ts);
            span.kernel_ts_ns = (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
            uint32_t drops;
            memcpy(&drops, CMSG_DATA(c), sizeof drops);
            tc_receive_drops(sock, drops);
        } else if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(c), sizeof size);
            if (size > 0 && (uint32_t)size < length)
                segment = (uint32_t)size;
        }
    }
    if (m->msg_hdr.msg_flags & MSG_TRUNC) {
        span.flags = TC_SPAN_TRUNCATED;
        r->truncated++;
    }
    r->datagrams++;
    sock->bytes += length;
    uint32_t offset = i * r->slot_size, end = offset + length;
    do {
        if (r->n_spans == r->max_spans) {
            r->errors++;
            r->last_errno = ENOSPC;
            break;
        }
        uint32_t n = end - offset < segment ? end - offset : segment;
        span.offset = offset;
        span.length = (uint16_t)(n > UINT16_MAX ? UINT16_MAX : n);
        r->spans[r->n_spans++] = span;
        sock->packets++;
        offset += n;
    } while (offset < end);
}

/* Reads up to `limit` datagrams of one socket into the slots from `first` on. Returns how many. */
static uint32_t read_socket(tc_receiver *r, uint32_t line, uint32_t first, uint32_t limit) {
    int n = recvmmsg(r->sockets[line].fd, messages(r) + first, limit, MSG_DONTWAIT, NULL);
    r->calls++;
    if (n < 0) {
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
            r->errors++;
            r->last_errno = errno;
        }
        return 0;
    }
    for (uint32_t i = first; i < first + (uint32_t)n; i++) {
        describe(r, i, line);
        rearm(r, i);
    }
    return (uint32_t)n;
}

/* Waits at most `timeout_ns` (0 = not at all) for data on any socket, reads what is there and fits, and returns the number
 * of spans. A signal ends the wait with 0. Sockets take turns, so that none is starved when the slab is full. */
int64_t tc_receive(tc_receiver *r, int64_t timeout_ns) {
    r->n_spans = 0;
    uint32_t count = r->n_sockets > TC_MAX_SOCKETS ? TC_MAX_SOCKETS : r->n_sockets;
    if (!count)
        return 0;
    if (count == 1) {
        uint32_t n = read_socket(r, 0, 0, r->n_slots);
        if (n || timeout_ns <= 0)
            return r->n_spans;
    }
    struct pollfd polls[TC_MAX_SOCKETS];
    for (uint32_t i = 0; i < count; i++)
        polls[i] = (struct pollfd){.fd = r->sockets[i].fd, .events = POLLIN};
    struct timespec limit = {.tv_sec = timeout_ns > 0 ? timeout_ns / 1000000000 : 0,
                             .tv_nsec = timeout_ns > 0 ? (long)(timeout_ns % 1000000000) : 0};
    int ready = ppoll(polls, count, &limit, NULL);
    uint32_t used = 0;
    for (uint32_t k = 0; k < count && ready > 0; k++) {
        uint32_t line = (r->turn + k) % count;
        if (!polls[line].revents)
            continue;
        uint32_t share = (r->n_slots - used) / (uint32_t)ready;
        ready--;
        if (share)
            used += read_socket(r, line, used, share);
    }
    r->turn = (r->turn + 1) % count;
    return r->n_spans;
}

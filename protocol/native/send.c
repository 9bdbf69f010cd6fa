/* UDP sending for one destination; specification section 5. Never blocks longer than retries x wait_us. */
#include "send.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define BATCH 64

typedef union {
    char bytes[CMSG_SPACE(sizeof(uint16_t))];
    struct cmsghdr align;
} segment_control;

typedef struct {
    struct mmsghdr msgs[BATCH];
    struct iovec iov[BATCH];
    segment_control control[BATCH];
    uint32_t packets[BATCH];
    uint16_t segment[BATCH]; /* size of every packet of the message but the last */
    struct sockaddr_in to;
    unsigned count;
    unsigned budget; /* waits left in this call */
    int64_t sent;
} batch;

static void add(tc_sender *s, batch *b, const uint8_t *data, size_t nbytes, size_t segment, unsigned packets) {
    unsigned i = b->count++;
    struct msghdr *m = &b->msgs[i].msg_hdr;
    memset(m, 0, sizeof *m);
    b->iov[i].iov_base = (void *)(uintptr_t)data;
    b->iov[i].iov_len = nbytes;
    b->packets[i] = packets;
    b->segment[i] = (uint16_t)segment;
    m->msg_iov = &b->iov[i];
    m->msg_iovlen = 1;
    if (s->addr) {
        m->msg_name = &b->to;
        m->msg_namelen = sizeof b->to;
    }
    if (packets > 1) {
        m->msg_control = b->control[i].bytes;
        m->msg_controllen = sizeof b->control[i].bytes;
        struct cmsghdr *c = CMSG_FIRSTHDR(m);
        c->cmsg_level = IPPROTO_UDP;
        c->cmsg_type = UDP_SEGMENT;
        c->cmsg_len = CMSG_LEN(sizeof(uint16_t));
        memcpy(CMSG_DATA(c), &b->segment[i], sizeof(uint16_t));
    }
}

static void account(tc_sender *s, batch *b, uint32_t packets, size_t nbytes) {
    s->packets += packets;
    s->bytes += nbytes;
    s->gso_messages += packets > 1;
    b->sent += packets;
}

/* Waits for room in the socket. Returns 0 when this call's budget is spent. */
static int wait_for_room(const tc_sender *s, batch *b) {
    if (!b->budget)
        return 0;
    b->budget--;
    struct pollfd p = {.fd = s->fd, .events = POLLOUT};
    struct timespec limit = {.tv_sec = s->wait_us / 1000000, .tv_nsec = (long)(s->wait_us % 1000000) * 1000};
    ppoll(&p, 1, &limit, NULL);
    return 1;
}

static int is_full(int error) {
    return error == EAGAIN || error == EWOULDBLOCK || error == ENOBUFS || error == ENOMEM;
}

/* Sends the packets of one refused GSO message one by one. Returns 0, or the errno that ends the call. */
static int send_split(tc_sender *s, batch *b, unsigned index) {
    const uint8_t *data = b->iov[index].iov_base;
    size_t left = b->iov[index].iov_len, segment = b->segment[index];
    uint32_t packets = b->packets[index];
    while (packets) {
        size_t n = left < segment ? left : segment;
        ssize_t r = sendto(s->fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL, s->addr ? (struct sockaddr *)&b->to : NULL,
                           s->addr ? sizeof b->to : 0);
        s->calls++;
        if (r < 0) {
            if (errno == EINTR || (is_full(errno) && wait_for_room(s, b)))
                continue;
            s->dropped += packets;
            return errno;
        }
        account(s, b, 1, n);
        data += n;
        left -= n;
        packets--;
    }
    return 0;
}

static void drop_from(tc_sender *s, const batch *b, unsigned first) {
    for (unsigned i = first; i < b->count; i++)
        s->dropped += b->packets[i];
}

static void hard_error(tc_sender *s, int error) {
    s->errors++;
    s->last_errno = error;
}

/* Sends every message of the batch and empties it. Returns 0 when the rest of the call would fail as well. */
static int flush(tc_sender *s, batch *b) {
    unsigned i = 0;
    int go_on = 1;
    while (i < b->count) {
        int r = sendmmsg(s->fd, b->msgs + i, b->count - i, MSG_DONTWAIT | MSG_NOSIGNAL);
        s->calls++;
        if (r > 0) {
            for (unsigned end = i + (unsigned)r; i < end; i++)
                account(s, b, b->packets[i], b->iov[i].iov_len);
            continue;
        }
        int error = errno;
        if (error == EINTR || (is_full(error) && wait_for_room(s, b)))
            continue;
        if ((error == EIO || error == EINVAL) && b->packets[i] > 1) {
            s->gso = 0;
            s->gso_refused++;
            error = send_split(s, b, i++);
            if (!error)
                continue;
        } else if (error == EMSGSIZE) {
            hard_error(s, error);
            s->dropped += b->packets[i++];
            continue;
        }
        if (!is_full(error))
            hard_error(s, error);
        drop_from(s, b, i);
        go_on = 0;
        break;
    }
    b->count = 0;
    return go_on;
}

/* Counts as dropped what stands between `pos` and the end. */
static void drop_rest(tc_sender *s, const uint8_t *buffer, uint64_t pos, uint64_t nbytes) {
    size_t n;
    for (; pos < nbytes && (n = tc_packet_length(buffer + pos, nbytes - pos)); pos += n)
        s->dropped++;
}

/* Sends the packets of `buffer`. Returns how many the kernel took (the rest are counted in `dropped`), or
 * TC_SEND_MALFORMED with the offset of what is no packet; the packets before it have been sent. */
int64_t tc_send(tc_sender *s, const uint8_t *buffer, uint64_t nbytes, uint64_t *error_offset) {
    batch b;
    b.count = 0;
    b.budget = s->retries;
    b.sent = 0;
    memset(&b.to, 0, sizeof b.to);
    b.to.sin_family = AF_INET;
    b.to.sin_addr.s_addr = s->addr;
    b.to.sin_port = s->port;
    unsigned segments = s->max_segments > 64 ? 64 : s->max_segments;
    uint64_t pos = 0;
    while (pos < nbytes) {
        size_t first = tc_packet_length(buffer + pos, nbytes - pos);
        if (!first) {
            flush(s, &b);
            *error_offset = pos;
            return TC_SEND_MALFORMED;
        }
        size_t total = first;
        unsigned packets = 1;
        while (s->gso && packets < segments && pos + total < nbytes) {
            size_t n = tc_packet_length(buffer + pos + total, nbytes - pos - total);
            if (!n || n > first || total + n > TC_MAX_GSO_BYTES)
                break;
            total += n;
            packets++;
            if (n < first)
                break;
        }
        add(s, &b, buffer + pos, total, first, packets);
        pos += total;
        if (b.count == BATCH && !flush(s, &b)) {
            drop_rest(s, buffer, pos, nbytes);
            return b.sent;
        }
    }
    if (b.count)
        flush(s, &b);
    return b.sent;
}

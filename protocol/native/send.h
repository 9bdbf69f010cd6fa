/* Sending contiguous packets: runs of equal size as one UDP GSO message, all messages of a call through sendmmsg. */
#ifndef TAPECAST_SEND_H
#define TAPECAST_SEND_H
#include <stddef.h>
#include <stdint.h>

#include "wire.h"

/* cdef */
typedef struct {
    int32_t fd;
    int32_t last_errno;     /* of the last hard error; 0 = none yet */
    uint32_t addr;          /* destination, network byte order; 0 = the socket is connected */
    uint16_t port;          /* network byte order */
    uint8_t gso;            /* 1 = runs go out as GSO; cleared for good when the kernel refuses */
    uint8_t max_segments;   /* 2-64 packets a GSO message */
    uint32_t retries;       /* how often one call may wait for a full socket before it drops */
    uint32_t wait_us;       /* longest single wait */
    uint64_t packets;
    uint64_t bytes;
    uint64_t gso_messages;
    uint64_t calls;         /* sendmmsg system calls */
    uint64_t dropped;       /* packets given up: full socket, or a hard error */
    uint64_t errors;        /* hard errors */
    uint64_t gso_refused;
} tc_sender;

int64_t tc_send(tc_sender *s, const uint8_t *buffer, uint64_t nbytes, uint64_t *error_offset);
/* end cdef */

#define TC_SEND_MALFORMED (-1)
#define TC_MAX_GSO_BYTES 65507

/* Length of the packet at `p`, from its own header; 0 when `remaining` bytes cannot hold it or it is no packet. */
static inline size_t tc_packet_length(const uint8_t *p, size_t remaining) {
    if (remaining < TC_HEADER_SIZE)
        return 0;
    const tc_header *h = (const tc_header *)p;
    if (h->magic != TC_MAGIC)
        return 0;
    size_t length = TC_HEADER_SIZE + (size_t)h->payload_len + ((h->flags & TC_FLAG_AUTH) ? TC_TAG_SIZE : 0);
    return length <= remaining && length <= TC_MAX_PACKET ? length : 0;
}

#endif

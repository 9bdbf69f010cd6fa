/* Receiving: recvmmsg with UDP GRO from several sockets into one slab, described by one span a packet. */
#ifndef TAPECAST_RECEIVE_H
#define TAPECAST_RECEIVE_H
#include <stdint.h>

/* cdef */
typedef struct {
    uint32_t offset;        /* of the packet in its buffer */
    uint16_t length;
    uint8_t line;           /* index of the socket */
    uint8_t flags;          /* TC_SPAN_... */
    uint32_t addr;          /* source, network byte order */
    uint16_t port;          /* source, network byte order */
    uint16_t reserved;
    int64_t kernel_ts_ns;   /* arrival at the kernel, UTC ns; 0 = unknown */
} tc_span;

typedef struct {
    int32_t fd;
    uint32_t drops_seen;    /* last cumulative drop count the kernel reported */
    uint64_t drops;         /* what the kernel dropped for want of buffer: packets, with GRO buffers */
    uint64_t packets;
    uint64_t bytes;
} tc_rx_socket;

typedef struct {
    tc_rx_socket *sockets;
    uint32_t n_sockets;     /* at most 64 */
    uint32_t turn;          /* socket that is read first next time */
    uint8_t *buffer;        /* n_slots x slot_size */
    uint32_t slot_size;
    uint32_t n_slots;
    tc_span *spans;
    uint32_t max_spans;     /* at least n_slots x 128 with GRO, n_slots without */
    uint32_t n_spans;       /* result of the last call */
    uint8_t *scratch;       /* tc_receive_scratch(n_slots) bytes, 16-aligned, prepared by tc_receive_init */
    uint64_t datagrams;     /* kernel buffers read; fewer than packets when GRO joins them */
    uint64_t calls;         /* recvmmsg system calls */
    uint64_t truncated;     /* datagrams longer than a slot */
    uint64_t errors;
    int32_t last_errno;
} tc_receiver;

uint64_t tc_receive_scratch(uint32_t n_slots);
void tc_receive_init(tc_receiver *r);
int64_t tc_receive(tc_receiver *r, int64_t timeout_ns);
void tc_receive_drops(tc_rx_socket *socket, uint32_t cumulative);
/* end cdef */

#define TC_SPAN_TRUNCATED 1 /* the datagram was longer than the slot */
#define TC_SPAN_HELD 4      /* the packet is in the sequencer's store, not in the receive buffer */
#define TC_SPAN_REPAIR 8    /* set by the caller: from the recovery service, fills holes and does nothing else */
#define TC_MAX_SOCKETS 64
#define TC_MAX_SEGMENTS 128

#endif

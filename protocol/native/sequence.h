/* Validation and ordering of received packets, per channel over all its lines; the reference is protocol/net/sequencing_reference.py. */
#ifndef TAPECAST_SEQUENCE_H
#define TAPECAST_SEQUENCE_H
#include <stdint.h>

#include "auth.h"
#include "receive.h"
#include "validate.h"
#include "wire.h"

/* cdef */
enum {
    TC_EVENT_JOINED = 1,
    TC_EVENT_NEW_SESSION,
    TC_EVENT_GAP,
    TC_EVENT_JUMP,
    TC_EVENT_SESSION_END,
    TC_EVENT_OTHER_SOURCE,
    TC_EVENT_REPAIR,
    TC_EVENT_REPAIRED
};

typedef struct {
    uint8_t kind;         /* TC_EVENT_... */
    uint8_t line;
    uint16_t channel_id;
    uint32_t session;
    uint32_t position;    /* deliveries of this call that come before the event */
    uint32_t addr;        /* OTHER_SOURCE, REPAIR: network byte order */
    uint16_t port;        /* OTHER_SOURCE, REPAIR: network byte order */
    uint16_t reserved[3];
    uint64_t first;
    uint64_t count;
} tc_event;

typedef struct {
    uint32_t offset;      /* packets that stand side by side in one buffer */
    uint32_t nbytes;
    uint32_t first;       /* index of the first delivery */
    uint32_t packets;
    uint32_t held;        /* 1 = in the sequencer's store */
} tc_run;

typedef struct {
    uint64_t base;        /* first channel_seq this line brought in the session */
    uint64_t highest;
    uint64_t received;    /* 0 = none yet in the session */
    uint32_t addr;
    uint16_t port;
    uint8_t line;
    uint8_t used;         /* TC_LINE_...; 0 = not yet */
} tc_line;

typedef struct {
    uint64_t end;         /* what is missing before this number has been asked for */
    int64_t since_ns;
    uint64_t lost;        /* 1 = some of it was given up */
} tc_repair;

typedef struct {
    uint64_t next;        /* channel_seq to be delivered next */
    uint64_t edge;        /* numbers missing before this one are being repaired; equal to next where nothing is */
    uint64_t tail_seq;    /* next number a heartbeat announced; with TC_CHANNEL_TAIL */
    int64_t tail_ns;
    uint64_t end_seq;     /* with TC_CHANNEL_ENDING */
    uint64_t candidate;   /* number that would confirm a jump; with TC_CHANNEL_CANDIDATE */
    int64_t oldest_ns;    /* arrival of the packet held longest beyond the edge; with beyond > 0 */
    uint64_t oldest_seq;  /* oldest number that the recovery service has; 0 = none */
    uint32_t held;
    uint32_t beyond;      /* how many of the held are beyond the edge */
    uint32_t session;
    uint32_t service_addr;  /* network byte order */
    uint16_t service_port;  /* 0 = no recovery service */
    uint16_t channel_id;
    uint16_t state;       /* TC_CHANNEL_... */
    uint8_t no_repair;    /* the caller cannot reach the service at present */
    uint8_t first_repair; /* index of the oldest in repairs */
    uint16_t n_repairs;
    uint16_t venue_id;
    uint32_t reserved;
    tc_repair repairs[40];
    tc_line lines[4];
} tc_channel;

typedef struct {
    /* Configuration. */
    int64_t window_ns;
    int64_t repair_ns;        /* how long a hole may wait for its repair; 0 = holes are given up at once */
    uint32_t window_packets;  /* 1-1024 */
    uint32_t reach;           /* packets that may wait in a channel; a power of two, at least 1024 */
    uint32_t n_allowed;
    const uint32_t *allowed;  /* source addresses, network byte order; none = any */
    const tc_channel_keys *keys; /* none = tags are not looked at; else every packet needs one */
    uint32_t n_keys;
    uint8_t learn_sources;
    uint8_t reserved[3];
    /* State. */
    uint32_t n_channels;
    uint32_t max_channels;
    uint32_t hint;
    tc_channel *channels;
    uint32_t *window;         /* [max_channels][reach]: slot + 1 of the held packet, by channel_seq mod reach; 0 = none */
    uint8_t *store;           /* n_slots x 1536: held packets */
    tc_span *slot_span;
    int64_t *slot_ns;
    uint32_t *free_slots;
    uint32_t *used_slots;     /* delivered in this call: free again in the next */
    uint32_t n_slots;
    uint32_t n_free;
    uint32_t n_used;
    int64_t alarm_ns;
    int64_t now_ns;           /* of the last call */
    int64_t deadline_ns;      /* when tc_sequence_timer is due; INT64_MAX = nothing waits */
    uint64_t *counters;       /* TC_COUNTERS, indexed by TC_COUNT_... */
    /* Results of the last call. */
    tc_span *out;
    tc_run *runs;
    tc_event *events;
    uint32_t max_out;
    uint32_t max_events;
    uint32_t n_out;
    uint32_t n_runs;
    uint32_t n_events;
    uint32_t first_event;     /* of the packet in hand */
} tc_sequencer;

void tc_sequence_init(tc_sequencer *s);
int64_t tc_sequence(tc_sequencer *s, const uint8_t *base, const tc_span *spans, uint32_t count, int64_t now_ns);
int64_t tc_sequence_timer(tc_sequencer *s, int64_t now_ns);
int64_t tc_sequence_give_up(tc_sequencer *s, uint16_t channel_id, uint32_t session, uint64_t end, int64_t now_ns);
int tc_sequence_repairable(tc_sequencer *s, uint16_t channel_id, int repairable);
int64_t tc_receive_sequence(tc_receiver *r, tc_sequencer *s, int64_t timeout_ns, int64_t now_ns);
/* end cdef */

#define TC_LEAST_REACH 1024
#define TC_REPAIRS 40      /* repairs a channel has at a time */
#define TC_REPAIR_STEPS 32 /* what is asked for within repair_ns / 32 is one repair */
#define TC_REPAIR_NEAR 16  /* holes with fewer packets than this between them are one request */
#define TC_SLOT_SIZE 1536
#define TC_MAX_JUMP (UINT64_C(1) << 20)
#define TC_ALARM_NS INT64_C(1000000000)
#define TC_SEQUENCE_SPACE (-1) /* a result array is full: max_out or max_events is too small */

enum { TC_LINE_HEARD = 1, TC_LINE_ANY_HOST }; /* ANY_HOST: not heard since the session began, and its host may be another one */
enum { TC_CHANNEL_TAIL = 1, TC_CHANNEL_ENDING = 2, TC_CHANNEL_ENDED = 4, TC_CHANNEL_CANDIDATE = 8 };

#endif

/* Order books in memory that the caller owns: BOOK packets in, sorted price levels out. Rules: protocol/books/reference.py. */
#ifndef TAPECAST_BOOK_H
#define TAPECAST_BOOK_H
#include <stddef.h>
#include <stdint.h>
#include "wire.h"

/* cdef */
/* What a book is; complete = TC_BOOK_LIVE and not open. */
#define TC_BOOK_EMPTY 0   /* no snapshot yet */
#define TC_BOOK_LOADING 1 /* inside a snapshot; shows no levels */
#define TC_BOOK_LIVE 2
#define TC_BOOK_SUSPECT 3 /* something was lost; keeps its last levels until a snapshot */
#define TC_BOOK_BROKEN 4  /* a number did not fit; shows no levels until a snapshot */

#define TC_APPLY_OK 0
#define TC_APPLY_NO_SPACE 1  /* grow the sides of `slot` to need_bids, need_asks; resume at `position` */
#define TC_APPLY_NO_SLOT 2   /* grow books, touched and table; resume at `position` */
#define TC_APPLY_MALFORMED 3 /* no packet boundary at `position`: the rest of a contiguous buffer is unreadable */

#define TC_APPLY_CROSSED 4   /* done, and an event left its book locked or crossed */
#define TC_APPLY_BAD_SIZE 5  /* more bytes than the kept buffer has; nothing was done */

#define TC_APPLY_CHECK_SEQ 1   /* a delta must carry last + 1; a cycle snapshot equal to last is skipped */
#define TC_APPLY_DROP_OLD 2    /* with CHECK_SEQ: what is at or before last is dropped instead of suspected */
#define TC_APPLY_AUTO_ADD 4    /* an unknown instrument gets a book */
#define TC_APPLY_DELTA_FIRST 8 /* a delta may start an empty book */
#define TC_APPLY_RESUME 16     /* this call goes on where NO_SPACE or NO_SLOT stopped one */

#define TC_TOUCH_NORMAL 0
#define TC_TOUCH_LOCKED 1
#define TC_TOUCH_CROSSED 2

typedef struct {
    uint64_t instrument_id;
    int64_t *bids; /* pairs price, quantity; prices ascend: the best is last */
    int64_t *asks; /* prices descend: the best is last */
    uint64_t updates;
    uint64_t crossed_events; /* complete events after which best bid >= best ask */
    uint64_t ignored;        /* packets not applied because the book awaits a snapshot */
    int64_t ts_exchange_ns;
    int64_t ts_recv_ns;
    uint32_t bid_count;
    uint32_t ask_count;
    uint32_t bid_capacity; /* levels that fit from `bids` on */
    uint32_t ask_capacity;
    uint32_t bid_slack; /* free levels before `bids`, which moves when the far end of a side changes */
    uint32_t ask_slack;
    uint32_t load_bids; /* levels of the snapshot being received, best first */
    uint32_t load_asks;
    uint32_t instrument_seq; /* of the last complete event */
    uint32_t open_seq;
    uint32_t crossed_run; /* consecutive events counted in crossed_events */
    uint32_t generation;  /* of the call that last put this book into `touched` */
    uint16_t venue_id;
    uint16_t flags; /* header flags of the last complete event */
    int8_t price_exp;
    int8_t qty_exp;
    uint8_t state;
    uint8_t open; /* 1 between the first and the last fragment of an event */
    uint8_t next_fragment;
    uint8_t touch;
    uint8_t reserved[6];
} tc_book;

typedef struct {
    uint64_t instrument_id;
    uint32_t slot_plus_1; /* 0 = free */
    uint32_t reserved;
} tc_book_entry;

typedef struct {
    tc_book *books;
    tc_book_entry *table; /* table_mask + 1 entries, a power of two, at least twice book_capacity */
    uint32_t *touched;    /* book_capacity entries */
    uint64_t table_mask;
    uint32_t book_count;
    uint32_t book_capacity;
    uint32_t max_books;
    uint32_t generation;
    const uint8_t *kept; /* the buffer of tc_books_apply_kept */
    uint64_t kept_size;
    uint32_t kept_options;
    /* about the last call */
    int32_t status;
    uint32_t touched_count;
    uint32_t slot;
    uint32_t need_bids;
    uint32_t need_asks;
    uint64_t crossed_before; /* `crossed` when it began */
    uint64_t position; /* contiguous: byte offset; spans: index */
    /* counted since the start */
    uint64_t packets; /* BOOK packets applied */
    uint64_t events;  /* events completed */
    uint64_t levels;  /* levels applied */
    uint64_t other_types;
    uint64_t invalid;         /* packets whose header contradicts itself */
    uint64_t unknown;         /* packets of instruments without a book */
    uint64_t ignored;         /* packets for books that await a snapshot */
    uint64_t fragment_errors; /* events that lost a fragment */
    uint64_t seq_gaps;
    uint64_t skipped; /* packets of cycle snapshots that a healthy book does not need */
    uint64_t old;     /* packets dropped by DROP_OLD */
    uint64_t negative_quantities;
    uint64_t overflows; /* books broken because a number or a book grew too large */
    uint64_t crossed;   /* events that left a book locked or crossed */
} tc_books;

int tc_books_apply(tc_books *set, const uint8_t *buffer, size_t nbytes, size_t start, unsigned options);
int tc_books_apply_kept(tc_books *set, int64_t nbytes);
int64_t tc_books_find(const tc_books *set, uint64_t instrument_id);
int64_t tc_books_add(tc_books *set, uint64_t instrument_id);
void tc_books_rehash(tc_books *set);
void tc_books_mark(tc_books *set, uint32_t slot, uint8_t state);
void tc_books_top(const tc_books *set, const uint32_t *slots, size_t count, size_t depth, int64_t *bids, int64_t *asks);
/* end cdef */

#endif

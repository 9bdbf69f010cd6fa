/* The book kernel. A side is an array sorted towards the touch, best level last, so that a change near the touch moves little
   memory. A snapshot is collected best first, where each level is an append, and turned round at its last fragment. */
#include "book.h"
#include "book_side.h"
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum action { CONTINUE, BEGIN_SNAPSHOT, BEGIN_DELTA, IGNORE, SKIP, OLD, GAP, FRAGMENT_ERROR };

INLINE uint64_t home(const tc_books *set, uint64_t instrument_id) {
    return ((instrument_id * UINT64_C(0x9E3779B97F4A7C15)) >> 32) & set->table_mask;
}

int64_t tc_books_find(const tc_books *set, uint64_t instrument_id) {
    for (uint64_t i = home(set, instrument_id);; i = (i + 1) & set->table_mask) {
        const tc_book_entry *entry = &set->table[i];
        if (entry->slot_plus_1 == 0) return -1;
        if (entry->instrument_id == instrument_id) return (int64_t)entry->slot_plus_1 - 1;
    }
}

static void enter(tc_books *set, uint64_t instrument_id, uint32_t slot) {
    uint64_t i = home(set, instrument_id);
    while (set->table[i].slot_plus_1 != 0) i = (i + 1) & set->table_mask;
    set->table[i].instrument_id = instrument_id;
    set->table[i].slot_plus_1 = slot + 1;
}

/* Enter every book into a table of zeroes. */
void tc_books_rehash(tc_books *set) {
    for (uint32_t slot = 0; slot < set->book_count; slot++) enter(set, set->books[slot].instrument_id, slot);
}

/* The slot of a new or existing book; -1 when no slot is free. */
int64_t tc_books_add(tc_books *set, uint64_t instrument_id) {
    int64_t found = tc_books_find(set, instrument_id);
    if (found >= 0) return found;
    if (set->book_count >= set->book_capacity) return -1;
    uint32_t slot = set->book_count++;
    set->books[slot] = (tc_book){.instrument_id = instrument_id};
    enter(set, instrument_id, slot);
    return slot;
}

static void touch(tc_books *set, tc_book *book) {
    if (book->generation == set->generation) return;
    book->generation = set->generation;
    set->touched[set->touched_count++] = (uint32_t)(book - set->books);
}

/* Leave the running event; only a suspect book keeps its levels. */
static void mark(tc_book *book, uint8_t state) {
    if (state != TC_BOOK_SUSPECT) book->bid_count = book->ask_count = 0;
    book->load_bids = book->load_asks = 0;
    book->open = 0;
    book->crossed_run = 0;
    book->touch = TC_TOUCH_NORMAL;
    book->state = state;
}

/* Change a book's state from outside, between two calls of apply or before one is resumed. */
void tc_books_mark(tc_books *set, uint32_t slot, uint8_t state) {
    if (state == TC_BOOK_BROKEN) set->overflows++;
    mark(&set->books[slot], state);
    touch(set, &set->books[slot]);
}

/* Bring the book to finer exponents, all of it or nothing. */
static int rescale(tc_book *book, int price_digits, int qty_digits) {
    uint32_t bids = book->bid_count + book->load_bids, asks = book->ask_count + book->load_asks; /* one of each pair is 0 */
    for (int write = 0; write < 2; write++) {
        if (!tc_side_rescale((tc_side_level *)book->bids, bids, price_digits, qty_digits, write)) return 0;
        if (!tc_side_rescale((tc_side_level *)book->asks, asks, price_digits, qty_digits, write)) return 0;
    }
    book->price_exp = (int8_t)(book->price_exp - price_digits);
    book->qty_exp = (int8_t)(book->qty_exp - qty_digits);
    return 1;
}

/* What a packet means for its book; changes nothing. */
static enum action route(const tc_book *book, const tc_header *header, unsigned options) {
    int snapshot = (header->flags & TC_FLAG_SNAPSHOT) != 0;
    if (book->open && header->instrument_seq == book->open_seq && header->fragment == book->next_fragment &&
        snapshot == (book->state == TC_BOOK_LOADING))
        return CONTINUE; /* next_fragment is 0 only after fragment 255 */
    if ((options & TC_APPLY_CHECK_SEQ) && book->state == TC_BOOK_LIVE && !book->open) {
        int32_t ahead = (int32_t)(header->instrument_seq - book->instrument_seq);
        int recovered = snapshot && (header->flags & TC_FLAG_RECOVERED);
        if (recovered && ahead == 0) return SKIP;
        if ((options & TC_APPLY_DROP_OLD) && ahead <= 0 && (recovered || !snapshot)) return OLD;
        if (!snapshot && header->fragment == 0 && ahead != 1) return GAP;
    }
    if (header->fragment == 0 && snapshot) return BEGIN_SNAPSHOT;
    if (book->open || (book->state == TC_BOOK_LIVE && header->fragment != 0)) return FRAGMENT_ERROR;
    if (book->state == TC_BOOK_LIVE) return BEGIN_DELTA;
    if (book->state == TC_BOOK_EMPTY && header->fragment == 0 && (options & TC_APPLY_DELTA_FIRST)) return BEGIN_DELTA;
    return IGNORE;
}

/* The last fragment has been applied. */
static void finish(tc_books *set, tc_book *book, const tc_header *header) {
    if (book->state == TC_BOOK_LOADING) {
        tc_side_reverse((tc_side_level *)book->bids, book->load_bids);
        tc_side_reverse((tc_side_level *)book->asks, book->load_asks);
        book->bid_count = book->load_bids;
        book->ask_count = book->load_asks;
        book->load_bids = book->load_asks = 0;
    }
    book->state = TC_BOOK_LIVE;
    book->open = 0;
    book->updates++;
    book->instrument_seq = header->instrument_seq;
    book->ts_exchange_ns = header->ts_exchange_ns;
    book->ts_recv_ns = header->ts_recv_ns;
    book->venue_id = header->venue_id;
    book->flags = header->flags;
    book->touch = TC_TOUCH_NORMAL;
    if (book->bid_count > 0 && book->ask_count > 0) {
        int64_t bid = book->bids[2 * book->bid_count - 2], ask = book->asks[2 * book->ask_count - 2];
        if (bid >= ask) book->touch = bid > ask ? TC_TOUCH_CROSSED : TC_TOUCH_LOCKED;
    }
    book->crossed_run = book->touch == TC_TOUCH_NORMAL ? 0 : book->crossed_run + 1;
    book->crossed_events += book->touch != TC_TOUCH_NORMAL;
    set->crossed += book->touch != TC_TOUCH_NORMAL;
    set->events++;
    touch(set, book);
}

/* The sides as they stand; of a side's two counts, that of the book and that of a snapshot being received, one is 0. */
INLINE tc_side bid_side(const tc_book *book) {
    return (tc_side){(tc_side_level *)book->bids, book->bid_count + book->load_bids, book->bid_capacity, book->bid_slack, 0};
}

INLINE tc_side ask_side(const tc_book *book) {
    return (tc_side){(tc_side_level *)book->asks, book->ask_count + book->load_asks, book->ask_capacity, book->ask_slack, 0};
}

INLINE void set_bid_side(tc_book *book, const tc_side *side) {
    book->bids = (int64_t *)side->levels;
    *(book->state == TC_BOOK_LOADING ? &book->load_bids : &book->bid_count) = side->count;
    book->bid_capacity = side->capacity;
    book->bid_slack = side->slack;
}

INLINE void set_ask_side(tc_book *book, const tc_side *side) {
    book->asks = (int64_t *)side->levels;
    *(book->state == TC_BOOK_LOADING ? &book->load_asks : &book->ask_count) = side->count;
    book->ask_capacity = side->capacity;
    book->ask_slack = side->slack;
}

/* Move both sides to the start of their memory. */
static void take_slack(tc_book *book) {
    tc_side bids = bid_side(book), asks = ask_side(book);
    tc_side_take_slack(&bids);
    tc_side_take_slack(&asks);
    set_bid_side(book, &bids);
    set_ask_side(book, &asks);
}

/* Apply the levels of one packet to a book that has room for them; 0 when a number does not fit. */
static int merge(tc_books *set, tc_book *book, const tc_header *header) {
    if (book->bid_count + book->load_bids + book->ask_count + book->load_asks == 0) {
        book->price_exp = header->price_exp;
        book->qty_exp = header->qty_exp;
    }
    int price_digits = header->price_exp - book->price_exp, qty_digits = header->qty_exp - book->qty_exp;
    if (price_digits < 0 || qty_digits < 0) {
        if (!rescale(book, price_digits < 0 ? -price_digits : 0, qty_digits < 0 ? -qty_digits : 0)) return 0;
        price_digits = price_digits < 0 ? 0 : price_digits;
        qty_digits = qty_digits < 0 ? 0 : qty_digits;
    }
    const uint8_t *items = (const uint8_t *)(header + 1);
    unsigned bids = header->bid_count, asks = header->item_count - bids;
    tc_side_change change = {header->item_size, price_digits, qty_digits, &set->negative_quantities};
    int loading = book->state == TC_BOOK_LOADING; /* a snapshot is collected the other way round */
    int fit = 1;
    if (bids > 0) {
        tc_side side = bid_side(book);
        fit = tc_side_apply(&side, items, bids, &change, !loading);
        set_bid_side(book, &side);
    }
    if (asks > 0 && fit) {
        tc_side side = ask_side(book);
        fit = tc_side_apply(&side, items + bids * change.stride, asks, &change, loading);
        set_ask_side(book, &side);
    }
    return fit;
}

static int apply_to_book(tc_books *set, tc_book *book, const tc_header *header, unsigned options) {
    enum action action = route(book, header, options);
    switch (action) {
    case CONTINUE: case BEGIN_SNAPSHOT: case BEGIN_DELTA: break;
    case IGNORE: set->ignored++; book->ignored++; return TC_APPLY_OK;
    case SKIP: set->skipped++; return TC_APPLY_OK;
    case OLD: set->old++; return TC_APPLY_OK;
    case GAP:
    case FRAGMENT_ERROR:
        if (action == GAP) set->seq_gaps++; else set->fragment_errors++;
        mark(book, TC_BOOK_SUSPECT);
        touch(set, book);
        return TC_APPLY_OK;
    }
    uint32_t bids = header->bid_count, asks = header->item_count - bids;
    if (action != BEGIN_SNAPSHOT) {
        bids += book->bid_count + book->load_bids;
        asks += book->ask_count + book->load_asks;
    }
    if (bids > book->bid_capacity || asks > book->ask_capacity) take_slack(book);
    if (bids > book->bid_capacity || asks > book->ask_capacity) {
        set->slot = (uint32_t)(book - set->books);
        set->need_bids = bids;
        set->need_asks = asks;
        return TC_APPLY_NO_SPACE;
    }
    if (action != CONTINUE) {
        if (action == BEGIN_SNAPSHOT) {
            if (book->open) set->fragment_errors++;
            book->bid_count = book->ask_count = book->load_bids = book->load_asks = 0;
            book->state = TC_BOOK_LOADING;
        } else {
            book->state = TC_BOOK_LIVE;
        }
        book->open = 1;
        book->open_seq = header->instrument_seq;
        book->next_fragment = 0;
    }
    book->next_fragment++;
    if (!merge(set, book, header)) {
        set->overflows++;
        mark(book, TC_BOOK_BROKEN);
        touch(set, book);
        return TC_APPLY_OK;
    }
    set->packets++;
    set->levels += header->item_count;
    if (header->flags & TC_FLAG_LAST) finish(set, book, header);
    return TC_APPLY_OK;
}

/* The length of the packet at `data`, 0 = none. One that is too long might hold more levels than a side may have room for. */
INLINE size_t packet_length(const uint8_t *data, size_t available) {
    const tc_header *header = (const tc_header *)data;
    if (available < TC_HEADER_SIZE || header->magic != TC_MAGIC || header->version != TC_VERSION) return 0;
    size_t length = TC_HEADER_SIZE + (size_t)header->payload_len + (header->flags & TC_FLAG_AUTH ? TC_TAG_SIZE : 0);
    return length <= available && length <= TC_MAX_PACKET ? length : 0;
}

static int apply_packet(tc_books *set, const tc_header *header, unsigned options) {
    if (header->msg_type != TC_MSG_BOOK) {
        set->other_types++;
        return TC_APPLY_OK;
    }
    if (header->item_size < sizeof(tc_level) || header->item_count * header->item_size != header->payload_len ||
        header->bid_count > header->item_count || header->instrument_id == 0 || (header->flags & TC_FLAG_CRITICAL)) {
        set->invalid++;
        return TC_APPLY_OK;
    }
    int64_t slot = tc_books_find(set, header->instrument_id);
    if (slot < 0) {
        if (!(options & TC_APPLY_AUTO_ADD) || set->book_count >= set->max_books) {
            set->unknown++;
            return TC_APPLY_OK;
        }
        slot = tc_books_add(set, header->instrument_id);
        if (slot < 0) return TC_APPLY_NO_SLOT;
    }
    return apply_to_book(set, &set->books[slot], header, options);
}

static void start_call(tc_books *set, unsigned options) {
    if (options & TC_APPLY_RESUME) return;
    set->generation++;
    set->touched_count = 0;
    set->crossed_before = set->crossed;
}

static int end_call(tc_books *set, size_t position, int status) {
    set->position = position;
    set->status = status;
    return status == TC_APPLY_OK && set->crossed != set->crossed_before ? TC_APPLY_CROSSED : status;
}

/* Apply contiguous packets from byte `start` on. */
int tc_books_apply(tc_books *set, const uint8_t *buffer, size_t nbytes, size_t start, unsigned options) {
    start_call(set, options);
    size_t position = start;
    int status = TC_APPLY_OK;
    while (position < nbytes) {
        size_t length = packet_length(buffer + position, nbytes - position);
        if (length == 0) {
            status = TC_APPLY_MALFORMED;
            break;
        }
        status = apply_packet(set, (const tc_header *)(buffer + position), options);
        if (status != TC_APPLY_OK) break;
        position += length;
    }
    return end_call(set, position, status);
}

/* Apply the first bytes of the buffer that is kept in the set: few arguments, because each costs its conversion from Python. */
int tc_books_apply_kept(tc_books *set, int64_t nbytes) {
    if (nbytes < 0 || (uint64_t)nbytes > set->kept_size) return TC_APPLY_BAD_SIZE;
    return tc_books_apply(set, set->kept, (size_t)nbytes, 0, set->kept_options);
}

INLINE void top_side(const int64_t *levels, uint32_t count, size_t depth, int64_t *out) {
    for (size_t i = 0; i < depth; i++, out += 2) {
        out[0] = i < count ? levels[2 * (count - 1 - i)] : TC_UNDEFINED;
        out[1] = i < count ? levels[2 * (count - 1 - i) + 1] : 0;
    }
}

/* Copy the best `depth` levels of several books, best first; where there is no level: price UNDEFINED, quantity 0. */
void tc_books_top(const tc_books *set, const uint32_t *slots, size_t count, size_t depth, int64_t *bids, int64_t *asks) {
    for (size_t i = 0; i < count; i++) {
        const tc_book *book = &set->books[slots[i]];
        top_side(book->bids, book->bid_count, depth, bids + 2 * depth * i);
        top_side(book->asks, book->ask_count, depth, asks + 2 * depth * i);
    }
}

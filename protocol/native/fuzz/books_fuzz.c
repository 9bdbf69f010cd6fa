/* Fuzz the books. Two sets take the same packets, one as contiguous buffers with room from the start, one packet by packet with room
 * given only as the kernel asks for it, to the level; they must end equal. After every call each book must be sound: sides sorted, no
 * quantity below 1, counts within the room, the touch as the best prices say.
 *
 * config: bits 0-3 the options CHECK_SEQ, DROP_OLD, AUTO_ADD, DELTA_FIRST; 4-5 the limit of books.
 * Special values, before the record's batch: 1 every book SUSPECT, 2 every book EMPTY, else one book SUSPECT. */
#include "../book.h"
#include "packet_input.h"

#define MAX_LEVELS 128
#define ROOM_ASKED 1000 /* more than one call can need */

typedef struct {
    int64_t price, quantity;
} level;

static uint64_t total_events, total_levels, total_suspect, total_broken, total_invalid;

static void make_slots(tc_books *set, uint32_t capacity) {
    uint64_t entries = 2;
    while (entries < 2 * (uint64_t)capacity) entries *= 2;
    tc_book *books = fuzz_allocate(capacity * sizeof *books);
    uint32_t *touched = fuzz_allocate(capacity * sizeof *touched);
    if (set->book_count) memcpy(books, set->books, set->book_count * sizeof *books);
    if (set->touched_count) memcpy(touched, set->touched, set->touched_count * sizeof *touched);
    free(set->books);
    free(set->touched);
    free(set->table);
    set->books = books;
    set->touched = touched;
    set->table = calloc(entries, sizeof *set->table);
    fuzz_check(set->table != NULL, "out of memory");
    set->table_mask = entries - 1;
    set->book_capacity = capacity;
    tc_books_rehash(set);
}

/* Where the memory of a side begins: the kernel may have moved its first level behind some free ones. */
static int64_t *memory_of(int64_t *levels, uint32_t slack) { return levels == NULL ? NULL : levels - 2 * (size_t)slack; }

static void grow_side(int64_t **levels, uint32_t *slack, uint32_t *capacity, uint32_t used, uint32_t need) {
    if (need <= *capacity) return;
    int64_t *more = fuzz_allocate(need * sizeof(level));
    if (used) memcpy(more, *levels, used * sizeof(level));
    free(memory_of(*levels, *slack));
    *levels = more;
    *slack = 0;
    *capacity = need;
}

static void make_room(tc_books *set, int status, int generous) {
    if (status == TC_APPLY_NO_SLOT) {
        make_slots(set, set->book_capacity + (generous ? 16 : 1));
        return;
    }
    tc_book *book = &set->books[set->slot];
    if (set->need_bids > MAX_LEVELS || set->need_asks > MAX_LEVELS) {
        tc_books_mark(set, set->slot, TC_BOOK_BROKEN);
        return;
    }
    uint32_t bids = generous ? MAX_LEVELS : set->need_bids, asks = generous ? MAX_LEVELS : set->need_asks;
    grow_side(&book->bids, &book->bid_slack, &book->bid_capacity, book->bid_count + book->load_bids, bids);
    grow_side(&book->asks, &book->ask_slack, &book->ask_capacity, book->ask_count + book->load_asks, asks);
}

static void open_set(tc_books *set, uint8_t config) {
    static const uint32_t LIMITS[] = {1, 3, 8, 64};
    memset(set, 0, sizeof *set);
    set->max_books = LIMITS[config >> 4 & 3];
    make_slots(set, 1);
}

static void close_set(tc_books *set) {
    for (uint32_t i = 0; i < set->book_count; i++) {
        free(memory_of(set->books[i].bids, set->books[i].bid_slack));
        free(memory_of(set->books[i].asks, set->books[i].ask_slack));
    }
    free(set->books);
    free(set->touched);
    free(set->table);
}

static void check_side(const int64_t *pairs, uint32_t count, uint32_t loading, uint32_t capacity, int ascending) {
    const level *levels = (const level *)pairs;
    fuzz_check(count == 0 || loading == 0, "levels shown while loading");
    fuzz_check(count <= capacity && loading <= capacity, "more levels than room");
    if (loading) { /* best first */
        count = loading;
        ascending = !ascending;
    }
    for (uint32_t i = 0; i < count; i++) {
        fuzz_check(levels[i].quantity > 0 && levels[i].quantity <= TC_MAX_MANTISSA, "a quantity that no level has");
        fuzz_check(levels[i].price <= TC_MAX_MANTISSA && levels[i].price >= -TC_MAX_MANTISSA, "a price that does not fit");
        fuzz_check(i == 0 || (ascending ? levels[i - 1].price < levels[i].price : levels[i - 1].price > levels[i].price),
                   "a side that is not sorted");
    }
}

static void check_book(const tc_books *set, uint32_t slot) {
    const tc_book *b = &set->books[slot];
    fuzz_check(tc_books_find(set, b->instrument_id) == slot, "a book that is not found");
    fuzz_check(b->state <= TC_BOOK_BROKEN, "unknown state");
    fuzz_check(!b->open || b->state == TC_BOOK_LOADING || b->state == TC_BOOK_LIVE, "an event open in a book that takes none");
    fuzz_check(b->state == TC_BOOK_LOADING || b->load_bids + b->load_asks == 0, "loading outside a snapshot");
    fuzz_check((b->state != TC_BOOK_EMPTY && b->state != TC_BOOK_BROKEN) || b->bid_count + b->ask_count == 0,
               "levels in a book that shows none");
    check_side(b->bids, b->bid_count, b->load_bids, b->bid_capacity, 1);
    check_side(b->asks, b->ask_count, b->load_asks, b->ask_capacity, 0);
    if (b->state != TC_BOOK_LIVE || b->open) return;
    unsigned touch = TC_TOUCH_NORMAL;
    int64_t bid[2], ask[2];
    tc_books_top(set, &slot, 1, 1, bid, ask);
    if (b->bid_count && b->ask_count && bid[0] >= ask[0]) touch = bid[0] == ask[0] ? TC_TOUCH_LOCKED : TC_TOUCH_CROSSED;
    fuzz_check(b->touch == touch, "the touch is not what the best prices say");
    fuzz_check((b->crossed_run > 0) == (touch != TC_TOUCH_NORMAL), "crossed events are miscounted");
}

static void check_set(const tc_books *set) {
    fuzz_check(set->book_count <= set->max_books && set->book_count <= set->book_capacity, "more books than room");
    fuzz_check(set->touched_count <= set->book_count, "a book is touched twice");
    for (uint32_t i = 0; i < set->book_count; i++) check_book(set, i);
}

static void check_equal(const tc_books *a, const tc_books *b) {
    static const size_t STATE = offsetof(tc_book, updates), ROOM = offsetof(tc_book, bid_capacity), REST = offsetof(tc_book, load_bids);
    fuzz_check(a->book_count == b->book_count && a->touched_count == b->touched_count, "packets and buffers make other books");
    fuzz_check(a->touched_count == 0 || memcmp(a->touched, b->touched, a->touched_count * 4) == 0, "packets and buffers touch other books");
    const uint64_t left[] = {a->packets, a->events, a->levels, a->other_types, a->unknown, a->ignored, a->fragment_errors, a->seq_gaps,
                             a->skipped, a->old, a->negative_quantities, a->overflows, a->crossed};
    const uint64_t right[] = {b->packets, b->events, b->levels, b->other_types, b->unknown, b->ignored, b->fragment_errors, b->seq_gaps,
                              b->skipped, b->old, b->negative_quantities, b->overflows, b->crossed};
    fuzz_check(memcmp(left, right, sizeof left) == 0, "packets and buffers count otherwise");
    for (uint32_t i = 0; i < a->book_count; i++) {
        const tc_book *x = &a->books[i], *y = &b->books[i];
        size_t bids = x->bid_count + x->load_bids, asks = x->ask_count + x->load_asks;
        fuzz_check(x->instrument_id == y->instrument_id && memcmp((const char *)x + STATE, (const char *)y + STATE, ROOM - STATE) == 0 &&
                       memcmp((const char *)x + REST, (const char *)y + REST, sizeof *x - REST) == 0,
                   "packets and buffers leave another state");
        fuzz_check(bids == 0 || memcmp(x->bids, y->bids, bids * sizeof(level)) == 0, "packets and buffers leave other bids");
        fuzz_check(asks == 0 || memcmp(x->asks, y->asks, asks * sizeof(level)) == 0, "packets and buffers leave other asks");
    }
}

/* Length of the packet that a record begins with, by its own header; 0 = none. */
static size_t leading(const fuzz_record *r) {
    tc_header h;
    if (r->length < sizeof h) return 0;
    memcpy(&h, r->data, sizeof h);
    size_t length = TC_HEADER_SIZE + (size_t)h.payload_len + (h.flags & TC_FLAG_AUTH ? TC_TAG_SIZE : 0);
    return h.magic == TC_MAGIC && h.version == TC_VERSION && length <= r->length && length <= TC_MAX_PACKET ? length : 0;
}

static void apply_contiguous(tc_books *set, const fuzz_record *records, uint32_t count, unsigned options) {
    size_t size = 0, at = 0;
    for (uint32_t i = 0; i < count; i++) size += leading(&records[i]);
    uint8_t *buffer = fuzz_allocate(size);
    for (uint32_t i = 0; i < count; i++) {
        size_t length = leading(&records[i]);
        if (length) memcpy(buffer + at, records[i].data, length);
        at += length;
    }
    int status = tc_books_apply(set, buffer, size, 0, options), asked = 0;
    while (status == TC_APPLY_NO_SPACE || status == TC_APPLY_NO_SLOT) {
        fuzz_check(asked++ < ROOM_ASKED, "the books never have room enough");
        make_room(set, status, 1);
        status = tc_books_apply(set, buffer, size, set->position, options | TC_APPLY_RESUME);
    }
    fuzz_check((status == TC_APPLY_OK || status == TC_APPLY_CROSSED) && set->position == size, "a boundary of packets is not seen");
    free(buffer);
}

static void apply_singly(tc_books *set, const fuzz_record *records, uint32_t count, unsigned options) {
    int status = tc_books_apply(set, (const uint8_t *)"", 0, 0, options), asked = 0;
    for (uint32_t i = 0; i < count; i++) {
        size_t size = leading(&records[i]);
        if (size == 0) continue;
        uint8_t *packet = fuzz_allocate(size); /* of its own, so that a read beyond it is seen */
        memcpy(packet, records[i].data, size);
        status = tc_books_apply(set, packet, size, 0, options | TC_APPLY_RESUME);
        while (status == TC_APPLY_NO_SPACE || status == TC_APPLY_NO_SLOT) {
            fuzz_check(asked++ < ROOM_ASKED, "the books never have room enough");
            make_room(set, status, 0);
            status = tc_books_apply(set, packet, size, set->position, options | TC_APPLY_RESUME);
        }
        fuzz_check(set->position == size, "a packet is left over");
        free(packet);
    }
    fuzz_check(status == TC_APPLY_OK || status == TC_APPLY_CROSSED, "a packet is refused");
}

static void mark(tc_books *set, uint8_t value) {
    for (uint32_t i = 0; i < set->book_count; i++)
        if (value <= 2 || i == value % set->book_count) tc_books_mark(set, i, value == 2 ? TC_BOOK_EMPTY : TC_BOOK_SUSPECT);
}

/* The whole buffer as it lies, boundaries or not. */
static void apply_unframed(const uint8_t *data, size_t size, uint8_t config) {
    tc_books set;
    open_set(&set, config);
    int status = tc_books_apply(&set, data, size, 0, config & 15), asked = 0;
    while (status == TC_APPLY_NO_SPACE || status == TC_APPLY_NO_SLOT) {
        fuzz_check(asked++ < ROOM_ASKED, "the books never have room enough");
        make_room(&set, status, 0);
        status = tc_books_apply(&set, data, size, set.position, (config & 15) | TC_APPLY_RESUME);
    }
    fuzz_check(set.position <= size && (status == TC_APPLY_MALFORMED || set.position == size), "the position is beyond the buffer");
    check_set(&set);
    close_set(&set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_input in;
    tc_books contiguous, single;
    fuzz_parse(&in, data, size);
    if (size > 1 + FUZZ_RECORD_HEAD) apply_unframed(data + 1 + FUZZ_RECORD_HEAD, size - 1 - FUZZ_RECORD_HEAD, in.config);
    open_set(&contiguous, in.config);
    open_set(&single, in.config);
    for (uint32_t i = 0, first = 0; i < in.count; first = i) {
        while (i < in.count && !(in.records[i].control & FUZZ_END_BATCH)) i++;
        i += i < in.count;
        const fuzz_record *r = &in.records[first];
        if (r->control & FUZZ_SPECIAL) {
            mark(&contiguous, r->value);
            mark(&single, r->value);
        }
        apply_contiguous(&contiguous, r, i - first, in.config & 15);
        apply_singly(&single, r, i - first, in.config & 15);
        check_set(&contiguous);
        check_set(&single);
        check_equal(&contiguous, &single);
    }
    total_events += single.events;
    total_levels += single.levels;
    total_suspect += single.fragment_errors + single.seq_gaps;
    total_broken += single.overflows;
    total_invalid += single.invalid;
    close_set(&contiguous);
    close_set(&single);
    return 0;
}

void fuzz_report(void) {
    printf("events %llu, levels %llu, suspected %llu, broken %llu, invalid %llu\n", (unsigned long long)total_events,
           (unsigned long long)total_levels, (unsigned long long)total_suspect, (unsigned long long)total_broken,
           (unsigned long long)total_invalid);
}

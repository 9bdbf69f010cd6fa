/* One side of an order book: price levels sorted towards the touch, best level last. Part of the book kernel (book.c). */
#ifndef TAPECAST_BOOK_SIDE_H
#define TAPECAST_BOOK_SIDE_H
#include <stdint.h>

typedef struct {
    int64_t price;
    int64_t quantity;
} tc_side_level;

typedef struct {
    tc_side_level *levels;
    uint32_t count;
    uint32_t capacity; /* levels that fit from `levels` on */
    uint32_t slack;    /* free levels before the first */
    uint32_t spare;    /* capacity that the items of the packet cannot need; belongs to tc_side_apply */
} tc_side;

/* What to do with the items of one packet. */
typedef struct {
    unsigned stride;  /* bytes from one item to the next */
    int price_digits; /* decimal digits to scale by; 0 when book and packet have the same exponents */
    int qty_digits;
    uint64_t *negative_quantities; /* counts the levels left out because of one */
} tc_side_change;

/* Set or delete the levels of `items` packed items; the side has room for all. `ascending`: prices ascend towards the last level.
   Returns 0 when a number does not fit; the side is then half changed. */
int tc_side_apply(tc_side *side, const uint8_t *item, unsigned items, const tc_side_change *change, int ascending);

/* Move the levels to the start of the memory. */
void tc_side_take_slack(tc_side *side);

/* Scale every level. Returns 0 when a number does not fit; without `write` nothing is changed. */
int tc_side_rescale(tc_side_level *levels, uint32_t count, int price_digits, int qty_digits, int write);

/* Turn a side round. */
void tc_side_reverse(tc_side_level *levels, uint32_t count);

#endif

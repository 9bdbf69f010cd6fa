/* The levels of one side of a book: search, change, scale. */
#include "book_side.h"
#include <string.h>
#include "wire.h"

#define INLINE static inline __attribute__((always_inline))

typedef tc_side_level level;

#define WINDOW 8 /* levels that a search counts through at its end */
#define WIDEN 4  /* by how much each of its steps is wider than the one before */
#define SLACK 16 /* levels by which a side moves up at a time */

static const int64_t POW10[19] = {INT64_C(1), INT64_C(10), INT64_C(100), INT64_C(1000), INT64_C(10000), INT64_C(100000),
    INT64_C(1000000), INT64_C(10000000), INT64_C(100000000), INT64_C(1000000000), INT64_C(10000000000),
    INT64_C(100000000000), INT64_C(1000000000000), INT64_C(10000000000000), INT64_C(100000000000000),
    INT64_C(1000000000000000), INT64_C(10000000000000000), INT64_C(100000000000000000), INT64_C(1000000000000000000)};

INLINE int fits(int64_t value) { return value <= TC_MAX_MANTISSA && value >= -TC_MAX_MANTISSA; }

/* value * 10^digits; 0 when the result is not below 2^62. */
static int scale(int64_t value, int digits, int64_t *out) {
    *out = value;
    if (value == 0 || digits == 0) return fits(value);
    return digits <= 18 && !__builtin_mul_overflow(value, POW10[digits], out) && fits(*out);
}

/* Does price a lie further from the end of the array than price b? */
INLINE int before(int64_t a, int64_t b, const int ascending) { return ascending ? a < b : a > b; }

/* How many of the `n` levels lie before the price. No branch depends on prices: a mispredicted one costs as much as all the rest. */
INLINE uint32_t count_before(const level *levels, uint32_t n, int64_t price, const int ascending) {
    const level *base = levels;
    while (n > WINDOW) {
        uint32_t half = n / 2;
        base = before(base[half - 1].price, price, ascending) ? base + half : base;
        n -= half;
    }
    uint32_t count = 0;
    for (uint32_t i = 0; i < n; i++) count += (uint32_t)before(base[i].price, price, ascending);
    return (uint32_t)(base - levels) + count;
}

/* Where the price stands or belongs, which is not behind the last level: the search widens from `hint`. */
INLINE uint32_t find(const level *levels, uint32_t n, uint32_t hint, int64_t price, const int ascending) {
    uint32_t low = hint < n ? hint : n - 1, width = WINDOW;
    if (before(levels[low].price, price, ascending)) {
        low++;
        while (low + width < n && before(levels[low + width - 1].price, price, ascending)) {
            low += width;
            width *= WIDEN;
        }
        if (width > n - low) width = n - low;
    } else {
        while (low >= width && !before(levels[low - width].price, price, ascending)) {
            low -= width;
            width *= WIDEN;
        }
        if (width > low) width = low;
        low -= width;
    }
    return low + count_before(levels + low, width, price, ascending);
}

/* Move the levels up where nothing is free before them, as far as the room that no item needs allows; 0 when there is none. */
static int make_slack(tc_side *side) {
    if (side->slack > 0) return 1;
    uint32_t step = side->spare < SLACK ? side->spare : SLACK;
    if (step == 0) return 0;
    memmove(side->levels + step, side->levels, (size_t)side->count * sizeof(level));
    side->levels += step;
    side->slack = step;
    side->capacity -= step;
    side->spare -= step;
    return 1;
}

void tc_side_take_slack(tc_side *side) {
    if (side->slack == 0) return; /* a side without memory as well */
    level *start = side->levels - side->slack;
    memmove(start, side->levels, (size_t)side->count * sizeof(level));
    side->levels = start;
    side->capacity += side->slack;
    side->slack = 0;
}

/* Insert or remove by moving the shorter part of the side: venues that show a fixed depth change the far end as often as the touch. */
INLINE void insert(tc_side *side, uint32_t position, int64_t price, int64_t quantity) {
    uint32_t behind = side->count - position;
    if (position < behind / 4 && make_slack(side)) {
        memmove(side->levels - 1, side->levels, (size_t)position * sizeof(level));
        side->levels--;
        side->slack--;
        side->capacity++;
    } else {
        memmove(side->levels + position + 1, side->levels + position, (size_t)behind * sizeof(level));
    }
    side->levels[position] = (level){price, quantity};
    side->count++;
}

INLINE void remove_at(tc_side *side, uint32_t position) {
    uint32_t behind = side->count - position - 1;
    if (position < behind / 4) {
        memmove(side->levels + 1, side->levels, (size_t)position * sizeof(level));
        side->levels++;
        side->slack++;
        side->capacity--;
    } else {
        memmove(side->levels + position, side->levels + position + 1, (size_t)behind * sizeof(level));
    }
    side->count--;
}

INLINE void set_level(tc_side *side, uint32_t *hint, int64_t price, int64_t quantity, const int ascending) {
    uint32_t n = side->count;
    if (n == 0 || before(side->levels[n - 1].price, price, ascending)) {
        if (quantity == 0) return;
        side->levels[n] = (level){price, quantity};
        *hint = n;
        side->count = n + 1;
        return;
    }
    uint32_t position = find(side->levels, n, *hint, price, ascending);
    *hint = position;
    if (side->levels[position].price != price) {
        if (quantity != 0) insert(side, position, price, quantity);
    } else if (quantity != 0) {
        side->levels[position].quantity = quantity;
    } else {
        remove_at(side, position);
    }
}

INLINE int apply_items(tc_side *given, const uint8_t *item, unsigned items, const tc_side_change *change, const int ascending) {
    tc_side side = *given; /* its own copy, so that the compiler keeps it in registers */
    uint32_t hint = UINT32_MAX;
    int fit = 1;
    side.spare = side.capacity - side.count - items;
    for (unsigned i = 0; i < items; i++, item += change->stride) {
        level in;
        memcpy(&in, item, sizeof in);
        fit = scale(in.price, change->price_digits, &in.price) && scale(in.quantity, change->qty_digits, &in.quantity);
        if (!fit) break;
        if (in.quantity < 0) {
            ++*change->negative_quantities;
            continue;
        }
        set_level(&side, &hint, in.price, in.quantity, ascending);
    }
    *given = side;
    return fit;
}

int tc_side_apply(tc_side *side, const uint8_t *item, unsigned items, const tc_side_change *change, int ascending) {
    return ascending ? apply_items(side, item, items, change, 1) : apply_items(side, item, items, change, 0);
}

int tc_side_rescale(tc_side_level *levels, uint32_t count, int price_digits, int qty_digits, int write) {
    for (uint32_t i = 0; i < count; i++) {
        level out;
        if (!scale(levels[i].price, price_digits, &out.price) || !scale(levels[i].quantity, qty_digits, &out.quantity)) return 0;
        if (write) levels[i] = out;
    }
    return 1;
}

void tc_side_reverse(tc_side_level *levels, uint32_t count) {
    for (uint32_t i = 0, j = count; i + 1 < j; i++) {
        level swap = levels[i];
        levels[i] = levels[--j];
        levels[j] = swap;
    }
}

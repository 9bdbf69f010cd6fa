/* The levels of one side of a book: search, change, scale. */
#include "book_side.h"
#include <string.h>
#include "wire.h"

#define INLINE static inline __attribute__((always_inline))

typedef tc_side_level level;

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

/* Set or delete one level. The search widens from `hint`, where the level before was found: levels mostly come in order. */
INLINE void set_level(level *levels, uint32_t *count, uint32_t *hint, int64_t price, int64_t quantity, const int ascending) {
    uint32_t n = *count, high;
    if (n == 0 || before(levels[n - 1].price, price, ascending)) {
        if (quantity == 0) return;
        levels[n] = (level){price, quantity};
        *hint = n;
        *count = n + 1;
        return;
    }
    uint32_t low = 0, step = 1;
    if (*hint < n && before(levels[*hint].price, price, ascending)) {
        low = *hint + 1;
        high = n - 1;
        while (step <= high - low) {
            if (!before(levels[low + step - 1].price, price, ascending)) {
                high = low + step - 1;
                break;
            }
            low += step;
            step <<= 1;
        }
    } else {
        high = *hint < n ? *hint : n - 1;
        while (step <= high) {
            if (before(levels[high - step].price, price, ascending)) {
                low = high - step + 1;
                break;
            }
            high -= step;
            step <<= 1;
        }
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int worse = before(levels[middle].price, price, ascending);
        low = worse ? middle + 1 : low;
        high = worse ? high : middle;
    }
    level *at = levels + low;
    *hint = low;
    if (at->price == price) {
        if (quantity != 0) {
            at->quantity = quantity;
            return;
        }
        memmove(at, at + 1, (size_t)(n - low - 1) * sizeof(level));
        *count = n - 1;
    } else if (quantity != 0) {
        memmove(at + 1, at, (size_t)(n - low) * sizeof(level));
        *at = (level){price, quantity};
        *count = n + 1;
    }
}

INLINE int apply_items(level *levels, uint32_t *count, const uint8_t *item, unsigned items, const tc_side_change *change,
                       const int ascending) {
    uint32_t hint = UINT32_MAX;
    for (unsigned i = 0; i < items; i++, item += change->stride) {
        level in;
        memcpy(&in, item, sizeof in);
        if (!scale(in.price, change->price_digits, &in.price) || !scale(in.quantity, change->qty_digits, &in.quantity)) return 0;
        if (in.quantity < 0) {
            ++*change->negative_quantities;
            continue;
        }
        set_level(levels, count, &hint, in.price, in.quantity, ascending);
    }
    return 1;
}

int tc_side_apply(tc_side_level *levels, uint32_t *count, const uint8_t *item, unsigned items, const tc_side_change *change,
                  int ascending) {
    return ascending ? apply_items(levels, count, item, items, change, 1) : apply_items(levels, count, item, items, change, 0);
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

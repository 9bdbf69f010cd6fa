/* Exact decimal text to integers; the meaning is protocol/exact.py. The fast path is inline, everything unusual goes to number.c. */
#ifndef TAPECAST_NUMBER_H
#define TAPECAST_NUMBER_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Exponent of a value that no mantissa below 2^62 at an 8-bit exponent can carry. */
#define TC_EXP_HUGE 32767

/* cdef */
typedef struct {
    int64_t mantissa;
    int32_t exponent;
} tc_decimal;

/* Parse a whole text; 0, or -1 where it is not a number (`bare`: JSON grammar, otherwise leading zeros are allowed). */
int tc_parse_decimal(const char *text, size_t length, int bare, tc_decimal *value);
/* Integer without fraction or exponent; magnitude saturates at 2^64-1 with *saturated set; 0, or -1 where it is none. */
int tc_parse_integer(const char *text, size_t length, uint64_t *magnitude, int *negative, int *saturated);
/* Mantissa at exponent `target`: 0, 1 = inexact, 2 = too large (*scaled stays as it was). */
int tc_scale_decimal(int64_t mantissa, int exponent, int target, int64_t *scaled);
/* Exponent of the value without trailing zeros in the mantissa. */
int tc_minimal_exponent(int64_t mantissa, int exponent);
/* end cdef */

extern const int64_t tc_pow10[19];

/* Parse number characters from p on; returns the end of the number, or NULL where none starts here. */
const uint8_t *tc_decimal_slow(const uint8_t *p, const uint8_t *end, int bare, tc_decimal *value);

static inline uint64_t tc_load8(const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, 8);
    return word;
}

/* High bit of every byte that is not an ASCII digit, given the word with '0' removed; exact up to the lowest set bit. */
static inline uint64_t tc_non_digits(uint64_t digits) {
    return ((digits + UINT64_C(0x7676767676767676)) | digits) & UINT64_C(0x8080808080808080);
}

/* Value of eight digit bytes (0-9), the first one in the lowest byte. */
static inline uint64_t tc_eight_digits(uint64_t digits) {
    digits = digits * 10 + (digits >> 8);
    return ((digits & UINT64_C(0x000000FF000000FF)) * UINT64_C(0x000F424000000064) +
            ((digits >> 16) & UINT64_C(0x000000FF000000FF)) * UINT64_C(0x0000271000000001)) >>
           32;
}

/* Up to 8 + 8 digits with at most 8 decimals and no sign or exponent, 24 readable bytes; everything else is the slow path. */
static inline const uint8_t *tc_decimal_at(const uint8_t *p, const uint8_t *end, int bare, tc_decimal *value) {
    if (__builtin_expect(end - p < 24, 0)) return tc_decimal_slow(p, end, bare, value);
    uint64_t word = tc_load8(p) ^ UINT64_C(0x3030303030303030);
    uint64_t stop = tc_non_digits(word);
    const uint8_t *q;
    uint64_t whole;
    if (__builtin_expect(stop != 0, 1)) {
        unsigned digits = (unsigned)__builtin_ctzll(stop) >> 3;
        if (__builtin_expect(digits == 0, 0)) return tc_decimal_slow(p, end, bare, value);
        whole = tc_eight_digits(word << (64 - 8 * digits));
        q = p + digits;
        if (bare && digits > 1 && *p == '0') return NULL;
    } else {
        whole = tc_eight_digits(word);
        word = tc_load8(p + 8) ^ UINT64_C(0x3030303030303030);
        stop = tc_non_digits(word);
        if (stop == 0 || (bare && *p == '0')) return tc_decimal_slow(p, end, bare, value);
        unsigned digits = (unsigned)__builtin_ctzll(stop) >> 3;
        if (digits) whole = whole * (uint64_t)tc_pow10[digits] + tc_eight_digits(word << (64 - 8 * digits));
        q = p + 8 + digits;
        if (*q == '.') {
            if (digits > 2 || end - q < 9) return tc_decimal_slow(p, end, bare, value);
        }
    }
    if (*q != '.') {
        if (__builtin_expect((*q | 0x20) == 'e', 0)) return tc_decimal_slow(p, end, bare, value);
        value->mantissa = (int64_t)whole;
        value->exponent = 0;
        return q;
    }
    q++;
    word = tc_load8(q) ^ UINT64_C(0x3030303030303030);
    stop = tc_non_digits(word);
    unsigned digits = 8;
    if (stop != 0) {
        digits = (unsigned)__builtin_ctzll(stop) >> 3;
        if (__builtin_expect(digits == 0, 0)) return NULL;
        word &= (UINT64_C(1) << (8 * digits)) - 1;
    }
    q += digits;
    /* The byte behind is readable or the end: a ninth decimal, an exponent and the end itself are the slow path's. */
    if (__builtin_expect(q >= end || (uint8_t)(*q - '0') < 10 || (*q | 0x20) == 'e', 0))
        return tc_decimal_slow(p, end, bare, value);
    if (word == 0) {
        value->mantissa = (int64_t)whole;
        value->exponent = 0;
        return q;
    }
    unsigned kept = (71u - (unsigned)__builtin_clzll(word)) >> 3;
    value->mantissa = (int64_t)(whole * (uint64_t)tc_pow10[kept] + tc_eight_digits(word << (64 - 8 * kept)));
    value->exponent = -(int32_t)kept;
    return q;
}

/* The common case of tc_scale_decimal inline. */
static inline int tc_scale(int64_t mantissa, int exponent, int target, int64_t *scaled) {
    int shift = exponent - target;
    int64_t product;
    if (__builtin_expect((unsigned)shift < 19, 1)) {
        if (__builtin_expect(!__builtin_mul_overflow(mantissa, tc_pow10[shift], &product), 1) &&
            (uint64_t)product + ((UINT64_C(1) << 62) - 1) <= (UINT64_C(1) << 63) - 2) {
            *scaled = product;
            return 0;
        }
    }
    return tc_scale_decimal(mantissa, exponent, target, scaled);
}

#endif

/* Exact decimal text to integers; the meaning is feeder/extract/exact.py. The fast path is inline, everything unusual goes to number.c. */
#ifndef TAPECAST_NUMBER_H
#define TAPECAST_NUMBER_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE4_1__
#include <smmintrin.h>
#endif

/* Exponent of a value that no mantissa below 2^62 at an 8-bit exponent can carry. */
#define TC_EXP_HUGE 32767

/* cdef */
typedef struct {
    int64_t mantissa;
    int32_t exponent;
} tc_decimal;

/* Parse a whole text; 0, or -1 where it is not a number (`bare`: JSON grammar, otherwise leading zeros are allowed). */
int tc_parse_decimal(const char *text, size_t length, int bare, tc_decimal *value);
/* Length of the number at the start of a text that may go on behind it, or -1. */
int64_t tc_leading_decimal(const char *text, size_t readable, int bare, tc_decimal *value);
/* Integer without fraction or exponent; magnitude saturates at 2^64-1 with *saturated set; 0, or -1 where it is none. */
int tc_parse_integer(const char *text, size_t length, uint64_t *magnitude, int *negative, int *saturated);
/* Mantissa at exponent `target`: 0, 1 = inexact, 2 = too large (*scaled stays as it was). */
int tc_scale_decimal(int64_t mantissa, int exponent, int target, int64_t *scaled);
/* Exponent of the value without trailing zeros in the mantissa. */
int tc_minimal_exponent(int64_t mantissa, int exponent);
/* end cdef */

extern const int64_t tc_pow10[19];

/* tc_decimal_at for every number, without the shortcut. */
const uint8_t *tc_decimal_words(const uint8_t *p, const uint8_t *end, int bare, tc_decimal *value);

static inline uint64_t tc_load8(const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, 8);
    return word;
}

/* Whether two short texts are equal; a call of memcmp costs more than comparing them. */
static inline int tc_same(const uint8_t *a, const uint8_t *b, size_t length) {
    for (; length >= 8; a += 8, b += 8, length -= 8)
        if (tc_load8(a) != tc_load8(b)) return 0;
    uint64_t difference = 0;
    for (size_t i = 0; i < length; i++) difference |= (uint64_t)(a[i] ^ b[i]);
    return difference == 0;
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

#ifdef __SSE4_1__
/* Value of sixteen digit bytes (0-9), the first one in the lowest byte. */
static inline uint64_t tc_sixteen_digits(__m128i digits) {
    const __m128i tens = _mm_set1_epi16(0x010A), hundreds = _mm_set1_epi32(0x00010064), myriads = _mm_set1_epi32(0x00012710);
    __m128i pairs = _mm_maddubs_epi16(digits, tens), fours = _mm_madd_epi16(pairs, hundreds);
    uint64_t eights = (uint64_t)_mm_cvtsi128_si64(_mm_madd_epi16(_mm_packus_epi32(fours, fours), myriads));
    return (eights & UINT32_MAX) * UINT64_C(100000000) + (eights >> 32);
}

/* A number of at most 16 characters without sign and exponent, found with three byte masks and converted without a branch on
 * its form: books mix forms. 24 bytes are readable. NULL where it is not so plain; the caller looks at what stands behind the
 * end (tc_goes_on): the window of 16 may have cut the number anywhere. */
static inline const uint8_t *tc_decimal_plain(const uint8_t *p, tc_decimal *value) {
    __m128i text = _mm_loadu_si128((const __m128i *)(const void *)p), digits = _mm_sub_epi8(text, _mm_set1_epi8('0'));
    unsigned is_digit = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(digits, _mm_set1_epi8(9)), digits));
    unsigned is_dot = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(text, _mm_set1_epi8('.')));
    unsigned above_zero = (unsigned)_mm_movemask_epi8(_mm_cmpgt_epi8(text, _mm_set1_epi8('0')));
    unsigned length = (unsigned)__builtin_ctz(~(is_digit | is_dot));
    unsigned behind = 1u << length;
    is_dot &= behind - 1;
    unsigned whole_digits = (unsigned)__builtin_ctz(is_dot | behind), dot = 1u << whole_digits;
    /* Highest non-zero decimal, or the dot: decimals kept without trailing zeros. */
    unsigned last = 31u - (unsigned)__builtin_clz((above_zero & (behind - 1) & (0u - (dot << 1))) | dot);
    if (__builtin_expect(whole_digits == 0 || whole_digits + 1 == length || (is_dot & (is_dot - 1)) != 0, 0)) return NULL;
    /* The digits kept, right-aligned, without the dot: byte j comes from j - (16 - last), one further on behind the dot. */
    static const uint8_t places[32] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
                                       0x80, 0x80, 0x80, 0x80, 0x80, 0,    1,    2,    3,    4,    5,
                                       6,    7,    8,    9,    10,   11,   12,   13,   14,   15};
    __m128i place = _mm_loadu_si128((const __m128i *)(const void *)(places + last));
    place = _mm_sub_epi8(place, _mm_cmpgt_epi8(place, _mm_set1_epi8((char)(whole_digits - 1))));
    value->mantissa = (int64_t)tc_sixteen_digits(_mm_shuffle_epi8(digits, place));
    value->exponent = (int32_t)(whole_digits - last);
    return p + length;
}
#else
static inline const uint8_t *tc_decimal_plain(const uint8_t *p, tc_decimal *value) {
    (void)p, (void)value;
    return NULL;
}
#endif

/* Whether a number goes on with this character where tc_decimal_plain ended it. */
static inline int tc_goes_on(uint8_t c) { return (uint8_t)(c - '0') < 10 || c == '.' || (c | 0x20) == 'e'; }

/* Parse number characters from p on; the end of the number, or NULL where none starts here. */
static inline const uint8_t *tc_decimal_at(const uint8_t *p, const uint8_t *end, int bare, tc_decimal *value) {
    if (__builtin_expect(end - p >= 24, 1)) {
        const uint8_t *q = tc_decimal_plain(p, value);
        if (__builtin_expect(q != NULL && !tc_goes_on(*q), 1))
            return bare && *p == '0' && (uint8_t)(p[1] - '0') < 10 ? NULL : q;
    }
    return tc_decimal_words(p, end, bare, value);
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

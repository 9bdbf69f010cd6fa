/* The unusual cases of exact numbers: signs, exponents, long digit strings, ends of buffers. Truth: feeder/extract/exact.py. */
#include "number.h"

#define MAX_MANTISSA ((INT64_C(1) << 62) - 1)
#define MIN_EXPONENT (-128)
#define MAX_EXPONENT 300
#define SATURATED INT64_C(1000000000000000)

const int64_t tc_pow10[19] = {
    INT64_C(1),
    INT64_C(10),
    INT64_C(100),
    INT64_C(1000),
    INT64_C(10000),
    INT64_C(100000),
    INT64_C(1000000),
    INT64_C(10000000),
    INT64_C(100000000),
    INT64_C(1000000000),
    INT64_C(10000000000),
    INT64_C(100000000000),
    INT64_C(1000000000000),
    INT64_C(10000000000000),
    INT64_C(100000000000000),
    INT64_C(1000000000000000),
    INT64_C(10000000000000000),
    INT64_C(100000000000000000),
    INT64_C(1000000000000000000),
};

static int is_digit(uint8_t c) { return (uint8_t)(c - '0') < 10; }

/* Significant digits gathered so far: zeros wait until a non-zero digit follows, so trailing zeros cost nothing. */
typedef struct {
    uint64_t mantissa;
    int digits;
    int64_t waiting_zeros;
} gathered;

static void gather(gathered *g, uint8_t c) {
    if (c == '0') {
        if (g->digits) g->waiting_zeros++;
        return;
    }
    if (g->digits + g->waiting_zeros >= 19) {
        g->digits = 20;
        g->waiting_zeros = 0;
        return;
    }
    for (; g->waiting_zeros; g->waiting_zeros--, g->digits++) g->mantissa *= 10;
    g->mantissa = g->mantissa * 10 + (uint64_t)(c - '0');
    g->digits++;
}

static const uint8_t *decimal_slow(const uint8_t *p, const uint8_t *end, int bare, tc_decimal *value) {
    gathered g = {0, 0, 0};
    int64_t decimals = 0, power = 0;
    int negative = 0, power_negative = 0;
    if (p < end && *p == '-') {
        negative = 1;
        p++;
    }
    if (p >= end || !is_digit(*p)) return NULL;
    if (bare && *p == '0' && p + 1 < end && is_digit(p[1])) return NULL;
    for (; p < end && is_digit(*p); p++) gather(&g, *p);
    if (p < end && *p == '.') {
        p++;
        if (p >= end || !is_digit(*p)) return NULL;
        for (; p < end && is_digit(*p); p++, decimals++) gather(&g, *p);
    }
    if (p < end && (*p | 0x20) == 'e') {
        p++;
        if (p < end && (*p == '-' || *p == '+')) power_negative = *p++ == '-';
        if (p >= end || !is_digit(*p)) return NULL;
        for (; p < end && is_digit(*p); p++)
            if (power < SATURATED) power = power * 10 + (*p - '0');
    }
    value->mantissa = 0;
    value->exponent = 0;
    if (g.digits == 0) return p;
    int64_t exponent = (power_negative ? -power : power) - decimals + g.waiting_zeros;
    /* The sign stays visible in values that no mantissa carries. */
    value->mantissa = negative ? -1 : 1;
    value->exponent = TC_EXP_HUGE;
    if (g.digits > 19 || g.mantissa > (uint64_t)MAX_MANTISSA) return p;
    if (exponent < MIN_EXPONENT || exponent > MAX_EXPONENT) return p;
    value->mantissa = negative ? -(int64_t)g.mantissa : (int64_t)g.mantissa;
    value->exponent = (int32_t)exponent;
    return p;
}

/* Up to 8 + 8 digits with at most 8 decimals and no sign or exponent, 24 readable bytes; everything else is the slow path. */
static const uint8_t *decimal_words(const uint8_t *p, const uint8_t *end, int bare, tc_decimal *value) {
    uint64_t word = tc_load8(p) ^ UINT64_C(0x3030303030303030);
    uint64_t stop = tc_non_digits(word);
    const uint8_t *q;
    uint64_t whole;
    if (__builtin_expect(stop != 0, 1)) {
        unsigned digits = (unsigned)__builtin_ctzll(stop) >> 3;
        if (__builtin_expect(digits == 0, 0)) return decimal_slow(p, end, bare, value);
        whole = tc_eight_digits(word << (64 - 8 * digits));
        q = p + digits;
        if (bare && digits > 1 && *p == '0') return NULL;
    } else {
        whole = tc_eight_digits(word);
        word = tc_load8(p + 8) ^ UINT64_C(0x3030303030303030);
        stop = tc_non_digits(word);
        if (stop == 0 || (bare && *p == '0')) return decimal_slow(p, end, bare, value);
        unsigned digits = (unsigned)__builtin_ctzll(stop) >> 3;
        if (digits) whole = whole * (uint64_t)tc_pow10[digits] + tc_eight_digits(word << (64 - 8 * digits));
        q = p + 8 + digits;
        if (*q == '.') {
            if (digits > 2 || end - q < 9) return decimal_slow(p, end, bare, value);
        }
    }
    if (*q != '.') {
        if (__builtin_expect((*q | 0x20) == 'e', 0)) return decimal_slow(p, end, bare, value);
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
        return decimal_slow(p, end, bare, value);
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

const uint8_t *tc_decimal_words(const uint8_t *p, const uint8_t *end, int bare, tc_decimal *value) {
    if (end - p >= 24) return decimal_words(p, end, bare, value);
    /* At the end of the frame: a copy with room to read ahead. Nothing behind it can be taken for a part of the number. */
    uint8_t copy[48] = {0};
    memcpy(copy, p, (size_t)(end - p));
    const uint8_t *q = tc_decimal_plain(copy, value);
    if (q == NULL || tc_goes_on(*q)) q = decimal_words(copy, copy + 48, bare, value);
    else if (bare && *copy == '0' && (uint8_t)(copy[1] - '0') < 10) return NULL;
    return q == NULL ? NULL : p + (q - copy);
}

int64_t tc_leading_decimal(const char *text, size_t readable, int bare, tc_decimal *value) {
    const uint8_t *p = (const uint8_t *)text, *q = tc_decimal_at(p, p + readable, bare, value);
    return q == NULL ? -1 : q - p;
}

int tc_parse_decimal(const char *text, size_t length, int bare, tc_decimal *value) {
    const uint8_t *p = (const uint8_t *)text;
    return tc_decimal_at(p, p + length, bare, value) == p + length ? 0 : -1;
}

int tc_parse_integer(const char *text, size_t length, uint64_t *magnitude, int *negative, int *saturated) {
    const uint8_t *p = (const uint8_t *)text, *end = p + length;
    uint64_t value = 0;
    *negative = *saturated = 0;
    if (p < end && *p == '-') {
        *negative = 1;
        p++;
    }
    if (p == end) return -1;
    /* Eight digits at a time while two such steps cannot overflow. */
    for (int step = 0; step < 2 && end - p >= 8; step++) {
        uint64_t word = tc_load8(p) ^ UINT64_C(0x3030303030303030);
        if (tc_non_digits(word)) return -1;
        value = value * UINT64_C(100000000) + tc_eight_digits(word);
        p += 8;
    }
    for (; p < end; p++) {
        if (!is_digit(*p)) return -1;
        if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
            __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
            *saturated = 1;
    }
    if (*saturated) value = UINT64_MAX;
    *magnitude = value;
    return 0;
}

int tc_scale_decimal(int64_t mantissa, int exponent, int target, int64_t *scaled) {
    if (mantissa == 0) {
        *scaled = 0;
        return 0;
    }
    if (exponent == TC_EXP_HUGE) return 2;
    int shift = exponent - target;
    for (; shift < 0; shift++) {
        if (mantissa % 10) return 1;
        mantissa /= 10;
    }
    if (shift > 18 || __builtin_mul_overflow(mantissa, tc_pow10[shift], &mantissa)) return 2;
    if (mantissa > MAX_MANTISSA || mantissa < -MAX_MANTISSA) return 2;
    *scaled = mantissa;
    return 0;
}

int tc_minimal_exponent(int64_t mantissa, int exponent) {
    if (mantissa == 0) return 0;
    for (; mantissa % 10 == 0; mantissa /= 10) exponent++;
    return exponent;
}

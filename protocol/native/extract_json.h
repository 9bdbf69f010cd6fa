/* Strict JSON scanning for the extractor: RFC 8259 in UTF-8, bounds-checked, without allocation. Every function returns the
 * position behind what it read, or NULL after noting status and place in the scan. */
#ifndef TAPECAST_EXTRACT_JSON_H
#define TAPECAST_EXTRACT_JSON_H
#include "extract.h"
#include "number.h"

#define TC_MAX_DEPTH 64

enum { TC_STRING_PLAIN = 0, TC_STRING_ESCAPED = 1 };

typedef struct {
    const uint8_t *start;
    const uint8_t *end;
    const uint8_t *error_at;
    int status;
} tc_scan;

static inline const uint8_t *tc_fail(tc_scan *scan, int status, const uint8_t *at) {
    scan->status = status;
    scan->error_at = at;
    return NULL;
}

static inline const uint8_t *tc_malformed(tc_scan *scan, const uint8_t *at) { return tc_fail(scan, TC_MALFORMED, at); }

static inline const uint8_t *tc_space(const uint8_t *p, const uint8_t *end) {
    while (p < end && *p <= ' ' && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) p++;
    return p;
}

/* Skip white space; the end of the frame is malformed here. */
static inline const uint8_t *tc_token(tc_scan *scan, const uint8_t *p) {
    if (__builtin_expect(p < scan->end && *p > ' ', 1)) return p;
    p = tc_space(p, scan->end);
    return p < scan->end ? p : tc_malformed(scan, p);
}

/* From behind a key to its value. */
static inline const uint8_t *tc_colon(tc_scan *scan, const uint8_t *p) {
    if (__builtin_expect(scan->end - p >= 2 && p[0] == ':' && p[1] > ' ', 1)) return p + 1;
    if ((p = tc_token(scan, p)) == NULL) return NULL;
    return *p == ':' ? tc_token(scan, p + 1) : tc_malformed(scan, p);
}

/* From behind a value to the next one's first byte, or to the closing bracket. */
static inline const uint8_t *tc_next(tc_scan *scan, const uint8_t *p, uint8_t closing) {
    if (__builtin_expect(scan->end - p >= 2 && p[0] == ',' && p[1] > ' ' && p[1] != closing, 1)) return p + 1;
    if ((p = tc_token(scan, p)) == NULL || *p == closing) return p;
    if (*p != ',') return tc_malformed(scan, p);
    if ((p = tc_token(scan, p + 1)) == NULL) return NULL;
    return *p != closing ? p : tc_malformed(scan, p);
}

/* High bit of every byte that needs a look inside a string: quote, backslash, control, non-ASCII; exact up to the lowest set. */
static inline uint64_t tc_string_stops(uint64_t word) {
    uint64_t quote = word ^ UINT64_C(0x2222222222222222), slash = word ^ UINT64_C(0x5c5c5c5c5c5c5c5c);
    return (((quote - UINT64_C(0x0101010101010101)) & ~quote) | ((slash - UINT64_C(0x0101010101010101)) & ~slash) |
            (word - UINT64_C(0x2020202020202020)) | word) &
           UINT64_C(0x8080808080808080);
}

const uint8_t *tc_string_slow(tc_scan *scan, const uint8_t *p, int *form);

/* From behind the opening quote to the closing quote; *form says whether there are escapes. */
static inline const uint8_t *tc_string(tc_scan *scan, const uint8_t *p, int *form) {
    *form = TC_STRING_PLAIN;
    while (__builtin_expect(scan->end - p >= 8, 1)) {
        uint64_t stops = tc_string_stops(tc_load8(p));
        if (stops) {
            p += (unsigned)__builtin_ctzll(stops) >> 3;
            if (__builtin_expect(*p == '"', 1)) return p;
            break;
        }
        p += 8;
    }
    return tc_string_slow(scan, p, form);
}

/* A number token by the JSON grammar, from its first byte. */
const uint8_t *tc_number(tc_scan *scan, const uint8_t *p);
/* true, false or null, from the first byte. */
const uint8_t *tc_literal(tc_scan *scan, const uint8_t *p);
/* Any value from its first byte; `depth` containers are open around it. */
const uint8_t *tc_skip_value(tc_scan *scan, const uint8_t *p, int depth);

#endif

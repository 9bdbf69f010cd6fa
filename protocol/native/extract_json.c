/* Strict JSON: strings, numbers, literals and values that nobody wants but that must be well-formed. */
#include "extract_json.h"

static int is_hex(uint8_t c) { return (uint8_t)(c - '0') < 10 || (uint8_t)((c | 0x20) - 'a') < 6; }

/* Length of the well-formed UTF-8 sequence of a non-ASCII character at p (no overlong forms, no surrogates), or 0. */
static int utf8_length(const uint8_t *p, const uint8_t *end) {
    size_t left = (size_t)(end - p);
    uint8_t c = p[0];
    if (c >= 0xC2 && c <= 0xDF) return left >= 2 && (p[1] & 0xC0) == 0x80 ? 2 : 0;
    if (c >= 0xE0 && c <= 0xEF) {
        uint8_t low = c == 0xE0 ? 0xA0 : 0x80, high = c == 0xED ? 0x9F : 0xBF;
        return left >= 3 && p[1] >= low && p[1] <= high && (p[2] & 0xC0) == 0x80 ? 3 : 0;
    }
    if (c >= 0xF0 && c <= 0xF4) {
        uint8_t low = c == 0xF0 ? 0x90 : 0x80, high = c == 0xF4 ? 0x8F : 0xBF;
        return left >= 4 && p[1] >= low && p[1] <= high && (p[2] & 0xC0) == 0x80 && (p[3] & 0xC0) == 0x80 ? 4 : 0;
    }
    return 0;
}

const uint8_t *tc_string_slow(tc_scan *scan, const uint8_t *p, int *form) {
    const uint8_t *end = scan->end;
    while (p < end) {
        uint8_t c = *p;
        if (c == '"') return p;
        if (c < 0x20) break;
        if (c == '\\') {
            *form = TC_STRING_ESCAPED;
            if (end - p < 2) break;
            uint8_t kind = p[1];
            if (kind == 'u') {
                if (end - p < 6 || !is_hex(p[2]) || !is_hex(p[3]) || !is_hex(p[4]) || !is_hex(p[5])) break;
                p += 6;
            } else if (kind == '"' || kind == '\\' || kind == '/' || kind == 'b' || kind == 'f' || kind == 'n' ||
                       kind == 'r' || kind == 't') {
                p += 2;
            } else {
                break;
            }
        } else if (c >= 0x80) {
            int length = utf8_length(p, end);
            if (length == 0) break;
            p += length;
        } else {
            p++;
        }
    }
    return tc_malformed(scan, p);
}

static const uint8_t *digits_end(const uint8_t *p, const uint8_t *end) {
    while (end - p >= 8) {
        uint64_t stop = tc_non_digits(tc_load8(p) ^ UINT64_C(0x3030303030303030));
        if (stop) return p + ((unsigned)__builtin_ctzll(stop) >> 3);
        p += 8;
    }
    while (p < end && (uint8_t)(*p - '0') < 10) p++;
    return p;
}

const uint8_t *tc_number(tc_scan *scan, const uint8_t *p) {
    const uint8_t *end = scan->end, *first = p;
    if (*p == '-') first = ++p;
    p = digits_end(p, end);
    if (p == first || (*first == '0' && p - first > 1)) return tc_malformed(scan, p);
    if (p < end && *p == '.') {
        first = ++p;
        p = digits_end(p, end);
        if (p == first) return tc_malformed(scan, p);
    }
    if (p < end && (*p | 0x20) == 'e') {
        p++;
        if (p < end && (*p == '+' || *p == '-')) p++;
        first = p;
        p = digits_end(p, end);
        if (p == first) return tc_malformed(scan, p);
    }
    return p;
}

const uint8_t *tc_literal(tc_scan *scan, const uint8_t *p) {
    size_t left = (size_t)(scan->end - p);
    if (left >= 4 && (memcmp(p, "true", 4) == 0 || memcmp(p, "null", 4) == 0)) return p + 4;
    if (left >= 5 && memcmp(p, "false", 5) == 0) return p + 5;
    return tc_malformed(scan, p);
}

/* Key, colon and white space up to the value, from the opening quote of the key. */
static const uint8_t *skip_key(tc_scan *scan, const uint8_t *p) {
    int form;
    if (*p != '"') return tc_malformed(scan, p);
    if ((p = tc_string(scan, p + 1, &form)) == NULL) return NULL;
    if ((p = tc_token(scan, p + 1)) == NULL) return NULL;
    if (*p != ':') return tc_malformed(scan, p);
    return tc_token(scan, p + 1);
}

const uint8_t *tc_skip_value(tc_scan *scan, const uint8_t *p, int depth) {
    uint64_t objects = 0; /* bit d: the container at depth d is an object */
    const int outer = depth;
    int form;
    for (;;) {
        uint8_t c = *p;
        if (c == '{' || c == '[') {
            if (depth >= TC_MAX_DEPTH) return tc_malformed(scan, p);
            objects = c == '{' ? objects | (UINT64_C(1) << depth) : objects & ~(UINT64_C(1) << depth);
            depth++;
            if ((p = tc_token(scan, p + 1)) == NULL) return NULL;
            if (*p == (c == '{' ? '}' : ']')) {
                depth--;
                p++;
            } else {
                if (c == '{' && (p = skip_key(scan, p)) == NULL) return NULL;
                continue;
            }
        } else if (c == '"') {
            if ((p = tc_string(scan, p + 1, &form)) == NULL) return NULL;
            p++;
        } else if (c == '-' || (uint8_t)(c - '0') < 10) {
            if ((p = tc_number(scan, p)) == NULL) return NULL;
        } else if ((p = tc_literal(scan, p)) == NULL) {
            return NULL;
        }
        /* Behind a value: close what ends here, then go to the next value. */
        for (;;) {
            if (depth == outer) return p;
            int object = (int)(objects >> (depth - 1) & 1);
            if ((p = tc_token(scan, p)) == NULL) return NULL;
            if (*p == ',') {
                if ((p = tc_token(scan, p + 1)) == NULL) return NULL;
                if (object && (p = skip_key(scan, p)) == NULL) return NULL;
                break;
            }
            if (*p != (object ? '}' : ']')) return tc_malformed(scan, p);
            depth--;
            p++;
        }
    }
}

/* What one pass over a frame has read, and the keys of its objects: shared by objects (extract_scan.c) and rows (extract_rows.c). */
#ifndef TAPECAST_EXTRACT_READING_H
#define TAPECAST_EXTRACT_READING_H
#include "extract_json.h"

enum {
    TC_KIND_STRING = 1, /* offset, length: the text between the quotes; without escapes */
    TC_KIND_NUMBER,     /* offset, length: the token */
    TC_KIND_TRUE,
    TC_KIND_FALSE,
    TC_KIND_NULL,
    TC_KIND_OBJECT,
    TC_KIND_ARRAY,      /* length: elements */
    TC_KIND_ROWS        /* offset, length: rows in the scratch; pairs: bid and ask alternate; sides: bids first */
};

/* Forms of numbers in rows. */
enum { TC_FORM_QUOTED = 1, TC_FORM_BARE = 2, TC_FORM_WRONG = 4 };

typedef struct {
    tc_scan scan;
    tcx_extractor *x;
    const tcx_program *program;
    int64_t ts_recv_ns;
    uint64_t alive;          /* shapes that are still possible */
    uint64_t seen;           /* slots that are filled */
    int64_t row_count;
    int64_t element_count;
    int envelopes;           /* envelope keys at the root */
    int besides;             /* keys at the root that stand beside the envelope */
    tcx_slot beside;         /* the string there; another kind: none */
    int entered;             /* the message inside the envelope was read */
    tcx_slot slots[TC_MAX_SLOTS];
} tc_reading;

static inline unsigned tc_bucket(const uint8_t *text, size_t length) {
    return (text[0] + 3u * text[length - 1] + 7u * (unsigned)length) & 31u;
}

/* Key of `node` whose text and closing quote stand at p, by the hint; readable bytes are checked. */
static inline int tc_key_matches(const tcx_program *program, const tcx_key *key, const uint8_t *p, const uint8_t *end) {
    if (__builtin_expect(end - p < 8 || end - p <= key->length, 0)) return 0;
    if ((tc_load8(p) & key->mask) != key->word) return 0;
    return key->length < 8 || (tc_same(p + 8, program->text + key->text + 8, key->length - 8u) && p[key->length] == '"');
}

/* Key index of node for the text at p (behind the opening quote), -1 unknown, -2 failure; *p moves behind the closing quote. */
int tc_find_key(tc_reading *r, tcx_node *node, int16_t *hint, const uint8_t **p);

/* The common case of tc_find_key: the key that came here last time. */
static inline int tc_next_key(tc_reading *r, tcx_node *node, int16_t *hint, const uint8_t **p) {
    int guess = *hint;
    if (__builtin_expect(guess >= 0, 1)) {
        const tcx_key *key = &r->program->keys[guess];
        if (tc_key_matches(r->program, key, *p, r->scan.end)) {
            *p += key->length + 1;
            return guess;
        }
    }
    return tc_find_key(r, node, hint, p);
}

#endif

/* What a read frame says at a slot, as a value: ids, times, numbers, texts with a meaning. Inline: every frame asks for several. */
#ifndef TAPECAST_EXTRACT_VIEW_H
#define TAPECAST_EXTRACT_VIEW_H
#include "extract_reading.h"
#include "iso_time.h"

/* Called from many places: copies of it in each would only crowd the code of every frame. */
#define TC_SHARED __attribute__((noinline, unused))

#define TC_BIT(slot) (UINT64_C(1) << (slot))
#define TC_SECOND INT64_C(1000000000)
#define TC_NANO INT64_C(1000000000000000000)

enum { TC_UNIT_MS = 1, TC_UNIT_US, TC_UNIT_NS, TC_UNIT_AUTO, TC_UNIT_ISO, TC_UNIT_KST };
enum { TC_TIME_GOOD, TC_TIME_BAD, TC_TIME_WRONG };

typedef struct {
    tc_reading *reading;
    const tcx_shape *shape;
    const tcx_slot *slots; /* of the message, or of one trade */
    uint64_t seen;
} tc_view;

static inline const char *tc_text_of(const tc_view *v, const tcx_slot *slot) {
    return (const char *)v->reading->scan.start + slot->offset;
}

/* Whether an optional slot is missing or null. */
static inline int tc_is_left_out(const tc_view *v, int slot) {
    return (v->seen & TC_BIT(slot)) == 0 || (v->slots[slot].kind == TC_KIND_NULL && (v->shape->optional & TC_BIT(slot)));
}

/* Integer of a slot: 0, or -1 where it is none. */
static inline int tc_integer_of(const tc_view *v, int slot, uint64_t *magnitude, int *negative, int *saturated) {
    const tcx_slot *s = &v->slots[slot];
    if (s->kind != TC_KIND_STRING && s->kind != TC_KIND_NUMBER) return -1;
    return tc_parse_integer(tc_text_of(v, s), s->length, magnitude, negative, saturated);
}

/* Signed 64-bit id of a slot (-1 = not declared); 0, or -1 where it is of another type. */
static TC_SHARED int tc_id_of(const tc_view *v, int slot, int64_t *id) {
    uint64_t magnitude;
    int negative, saturated;
    *id = TC_NO_ID;
    if (slot < 0 || tc_is_left_out(v, slot)) return 0;
    if (tc_integer_of(v, slot, &magnitude, &negative, &saturated) || saturated || magnitude > INT64_MAX) return -1;
    *id = negative ? -(int64_t)magnitude : (int64_t)magnitude;
    return 0;
}

static TC_SHARED int tc_time_of(const tc_view *v, int slot, int unit, int64_t *ns) {
    static const int64_t factors[] = {0, 1000000, 1000, 1};
    uint64_t value;
    int negative, saturated, coarse = 0;
    *ns = 0;
    if (slot < 0 || tc_is_left_out(v, slot)) return TC_TIME_BAD;
    if (unit == TC_UNIT_ISO) {
        const tcx_slot *s = &v->slots[slot];
        int answer = s->kind == TC_KIND_STRING ? tc_iso_ns(tc_text_of(v, s), s->length, ns) : -1;
        return answer < 0 ? TC_TIME_WRONG : answer > 0 ? TC_TIME_BAD : TC_TIME_GOOD;
    }
    if (unit == TC_UNIT_KST) {
        const tcx_slot *s = &v->slots[slot];
        if (s->kind != TC_KIND_STRING || tc_kst_ns(tc_text_of(v, s), s->length, v->reading->ts_recv_ns, ns) < 0) return TC_TIME_WRONG;
        return TC_TIME_BAD;
    }
    if (tc_integer_of(v, slot, &value, &negative, &saturated)) return TC_TIME_WRONG;
    if (negative || saturated || value > INT64_MAX) return TC_TIME_BAD;
    int64_t factor = factors[unit & 3];
    if (unit == TC_UNIT_AUTO) {
        int64_t base = TC_SECOND;
        factor = TC_SECOND;
        while (factor > 0 && !((int64_t)value >= base && (int64_t)value / 10 < base)) {
            factor /= 1000;
            base = base < TC_NANO ? base * 1000 : base;
        }
        if (factor == 0) return TC_TIME_BAD;
        coarse = factor == TC_SECOND;
    }
    if (__builtin_mul_overflow((int64_t)value, factor, ns) || *ns < TC_NANO) {
        *ns = 0;
        return TC_TIME_BAD;
    }
    return coarse ? TC_TIME_BAD : TC_TIME_GOOD;
}

/* Whether a slot is a text of blanks, or of nothing. */
static inline int tc_is_blank(const tc_view *v, int slot) {
    const tcx_slot *s = &v->slots[slot];
    const char *text = tc_text_of(v, s);
    if (s->kind != TC_KIND_STRING) return 0;
    for (uint32_t i = 0; i < s->length; i++)
        if (text[i] != ' ') return 0;
    return 1;
}

/* Price or quantity of a scalar slot; 0, or -1 where it is no number of the shape's kind. */
static TC_SHARED int tc_decimal_of(const tc_view *v, int slot, int is_signed, tc_decimal *value) {
    const tcx_slot *s = &v->slots[slot];
    if (s->kind != (v->shape->bare ? TC_KIND_NUMBER : TC_KIND_STRING)) return -1;
    /* The frame goes on behind the number, so the parser may read ahead to its end. */
    const tc_scan *scan = &v->reading->scan;
    const uint8_t *text = scan->start + s->offset;
    if (tc_decimal_at(text, scan->end, v->shape->bare, value) != text + s->length) return -1;
    return value->mantissa < 0 && !is_signed ? -1 : 0;
}

static TC_SHARED const tcx_choice *tc_choice_of(const tc_view *v, int slot, uint32_t first, uint32_t count) {
    const tcx_slot *s = &v->slots[slot];
    const tcx_program *program = v->reading->program;
    const tc_scan *scan = &v->reading->scan;
    for (const tcx_choice *c = program->choices + first; c < program->choices + first + count; c++) {
        if (s->kind == TC_KIND_TRUE || s->kind == TC_KIND_FALSE) {
            if (c->length == (s->kind == TC_KIND_TRUE ? TC_LENGTH_TRUE : TC_LENGTH_FALSE)) return c;
        } else if (s->kind == TC_KIND_STRING &&
                   (c->length == TC_LENGTH_PREFIX ||
                    (c->length == s->length && tc_same(scan->start + s->offset, program->text + c->text, s->length)))) {
            return c;
        }
    }
    return NULL;
}

#endif

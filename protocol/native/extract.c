/* Which shape a read frame has, its values converted, its packets ordered. The checks keep the order of
 * protocol/extract_read.py, so a frame with several defects gets the same status from both. */
#include "extract_emit.h"
#include "extract_scan.h"
#include "wire.h"

#define BIT(slot) (UINT64_C(1) << (slot))
#define SECOND INT64_C(1000000000)
#define NANO INT64_C(1000000000000000000)

enum { UNIT_MS = 1, UNIT_US, UNIT_NS, UNIT_AUTO };
enum { TIME_GOOD, TIME_BAD, TIME_WRONG };

typedef struct {
    tc_reading *reading;
    const tcx_shape *shape;
    const tcx_slot *slots; /* of the message, or of one trade */
    uint64_t seen;
} view;

static const char *text_of(const view *v, const tcx_slot *slot) {
    return (const char *)v->reading->scan.start + slot->offset;
}

/* Whether an optional slot is missing or null. */
static int is_left_out(const view *v, int slot) {
    return (v->seen & BIT(slot)) == 0 || (v->slots[slot].kind == TC_KIND_NULL && (v->shape->optional & BIT(slot)));
}

/* Integer of a slot: 0, or -1 where it is none. */
static int integer_of(const view *v, int slot, uint64_t *magnitude, int *negative, int *saturated) {
    const tcx_slot *s = &v->slots[slot];
    if (s->kind != TC_KIND_STRING && s->kind != TC_KIND_NUMBER) return -1;
    return tc_parse_integer(text_of(v, s), s->length, magnitude, negative, saturated);
}

/* Signed 64-bit id of a slot (-1 = not declared); 0, or -1 where it is of another type. */
static int id_of(const view *v, int slot, int64_t *id) {
    uint64_t magnitude;
    int negative, saturated;
    *id = TC_NO_ID;
    if (slot < 0 || is_left_out(v, slot)) return 0;
    if (integer_of(v, slot, &magnitude, &negative, &saturated) || saturated || magnitude > INT64_MAX) return -1;
    *id = negative ? -(int64_t)magnitude : (int64_t)magnitude;
    return 0;
}

static int time_of(const view *v, int slot, int unit, int64_t *ns) {
    static const int64_t factors[] = {0, 1000000, 1000, 1};
    uint64_t value;
    int negative, saturated, coarse = 0;
    *ns = 0;
    if (slot < 0 || is_left_out(v, slot)) return TIME_BAD;
    if (integer_of(v, slot, &value, &negative, &saturated)) return TIME_WRONG;
    if (negative || saturated || value > INT64_MAX) return TIME_BAD;
    int64_t factor = factors[unit & 3];
    if (unit == UNIT_AUTO) {
        int64_t base = SECOND;
        factor = SECOND;
        while (factor > 0 && !((int64_t)value >= base && (int64_t)value / 10 < base)) {
            factor /= 1000;
            base = base < NANO ? base * 1000 : base;
        }
        if (factor == 0) return TIME_BAD;
        coarse = factor == SECOND;
    }
    if (__builtin_mul_overflow((int64_t)value, factor, ns) || *ns < NANO) {
        *ns = 0;
        return TIME_BAD;
    }
    return coarse ? TIME_BAD : TIME_GOOD;
}

/* Price or quantity of a scalar slot; 0, or -1 where it is no number of the shape's kind. */
static int decimal_of(const view *v, int slot, int is_signed, tc_decimal *value) {
    const tcx_slot *s = &v->slots[slot];
    if (s->kind != (v->shape->bare ? TC_KIND_NUMBER : TC_KIND_STRING)) return -1;
    /* The frame goes on behind the number, so the parser may read ahead to its end. */
    const tc_scan *scan = &v->reading->scan;
    const uint8_t *text = scan->start + s->offset;
    if (tc_decimal_at(text, scan->end, v->shape->bare, value) != text + s->length) return -1;
    return value->mantissa < 0 && !is_signed ? -1 : 0;
}

static const tcx_choice *choice_of(const view *v, int slot, uint32_t first, uint32_t count) {
    const tcx_slot *s = &v->slots[slot];
    const tcx_program *program = v->reading->program;
    const tc_scan *scan = &v->reading->scan;
    for (const tcx_choice *c = program->choices + first; c < program->choices + first + count; c++) {
        if (s->kind == TC_KIND_TRUE || s->kind == TC_KIND_FALSE) {
            if (c->length == (s->kind == TC_KIND_TRUE ? TC_LENGTH_TRUE : TC_LENGTH_FALSE)) return c;
        } else if (s->kind == TC_KIND_STRING && c->length == s->length &&
                   tc_same(scan->start + s->offset, program->text + c->text, s->length)) {
            return c;
        }
    }
    return NULL;
}

/* Whether the trade flags say another shape: a value that is present and unknown. */
static int flags_differ(const view *v) {
    int slot = v->shape->trade_flags;
    if (slot < 0 || (v->seen & BIT(slot)) == 0 || v->slots[slot].kind == TC_KIND_NULL) return 0;
    return choice_of(v, slot, v->shape->first_flag, v->shape->flags) == NULL;
}

/* One trade; 0, or -1 where a value is of another type. */
static int read_trade(const view *v, tcx_raw_trade *trade) {
    const tcx_shape *shape = v->shape;
    tc_decimal price, quantity;
    if (decimal_of(v, shape->price, 1, &price) || decimal_of(v, shape->quantity, 0, &quantity)) return -1;
    memset(trade, 0, sizeof *trade);
    trade->price = price.mantissa;
    trade->price_exp = (int16_t)price.exponent;
    trade->quantity = quantity.mantissa;
    trade->quantity_exp = (int16_t)quantity.exponent;
    if (shape->trade_id >= 0 && !is_left_out(v, shape->trade_id)) {
        int negative, saturated;
        if (integer_of(v, shape->trade_id, &trade->trade_id, &negative, &saturated)) return -1;
        if (saturated || (negative && trade->trade_id != 0)) return -1;
    }
    if (shape->side >= 0 && !is_left_out(v, shape->side)) {
        const tcx_choice *side = choice_of(v, shape->side, shape->first_side, shape->sides);
        if (side == NULL) return -1;
        trade->side = (uint8_t)side->value;
    }
    if (shape->trade_flags >= 0 && (v->seen & BIT(shape->trade_flags)) != 0 &&
        v->slots[shape->trade_flags].kind != TC_KIND_NULL)
        trade->flags = (uint8_t)choice_of(v, shape->trade_flags, shape->first_flag, shape->flags)->value;
    int time = time_of(v, shape->ts, shape->time_unit, &trade->ts);
    if (time == TIME_WRONG) return -1;
    trade->bad_ts = time == TIME_BAD;
    return 0;
}

/* Rows of a slot as a side; 0, or -1 where they are of another type. */
static int rows_of(const view *v, int slot, int first, int step, tc_side *side) {
    side->rows = v->reading->x->rows;
    side->step = step;
    side->count = 0;
    if (slot < 0 || is_left_out(v, slot)) return 0;
    const tcx_slot *s = &v->slots[slot];
    if (s->kind != TC_KIND_ROWS) return -1;
    if (s->form & (TC_FORM_WRONG | (v->shape->bare ? TC_FORM_QUOTED : TC_FORM_BARE))) return -1;
    side->rows += s->offset + first;
    side->count = s->length / (uint32_t)step;
    return 0;
}

/* A BBO side of two scalars, written to the free row behind those that were read. */
static int quote_of(const view *v, const int16_t *slots, tc_side *side) {
    tc_decimal values[2] = {{0, 0}, {0, 0}};
    for (int i = 0; i < 2; i++)
        if (!is_left_out(v, slots[i]) && decimal_of(v, slots[i], i == 0, &values[i])) return -1;
    tcx_row *row = &v->reading->x->rows[v->reading->row_count++];
    *row = (tcx_row){values[0].mantissa, values[1].mantissa, (int16_t)values[0].exponent, (int16_t)values[1].exponent, 0};
    *side = (tc_side){row, 1, 1};
    return 0;
}

/* Keep the rows whose price and quantity are not 0, as asked. */
static void leave_out(tc_side *side, int zero_price, int zero_quantity) {
    int64_t kept = 0;
    for (int64_t i = 0; i < side->count; i++) {
        const tcx_row *row = &side->rows[i * side->step];
        if ((zero_price && row->price == 0) || (zero_quantity && row->quantity == 0)) continue;
        if (kept != i) side->rows[kept * side->step] = *row;
        kept++;
    }
    side->count = kept;
}

/* Bids and asks of the shape; 0, or -1. */
static int sides_of(const view *v, tc_side sides[2], int snapshot) {
    const tcx_shape *shape = v->shape;
    const int step = shape->pairs >= 0 ? 2 : 1;
    for (int i = 0; i < 2; i++) {
        tc_side *side = &sides[i];
        int slot = step == 2 ? shape->pairs : i == 0 ? shape->bids : shape->asks;
        if (rows_of(v, slot, step == 2 ? i : 0, step, side)) return -1;
        if (shape->quotes[2 * i] >= 0 && quote_of(v, &shape->quotes[2 * i], side)) return -1;
        if (shape->msg_type == TC_MSG_BBO) {
            if (side->count > 1) side->count = 1;
            leave_out(side, 1, 1);
        } else if (step == 2 || snapshot) {
            leave_out(side, step == 2, snapshot);
        }
    }
    return 0;
}

static int fail(tcx_result *r, int status) { return r->status = status; }

/* Everything behind identification. */
static int publish(view *v, int32_t index, int64_t ts_recv_ns, int64_t pos, const tcx_element *elements, int64_t count) {
    const tcx_shape *shape = v->shape;
    tcx_extractor *x = v->reading->x;
    tcx_result *r = &x->r;
    if (shape->symbol >= 0 && v->slots[shape->symbol].kind != TC_KIND_STRING) return fail(r, TC_WRONG_TYPE);
    if (id_of(v, shape->first_id, &r->first_id) || id_of(v, shape->last_id, &r->last_id) ||
        id_of(v, shape->prev_id, &r->prev_id) || id_of(v, shape->checksum, &r->checksum))
        return fail(r, TC_WRONG_TYPE);
    r->has_checksum = r->checksum != TC_NO_ID;
    if (!r->has_checksum) r->checksum = 0;
    for (uint64_t fixed = (shape->zero | shape->one) & v->seen; fixed; fixed &= fixed - 1) {
        const tcx_slot *s = &v->slots[__builtin_ctzll(fixed)];
        const int64_t wanted = (shape->one & fixed & (0 - fixed)) != 0;
        tc_decimal value;
        int64_t whole = 0;
        if ((s->kind != TC_KIND_STRING && s->kind != TC_KIND_NUMBER) ||
            tc_parse_decimal(text_of(v, s), s->length, 0, &value) ||
            (value.mantissa != 0 && tc_scale_decimal(value.mantissa, value.exponent, 0, &whole)) || whole != wanted)
            return fail(r, TC_WRONG_TYPE);
    }
    const int trades = shape->msg_type == TC_MSG_TRADE || shape->msg_type == TC_MSG_LIQUIDATION;
    tc_target target = {x, NULL, ts_recv_ns, pos, shape->msg_type, x->base_flags | (shape->top_only ? TC_FLAG_TOP_ONLY : 0)};
    tc_side sides[2];
    if (trades) {
        for (int64_t i = 0; i < count; i++) {
            view one = *v;
            if (elements != NULL) {
                one.slots = elements[i].slots;
                one.seen = elements[i].seen;
            }
            if (read_trade(&one, &x->trades[i])) return fail(r, TC_WRONG_TYPE);
        }
        r->ts_exchange_ns = x->trades[0].ts;
    } else {
        int time = time_of(v, shape->ts, shape->time_unit, &r->ts_exchange_ns);
        if (time == TIME_WRONG) return fail(r, TC_WRONG_TYPE);
        if (time == TIME_BAD) target.flags |= TC_FLAG_BAD_TS_EXCHANGE;
        r->snapshot = shape->snapshot;
        if (shape->snapshot_if >= 0)
            r->snapshot = choice_of(v, shape->snapshot_if, shape->snapshot_choice, 1) != NULL;
        if (r->snapshot && shape->msg_type == TC_MSG_BOOK) target.flags |= TC_FLAG_SNAPSHOT;
        if (sides_of(v, sides, r->snapshot)) return fail(r, TC_WRONG_TYPE);
    }
    if (shape->symbol >= 0) {
        const tcx_slot *s = &v->slots[shape->symbol];
        index = tcx_find_instrument(x, text_of(v, s), s->length);
        if (index < 0) {
            r->symbol_offset = s->offset;
            r->symbol_length = s->length;
            return fail(r, TC_UNKNOWN_SYMBOL);
        }
    }
    r->instrument = index;
    r->msg_type = shape->msg_type;
    target.instrument = &x->instruments[index];
    if (trades) return tc_emit_trades(&target, x->trades, count);
    return tc_emit_levels(&target, &sides[0], &sides[1], r->ts_exchange_ns);
}

/* Whether the string beside the envelope contains a text that says another shape. */
static int beside_differs(const view *v) {
    const tc_reading *reading = v->reading;
    const tcx_slot *s = &reading->beside;
    if (v->shape->besides == 0 || !reading->entered || s->kind != TC_KIND_STRING) return 0;
    const uint8_t *text = reading->scan.start + s->offset;
    const tcx_choice *first = reading->program->choices + v->shape->first_beside;
    for (uint32_t at = 0; at < s->length; at++)
        for (const tcx_choice *c = first; c < first + v->shape->besides; c++)
            if (text[at] == reading->program->text[c->text] && c->length <= s->length - at &&
                tc_same(text + at, reading->program->text + c->text, c->length))
                return 1;
    return 0;
}

enum { NO, YES, ODD };

/* Whether an alive shape is the frame's; ODD: only the reference can tell. */
static int identify(view *v, const tcx_element **elements, int64_t *count) {
    const tcx_shape *shape = v->shape;
    *elements = NULL;
    *count = 1;
    if ((v->seen & shape->where_slots) != shape->where_slots || beside_differs(v)) return NO;
    for (uint64_t single = shape->single & v->seen; single; single &= single - 1) {
        const tcx_slot *s = &v->slots[__builtin_ctzll(single)];
        if (s->kind == TC_KIND_ARRAY && s->length != 1) return ODD;
    }
    if ((v->seen & shape->required) != shape->required) return NO;
    if (shape->each < 0) return (v->seen & shape->element_required) == shape->element_required && !flags_differ(v) ? YES : NO;
    const tcx_slot *array = &v->slots[shape->each];
    if (array->kind != TC_KIND_ARRAY) return NO;
    if (array->length == 0) return ODD;
    *elements = v->reading->x->elements + array->offset;
    *count = array->length;
    for (uint32_t i = 0; i < array->length; i++) {
        view one = {v->reading, shape, (*elements)[i].slots, (*elements)[i].seen};
        if ((one.seen & shape->element_required) != shape->element_required) return i == 0 ? NO : ODD;
        if (flags_differ(&one)) return NO;
    }
    return YES;
}

static int choose(tc_reading *reading, int32_t index, int64_t ts_recv_ns, int64_t pos) {
    tcx_result *r = &reading->x->r;
    for (uint64_t alive = reading->alive; alive; alive &= alive - 1) {
        view v = {reading, &reading->program->shapes[__builtin_ctzll(alive)], reading->slots, reading->seen};
        const tcx_element *elements;
        int64_t count;
        int answer = identify(&v, &elements, &count);
        if (answer == NO) continue;
        if (answer == ODD || v.shape->declined) return fail(r, TC_DECLINED);
        r->shape = v.shape->number;
        if (v.shape->silent) return fail(r, TC_SUPPRESSED);
        return publish(&v, index, ts_recv_ns, pos, elements, count);
    }
    return fail(r, TC_NO_SHAPE);
}

static int extract(tcx_extractor *x, int32_t index, const char *frame, int64_t length, int64_t ts_recv_ns, int64_t pos) {
    tcx_result *r = &x->r;
    tc_reading reading;
    memset(r, 0, sizeof *r);
    r->shape = r->instrument = -1;
    r->first_id = r->last_id = r->prev_id = TC_NO_ID;
    if (length < 0 || length > INT32_MAX) return fail(r, TC_DECLINED);
    reading.scan.start = (const uint8_t *)frame;
    reading.scan.end = reading.scan.start + length;
    reading.scan.status = TC_OK;
    reading.x = x;
    for (int32_t i = 0; i < x->program_count; i++) {
        reading.program = &x->programs[i];
        if (reading.program->by_caller != (index >= 0)) continue;
        if (tc_read_frame(&reading)) {
            r->error_offset = reading.scan.error_at - reading.scan.start;
            return fail(r, reading.scan.status);
        }
        if (choose(&reading, index, ts_recv_ns, pos) != TC_NO_SHAPE) return r->status;
    }
    return fail(r, TC_NO_SHAPE);
}

int tcx_extract(tcx_extractor *x, const char *frame, int64_t length, int64_t ts_recv_ns, int64_t pos) {
    return extract(x, -1, frame, length, ts_recv_ns, pos);
}

int tcx_extract_as(tcx_extractor *x, int32_t index, const char *frame, int64_t length, int64_t ts_recv_ns, int64_t pos) {
    return extract(x, index, frame, length, ts_recv_ns, pos);
}

/* Level arrays: rows of columns, and objects that hold a bid and an ask, or one level. Numbers are parsed where they stand, unscaled. */
#include "extract_rows.h"

/* Declared keys of a row that is an object. TIMED: a sided row with its time. */
enum { LEVEL = 2, SIDED = 3, PAIR = 4, TIMED = 5 };

static inline int at(const uint8_t *p, const uint8_t *end, uint8_t c) { return p < end && *p == c; }

/* A number that may be quoted or bare. Anything else is validated, skipped and noted as wrong. */
static const uint8_t *read_decimal(tc_reading *r, const uint8_t *p, int depth, int *form, tc_decimal *value) {
    tc_scan *scan = &r->scan;
    const uint8_t *end = scan->end, *q;
    if (*p == '"') {
        int escapes;
        q = tc_decimal_at(p + 1, end, 0, value);
        *form |= TC_FORM_QUOTED;
        if (q != NULL && at(q, end, '"')) return q + 1;
        *form |= TC_FORM_WRONG;
        if ((q = tc_string(scan, p + 1, &escapes)) == NULL) return NULL;
        return escapes == TC_STRING_PLAIN ? q + 1 : tc_fail(scan, TC_DECLINED, p);
    }
    if (*p == '-' || (uint8_t)(*p - '0') < 10) {
        *form |= TC_FORM_BARE;
        q = tc_decimal_at(p, end, 1, value);
        return q != NULL ? q : tc_malformed(scan, p);
    }
    *form |= TC_FORM_WRONG;
    return tc_skip_value(scan, p, depth);
}

/* The side of a row: 0 or 1 by the texts declared. */
static const uint8_t *read_side(tc_reading *r, const uint8_t *p, const tcx_slot_info *info, int depth, int *form, int32_t *side) {
    tc_scan *scan = &r->scan;
    const uint8_t *text = p + 1;
    int escapes;
    if (*p != '"') {
        *form |= TC_FORM_WRONG;
        return tc_skip_value(scan, p, depth);
    }
    if ((p = tc_string(scan, text, &escapes)) == NULL) return NULL;
    if (escapes != TC_STRING_PLAIN) return tc_fail(scan, TC_DECLINED, text);
    size_t length = (size_t)(p - text);
    const tcx_choice *choice = r->program->choices + info->first_side, *behind = choice + info->sides;
    while (choice < behind && !(choice->length == length && tc_same(text, r->program->text + choice->text, length))) choice++;
    if (choice < behind) *side = (int32_t)choice->value;
    else *form |= TC_FORM_WRONG;
    return p + 1;
}

/* The columns of a row up to behind the closing bracket; p stands at the first one's value. */
static const uint8_t *read_columns(
    tc_reading *r, const uint8_t *p, const tcx_slot_info *info, int depth, int *form, tc_decimal *price, tc_decimal *quantity,
    int32_t *side) {
    tc_scan *scan = &r->scan;
    int wanted = info->side_column < 0;
    for (int column = 0;; column++) {
        if (column == info->price_column || column == info->quantity_column) {
            wanted++;
            p = read_decimal(r, p, depth, form, column == info->price_column ? price : quantity);
        } else if (column == info->side_column) {
            wanted++;
            p = read_side(r, p, info, depth, form, side);
        } else if (*p == '"') {
            int escapes;
            if ((p = tc_string(scan, p + 1, &escapes)) != NULL) p++;
        } else {
            p = tc_skip_value(scan, p, depth);
        }
        if (p == NULL || (p = tc_next(scan, p, ']')) == NULL) return NULL;
        if (*p == ']') break;
    }
    if (wanted < 3) *form |= TC_FORM_WRONG;
    return p + 1;
}

/* Bytes a plain row may take, with what its numbers read ahead. */
#define PLAIN_ROW 80

/* As many rows from p on as consist of quoted price, quantity and at most two short further columns without white space;
 * returns the position behind the last one, p itself where there is none. Kept free of calls: this is where books are read. */
static __attribute__((noinline)) const uint8_t *plain_rows(
    const uint8_t *p, const uint8_t *end, tcx_row **next, const tcx_row *limit) {
    const uint8_t *behind = p;
    tcx_row *row = *next;
    while (end - p >= PLAIN_ROW && row < limit) {
        tc_decimal price, quantity;
        if (p[0] != '[' || p[1] != '"') break;
        const uint8_t *q = tc_decimal_plain(p + 2, &price);
        if (q == NULL || q[0] != '"' || q[1] != ',' || q[2] != '"') break;
        q = tc_decimal_plain(q + 3, &quantity);
        if (q == NULL || *q != '"') break;
        for (int column = 2; *++q == ',' && column < 4; column++) {
            uint64_t stops = tc_string_stops(tc_load8(q + 2));
            if (q[1] != '"' || stops == 0) break;
            q += 2 + ((unsigned)__builtin_ctzll(stops) >> 3);
            if (*q != '"') break;
        }
        if (*q != ']') break;
        row->price = price.mantissa;
        row->quantity = quantity.mantissa;
        row->price_exp = (int16_t)price.exponent;
        row->quantity_exp = (int16_t)quantity.exponent;
        row++;
        behind = q + 1;
        if (*behind != ',') break;
        p = behind + 1;
    }
    *next = row;
    return behind;
}

static inline void store_row(tcx_row *row, const tc_decimal *price, const tc_decimal *quantity) {
    row->price = price->mantissa;
    row->quantity = quantity->mantissa;
    row->price_exp = (int16_t)price->exponent;
    row->quantity_exp = (int16_t)quantity->exponent;
}

/* Rows stay free for the levels that are scalars. */
static inline tcx_row *rows_limit(const tc_reading *r) { return r->x->rows + r->x->row_capacity - TC_QUOTE_SLOTS / 2; }

static const uint8_t *rows_full(tc_reading *r, const uint8_t *p) {
    r->x->r.scratch_full = TC_FULL_ROWS;
    return tc_fail(&r->scan, TC_NO_SPACE, p);
}

static const uint8_t *begin_rows(tc_reading *r, const uint8_t *p, int depth, tcx_slot *slot) {
    slot->kind = TC_KIND_ROWS;
    slot->offset = (uint32_t)r->row_count;
    if (depth + 2 > TC_MAX_DEPTH) return tc_fail(&r->scan, TC_DECLINED, p);
    return tc_token(&r->scan, p + 1);
}

static const uint8_t *end_rows(tc_reading *r, const uint8_t *p, const tcx_row *row, int form, tcx_slot *slot) {
    r->row_count = row - r->x->rows;
    slot->form = form;
    slot->length = (uint32_t)r->row_count - slot->offset;
    return p + 1;
}

/* A row that is not plain, or no row at all. */
static const uint8_t *read_row(
    tc_reading *r, const uint8_t *p, const tcx_slot_info *info, int depth, int *form, tc_decimal *price, tc_decimal *quantity,
    int32_t *side) {
    *price = *quantity = (tc_decimal){0, 0};
    if (*p != '[') {
        *form |= TC_FORM_WRONG;
        return tc_skip_value(&r->scan, p, depth);
    }
    if ((p = tc_token(&r->scan, p + 1)) == NULL) return NULL;
    if (*p != ']') return read_columns(r, p, info, depth + 1, form, price, quantity, side);
    *form |= TC_FORM_WRONG;
    return p + 1;
}

const uint8_t *tc_read_rows(tc_reading *r, const uint8_t *p, const tcx_slot_info *info, int depth, tcx_slot *slot) {
    tc_scan *scan = &r->scan;
    const uint8_t *end = scan->end, *q;
    const int plain = info->price_column == 0 && info->quantity_column == 1;
    tcx_row *row = r->x->rows + r->row_count, *limit = rows_limit(r);
    int form = 0;
    if ((p = begin_rows(r, p, depth, slot)) == NULL) return NULL;
    if (*p == ']') return end_rows(r, p, row, form, slot);
    for (;;) {
        tc_decimal price, quantity;
        if (plain && (q = plain_rows(p, end, &row, limit)) != p) {
            form |= TC_FORM_QUOTED;
            p = q;
        } else {
            int32_t side;
            if ((p = read_row(r, p, info, depth + 1, &form, &price, &quantity, &side)) == NULL) return NULL;
            if (quantity.mantissa < 0) form |= TC_FORM_WRONG;
            if (row >= limit) return rows_full(r, p);
            store_row(row++, &price, &quantity);
        }
        if ((p = tc_next(scan, p, ']')) == NULL) return NULL;
        if (*p == ']') return end_rows(r, p, row, form, slot);
    }
}

/* The time of a row: noted in its slot where it is the first. */
static const uint8_t *read_row_time(tc_reading *r, const uint8_t *p, const tcx_slot_info *info, int depth) {
    tc_scan *scan = &r->scan;
    const uint64_t bit = UINT64_C(1) << info->time_slot;
    tcx_slot *slot = &r->slots[info->time_slot];
    const uint8_t *text = p + 1;
    int escapes;
    if (*p != '"' || (r->seen & bit) != 0) {
        if ((r->seen & bit) == 0) slot->kind = TC_KIND_OBJECT; /* no text: of another type, whatever it is */
        r->seen |= bit;
        return tc_skip_value(scan, p, depth);
    }
    if ((p = tc_string(scan, text, &escapes)) == NULL) return NULL;
    if (escapes != TC_STRING_PLAIN) return tc_fail(scan, TC_DECLINED, text);
    r->seen |= bit;
    slot->kind = TC_KIND_STRING;
    slot->offset = (uint32_t)(text - scan->start);
    slot->length = (uint32_t)(p - text);
    return p + 1;
}

/* One object of an array of rows, from the opening brace, with `roles` declared keys; values[] by role, the side apart. */
static inline __attribute__((always_inline)) const uint8_t *read_members(
    tc_reading *r, const uint8_t *p, const tcx_slot_info *info, int depth, unsigned roles, int *form, tc_decimal *values,
    int32_t *side) {
    tc_scan *scan = &r->scan;
    tcx_node *node = &r->program->nodes[info->row_node];
    int16_t *hint = &node->predicted;
    unsigned seen = 0;
    if ((p = tc_token(scan, p + 1)) == NULL) return NULL;
    if (*p == '}') {
        *form |= TC_FORM_WRONG;
        return p + 1;
    }
    for (;;) {
        if (*p != '"') return tc_malformed(scan, p);
        p++;
        int index = tc_next_key(r, node, hint, &p);
        if (index == -2) return NULL;
        if ((p = tc_colon(scan, p)) == NULL) return NULL;
        if (index < 0) {
            p = tc_skip_value(scan, p, depth + 1);
        } else {
            tcx_key *key = &r->program->keys[index];
            hint = &key->predicted;
            if (seen >> key->slot & 1) return tc_fail(scan, TC_DECLINED, p);
            seen |= 1u << key->slot;
            if ((roles == SIDED || roles == TIMED) && key->slot == 2) p = read_side(r, p, info, depth + 1, form, side);
            else if (roles == TIMED && key->slot == 3) p = read_row_time(r, p, info, depth + 1);
            else p = read_decimal(r, p, depth + 1, form, &values[key->slot]);
        }
        if (p == NULL || (p = tc_next(scan, p, '}')) == NULL) return NULL;
        if (*p == '}') break;
    }
    if (seen + 1 != 1u << (roles == TIMED ? 4 : roles) || values[1].mantissa < 0) *form |= TC_FORM_WRONG;
    if (roles == PAIR && values[3].mantissa < 0) *form |= TC_FORM_WRONG;
    return p + 1;
}

const uint8_t *tc_read_pairs(tc_reading *r, const uint8_t *p, const tcx_slot_info *info, int depth, tcx_slot *slot) {
    tc_scan *scan = &r->scan;
    tcx_row *row = r->x->rows + r->row_count, *limit = rows_limit(r);
    int form = 0;
    if ((p = begin_rows(r, p, depth, slot)) == NULL) return NULL;
    if (*p == ']') return end_rows(r, p, row, form, slot);
    for (;;) {
        tc_decimal values[4] = {{0, 0}, {0, 0}, {0, 0}, {0, 0}};
        if (*p == '{') {
            p = read_members(r, p, info, depth + 1, PAIR, &form, values, NULL);
        } else {
            form |= TC_FORM_WRONG;
            p = tc_skip_value(scan, p, depth + 1);
        }
        if (p == NULL) return NULL;
        if (__builtin_expect(limit - row < 2, 0)) return rows_full(r, p);
        store_row(row++, &values[0], &values[1]);
        store_row(row++, &values[2], &values[3]);
        if ((p = tc_next(scan, p, ']')) == NULL) return NULL;
        if (*p == ']') return end_rows(r, p, row, form, slot);
    }
}

/* Put the rows from `first` up to `end` in order, bids first; 0 where the scratch behind them is too small for the asks. */
static int order_sides(tcx_row *first, tcx_row *end, const tcx_row *limit) {
    tcx_row *bid = first, *ask = end;
    int64_t asks = 0;
    for (const tcx_row *row = first; row < end; row++) asks += row->side;
    if (limit - end < asks) return 0;
    for (const tcx_row *row = first; row < end; row++) *(row->side ? ask++ : bid++) = *row;
    memcpy(bid, end, (size_t)asks * sizeof *bid);
    return 1;
}

const uint8_t *tc_read_other_rows(tc_reading *r, const uint8_t *p, const tcx_slot_info *info, int depth, tcx_slot *slot) {
    tc_scan *scan = &r->scan;
    tcx_row *first = r->x->rows + r->row_count, *row = first, *limit = rows_limit(r);
    int form = 0;
    if ((p = begin_rows(r, p, depth, slot)) == NULL) return NULL;
    if (*p == ']') return end_rows(r, p, row, form, slot);
    for (;;) {
        tc_decimal values[2] = {{0, 0}, {0, 0}};
        int32_t side = 0;
        if (info->row_node < 0) {
            p = read_row(r, p, info, depth + 1, &form, &values[0], &values[1], &side);
            if (values[1].mantissa < 0) form |= TC_FORM_WRONG;
        } else if (*p != '{') {
            form |= TC_FORM_WRONG;
            p = tc_skip_value(scan, p, depth + 1);
        } else if (info->time_slot >= 0) {
            p = read_members(r, p, info, depth + 1, TIMED, &form, values, &side);
        } else if (info->sides) {
            p = read_members(r, p, info, depth + 1, SIDED, &form, values, &side);
        } else {
            p = read_members(r, p, info, depth + 1, LEVEL, &form, values, NULL);
        }
        if (p == NULL) return NULL;
        if (__builtin_expect(row >= limit, 0)) return rows_full(r, p);
        row->side = side;
        store_row(row++, &values[0], &values[1]);
        if ((p = tc_next(scan, p, ']')) == NULL) return NULL;
        if (*p == ']') break;
    }
    if (info->sides && !order_sides(first, row, limit)) return rows_full(r, p);
    return end_rows(r, p, row, form, slot);
}

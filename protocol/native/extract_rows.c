/* Level arrays: rows of columns, and objects that hold a bid and an ask. Numbers are parsed where they stand, unscaled. */
#include "extract_scan.h"

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

/* The columns of a row from the given one on, up to behind the closing bracket; p stands at the column's value. */
static const uint8_t *read_columns(
    tc_reading *r, const uint8_t *p, const tcx_slot_info *info, int depth, int column, int *form, tc_decimal *price,
    tc_decimal *quantity) {
    tc_scan *scan = &r->scan;
    int wanted = (column > info->price_column) + (column > info->quantity_column);
    for (;; column++) {
        if (column == info->price_column || column == info->quantity_column) {
            wanted++;
            p = read_decimal(r, p, depth, form, column == info->price_column ? price : quantity);
        } else {
            p = tc_skip_value(scan, p, depth);
        }
        if (p == NULL) return NULL;
        if ((p = tc_token(scan, p)) == NULL) return NULL;
        if (*p == ']') break;
        if (*p != ',') return tc_malformed(scan, p);
        if ((p = tc_token(scan, p + 1)) == NULL) return NULL;
    }
    if (wanted < 2) *form |= TC_FORM_WRONG;
    return p + 1;
}

/* A row whose first two columns are quoted price and quantity without white space; NULL where it is not so plain. */
static inline const uint8_t *plain_row(const uint8_t *p, const uint8_t *end, tc_decimal *price, tc_decimal *quantity) {
    if (!at(p + 1, end, '"')) return NULL;
    p = tc_decimal_at(p + 2, end, 0, price);
    if (p == NULL || end - p < 4 || p[0] != '"' || p[1] != ',' || p[2] != '"') return NULL;
    p = tc_decimal_at(p + 3, end, 0, quantity);
    return p != NULL && at(p, end, '"') ? p + 1 : NULL;
}

/* Two rows stay free for the quotes of a BBO. */
static inline int store_row(tc_reading *r, const tc_decimal *price, const tc_decimal *quantity) {
    if (__builtin_expect(r->row_count + 2 >= r->x->row_capacity, 0)) {
        r->x->r.scratch_full = TC_FULL_ROWS;
        return 0;
    }
    tcx_row *row = &r->x->rows[r->row_count++];
    row->price = price->mantissa;
    row->quantity = quantity->mantissa;
    row->price_exp = (int16_t)price->exponent;
    row->quantity_exp = (int16_t)quantity->exponent;
    return 1;
}

const uint8_t *tc_read_rows(tc_reading *r, const uint8_t *p, const tcx_slot_info *info, int depth, tcx_slot *slot) {
    tc_scan *scan = &r->scan;
    const uint8_t *end = scan->end, *q;
    const int plain = info->price_column == 0 && info->quantity_column == 1;
    int form = 0;
    slot->kind = TC_KIND_ROWS;
    slot->offset = (uint32_t)r->row_count;
    if (depth + 2 > TC_MAX_DEPTH) return tc_fail(scan, TC_DECLINED, p);
    if ((p = tc_token(scan, p + 1)) == NULL) return NULL;
    if (*p != ']') for (;;) {
        tc_decimal price = {0, 0}, quantity = {0, 0};
        if (plain && *p == '[' && (q = plain_row(p, end, &price, &quantity)) != NULL && (at(q, end, ']') || at(q, end, ','))) {
            form |= TC_FORM_QUOTED;
            if (*q == ']') {
                p = q + 1;
            } else {
                if ((p = tc_token(scan, q + 1)) == NULL) return NULL;
                if ((p = read_columns(r, p, info, depth + 2, 2, &form, &price, &quantity)) == NULL) return NULL;
            }
        } else if (*p == '[') {
            if ((p = tc_token(scan, p + 1)) == NULL) return NULL;
            if (*p == ']') {
                form |= TC_FORM_WRONG;
                p++;
            } else if ((p = read_columns(r, p, info, depth + 2, 0, &form, &price, &quantity)) == NULL) {
                return NULL;
            }
        } else {
            form |= TC_FORM_WRONG;
            if ((p = tc_skip_value(scan, p, depth + 1)) == NULL) return NULL;
        }
        if (__builtin_expect(quantity.mantissa < 0, 0)) form |= TC_FORM_WRONG;
        if (!store_row(r, &price, &quantity)) return tc_fail(scan, TC_NO_SPACE, p);
        if (at(p, end, ',') && at(p + 1, end, '[')) {
            p++;
            continue;
        }
        if ((p = tc_token(scan, p)) == NULL) return NULL;
        if (*p == ']') break;
        if (*p != ',') return tc_malformed(scan, p);
        if ((p = tc_token(scan, p + 1)) == NULL) return NULL;
    }
    slot->form = form;
    slot->length = (uint32_t)r->row_count - slot->offset;
    return p + 1;
}

/* One object of a pair array, from the opening brace; values[0..3] as tcx_key.slot numbers them. */
static const uint8_t *read_pair(tc_reading *r, const uint8_t *p, tcx_node *node, int depth, int *form, tc_decimal *values) {
    tc_scan *scan = &r->scan;
    const uint8_t *end = scan->end;
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
        if ((p = tc_token(scan, p)) == NULL) return NULL;
        if (*p != ':') return tc_malformed(scan, p);
        if ((p = tc_token(scan, p + 1)) == NULL) return NULL;
        if (index < 0) {
            p = tc_skip_value(scan, p, depth + 1);
        } else {
            tcx_key *key = &r->program->keys[index];
            hint = &key->predicted;
            if (seen >> key->slot & 1) return tc_fail(scan, TC_DECLINED, p);
            seen |= 1u << key->slot;
            p = read_decimal(r, p, depth + 1, form, &values[key->slot]);
        }
        if (p == NULL) return NULL;
        if (at(p, end, ',') && at(p + 1, end, '"')) {
            p++;
            continue;
        }
        if ((p = tc_token(scan, p)) == NULL) return NULL;
        if (*p == '}') break;
        if (*p != ',') return tc_malformed(scan, p);
        if ((p = tc_token(scan, p + 1)) == NULL) return NULL;
    }
    if (seen != 15 || values[1].mantissa < 0 || values[3].mantissa < 0) *form |= TC_FORM_WRONG;
    return p + 1;
}

const uint8_t *tc_read_pairs(tc_reading *r, const uint8_t *p, const tcx_slot_info *info, int depth, tcx_slot *slot) {
    tc_scan *scan = &r->scan;
    tcx_node *node = &r->program->nodes[info->pair_node];
    int form = 0;
    slot->kind = TC_KIND_ROWS;
    slot->offset = (uint32_t)r->row_count;
    if (depth + 2 > TC_MAX_DEPTH) return tc_fail(scan, TC_DECLINED, p);
    if ((p = tc_token(scan, p + 1)) == NULL) return NULL;
    if (*p != ']') for (;;) {
        tc_decimal values[4] = {{0, 0}, {0, 0}, {0, 0}, {0, 0}};
        if (*p == '{') {
            p = read_pair(r, p, node, depth + 1, &form, values);
        } else {
            form |= TC_FORM_WRONG;
            p = tc_skip_value(scan, p, depth + 1);
        }
        if (p == NULL) return NULL;
        if (!store_row(r, &values[0], &values[1]) || !store_row(r, &values[2], &values[3]))
            return tc_fail(scan, TC_NO_SPACE, p);
        if ((p = tc_token(scan, p)) == NULL) return NULL;
        if (*p == ']') break;
        if (*p != ',') return tc_malformed(scan, p);
        if ((p = tc_token(scan, p + 1)) == NULL) return NULL;
    }
    slot->form = form;
    slot->length = (uint32_t)r->row_count - slot->offset;
    return p + 1;
}

/* One pass over the message: objects by their declared keys, scalars as spans, possible shapes narrowed on the way. */
#include "extract_scan.h"
#include "extract_rows.h"

static int text_equals(const tc_reading *r, const tcx_slot *slot, const tcx_choice *choice) {
    return choice->length == slot->length &&
           tc_same(r->scan.start + slot->offset, r->program->text + choice->text, slot->length);
}

static int text_starts(const tc_reading *r, const tcx_slot *slot, const tcx_choice *choice) {
    uint32_t length = choice->length & ~TC_LENGTH_PREFIX;
    return (choice->length & TC_LENGTH_PREFIX) != 0 && length <= slot->length &&
           tc_same(r->scan.start + slot->offset, r->program->text + choice->text, length);
}

/* Shapes that survive the value of a slot that some demand a constant of. */
static uint64_t where_survivors(const tc_reading *r, const tcx_slot_info *info, const tcx_slot *slot) {
    uint64_t satisfied = 0;
    if (slot->kind == TC_KIND_STRING)
        for (uint32_t i = 0; i < info->choices; i++) {
            const tcx_choice *choice = &r->program->choices[info->first_choice + i];
            if (text_equals(r, slot, choice) || text_starts(r, slot, choice)) satisfied |= choice->value;
        }
    return ~info->where_users | satisfied;
}

/* A string, number or literal that some possible shape wants. */
static inline const uint8_t *read_scalar(tc_reading *r, const uint8_t *p, tcx_slot *slot) {
    tc_scan *scan = &r->scan;
    const uint8_t *from = p;
    if (*p == '"') {
        int form;
        if ((p = tc_string(scan, p + 1, &form)) == NULL) return NULL;
        if (form == TC_STRING_ESCAPED) return tc_fail(scan, TC_DECLINED, from);
        slot->kind = TC_KIND_STRING;
        slot->offset = (uint32_t)(from + 1 - scan->start);
        slot->length = (uint32_t)(p - from - 1);
        return p + 1;
    }
    if (*p == '-' || (uint8_t)(*p - '0') < 10) {
        if ((p = tc_number(scan, p)) == NULL) return NULL;
        slot->kind = TC_KIND_NUMBER;
        slot->offset = (uint32_t)(from - scan->start);
        slot->length = (uint32_t)(p - from);
        return p;
    }
    if ((p = tc_literal(scan, p)) == NULL) return NULL;
    slot->kind = *from == 't' ? TC_KIND_TRUE : *from == 'f' ? TC_KIND_FALSE : TC_KIND_NULL;
    return p;
}

static const uint8_t *read_object(tc_reading *r, const uint8_t *p, int node, int depth);

/* An array of objects. Trades are kept element by element; otherwise only the first element is read, the others are skipped. */
static const uint8_t *read_objects(tc_reading *r, const uint8_t *p, int node_index, uint64_t each_users, int depth, tcx_slot *slot) {
    tc_scan *scan = &r->scan;
    const tcx_node *node = &r->program->nodes[node_index];
    int width = node->end_slot - node->first_slot;
    uint64_t inside = (width >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << width) - 1) << node->first_slot;
    int keep = (r->alive & each_users) != 0;
    slot->kind = TC_KIND_ARRAY;
    slot->offset = (uint32_t)r->element_count;
    slot->length = 0;
    if (depth >= TC_MAX_DEPTH) return tc_malformed(scan, p);
    if ((p = tc_token(scan, p + 1)) == NULL) return NULL;
    if (*p == ']') return p + 1;
    for (;;) {
        if (keep || slot->length == 0) {
            r->seen &= ~inside;
            p = *p == '{' ? read_object(r, p, node_index, depth + 1) : tc_skip_value(scan, p, depth + 1);
        } else {
            p = tc_skip_value(scan, p, depth + 1);
        }
        if (p == NULL) return NULL;
        if (keep) {
            if (r->element_count >= r->x->element_capacity) {
                r->x->r.scratch_full = TC_FULL_ELEMENTS;
                return tc_fail(scan, TC_NO_SPACE, p);
            }
            tcx_element *element = &r->x->elements[r->element_count++];
            element->seen = r->seen & inside;
            memcpy(&element->slots[node->first_slot], &r->slots[node->first_slot], (size_t)width * sizeof(tcx_slot));
        }
        slot->length++;
        if ((p = tc_next(scan, p, ']')) == NULL) return NULL;
        if (*p == ']') return p + 1;
    }
}

/* The value of a declared key. */
static inline const uint8_t *read_value(tc_reading *r, const uint8_t *p, const tcx_key *key, int depth) {
    tcx_slot *slot = &r->slots[key->slot];
    const tcx_slot_info *info = &r->program->slots[key->slot];
    uint64_t bit = UINT64_C(1) << key->slot;
    if (__builtin_expect((r->seen & bit) != 0, 0)) return tc_fail(&r->scan, TC_DECLINED, p);
    r->seen |= bit;
    r->alive &= ~info->absent_users;
    if ((r->alive & info->users) == 0) return tc_skip_value(&r->scan, p, depth);
    if (*p == '[') {
        if (info->rows == TC_ROWS_ARRAYS) {
            p = tc_read_rows(r, p, info, depth, slot);
        } else if (info->rows == TC_ROWS_PAIRS) {
            p = tc_read_pairs(r, p, info, depth, slot);
        } else if (info->rows == TC_ROWS_OTHER) {
            p = tc_read_other_rows(r, p, info, depth, slot);
        } else if (key->array >= 0) {
            p = read_objects(r, p, key->array, info->each_users, depth, slot);
        } else {
            slot->kind = TC_KIND_ARRAY;
            slot->length = 0;
            p = tc_skip_value(&r->scan, p, depth);
        }
    } else if (*p == '{') {
        slot->kind = TC_KIND_OBJECT;
        p = key->object >= 0 ? read_object(r, p, key->object, depth) : tc_skip_value(&r->scan, p, depth);
    } else {
        p = read_scalar(r, p, slot);
    }
    if (p != NULL && info->where_users) r->alive &= where_survivors(r, info, slot);
    return p;
}

static void begin_message(tc_reading *r) {
    r->alive = ~UINT64_C(0) >> (64 - r->program->shape_count);
    r->seen = 0;
    r->row_count = r->element_count = 0;
}

/* An object, `depth` containers around it. */
static const uint8_t *read_object(tc_reading *r, const uint8_t *p, int node_index, int depth) {
    tc_scan *scan = &r->scan;
    tcx_node *node = &r->program->nodes[node_index];
    int16_t *hint = depth == 0 && r->program->has_envelope ? &node->predicted_outside : &node->predicted;
    if (depth >= TC_MAX_DEPTH) return tc_malformed(scan, p);
    if ((p = tc_token(scan, p + 1)) == NULL) return NULL;
    if (*p == '}') return p + 1;
    for (;;) {
        if (*p != '"') return tc_malformed(scan, p);
        p++;
        int index = tc_next_key(r, node, hint, &p);
        if (index == -2) return NULL;
        if ((p = tc_colon(scan, p)) == NULL) return NULL;
        tcx_key *key = index < 0 ? NULL : &r->program->keys[index];
        if (key != NULL) hint = &key->predicted;
        int root = key != NULL && depth == 0, envelope = root && key->envelope;
        if (envelope && r->envelopes++) return tc_fail(scan, TC_DECLINED, p);
        if (envelope && *p == '{') {
            begin_message(r);
            p = read_object(r, p, node_index, 1);
            r->entered = 1;
        } else if (root && key->beside) {
            if (r->besides++) return tc_fail(scan, TC_DECLINED, p);
            p = *p == '{' || *p == '[' ? tc_skip_value(scan, p, 1) : read_scalar(r, p, &r->beside);
        } else if (key == NULL || key->slot < 0 || (r->entered && depth == 0)) {
            p = tc_skip_value(scan, p, depth + 1);
        } else {
            p = read_value(r, p, key, depth + 1);
        }
        if (p == NULL || (p = tc_next(scan, p, '}')) == NULL) return NULL;
        if (*p == '}') return p + 1;
    }
}

int tc_read_frame(tc_reading *r) {
    tc_scan *scan = &r->scan;
    begin_message(r);
    r->entered = r->envelopes = r->besides = 0;
    r->beside.kind = 0;
    const uint8_t *p = tc_token(scan, scan->start);
    if (p == NULL) return scan->status;
    if (*p == '{') {
        p = read_object(r, p, 0, 0);
    } else {
        r->alive = 0;
        p = tc_skip_value(scan, p, 0);
    }
    if (p == NULL) return scan->status;
    p = tc_space(p, scan->end);
    if (p != scan->end) tc_malformed(scan, p);
    return p == scan->end ? 0 : scan->status;
}

/* The key of an object by its text, where it is not the one that came here last time (extract_reading.h). */
#include "extract_reading.h"

int tc_find_key(tc_reading *r, tcx_node *node, int16_t *hint, const uint8_t **position) {
    const tcx_program *program = r->program;
    const uint8_t *text = *position;
    int form;
    const uint8_t *quote = tc_string(&r->scan, text, &form);
    if (quote == NULL) return -2;
    if (form == TC_STRING_ESCAPED) {
        tc_fail(&r->scan, TC_DECLINED, text);
        return -2;
    }
    *position = quote + 1;
    size_t length = (size_t)(quote - text);
    if (length == 0) return -1;
    int index = node->bucket[tc_bucket(text, length)];
    for (; index >= 0; index = program->keys[index].chain) {
        const tcx_key *key = &program->keys[index];
        if (key->length == length && tc_same(text, program->text + key->text, length)) {
            *hint = (int16_t)index;
            return index;
        }
    }
    return -1;
}

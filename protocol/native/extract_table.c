/* Symbol to instrument: open addressing over caller-owned arrays, filled by feeder/extract/extractor.py, never more than half full. */
#include "extract.h"
#include "number.h"

static inline uint64_t hash_of(const uint8_t *text, size_t length) {
    uint64_t hash = length * UINT64_C(0x9E3779B97F4A7C15);
    while (length >= 8) {
        hash = (hash ^ tc_load8(text)) * UINT64_C(0xFF51AFD7ED558CCD);
        hash ^= hash >> 32;
        text += 8;
        length -= 8;
    }
    uint64_t tail = 0;
    for (size_t i = 0; i < length; i++) tail = tail << 8 | text[i];
    hash = (hash ^ tail) * UINT64_C(0xFF51AFD7ED558CCD);
    return hash ^ hash >> 32;
}

void tcx_index_instrument(tcx_extractor *x, int32_t index) {
    tcx_instrument *instrument = &x->instruments[index];
    instrument->hash = hash_of(x->symbols + instrument->symbol, instrument->length);
    uint64_t place = instrument->hash & x->table_mask;
    while (x->table[place] >= 0) place = (place + 1) & x->table_mask;
    x->table[place] = index;
}

int32_t tcx_find_instrument(const tcx_extractor *x, const char *symbol, size_t length) {
    uint64_t hash = hash_of((const uint8_t *)symbol, length);
    for (uint64_t place = hash & x->table_mask; x->table[place] >= 0; place = (place + 1) & x->table_mask) {
        const tcx_instrument *instrument = &x->instruments[x->table[place]];
        if (instrument->hash == hash && instrument->length == length &&
            tc_same(x->symbols + instrument->symbol, (const uint8_t *)symbol, length))
            return x->table[place];
    }
    return -1;
}

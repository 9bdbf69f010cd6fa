/* Reference: _stat of feeder/extract/read.py and stat_value of feeder/extract/exact.py. */
#include "extract_stats.h"

#define MAX_MANTISSA ((INT64_C(1) << 62) - 1)

/* Missing, null or an empty string. */
static int is_absent(const tc_view *v, int slot) {
    if (slot < 0 || (v->seen & TC_BIT(slot)) == 0) return 1;
    const tcx_slot *s = &v->slots[slot];
    return s->kind == TC_KIND_NULL || (s->kind == TC_KIND_STRING && s->length == 0);
}

/* Time of a slot, 0 where it is absent or unknown; -1 where it is none. */
static int stat_time(const tc_view *v, int slot, int64_t *ns) {
    *ns = 0;
    return !is_absent(v, slot) && tc_time_of(v, slot, v->shape->time_unit, ns) == TC_TIME_WRONG ? -1 : 0;
}

/* A declared time that is the integer 0. */
static int is_zero(const tc_view *v, int slot) {
    uint64_t magnitude;
    int negative, saturated;
    return !is_absent(v, slot) && tc_integer_of(v, slot, &magnitude, &negative, &saturated) == 0 && magnitude == 0;
}

/* An integer gets exponent 0 where a mantissa holds it, everything else loses its trailing zeros; 0, or -1 for too large. */
static int settle(const tc_decimal *number, tc_raw_stat *stat) {
    stat->value = number->mantissa;
    stat->exponent = number->mantissa == 0 ? 0 : number->exponent;
    if (stat->exponent == TC_EXP_HUGE) return -1;
    for (; stat->exponent < 0 && stat->value % 10 == 0; stat->exponent++) stat->value /= 10;
    if (stat->exponent > 0 && tc_scale(stat->value, stat->exponent, 0, &stat->value) == 0) stat->exponent = 0;
    return stat->exponent > INT8_MAX || stat->value > MAX_MANTISSA || stat->value < -MAX_MANTISSA ? -1 : 0;
}

int tc_stats_of(const tc_view *v, int64_t ts_exchange_ns, tc_raw_stat *stats, int *too_large) {
    const tcx_stat *declared = v->reading->program->stats + v->shape->first_stat;
    int count = 0;
    *too_large = 0;
    for (uint32_t i = 0; i < v->shape->stats; i++) {
        const tcx_stat *wanted = &declared[i];
        tc_decimal number;
        int64_t ts, due;
        if (stat_time(v, wanted->ts, &ts) || stat_time(v, wanted->due, &due)) return -1;
        if (is_absent(v, wanted->value) || is_zero(v, wanted->due)) continue;
        if (tc_decimal_of(v, wanted->value, 1, &number)) return -1;
        tc_raw_stat *stat = &stats[count++];
        int64_t seconds = due != 0 && ts_exchange_ns != 0 ? (due - ts_exchange_ns) / TC_SECOND : 0;
        stat->kind = wanted->kind;
        stat->ts = wanted->ts < 0 ? ts_exchange_ns : ts;
        stat->aux = seconds >= 0 && seconds <= INT32_MAX ? (int32_t)seconds : 0;
        if (settle(&number, stat)) *too_large = 1;
    }
    return count;
}

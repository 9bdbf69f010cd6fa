/* Statistics of a read frame: which are present, with their own exponents and times. */
#ifndef TAPECAST_EXTRACT_STATS_H
#define TAPECAST_EXTRACT_STATS_H
#include "extract_emit.h"
#include "extract_view.h"

/* How many of the shape's statistics are present, -1 where a value is of another type; at most TC_MAX_SLOTS.
 * *too_large: one has no mantissa below 2^62 at an 8-bit exponent. */
int tc_stats_of(const tc_view *v, int64_t ts_exchange_ns, tc_raw_stat *stats, int *too_large);

#endif

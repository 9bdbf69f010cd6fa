/* The writing half of the extractor: chosen levels and trades, scaled to the instrument's exponents, as packets. */
#ifndef TAPECAST_EXTRACT_EMIT_H
#define TAPECAST_EXTRACT_EMIT_H
#include "extract.h"

/* Rows of one side in the scratch, `step` rows apart. */
typedef struct {
    tcx_row *rows;
    int64_t step;
    int64_t count;
} tc_side;

/* One statistic with the exponent it goes out with. */
typedef struct {
    int64_t value;
    int64_t ts;
    int32_t exponent;
    int32_t kind;
    int32_t aux;
} tc_raw_stat;

/* What the packets of one frame share. */
typedef struct {
    tcx_extractor *x;
    const tcx_instrument *instrument;
    int64_t ts_recv_ns;
    int64_t pos;
    int msg_type;
    int flags;
} tc_target;

/* Bids and asks as one event; returns the status. Rows to be left out are already gone. */
int tc_emit_levels(const tc_target *target, tc_side *bids, tc_side *asks, int64_t ts_exchange_ns);
/* Trades as one event, or several where a time does not fit the first one's delta; at least one trade. */
int tc_emit_trades(const tc_target *target, tcx_raw_trade *trades, int64_t count);

/* Statistics as one event; at least one. */
int tc_emit_stats(const tc_target *target, const tc_raw_stat *stats, int64_t count, int64_t ts_exchange_ns);

#endif

/* The extractor: frame bytes to finished packets in one call, driven by tables that feeder/extract/extractor.py compiles from shapes.
 *
 * One pass reads the frame with the union of all shapes of a program: values that some still possible shape wants are noted in
 * slots (one per path), level arrays are parsed into the scratch. Then the first shape that fits, in declared order, is chosen,
 * its values are converted and scaled to the instrument's exponents, and packets are written. All memory is the caller's. */
#ifndef TAPECAST_EXTRACT_H
#define TAPECAST_EXTRACT_H
#include <stddef.h>
#include <stdint.h>

/* cdef */
#define TC_OK 0
#define TC_NO_SHAPE 1
#define TC_DECLINED 2
#define TC_MALFORMED 3
#define TC_WRONG_TYPE 4
#define TC_UNKNOWN_SYMBOL 5
#define TC_INEXACT 6
#define TC_TOO_LARGE 7
#define TC_NO_SPACE 8
#define TC_SUPPRESSED 9

#define TC_MAX_SLOTS 64
#define TC_QUOTE_SLOTS 40
/* How rows are read. Roles of keys in PAIRS: 0-3 bid price, bid quantity, ask price, ask quantity; in OTHER: 0 price,
 * 1 quantity, 2 side, 3 time. OTHER are objects with one level each, and rows of both sides, which are put in order: bids first. */
#define TC_ROWS_NONE 0
#define TC_ROWS_ARRAYS 1
#define TC_ROWS_PAIRS 2
#define TC_ROWS_OTHER 3
#define TC_FULL_ROWS 1
#define TC_FULL_ELEMENTS 2
#define TC_LENGTH_TRUE 0xFFFFFFFE
#define TC_LENGTH_FALSE 0xFFFFFFFF
#define TC_LENGTH_PREFIX 0x80000000

/* A key of an object that is declared: what its value may be. Indexes are -1 where it may not. */
typedef struct {
    uint64_t word;      /* first eight bytes of the text followed by a quote, zero padded */
    uint64_t mask;      /* which bytes of `word` count */
    uint32_t text;      /* offset in the program's text */
    uint16_t length;
    int16_t slot;       /* of the path that ends here; rows of objects: the role, see TC_ROWS_ */
    int16_t object;     /* node of the value if it is an object */
    int16_t array;      /* node of the elements if it is an array of objects */
    int16_t chain;      /* next key in the same bucket */
    int16_t predicted;  /* key that last followed this one; a hint, kept by the scan */
    int16_t envelope;   /* 1: an object here, at the root, is the message */
    int16_t beside;     /* 1: a string here, at the root beside the envelope, tells shapes apart */
} tcx_key;

/* An object: its keys are found by `bucket` (key index or -1). */
typedef struct {
    int16_t bucket[32];
    int16_t predicted;  /* key that last came first; a hint */
    int16_t predicted_outside; /* node 0: the same for a root around the message */
    int16_t first_slot; /* slots of this object and what is below it: first_slot up to end_slot */
    int16_t end_slot;
} tcx_node;

/* A path. Bit s of a shape mask is shape s of the program. */
typedef struct {
    uint64_t users;       /* shapes that name this path */
    uint64_t where_users; /* shapes that demand a constant here */
    uint64_t absent_users;
    uint64_t each_users;  /* shapes whose trades are the elements here */
    uint32_t first_choice; /* constants of where_users */
    uint32_t choices;
    uint32_t first_side;  /* texts of the side column: value 0 bid, 1 ask */
    uint32_t sides;       /* 0: the rows have no side column */
    int16_t rows;         /* TC_ROWS_ */
    int16_t price_column;
    int16_t quantity_column;
    int16_t side_column;
    int16_t row_node;     /* rows that are objects: their keys, with roles; otherwise -1 */
    int16_t time_slot;    /* rows with a time: where the first row's is noted; otherwise -1 */
} tcx_slot_info;

/* A text with a meaning: constants of `where` (value = shapes it satisfies), sides, trade flags. */
typedef struct {
    uint64_t value;
    uint32_t text;
    uint32_t length;      /* or TC_LENGTH_TRUE, TC_LENGTH_FALSE; with TC_LENGTH_PREFIX: of a prefix (of a flag: "" alone) */
} tcx_choice;

/* A statistic: slots of its value and times (-1 = not declared). */
typedef struct {
    int16_t kind;
    int16_t value;
    int16_t ts;
    int16_t due;
} tcx_stat;

/* A shape: slots (-1 = not declared) and how to read them. Bit n of a slot mask is slot n. */
typedef struct {
    uint64_t where_slots;
    uint64_t required;         /* paths that must exist in the message */
    uint64_t element_required; /* paths that must exist in each trade */
    uint64_t optional;
    uint64_t single;           /* arrays that must have one element */
    uint64_t zero;
    uint64_t one;
    int32_t number;            /* index as declared */
    int16_t msg_type;
    int16_t bare;
    int16_t time_unit;
    int16_t snapshot;
    int16_t top_only;
    int16_t silent;
    int16_t symbol;
    int16_t ts;
    int16_t snapshot_if;
    int16_t bids;
    int16_t asks;
    int16_t pairs;
    int16_t bid_quotes;        /* how many of `quotes` are bids, and asks */
    int16_t ask_quotes;
    int16_t quotes[TC_QUOTE_SLOTS]; /* price, quantity of each; bids first */
    int16_t first_id;
    int16_t last_id;
    int16_t prev_id;
    int16_t checksum;
    int16_t each;
    int16_t price;
    int16_t quantity;
    int16_t trade_id;
    int16_t side;
    int16_t trade_flags[2];
    int16_t trade_id_kind;
    int16_t levels;
    int16_t each_symbol;
    int16_t condition;
    uint32_t snapshot_choice;  /* the choice that means snapshot */
    uint32_t first_side;
    uint32_t sides;
    uint32_t first_flag[2];
    uint32_t flags[2];
    uint32_t first_condition;
    uint32_t conditions;
    uint32_t first_beside;     /* texts that the string beside the envelope must not contain */
    uint32_t besides;
    uint32_t first_stat;
    uint32_t stats;
} tcx_shape;

typedef struct {
    const uint8_t *text;
    tcx_key *keys;
    tcx_node *nodes;            /* node 0 is the message */
    const tcx_slot_info *slots;
    const tcx_choice *choices;
    const tcx_shape *shapes;
    const tcx_stat *stats;
    int32_t shape_count;
    int32_t slot_count;
    int32_t has_envelope;
    int32_t by_caller;         /* 1: the caller names the instrument */
} tcx_program;

/* What a path held. ROWS: `offset` is the first scratch row, `length` the number of rows; ARRAY: `length` elements. */
typedef struct {
    uint32_t offset;
    uint32_t length;
    int32_t kind;
    int32_t form;
} tcx_slot;

/* One level as written: both numbers without scaling. */
typedef struct {
    int64_t price;
    int64_t quantity;
    int16_t price_exp;
    int16_t quantity_exp;
    int32_t side;              /* rows with a side column: 0 bid, 1 ask */
} tcx_row;

/* The slots of one trade object. */
typedef struct {
    uint64_t seen;
    tcx_slot slots[TC_MAX_SLOTS];
} tcx_element;

typedef struct {
    int64_t ts;
    int64_t price;
    int64_t quantity;
    uint64_t trade_id;
    int16_t price_exp;
    int16_t quantity_exp;
    uint8_t side;
    uint8_t flags;
    uint8_t bad_ts;
    uint16_t condition;
} tcx_raw_trade;

typedef struct {
    uint64_t id;
    uint64_t hash;
    uint32_t symbol;           /* offset in the symbol text */
    uint32_t length;
    int32_t price_exp;
    int32_t qty_exp;
} tcx_instrument;

typedef struct {
    int32_t status;
    int32_t shape;
    int32_t instrument;
    int32_t msg_type;
    int64_t nbytes;
    int32_t packets;
    int32_t items;
    int64_t first_id;
    int64_t last_id;
    int64_t prev_id;
    int64_t checksum;
    int32_t has_checksum;
    int32_t snapshot;
    int64_t ts_exchange_ns;
    int64_t error_offset;
    int32_t need_price_exp;
    int32_t need_qty_exp;
    int64_t need_bytes;
    int64_t symbol_offset;     /* UNKNOWN_SYMBOL */
    int64_t symbol_length;
    int32_t scratch_full;      /* NO_SPACE: TC_FULL_, the scratch that was too small; 0 = the output was */
} tcx_result;

typedef struct {
    tcx_result r;
    tcx_program *programs;
    int32_t program_count;
    int32_t venue_id;
    int32_t channel_id;
    int32_t base_flags;
    int32_t max_payload;
    int32_t instrument_count;
    tcx_instrument *instruments;
    const uint8_t *symbols;
    int32_t *table;            /* instrument index or -1; open addressing, size table_mask + 1 */
    uint64_t table_mask;
    uint8_t *out;
    int64_t out_capacity;
    tcx_row *rows;
    int64_t row_capacity;      /* at least 32 */
    tcx_element *elements;
    tcx_raw_trade *trades;      /* element_capacity long, too */
    int64_t element_capacity;  /* at least 1 */
} tcx_extractor;

/* One frame to packets at out[pos]; returns the status, everything else is in x->r. */
int tcx_extract(tcx_extractor *x, const char *frame, int64_t length, int64_t ts_recv_ns, int64_t pos);
/* The same for a body whose instrument the caller knows. */
int tcx_extract_as(tcx_extractor *x, int32_t index, const char *frame, int64_t length, int64_t ts_recv_ns, int64_t pos);
/* Enter instrument `index` (its symbol and length are set) in the table, which has room. */
void tcx_index_instrument(tcx_extractor *x, int32_t index);
/* Index of a symbol, or -1. */
int32_t tcx_find_instrument(const tcx_extractor *x, const char *symbol, size_t length);
/* end cdef */

#define TC_NO_ID INT64_MIN

#endif

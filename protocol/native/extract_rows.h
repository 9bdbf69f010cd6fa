/* Level rows of a frame, read from the opening bracket on. Called by extract_scan.c for a slot that holds rows. */
#ifndef TAPECAST_EXTRACT_ROWS_H
#define TAPECAST_EXTRACT_ROWS_H
#include "extract_reading.h"

/* Arrays of level rows from the opening bracket; fills *slot. Returns the position behind, NULL on failure. */
const uint8_t *tc_read_rows(tc_reading *r, const uint8_t *p, const tcx_slot_info *info, int depth, tcx_slot *slot);
const uint8_t *tc_read_other_rows(tc_reading *r, const uint8_t *p, const tcx_slot_info *info, int depth, tcx_slot *slot);
const uint8_t *tc_read_pairs(tc_reading *r, const uint8_t *p, const tcx_slot_info *info, int depth, tcx_slot *slot);

#endif

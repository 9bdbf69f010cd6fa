/* The reading half of the extractor: one pass over a frame that fills slots, rows and elements. */
#ifndef TAPECAST_EXTRACT_SCAN_H
#define TAPECAST_EXTRACT_SCAN_H
#include "extract_reading.h"

/* Read the whole frame with a program; 0, or the status of the failure with the place in scan.error_at. */
int tc_read_frame(tc_reading *r);

#endif

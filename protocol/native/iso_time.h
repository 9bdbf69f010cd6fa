/* Times as text: RFC 3339 in UTC, and a clock in Korea; the meaning is iso_ns and kst_ns of feeder/extract/exact.py. */
#ifndef TAPECAST_ISO_TIME_H
#define TAPECAST_ISO_TIME_H
#include <stddef.h>
#include <stdint.h>

/* cdef */
/* UTC ns of a text: 0; 1 where it is no time of the calendar, out of range or finer than 1 ns (*ns is 0); -1: no such text. */
int tc_iso_ns(const char *text, size_t length, int64_t *ns);
/* UTC ns of a clock HHMMSS in Korea near a receive time: 0; 1 where it is unknown (*ns is 0); -1: no such text. */
int tc_kst_ns(const char *text, size_t length, int64_t ts_recv_ns, int64_t *ns);
/* end cdef */

#endif

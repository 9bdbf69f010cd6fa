/* RFC 3339 times in UTC as text; the meaning is iso_ns of protocol/exact.py. */
#ifndef TAPECAST_ISO_TIME_H
#define TAPECAST_ISO_TIME_H
#include <stddef.h>
#include <stdint.h>

/* cdef */
/* UTC ns of a text: 0; 1 where it is no time of the calendar, out of range or finer than 1 ns (*ns is 0); -1: no such text. */
int tc_iso_ns(const char *text, size_t length, int64_t *ns);
/* end cdef */

#endif

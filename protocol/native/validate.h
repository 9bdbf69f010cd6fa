/* Validation of one received packet, and the names under which packets are counted. */
#ifndef TAPECAST_VALIDATE_H
#define TAPECAST_VALIDATE_H
#include <stdint.h>

/* cdef */
enum {
    TC_COUNT_RECEIVED,
    TC_COUNT_TRUNCATED,
    TC_COUNT_TOO_SHORT,
    TC_COUNT_OVERSIZE,
    TC_COUNT_BAD_MAGIC,
    TC_COUNT_BAD_VERSION,
    TC_COUNT_UNKNOWN_CRITICAL,
    TC_COUNT_BAD_LENGTH,
    TC_COUNT_BAD_ITEMS,
    TC_COUNT_BAD_BID_COUNT,
    TC_COUNT_SMALL_ITEM,
    TC_COUNT_AUTH_MISSING,
    TC_COUNT_BAD_AUTH,
    TC_COUNT_CHANNEL_LIMIT,
    TC_COUNT_OTHER_SOURCE,
    TC_COUNT_OLD_SESSION,
    TC_COUNT_DUPLICATE,
    TC_COUNT_JUMP_UNCONFIRMED,
    TC_COUNT_UNKNOWN_TYPE,
    TC_COUNT_UNSEQUENCED,
    TC_COUNT_HELD,
    TC_COUNT_DELIVERED,
    TC_COUNT_GAPS,
    TC_COUNT_MISSING,
    TC_COUNT_SESSIONS,
    TC_COUNT_JUMPS,
    TC_COUNT_REPAIRED,
    TC_COUNT_UNASKED,
    TC_COUNTERS
};

int tc_validate(const uint8_t *packet, uint32_t length, uint32_t span_flags, int auth_required);
/* end cdef */

#endif

/* Is this datagram a packet? Specification, section 2. */
#include "validate.h"

#include "receive.h"
#include "wire.h"

/* Returns 0, or the TC_COUNT_... under which the packet is dropped; checks in the order of the specification, section 2. */
int tc_validate(const uint8_t *packet, uint32_t length, uint32_t span_flags, int auth_required) {
    if (span_flags & TC_SPAN_TRUNCATED)
        return TC_COUNT_TRUNCATED;
    if (length < TC_HEADER_SIZE)
        return TC_COUNT_TOO_SHORT;
    if (length > TC_MAX_PACKET)
        return TC_COUNT_OVERSIZE;
    const tc_header *h = (const tc_header *)packet;
    if (h->magic != TC_MAGIC)
        return TC_COUNT_BAD_MAGIC;
    if (h->version != TC_VERSION)
        return TC_COUNT_BAD_VERSION;
    if (h->flags & TC_FLAG_CRITICAL)
        return TC_COUNT_UNKNOWN_CRITICAL;
    uint32_t tag = (h->flags & TC_FLAG_AUTH) ? TC_TAG_SIZE : 0;
    if (TC_HEADER_SIZE + (uint32_t)h->payload_len + tag != length)
        return TC_COUNT_BAD_LENGTH;
    if ((uint32_t)h->item_count * h->item_size != h->payload_len)
        return TC_COUNT_BAD_ITEMS;
    if (h->bid_count > h->item_count)
        return TC_COUNT_BAD_BID_COUNT;
    if (h->item_size < tc_min_item_size(h->msg_type))
        return TC_COUNT_SMALL_ITEM;
    if (auth_required && !tag)
        return TC_COUNT_AUTH_MISSING;
    return 0;
}

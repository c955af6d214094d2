/* Internet checksums that follow what changes (RFC 1624, equation 3: HC' = ~(~HC + sum(~m + m'))). */
#ifndef DPDK_CHECKSUMS_H
#define DPDK_CHECKSUMS_H

#include "base.h"

/* The sum of ~m + m' over the 16-bit words of a number that has changed. */
static inline u32 delta(u128 old, u128 new, unsigned bytes)
{
    u32 total = 0;
    for (; bytes; bytes -= 2, old >>= 16, new >>= 16)
        total += 0xFFFF - (u32)(old & 0xFFFF) + (u32)(new & 0xFFFF);
    return total;
}

static inline void patch(u8 *at, u32 delta)
{
    u32 total = 0xFFFF - (u32)load_be(at, 2) + delta;
    while (total > 0xFFFF)
        total = (total & 0xFFFF) + (total >> 16);
    store_be(at, 0xFFFF - total, 2);
}

/* Over UDP 0 means "no checksum" and stays, a computed 0 is sent as 0xffff (RFC 768). */
static inline void patch_udp(u8 *at, u32 delta)
{
    if (!(at[0] | at[1]))
        return;
    patch(at, delta);
    if (!(at[0] | at[1]))
        at[0] = at[1] = 0xFF;
}

/* The sum of the 16-bit words of some bytes modulo 0xFFFF, an odd last one as the high half of a word; 0 only if they are.
 * Words are added as the machine has them, many at once, and the sum is turned round (RFC 1071, 2B). */
static inline u32 sum_of_words(const u8 *at, u32 size)
{
    u64 total = 0;
    u32 word, whole = size & ~3u;
    for (u32 i = 0; i < whole; i += 4) {
        memcpy(&word, at + i, sizeof word);
        total += word;
    }
    if (size & 3) {
        word = 0;
        memcpy(&word, at + whole, size & 3);
        total += word;
    }
    total = (total >> 32) + (u32)total;
    total = (total >> 16) + (total & 0xFFFF);
    total = (total >> 16) + (total & 0xFFFF);
    total = (total >> 16) + (total & 0xFFFF);
    return __builtin_bswap16((u16)total);
}

#endif

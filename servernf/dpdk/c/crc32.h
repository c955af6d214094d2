/* CRC-32 (IEEE 802.3, 3.2.9; as zlib's), eight bytes a step: Kounavis and Berry, "A systematic approach to building
 * high performance software-based CRC generators" (2005). */
#ifndef DPDK_CRC32_H
#define DPDK_CRC32_H

#include "base.h"

extern u32 crc32_table[8][256];

/* Of bytes behind those that `crc` is of; 0: behind nothing. */
static inline u32 crc32_of(u32 crc, const u8 *at, u32 size)
{
    const u32(*table)[256] = (const u32(*)[256])crc32_table;
    crc = ~crc;
    for (; size >= 8; at += 8, size -= 8) {
        u64 word;
        memcpy(&word, at, sizeof word);
        word ^= crc;
        crc = 0;
        for (u32 i = 0; i < 8; i++)
            crc ^= table[7 - i][word >> 8 * i & 0xFF];
    }
    for (u32 i = 0; i < size; i++)
        crc = crc >> 8 ^ table[0][(crc ^ at[i]) & 0xFF];
    return ~crc;
}

#endif

/* Checksums and hashes as BMv2 computes them (calculations.cpp, by behaviour). */
#ifndef FAST_HASHES_H
#define FAST_HASHES_H

#include "base.h"

/* Inputs of a calculation, one behind the other as bits; what is not there is left out. */
struct bits {
    unsigned count; /* of bits */
    u8 *bytes;
};

/* The low `width` bits (1 to 64) of `value`; the rest of it must be 0. */
static inline void put_bits(struct bits *to, u64 value, unsigned width)
{
    unsigned used = to->count % 8, at = to->count / 8;
    to->count += width;
    if (!used && width % 8 == 0) {
        store_be(to->bytes + at, value, width / 8);
        return;
    }
    while (width) {
        unsigned room = 8 - used, take = width < room ? width : room;
        u8 part = (u8)(value >> (width - take) & ones(take));
        u8 kept = used ? to->bytes[at] : 0;
        to->bytes[at] = (u8)(kept | part << (room - take));
        width -= take;
        used = (used + take) % 8;
        at += !used;
    }
}

static inline void put_bits_long(struct bits *to, u128 value, unsigned width)
{
    if (width > 64) {
        put_bits(to, (u64)(value >> 64) & ones(width - 64), width - 64);
        width = 64;
    }
    put_bits(to, (u64)value & ones(width), width);
}

static inline void put_words(struct bits *to, const u64 *words, unsigned width)
{
    unsigned count = (width + 63) / 64;
    if (width % 64)
        put_bits(to, words[--count] & ones(width % 64), width % 64);
    while (count)
        put_bits(to, words[--count], 64);
}

static inline void put_bytes(struct bits *to, const u8 *bytes, size_t size)
{
    if (!size)
        return;
    if (to->count % 8 == 0) {
        memcpy(to->bytes + to->count / 8, bytes, size);
        to->count += (unsigned)(8 * size);
        return;
    }
    for (size_t i = 0; i < size; i++)
        put_bits(to, bytes[i], 8);
}

/* Bytes that are filled, the last one with zero bits. */
static inline unsigned filled(const struct bits *of)
{
    return (of->count + 7) / 8;
}

/* Sums of 16-bit words, for the Internet checksum (RFC 1071): 2^16 = 1 (mod 65535). */
static inline u64 sum_of(u64 value)
{
    return (value & 0xFFFF) + (value >> 16 & 0xFFFF) + (value >> 32 & 0xFFFF) + (value >> 48);
}

static inline u64 sum_of_long(u128 value)
{
    return sum_of((u64)value) + sum_of((u64)(value >> 64));
}

static inline u64 sum_of_bytes(const u8 *bytes, size_t size)
{
    u64 sum = 0;
    for (; size >= 4; bytes += 4, size -= 4)
        sum += load_be(bytes, 2) + load_be(bytes + 2, 2);
    if (size >= 2)
        sum += load_be(bytes, 2);
    if (size % 2)
        sum += (u64)bytes[size & 2] << 8;
    return sum;
}

static inline u64 checksum_of_sum(u64 sum)
{
    u64 rest = sum % 65535;
    return 65535 - (rest ? rest : sum ? 65535 : 0);
}

u64 hash_csum16(const u8 *bytes, size_t size);
u64 hash_xor16(const u8 *bytes, size_t size);
u64 hash_xor32(const u8 *bytes, size_t size);
u64 hash_identity(const u8 *bytes, size_t size);
u64 hash_crc8(const u8 *bytes, size_t size);
u64 hash_crc16(const u8 *bytes, size_t size);
u64 hash_crc32(const u8 *bytes, size_t size);
u64 hash_crc64(const u8 *bytes, size_t size);
u64 hash_crc_ccitt(const u8 *bytes, size_t size);
u64 hash_toeplitz(const u8 *bytes, size_t size);
u64 hash_xxh64(const u8 *bytes, size_t size);

#endif

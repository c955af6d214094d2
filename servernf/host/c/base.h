/* Numbers of P4 programs in C, and bytes of packets as numbers.
 *
 * A value of up to 64 or 128 bits is a machine word; a wider one is a `wide`, two's complement in LIMBS
 * words (the generated program defines LIMBS for its widest value). Words of keys and of actions'
 * arguments are 64 bits, least significant first.
 */
#ifndef HOST_BASE_H
#define HOST_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t i64;
typedef unsigned __int128 u128;
typedef __int128 i128;

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Big-endian numbers of `size` bytes (1 to 8, or 1 to 16); constant sizes compile to one or two loads. */
static inline u64 load_be(const u8 *at, unsigned size)
{
    u16 h;
    u32 w;
    u64 d;
    switch (size) {
    case 1:
        return at[0];
    case 2:
        memcpy(&h, at, 2);
        return __builtin_bswap16(h);
    case 3:
        memcpy(&h, at, 2);
        return (u64)__builtin_bswap16(h) << 8 | at[2];
    case 4:
        memcpy(&w, at, 4);
        return __builtin_bswap32(w);
    case 8:
        memcpy(&d, at, 8);
        return __builtin_bswap64(d);
    default:
        memcpy(&w, at, 4);
        return (u64)__builtin_bswap32(w) << 8 * (size - 4) | load_be(at + 4, size - 4);
    }
}

static inline u128 load_be_long(const u8 *at, unsigned size)
{
    if (size <= 8)
        return load_be(at, size);
    return (u128)load_be(at, size - 8) << 64 | load_be(at + size - 8, 8);
}

static inline void store_be(u8 *at, u64 value, unsigned size)
{
    u16 h = __builtin_bswap16((u16)value);
    u32 w = __builtin_bswap32((u32)value);
    u64 d = __builtin_bswap64(value);
    switch (size) {
    case 1:
        at[0] = (u8)value;
        return;
    case 2:
        memcpy(at, &h, 2);
        return;
    case 4:
        memcpy(at, &w, 4);
        return;
    case 8:
        memcpy(at, &d, 8);
        return;
    default:
        for (unsigned i = size; i-- > 0; value >>= 8)
            at[i] = (u8)value;
    }
}

static inline void store_be_long(u8 *at, u128 value, unsigned size)
{
    if (size <= 8) {
        store_be(at, (u64)value, size);
        return;
    }
    store_be(at, (u64)(value >> 64), size - 8);
    store_be(at + size - 8, (u64)value, 8);
}

static inline u64 ones(unsigned bits)
{
    return bits >= 64 ? ~(u64)0 : ((u64)1 << bits) - 1;
}

static inline u128 ones_long(unsigned bits)
{
    return bits >= 128 ? ~(u128)0 : ((u128)1 << bits) - 1;
}

/* Shifts by any count: what leaves the word is gone. */
static inline u64 shl(u64 value, u64 count)
{
    return count < 64 ? value << count : 0;
}

static inline u128 shl_long(u128 value, u64 count)
{
    return count < 128 ? value << count : 0;
}

static inline u64 shr(u64 value, u64 count)
{
    return count < 64 ? value >> count : 0;
}

static inline u128 shr_long(u128 value, u64 count)
{
    return count < 128 ? value >> count : 0;
}

static inline i64 sar(i64 value, u64 count)
{
    return value >> (count < 64 ? count : 63);
}

static inline i128 sar_long(i128 value, u64 count)
{
    return value >> (count < 128 ? count : 127);
}

/* The low `bits` (1 to 64, 1 to 128) as a signed number. */
static inline i64 signed_of(u64 value, unsigned bits)
{
    return (i64)(value << (64 - bits)) >> (64 - bits);
}

static inline i128 signed_of_long(u128 value, unsigned bits)
{
    return (i128)(value << (128 - bits)) >> (128 - bits);
}

static inline u128 words_long(const u64 *words)
{
    return (u128)words[1] << 64 | words[0];
}

#endif

/* Numbers beyond 128 bits: two's complement in LIMBS words, least significant first. Rare, so simple. */
#ifndef FAST_WIDE_H
#define FAST_WIDE_H

#include "base.h"

#ifndef LIMBS
#define LIMBS 3
#endif

typedef struct {
    u64 limb[LIMBS];
} wide;

static inline wide wide_of_i64(i64 value)
{
    wide out;
    out.limb[0] = (u64)value;
    for (unsigned i = 1; i < LIMBS; i++)
        out.limb[i] = value < 0 ? ~(u64)0 : 0;
    return out;
}

static inline wide wide_of_u64(u64 value)
{
    wide out = {{value}};
    return out;
}

static inline wide wide_of_u128(u128 value)
{
    wide out = {{(u64)value, (u64)(value >> 64)}};
    return out;
}

static inline wide wide_of_i128(i128 value)
{
    wide out = wide_of_i64(value < 0 ? -1 : 0);
    out.limb[0] = (u64)value;
    out.limb[1] = (u64)((u128)value >> 64);
    return out;
}

/* `count` words, the rest is 0. */
static inline wide wide_of_words(const u64 *words, unsigned count)
{
    wide out = {{0}};
    for (unsigned i = 0; i < count && i < LIMBS; i++)
        out.limb[i] = words[i];
    return out;
}

static inline void wide_to_words(wide value, u64 *words, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        words[i] = i < LIMBS ? value.limb[i] : 0;
}

static inline u64 wide_low(wide value)
{
    return value.limb[0];
}

static inline u128 wide_low_long(wide value)
{
    return words_long(value.limb);
}

static inline bool wide_negative(wide value)
{
    return value.limb[LIMBS - 1] >> 63;
}

static inline bool wide_truth(wide value)
{
    u64 any = 0;
    for (unsigned i = 0; i < LIMBS; i++)
        any |= value.limb[i];
    return any != 0;
}

static inline wide wide_not(wide a)
{
    for (unsigned i = 0; i < LIMBS; i++)
        a.limb[i] = ~a.limb[i];
    return a;
}

static inline wide wide_and(wide a, wide b)
{
    for (unsigned i = 0; i < LIMBS; i++)
        a.limb[i] &= b.limb[i];
    return a;
}

static inline wide wide_or(wide a, wide b)
{
    for (unsigned i = 0; i < LIMBS; i++)
        a.limb[i] |= b.limb[i];
    return a;
}

static inline wide wide_xor(wide a, wide b)
{
    for (unsigned i = 0; i < LIMBS; i++)
        a.limb[i] ^= b.limb[i];
    return a;
}

static inline wide wide_add(wide a, wide b)
{
    u128 carry = 0;
    for (unsigned i = 0; i < LIMBS; i++) {
        carry += (u128)a.limb[i] + b.limb[i];
        a.limb[i] = (u64)carry;
        carry >>= 64;
    }
    return a;
}

static inline wide wide_sub(wide a, wide b)
{
    return wide_add(wide_add(a, wide_not(b)), wide_of_u64(1));
}

static inline wide wide_mul(wide a, wide b)
{
    wide out = {{0}};
    for (unsigned i = 0; i < LIMBS; i++) {
        u128 carry = 0;
        for (unsigned j = 0; i + j < LIMBS; j++) {
            carry += (u128)a.limb[i] * b.limb[j] + out.limb[i + j];
            out.limb[i + j] = (u64)carry;
            carry >>= 64;
        }
    }
    return out;
}

static inline wide wide_shl(wide a, u64 count)
{
    wide out = {{0}};
    if (count >= 64 * (u64)LIMBS)
        return out;
    unsigned words = (unsigned)(count / 64), bits = (unsigned)(count % 64);
    for (unsigned i = words; i < LIMBS; i++) {
        out.limb[i] = a.limb[i - words] << bits;
        if (bits && i > words)
            out.limb[i] |= a.limb[i - words - 1] >> (64 - bits);
    }
    return out;
}

/* As Python shifts: the sign comes in from above. */
static inline wide wide_sar(wide a, u64 count)
{
    u64 sign = wide_negative(a) ? ~(u64)0 : 0;
    wide out;
    u64 words = count / 64;
    unsigned bits = (unsigned)(count % 64);
    for (unsigned i = 0; i < LIMBS; i++) {
        u64 low = i + words < LIMBS ? a.limb[i + words] : sign;
        u64 high = i + words + 1 < LIMBS ? a.limb[i + words + 1] : sign;
        out.limb[i] = bits ? low >> bits | high << (64 - bits) : low;
    }
    return out;
}

static inline int wide_compare(wide a, wide b)
{
    if (wide_negative(a) != wide_negative(b))
        return wide_negative(a) ? -1 : 1;
    for (unsigned i = LIMBS; i-- > 0;)
        if (a.limb[i] != b.limb[i])
            return a.limb[i] < b.limb[i] ? -1 : 1;
    return 0;
}

/* Quotient of numbers that are not negative; 0 by 0. */
static inline wide wide_divide(wide a, wide b, wide *rest)
{
    wide out = {{0}}, left = {{0}};
    if (wide_truth(b))
        for (unsigned i = 64 * LIMBS; i-- > 0;) {
            left = wide_shl(left, 1);
            left.limb[0] |= a.limb[i / 64] >> i % 64 & 1;
            if (wide_compare(left, b) >= 0) {
                left = wide_sub(left, b);
                out.limb[i / 64] |= (u64)1 << i % 64;
            }
        }
    *rest = left;
    return out;
}

static inline wide wide_over(wide a, wide b)
{
    wide rest;
    return wide_divide(a, b, &rest);
}

static inline wide wide_modulo(wide a, wide b)
{
    wide rest;
    wide_divide(a, b, &rest);
    return rest;
}

/* The low `bits` as a number that is not negative. */
static inline wide wide_bits(wide a, unsigned bits)
{
    for (unsigned i = 0; i < LIMBS; i++)
        a.limb[i] &= bits >= 64 * (i + 1) ? ~(u64)0 : bits <= 64 * i ? 0 : ones(bits - 64 * i);
    return a;
}

/* The low `bits` as a signed number. */
static inline wide wide_signed(wide a, unsigned bits)
{
    if (bits >= 64 * LIMBS)
        return a;
    return wide_sar(wide_shl(a, 64 * LIMBS - bits), 64 * LIMBS - bits);
}

static inline wide wide_least(wide a, wide b)
{
    return wide_compare(a, b) < 0 ? a : b;
}

static inline wide wide_most(wide a, wide b)
{
    return wide_compare(a, b) > 0 ? a : b;
}

/* Of its 16-bit words, for the Internet checksum; it must not be negative. */
static inline u64 wide_sum(wide value)
{
    u64 sum = 0;
    for (unsigned i = 0; i < LIMBS; i++)
        sum += (value.limb[i] & 0xFFFF) + (value.limb[i] >> 16 & 0xFFFF) + (value.limb[i] >> 32 & 0xFFFF) +
               (value.limb[i] >> 48);
    return sum;
}

/* Big-endian bytes; of more than fit, the last ones. */
static inline wide wide_load(const u8 *at, unsigned size)
{
    wide out = {{0}};
    for (unsigned i = 0; i < size && i / 8 < LIMBS; i++)
        out.limb[i / 8] |= (u64)at[size - 1 - i] << 8 * (i % 8);
    return out;
}

static inline void wide_store(u8 *at, wide value, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        at[size - 1 - i] = i / 8 < LIMBS ? (u8)(value.limb[i / 8] >> 8 * (i % 8)) : 0;
}

#endif

#include "hashes.h"

u64 hash_csum16(const u8 *bytes, size_t size)
{
    return checksum_of_sum(sum_of_bytes(bytes, size));
}

static u64 folded(const u8 *bytes, size_t size, unsigned word)
{
    u64 out = 0;
    for (size_t i = 0; i < size; i++)
        out ^= (u64)bytes[i] << 8 * (word - 1 - i % word);
    return out;
}

u64 hash_xor16(const u8 *bytes, size_t size)
{
    return folded(bytes, size, 2);
}

u64 hash_xor32(const u8 *bytes, size_t size)
{
    return folded(bytes, size, 4);
}

u64 hash_identity(const u8 *bytes, size_t size)
{
    u64 out = 0;
    for (size_t i = 0; i < size && i < 8; i++)
        out = out << 8 | bytes[i];
    return out;
}

static u64 mirrored(u64 value, unsigned bits)
{
    u64 out = 0;
    for (unsigned i = 0; i < bits; i++)
        out |= (value >> i & 1) << (bits - 1 - i);
    return out;
}

/* Tables by byte: of a register that shifts up, or of one that shifts down (reflected). */
static u64 crc8_up[256], crc16_down[256], ccitt_up[256], crc32_down[256], crc64_down[256];
/* The same of bytes that 0 to 7 more stand behind: eight bytes a turn (Kounavis and Berry, ISCC 2005). */
static u32 crc16_by[8][256], crc32_by[8][256];

static void fill_behind(u32 by[8][256], const u64 *table)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        u64 r = table[byte];
        for (unsigned behind = 0; behind < 8; behind++) {
            by[behind][byte] = (u32)r;
            r = r >> 8 ^ table[r & 0xFF];
        }
    }
}

__attribute__((constructor)) static void fill_tables(void)
{
    const struct {
        u64 *table, polynomial;
        unsigned bits;
        bool down;
    } of[] = {
        {crc8_up, 0x07, 8, false},          {crc16_down, 0x8005, 16, true},
        {ccitt_up, 0x1021, 16, false},      {crc32_down, 0x04C11DB7, 32, true},
        {crc64_down, 0x000000000000001B, 64, true},
    };
    for (unsigned n = 0; n < sizeof of / sizeof of[0]; n++) {
        u64 back = mirrored(of[n].polynomial, of[n].bits), top = (u64)1 << (of[n].bits - 1);
        for (unsigned byte = 0; byte < 256; byte++) {
            u64 r = of[n].down ? byte : (u64)byte << (of[n].bits - 8);
            for (unsigned i = 0; i < 8; i++)
                r = of[n].down ? r >> 1 ^ (r & 1 ? back : 0)
                               : (r << 1 ^ (r & top ? of[n].polynomial : 0)) & ones(of[n].bits);
            of[n].table[byte] = r;
        }
    }
    fill_behind(crc16_by, crc16_down);
    fill_behind(crc32_by, crc32_down);
}

static u64 crc_down(const u64 *table, u64 r, const u8 *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        r = r >> 8 ^ table[(r ^ bytes[i]) & 0xFF];
    return r;
}

static u64 crc_by(const u32 by[8][256], u64 r, const u8 *bytes, size_t size)
{
    for (; size >= 8; bytes += 8, size -= 8) {
        u64 word;
        memcpy(&word, bytes, 8); /* x86 and little-endian ARM */
        r ^= word;
        r = by[7][r & 0xFF] ^ by[6][r >> 8 & 0xFF] ^ by[5][r >> 16 & 0xFF] ^ by[4][r >> 24 & 0xFF] ^
            by[3][r >> 32 & 0xFF] ^ by[2][r >> 40 & 0xFF] ^ by[1][r >> 48 & 0xFF] ^ by[0][r >> 56];
    }
    for (; size; bytes++, size--)
        r = r >> 8 ^ by[0][(r ^ *bytes) & 0xFF];
    return r;
}

static u64 crc_up(const u64 *table, unsigned bits, u64 r, const u8 *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        r = (r << 8 & ones(bits)) ^ table[(r >> (bits - 8) ^ bytes[i]) & 0xFF];
    return r;
}

u64 hash_crc8(const u8 *bytes, size_t size)
{
    return crc_up(crc8_up, 8, 0, bytes, size);
}

u64 hash_crc16(const u8 *bytes, size_t size)
{
    return crc_by(crc16_by, 0, bytes, size);
}

u64 hash_crc_ccitt(const u8 *bytes, size_t size)
{
    return crc_up(ccitt_up, 16, 0xFFFF, bytes, size);
}

u64 hash_crc32(const u8 *bytes, size_t size)
{
    return crc_by(crc32_by, 0xFFFFFFFF, bytes, size) ^ 0xFFFFFFFF;
}

u64 hash_crc64(const u8 *bytes, size_t size)
{
    return crc_down(crc64_down, 0, bytes, size);
}

/* BMv2's key is 0 unless set over Thrift, so the sum of its shifts is 0. */
u64 hash_toeplitz(const u8 *bytes, size_t size)
{
    (void)bytes;
    (void)size;
    return 0;
}

static const u64 P1 = 0x9E3779B185EBCA87, P2 = 0xC2B2AE3D27D4EB4F, P3 = 0x165667B19E3779F9,
                 P4 = 0x85EBCA77C2B2AE63, P5 = 0x27D4EB2F165667C5;

static u64 rotated(u64 value, unsigned count)
{
    return value << count | value >> (64 - count);
}

static u64 xx_round(u64 lane, u64 word)
{
    return rotated(lane + word * P2, 31) * P1;
}

static u64 little(const u8 *bytes, unsigned size)
{
    u64 out = 0;
    memcpy(&out, bytes, size); /* x86 and little-endian ARM */
    return out;
}

/* xxHash64 with seed 0. */
u64 hash_xxh64(const u8 *bytes, size_t size)
{
    const u8 *at = bytes, *end = bytes + size;
    u64 out = P5;
    if (size >= 32) {
        u64 lane[4] = {P1 + P2, P2, 0, -P1};
        const unsigned turn[4] = {1, 7, 12, 18};
        for (; end - at >= 32; at += 32)
            for (unsigned i = 0; i < 4; i++)
                lane[i] = xx_round(lane[i], little(at + 8 * i, 8));
        out = 0;
        for (unsigned i = 0; i < 4; i++)
            out += rotated(lane[i], turn[i]);
        for (unsigned i = 0; i < 4; i++)
            out = (out ^ xx_round(0, lane[i])) * P1 + P4;
    }
    out += size;
    for (; end - at >= 8; at += 8)
        out = rotated(out ^ xx_round(0, little(at, 8)), 27) * P1 + P4;
    if (end - at >= 4) {
        out = rotated(out ^ little(at, 4) * P1, 23) * P2 + P3;
        at += 4;
    }
    for (; at < end; at++)
        out = rotated(out ^ *at * P5, 11) * P1;
    out = (out ^ out >> 33) * P2;
    out = (out ^ out >> 29) * P3;
    return out ^ out >> 32;
}

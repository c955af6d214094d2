/* See prf.h. SPDX-License-Identifier: Apache-2.0 */
#include "prf.h"

static inline uint32_t turned(uint32_t word, int bits)
{
    return word << bits | word >> (32 - bits);
}

static inline void mix(uint32_t v[4])
{
    v[0] += v[1];
    v[1] = turned(v[1], 5) ^ v[0];
    v[0] = turned(v[0], 16);
    v[2] += v[3];
    v[3] = turned(v[3], 8) ^ v[2];
    v[0] += v[3];
    v[3] = turned(v[3], 7) ^ v[0];
    v[2] += v[1];
    v[1] = turned(v[1], 13) ^ v[2];
    v[2] = turned(v[2], 16);
}

static inline void take(uint32_t v[4], uint32_t word)
{
    v[3] ^= word;
    mix(v);
    mix(v);
    v[0] ^= word;
}

/* Inlined, so that rounds of one or two words have no branch between them. */
static inline __attribute__((always_inline)) uint32_t prf(uint32_t key0, uint32_t key1,
                                                          const uint32_t *words, uint32_t count)
{
    uint32_t v[4] = {key0, key1, key0 ^ 0x6c796765u, key1 ^ 0x74656462u};

#pragma GCC unroll 2
    for (uint32_t at = 0; at < count; at++)
        take(v, words[at]);
    take(v, (4 * count & 0xff) << 24);
    v[2] ^= 0xff;
#pragma GCC unroll 4
    for (int round = 0; round < 4; round++)
        mix(v);
    return v[1] ^ v[3];
}

uint32_t prf_words(uint32_t key0, uint32_t key1, const uint32_t *words, uint32_t count)
{
    return prf(key0, key1, words, count);
}

uint32_t prf_of_one(uint32_t key0, uint32_t key1, uint32_t word)
{
    return prf(key0, key1, &word, 1);
}

uint32_t prf_of_two(uint32_t key0, uint32_t key1, uint32_t word, uint32_t next)
{
    const uint32_t words[] = {word, next};

    return prf(key0, key1, words, 2);
}

static inline uint32_t word_at(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static inline int is_below(uint32_t key0, uint32_t key1, uint64_t below, int of, const uint8_t *context)
{
    uint32_t words[2] = {word_at(context + 4), word_at(context + 12)};

    if (of == PRF_FLOW)
        words[0] = word_at(context) & 0xffff;
    return (of == PRF_PACKET ? prf(key0, key1, words, 2) : prf(key0, key1, words, 1)) < below;
}

void prf_below(uint32_t key0, uint32_t key1, uint64_t below, int of, const uint8_t *contexts,
               uint32_t count, uint8_t *answers)
{
    for (uint32_t at = 0; at < count; at++)
        answers[at] = is_below(key0, key1, below, of, contexts + 16 * at);
}

uint32_t prf_places(uint32_t key0, uint32_t key1, uint64_t below, int of, const uint8_t *contexts,
                    uint32_t count, uint32_t *places)
{
    uint32_t found = 0;

    for (uint32_t at = 0; at < count; at++)
        if (is_below(key0, key1, below, of, contexts + 16 * at))
            places[found++] = at;
    return found;
}

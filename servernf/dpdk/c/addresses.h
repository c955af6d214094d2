/* Sorted addresses that say a number each. */
#ifndef DPDK_ADDRESSES_H
#define DPDK_ADDRESSES_H

#include "nf.h"

#define NO_NUMBER 0xFFFFFFFFu

struct addresses {
    u32 count;
    u128 *at; /* rising */
    u32 *number;
};

/* Read `count`, then of each its address (low word first) and number: below `numbers`, or NO_NUMBER. */
static inline bool addresses_read(struct addresses *a, struct reader *config, u32 numbers)
{
    *a = (struct addresses){.count = take_u32(config)};
    if (config->bad || a->count > MAX_MESSAGE / 20)
        return false;
    a->at = malloc((size_t)a->count * sizeof *a->at + 1);
    a->number = malloc((size_t)a->count * sizeof *a->number + 1);
    for (u32 i = 0; a->at && a->number && i < a->count; i++) {
        u64 words[2];
        if (!take_words(config, words, 2))
            return false;
        a->at[i] = words_long(words);
        a->number[i] = take_u32(config);
        if ((i && a->at[i] <= a->at[i - 1]) || (a->number[i] >= numbers && a->number[i] != NO_NUMBER))
            return false;
    }
    return a->at && a->number && !config->bad;
}

static inline void addresses_free(struct addresses *a)
{
    free(a->at);
    free(a->number);
}

/* The index of the last address that is not above this one; `count`: there is none. */
static inline u32 addresses_below(const struct addresses *a, u128 address)
{
    u32 first = 0, size = a->count;
    if (!size || a->at[0] > address)
        return a->count;
    while (size > 1) { /* no branch that a packet decides: what is compared moves `first` */
        u32 half = size / 2;
        first = a->at[first + half] <= address ? first + half : first;
        size -= half;
    }
    return first;
}

/* The number of the range that an address lies in: each reaches to the next. */
static inline u32 addresses_range(const struct addresses *a, u128 address)
{
    u32 found = addresses_below(a, address);
    return found < a->count ? a->number[found] : NO_NUMBER;
}

/* The number of exactly this address. */
static inline u32 addresses_exact(const struct addresses *a, u128 address)
{
    u32 found = addresses_below(a, address);
    return found < a->count && a->at[found] == address ? a->number[found] : NO_NUMBER;
}

#endif

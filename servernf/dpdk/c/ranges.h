/* Ranges of IPv4 addresses that say a number each: in which one an address lies.
 *
 * The upper bits of an address, about as many as tell the ranges apart, say among which few to search: at 600,000 ranges
 * (512,000 routes) that is 13 to 27 ns (decision 0107).
 */
#ifndef DPDK_RANGES_H
#define DPDK_RANGES_H

#include "addresses.h"

#define MOST_TOP_BITS 16

struct ranges {
    u32 count, shift;
    u32 *at, *number; /* rising, the first at 0; each reaches to the next */
    u32 *top;         /* by an address's upper bits, the range that their first address lies in; and the last range */
};

static inline void ranges_free(struct ranges *r)
{
    free(r->at);
    free(r->number);
    free(r->top);
}

/* Of addresses that have been read; false: they are no ranges of IPv4, or there is no memory. */
static inline bool ranges_make(struct ranges *r, const struct addresses *a)
{
    u32 bits = 1;
    while (bits < MOST_TOP_BITS && 1u << bits < a->count)
        bits++;
    *r = (struct ranges){.count = a->count, .shift = 32 - bits};
    if (!a->count || a->at[0] || a->at[a->count - 1] >> 32)
        return false;
    r->at = malloc(a->count * sizeof *r->at);
    r->number = malloc(a->count * sizeof *r->number);
    r->top = malloc(((1u << bits) + 1) * sizeof *r->top);
    if (!r->at || !r->number || !r->top)
        return false;
    for (u32 i = 0; i < a->count; i++) {
        r->at[i] = (u32)a->at[i];
        r->number[i] = a->number[i];
    }
    for (u32 top = 0, i = 0; top < 1u << bits; top++) {
        while (i + 1 < a->count && r->at[i + 1] <= top << r->shift)
            i++;
        r->top[top] = i;
    }
    r->top[1u << bits] = a->count - 1;
    return true;
}

static inline u32 ranges_number(const struct ranges *r, u32 address)
{
    const u32 *top = r->top + (address >> r->shift);
    u32 first = top[0], size = top[1] - first + 1;
    while (size > 1) { /* no branch that a packet decides: what is compared moves `first` */
        u32 half = size / 2;
        first = r->at[first + half] <= address ? first + half : first;
        size -= half;
    }
    return r->number[first];
}

#endif

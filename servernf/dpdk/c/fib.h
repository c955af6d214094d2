/* Many prefixes at once, by DPDK's rte_fib and rte_fib6 (decision 0141). Without DPDK, or where its memory does not hold
 * them, nothing is built, and who has prefixes searches ranges. */
#ifndef DPDK_FIB_H
#define DPDK_FIB_H

#include "nf.h"

struct fib;

/* Read a count, then of each prefix of an IP version its address (low word first), its length and its number, below
 * `numbers`. It is built by `works.h`. NULL: there are none, or no memory, or they are wrong (`config->bad`). */
struct fib *fib_make(struct reader *config, u8 version, u32 numbers);
void fib_free(struct fib *fib);
/* Itself, once works are done; NULL: it has not been built. */
const struct fib *fib_built(const struct fib *fib);
/* How many prefixes are looked up by it. */
u32 fib_count(const struct fib *fib);
/* Of each address, at most a burst's, the number of the longest prefix, or one that is not below `numbers`. */
void fib_look(const struct fib *fib, const u128 *addresses, u32 count, u32 *found);

#endif

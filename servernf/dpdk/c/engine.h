/* The instances of one core, the paths to them, and what packets do between: no port, no socket. */
#ifndef DPDK_ENGINE_H
#define DPDK_ENGINE_H

#include "boundary.h"
#include "frames.h"
#include "nf.h"

#define MOST_EMITTED 2048 /* frames that NFs send beside those of a burst */
#define MOST_SENT (MOST_FRAMES + MOST_EMITTED)
#define NO_INDEX 0xFFFFFFFFu

/* A frame that leaves, in the place of the received one of an index, or beside them. */
struct sent {
    u8 *bytes;
    u32 size, index;
};

/* The MAC's second octet, the tree by which the fabric brings frames, may be another. */
bool engine_start(u64 mac, struct shared memory);
void engine_end(void);
/* An instance; NULL: none has this number. */
struct nf *engine_instance(u32 number);
/* A message of `enum ask` that is the engine's; what is wrong with it, or NULL. LATER: what is asked for is made by
 * `works.h`; once that is done `engine_made` says. */
extern const char *const LATER;
const char *engine_made(void);
const char *engine_serve(u32 kind, u32 instance, struct reader *r, struct writer *answer);
/* Run frames to completion, where they are: HEADROOM bytes before each may be written. What leaves is in the order of
 * arrival; how many. */
u32 engine_burst(const struct received *frames, u32 count, u64 now_us, struct sent *sent);
/* The same for frames that were kept while state moved. */
u32 engine_give(const struct received *frames, u32 count, u64 now_us, struct sent *sent);

#endif

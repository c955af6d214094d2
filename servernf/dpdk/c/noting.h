/* The shim around every NF (vNFO, 4.2): what goes in and what comes out of it, of packets that are watched.
 *
 * Who is watched is asked of a whole burst before its packets are, by the keyed PRF over their tags' context words, and
 * noted beside the packets: no NF is called otherwise for it, or sees it. Notes are told; the parent makes samples and
 * records of them (servernf/python/runtime/shim.py), for those whose graph it is. Where nothing is watched it costs a
 * branch a burst.
 */
#ifndef DPDK_NOTING_H
#define DPDK_NOTING_H

#include "boundary.h"
#include "frames.h"
#include "nf.h"

#define MOST_KEYS 4096

extern bool noting_any; /* of the packets of this burst one is watched */

/* Read the keys; false: they are not as they should be. */
bool noting_read(struct reader *r);
/* Where notes are told (`channel_room`), and where those are counted that find no room; none are while it is NULL. */
void noting_tells(u8 *(*room)(u32 kind, u32 slot, u32 size), u64 *untold);
/* Room for something to tell; NULL, and counted: there is none. */
u8 *noting_room(u32 kind, u32 slot, u32 size);
/* A burst begins: which of its frames are watched. `tables`: the number of those that it goes by. */
void noting_begin(const struct received *frames, u32 count, u64 now_us, u32 tables);
/* Of a frame that the worker itself drops; `step` is NO_STEP or one of the tables. */
#define NO_STEP 0xFFFFFFFFu
void noting_lost(const struct packet *p, u32 step, u32 why);
/* Packets are given to an NF; and it has had them: what it sent beside them is from `beside` on. */
void noting_before(struct packet *const *packets, u32 count);
void noting_after(struct packet *const *packets, u32 count, const struct step *first, size_t step_size,
                  const struct packet *beside, u32 beside_count);
void noting_end(void);

#endif

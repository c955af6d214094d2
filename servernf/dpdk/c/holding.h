/* What leaves while a standby follows (servernf/python/runtime/replicas.py): it waits until the standby has what packets
 * have changed, as the variant asks for, and while the standby has not answered for a while. So a primary that was asleep
 * sends nothing once its standby owns the scope, whatever its parent does. */
#ifndef DPDK_HOLDING_H
#define DPDK_HOLDING_H

#include "engine.h"

#define MOST_HOLDS 256
#define LEASE_US 250000 /* as servernf/python/runtime/standbys.py */

/* What a frame waits for. */
enum hold_for {
    FOR_ALL,     /* all that came before it is at the standby */
    FOR_OPENING, /* the same where a record comes or goes, or a TCP segment opens or closes; else nothing */
    FOR_MOST,    /* all but so many packets */
    FOR_NOTHING,
    HOLD_KINDS
};

extern bool holding; /* frames go by here */

/* Where frames are counted for which there is no room. */
void holding_start(u64 *behind);
void holding_end(void);
/* A burst of `received` packets has been treated: `sent` leaves later. */
void holding_burst(const struct sent *sent, u32 count, u32 received, u64 now_us);
/* A frame that leaves behind all that waits. */
void holding_frame(const u8 *bytes, u32 size);
/* Have those leave that wait for nothing any more. */
void holding_release(u64 now_us, void (*leave)(const u8 *bytes, u32 size, struct writer *w), struct writer *w);

/* Messages; the number is a replication's. `hold_close`: what waits for it is dropped if the reader says so. */
const char *hold_open(u32 number, struct reader *r, struct writer *w);
const char *hold_acked(u32 number, struct reader *r);
const char *hold_close(u32 number, struct reader *r, struct writer *w);
void hold_counted(struct writer *w);

#endif

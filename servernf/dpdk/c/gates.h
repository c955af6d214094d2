/* Which frames are of buckets whose state is on its way (servernf/python/runtime/gates.py): they are kept for the parent,
 * who has them treated or sent after their state. Only while state moves are frames looked at before their NFs. */
#ifndef DPDK_GATES_H
#define DPDK_GATES_H

#include "frames.h"
#include "messages.h"
#include "packet.h"

#define MOST_GATES 256
#define MOST_MARKS 4096

extern u32 gates_open; /* how many there are */

/* Whether a frame is kept, so that no NF sees it now; the packet is parsed, its first step is known. */
bool gates_keep(const struct packet *p, const struct received *f);
/* Whether a frame that is no packet's is a marker of a transfer for this worker, which is remembered. */
bool gates_mark(const u8 *frame, u32 size);

const char *gate_open(u32 number, struct reader *r);
void gate_close(u32 number);
/* How many frames did not fit, then those that are kept, from their size on; they are not kept any longer. */
const char *gate_kept(u32 number, struct writer *w);
/* The same as frames; they stay until the gate is closed. */
u32 gate_frames(u32 number, u32 first, struct received *frames, u32 most);
/* Markers that have come; from now on those of the numbers that are said are. */
void gates_marks(struct reader *r, struct writer *w);
void gates_end(void);

#endif

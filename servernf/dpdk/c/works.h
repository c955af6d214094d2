/* Work that takes longer than packets can wait: a thread of its own does it, one after the other, with little right to the
 * core that packets have. Whoever begins work leaves alone what it is of, until all that has begun is done. */
#ifndef DPDK_WORKS_H
#define DPDK_WORKS_H

#include "base.h"

#include <stddef.h>

#define container_of(part, type, member) ((type *)(void *)((u8 *)(part) - offsetof(type, member)))

struct work {
    bool (*run)(struct work *work); /* false: it has failed. It may free the work. */
    struct work *next;
};

/* Have a thread do it; false: there is none, and works are done where they begin. */
bool works_open(void);
void works_close(void);

void work_begin(struct work *work);
bool works_done(void);
/* Whether one of those that are done has failed since this was last asked. */
bool works_failed(void);
/* What is readable once works are done; `works_heard` when that has been seen. */
int works_fd(void);
void works_heard(void);

#endif

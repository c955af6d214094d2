/* Whether backends answer: passive checks, on the connections of clients (servernf/python/backend_health.py).
 *
 * A backend *misses* when it lets a SYN that opened a connection go unanswered, or resets it. So many in a row and it is
 * *down* for a while, then one connection tries it; a frame from it brings it up at once. What is known lies in the memory
 * that is shared with the parent.
 */
#ifndef DPDK_BACKEND_HEALTH_H
#define DPDK_BACKEND_HEALTH_H

#include "base.h"

#define MOST_MISSES 100
#define NOT_DOWN (~(u64)0)

struct health_checks {
    u64 timeout_us, retry_us;
    u32 misses; /* 0: backends are not judged */
};

/* As in the shared memory. */
struct health {
    u64 missed, doubtful, unheard, down_until_us, waits, waiting_us[MOST_MISSES]; /* when, of the first `waits` */
};
#define HEALTH_WORDS (sizeof(struct health) / 8)

static inline void health_miss(struct health *h, const struct health_checks *c, u64 at_us)
{
    h->missed++;
    if (h->doubtful || h->missed >= c->misses) {
        h->waits = h->missed = 0;
        h->doubtful = 1;
        h->down_until_us = at_us + c->retry_us;
    }
}

static inline u64 health_next(struct health *h)
{
    u64 at_us = h->waiting_us[0];
    h->waits--;
    memmove(h->waiting_us, h->waiting_us + 1, h->waits * sizeof *h->waiting_us);
    return at_us;
}

/* Whether new connections may go to it. */
static inline bool health_is_up(struct health *h, const struct health_checks *c, u64 now_us)
{
    while (h->waits && h->waits <= MOST_MISSES && h->waiting_us[0] + c->timeout_us <= now_us)
        health_miss(h, c, health_next(h) + c->timeout_us);
    return h->down_until_us == NOT_DOWN || now_us >= h->down_until_us;
}

/* A SYN goes to it. */
static inline void health_opened(struct health *h, const struct health_checks *c, u64 now_us)
{
    h->unheard = 1;
    if (h->waits < c->misses)
        h->waiting_us[h->waits++] = now_us;
    if (!h->doubtful)
        return;
    u64 least = now_us + c->timeout_us;
    if (h->down_until_us == NOT_DOWN || h->down_until_us < least)
        h->down_until_us = least;
}

/* A frame came from it. */
static inline void health_heard(struct health *h)
{
    h->waits = h->missed = h->doubtful = h->unheard = 0;
    h->down_until_us = NOT_DOWN;
}

/* It has reset a connection instead of answering its SYN. */
static inline void health_refused(struct health *h, const struct health_checks *c, u64 now_us)
{
    if (h->waits && h->waits <= MOST_MISSES) {
        health_next(h);
        health_miss(h, c, now_us);
    }
}

#endif

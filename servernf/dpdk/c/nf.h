/* What an NF is to the engine.
 *
 * A file of `nfs/` has one `struct nf_ops`, which it enters by NF(...). Its instances belong to one core: no
 * lock, no allocation and no log where packets pass, the time is passed in, and ethdev is somebody else's.
 */
#ifndef DPDK_NF_H
#define DPDK_NF_H

#include "messages.h"
#include "packet.h"

#include <stddef.h>
#include <stdlib.h>

#define MOST_PORTS 64
#define MOST_REASONS 16
#define MOST_FRAMES 32 /* of a burst */

/* Every instance begins with this. */
struct nf {
    const struct nf_ops *ops;
    u64 *counters; /* shared with the parent: packets, then drops by reason */
    u64 *times;    /* `enum time` */
    u64 *events[3]; /* `enum event`: an `enum budget` each */
    u32 told_as;   /* who tells, to the parent */
    u32 bursts;
    u32 number;
    u32 ports;     /* it has 2, inside and outside, unless `init` says otherwise */
};

/* The words that an instance may ask of the memory that is shared with the parent. */
struct shared {
    u64 *words;
    u32 count;
};

struct nf_ops {
    const char *name;
    const char *const *reasons; /* why it drops; the last is NULL */
    /* An instance of a configuration, which the file beside it in Python has written; NULL: it is wrong, or there
     * is no memory. Everything is checked before anything is kept. */
    struct nf *(*init)(struct reader *config, const struct shared *memory);
    /* Say of each packet by which port it leaves, or why it is dropped. They are in the order of their arrival. */
    void (*process_burst)(struct nf *nf, struct packet *const *packets, u32 count, u64 now_us);
    /* NULL: `free` does. */
    void (*fini)(struct nf *nf);
    /* Called now and then, between packets: forget some of what is over. May be NULL. */
    void (*tidy)(struct nf *nf, u64 now_us);
    /* A hash in the bucket that a packet to the NF's pool is for; -1: it is for none. NULL: it has no pool. */
    int32_t (*answer_hash)(const struct nf *nf, const struct packet *p);
    /* An answer to a question of the NF's file in Python; what is wrong with that, or NULL. Between packets: it takes
     * no longer than a burst may wait. May be NULL. */
    const char *(*stats)(struct nf *nf, struct reader *asked, struct writer *w);
    const struct nf_ops *next;
};

void nf_register(struct nf_ops *ops);
const struct nf_ops *nf_first(void);

#define NF(ops)                                                                                                 \
    __attribute__((constructor)) static void enter_nf(void)                                                    \
    {                                                                                                           \
        nf_register(&ops);                                                                                      \
    }

static inline void nf_drop(struct packet *p, u8 reason)
{
    p->left = DROPPED;
    p->reason = reason;
    p->rule = NO_RULE;
}

/* The same by a rule, which the NF's file in Python names. */
static inline void nf_drop_by(struct packet *p, u8 reason, u32 rule)
{
    nf_drop(p, reason);
    p->rule = rule;
}

/* The NF keeps what it needs of a packet, which leaves later, if it does. */
static inline void nf_hold(struct packet *p)
{
    p->left = HELD;
}

/* Send another frame behind a packet, from the NF that has it; false: there are too many. */
bool packet_emit(const struct packet *p, u8 port, const u8 *bytes, u32 size);

/* The other one of inside and outside. */
static inline u8 other(u8 port)
{
    return port ^ 1;
}

/* Room for an instance with a tail of `count` elements; NULL: none, or the message cannot hold so many. */
static inline void *nf_make(size_t head, size_t element, u32 count)
{
    return count > MAX_MESSAGE / (element ? element : 1) ? NULL : calloc(1, head + element * count);
}

/* An instance whose configuration is `size` bytes, which it has `at` bytes from its beginning; NULL: there are not as many,
 * or no memory. */
static inline struct nf *nf_make_of(struct reader *config, size_t head, size_t at, u32 size)
{
    const u8 *bytes = take(config, size);
    struct nf *nf = bytes ? nf_make(head, 0, 0) : NULL;
    if (nf)
        memcpy((u8 *)nf + at, bytes, size);
    return nf;
}

/* Have each IP packet translated, with the packet that it quotes if it is an ICMP error; all go to the other side. */
static inline __attribute__((always_inline)) void nf_translate(
    const struct nf *nf, struct packet *const *packets, u32 count,
    void (*translate)(const struct nf *nf, struct packet *p, const struct quote *q))
{
    for (u32 i = 0; i < count; i++) {
        struct packet *p = packets[i];
        struct quote q;
        p->left = other(p->port);
        if (p->version)
            translate(nf, p, unlikely(packet_quote(p, &q)) ? &q : NULL);
    }
}

#endif

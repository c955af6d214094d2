/* The mappings of a NAPT: the ports that they hold, whose they are, the TCP connections they serve
 * (servernf/python/mappings.py).
 *
 * A queue has mappings by when they were used last, to within a second: so a packet of a flow that goes on touches one
 * line of the cache, and none of its neighbours'. When a mapping ends is exact all the same: it is checked when it is
 * looked up.
 */
#ifndef DPDK_MAPPINGS_H
#define DPDK_MAPPINGS_H

#include "flow_keys.h"
#include "tcp_acceptance.h"

#define MOST_POOLS 4096 /* of an address and a protocol each */
#define MOST_SESSIONS_OF_MAPPING 4096
#define MOST_REMOTES 4096 /* that a mapping remembers for filtering; the oldest is forgotten first */

enum timeout { OF_UDP, OF_TCP, OF_ICMP, OF_ESTABLISHED, TIMEOUTS };

/* `entry.key` are where it is found from inside and from outside (`mapping_key`), `entry.share` its host, `entry.turn` when
 * it was queued up, `entry.kind` its timeout. */
struct mapping {
    struct entry entry;
    u64 used_us;
    /* here the second line of the cache begins */
    u32 pool, host_before, host_after, known_to;
    u32 established; /* how many of its connections are */
    u32 first_session, last_session, sessions;
    u32 first_remote, last_remote, remotes;
};

struct session {
    struct entry entry; /* its key: inside address and port, outside address and port */
    struct side inside, outside;
    u32 mapping, before, after; /* among that mapping's, the one that began first in front */
};

/* Ports of one address and protocol. */
struct pool {
    u32 outside, protocol;
    struct queue queues[2]; /* transitory, established */
    u64 taken[1024];
};

/* The pool of a configuration: addresses, ports, and how they are dealt to buckets. */
struct ports_share {
    const u32 *addresses;
    u32 count, low, high, buckets;
};

extern struct kind mapping_kind, session_kind;

static inline u64 mapping_key(u8 protocol, u32 address, u32 port)
{
    return (u64)address << 24 | port << 8 | protocol;
}
static inline u8 mapping_protocol(const struct mapping *m)
{
    return (u8)m->entry.key[0];
}
static inline u32 key_address(u64 key)
{
    return (u32)(key >> 24);
}
static inline u32 key_port(u64 key)
{
    return key >> 8 & 0xFFFF;
}

/* The ports that an inside address may have. */
void ports_of(const struct ports_share *s, u32 inside, u32 *low, u32 *high);
bool share_holds(const struct ports_share *s, const struct mapping *m);

struct mapping *mapping_find(const struct table *t, u64 key, u32 hash, bool inside);
/* The number of a pool, made if there is none; NIL: no room. */
u32 pool_of(struct table *t, u8 protocol, u32 outside);
/* How many mappings of a protocol an inside address has, once some of what has expired is gone. */
u32 mappings_of_host(struct table *t, u8 protocol, u32 inside, const u64 *timeouts_us, u64 now_us);
/* A new mapping, of the wanted port if it is free, else of the next one that is; NULL: there is none. */
struct mapping *mapping_make(struct table *t, u32 pool, u32 inside, u32 number, u32 low, u32 high, u64 now_us);
void mapping_remove(struct table *t, struct mapping *m);
void mapping_used(struct table *t, struct mapping *m, u64 now_us);
/* So many connections more are established. */
void mapping_established(struct table *t, struct mapping *m, int change);
const struct index *mappings_by_outside(const struct table *t);
/* Remove some of what has expired; few at a time, so that no packet pays for all the others. */
void pool_expire(struct table *t, u32 pool, const u64 *timeouts_us, u64 now_us);
void pools_expire(struct table *t, const u64 *timeouts_us, u64 now_us);

void mapping_remember(struct table *t, struct mapping *m, u64 remote);
bool mapping_remembers(const struct table *t, const struct mapping *m, u64 remote);

/* The connection of a segment, and what its receiver makes of it; `fresh` is for one that is not there. */
struct session *session_judge(struct table *t, const struct mapping *m, const struct packet *p, struct session *fresh,
                              enum verdict *verdict);
/* Let a mapping know of a segment that was not refused. */
void session_settle(struct table *t, struct mapping *m, struct session *s, enum verdict verdict,
                    const struct packet *p, u64 now_us);

#endif

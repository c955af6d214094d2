/* The TCP connections of an NF that looks into streams: whose bytes, in order, and what it has blocked.
 *
 * An NF whose configuration can drop is strict: what it cannot look into does not pass. One that only counts gives up
 * looking instead, and says so. Connections are bounded, of each source its share, and so is what is held of them.
 *
 * Another configuration goes on where the streams are, and what is blocked stays blocked. Bytes that pass a port while it
 * is not watched are missing for ever, so a connection is gone on with only if all configurations since it was last looked
 * up watched its ports; else it is unknown.
 */
#ifndef DPDK_STREAMS_H
#define DPDK_STREAMS_H

#include "flow_keys.h"
#include "tcp_acceptance.h"
#include "tcp_stream.h"

#define MAX_CONNECTIONS 65536
#define PORT_BITS 8192 /* bytes: a bit a port */

/* Why a segment is dropped; the NF's own reasons follow. */
enum stream_drop {
    IS_UNACCEPTABLE,
    IS_BLOCKED,
    HAS_WRONG_CHECKSUM,
    IS_URGENT,
    IS_UNANSWERED,
    IS_UNKNOWN,
    FINDS_NO_ROOM,
    IS_FRAGMENT,
    IS_OTHER_COPY,
    STREAM_DROPS
};
#define STREAM_REASONS                                                                                              \
    "unacceptable", "blocked", "checksum", "urgent", "unanswered", "unknown", "no_room", "fragment", "other_copy"

/* What all configurations have seen, and how long one knows connections: words that Python has, too. */
struct seen {
    u64 has_syn, inside, outside, evicted;
};
struct begun {
    u64 has_begun, at_us, evicted;
};

struct streams {
    struct table *connections;
    struct seen *seen;
    struct begun *begun;
    u64 *given_up;
    u32 mark; /* the configuration's */
    bool strict;
    u32 tail_bytes; /* that are looked at again with the next */
    u8 watched[PORT_BITS], watched_before[PORT_BITS];
    /* Look at bytes that are in order now, behind the first part, if there are two, which was looked at; the reason for
     * which the connection is to be blocked, or -1. `label` is 0 or what the direction is labelled with from now on. */
    int (*judge)(struct nf *nf, const struct packet *p, const struct text *text, u32 known, u32 *label);
};

/* Read what a configuration has of it (servernf/dpdk/streams.py). */
bool streams_read(struct streams *s, struct reader *config, const struct shared *memory);
/* Where the connection of a segment is looked for. */
struct sought {
    struct key key;
    u32 hash;
    int order; /* of its source and its destination, which the key has in order */
};
void streams_seek(const struct streams *s, const struct packet *p, struct sought *sought);
/* Have the cache bring in what has been found by then: first the index, then records, then what these lead to. */
void streams_prefetch(const struct streams *s, const struct sought *sought, u32 step);
/* Whether a TCP segment passes; else it is dropped. `label` is what its direction is labelled with, or 0. */
bool streams_pass(struct nf *nf, struct streams *s, struct packet *p, const struct sought *sought, u64 now_us, u32 *label);

static inline bool port_is_in(const u8 *bits, u32 port)
{
    return bits[port / 8] >> port % 8 & 1;
}

#endif

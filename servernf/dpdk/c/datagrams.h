/* Later fragments follow their first, and wait for it if they have overtaken it (RFC 4787, REQ-14): for NFs that
 * rewrite an address of a packet by its ports, which later fragments have not ("Fragments" in docs/architecture.md).
 */
#ifndef DPDK_DATAGRAMS_H
#define DPDK_DATAGRAMS_H

#include "flow_keys.h"
#include "frames.h"
#include "nf.h"

#define MAX_REMEMBERED 4096
#define MAX_WAITING 64
#define MAX_WAITING_FRAGMENTS 48 /* of a datagram: more than 64 KiB have on Ethernet */
#define MAX_WAITING_FRAME 2048   /* bytes: what no port brings is not held */

/* The fragments of an NF that rewrites, by the port entered, the source or the destination. */
struct datagrams {
    struct table *firsts, *waiting;
    bool sources[2];
    u8 reason; /* for which of the NF's a fragment is dropped */
};

/* Read the numbers of both tables; `of_napt`: which kind `firsts` is. */
bool datagrams_read(struct datagrams *d, struct reader *config, bool of_napt);
/* A first fragment, of which `key` was made as it came, goes on with an address: so will the others, and those that wait
 * go behind it. `source`: whom it is counted for. */
void datagrams_lead(struct datagrams *d, struct nf *nf, struct packet *p, const struct key *key, u128 address,
                    u64 source, u32 source_bytes, u64 now_us);
/* A later fragment leaves rewritten as its first, or waits, or is dropped. */
void datagrams_follow(struct datagrams *d, struct nf *nf, struct packet *p, u64 now_us);
/* Drop some of what has waited in vain. */
void datagrams_tidy(struct datagrams *d, struct nf *nf, u64 now_us);

#endif

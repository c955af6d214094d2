/* What NFs tell people of (servernf/python/telling.py): drops, signatures, mappings; nothing of packets that pass.
 *
 * Each NF has a budget a kind, asked before anything is copied: a flood against one silences no other. Its words lie in
 * the shared memory and are those of the next configuration, too; what is suppressed the parent tells.
 */
#ifndef DPDK_EVENTS_H
#define DPDK_EVENTS_H

#include "nf.h"

/* As IPFIX has them (RFC 8158, natEvent). */
enum nat_event { BIB_CREATE = 10, BIB_DELETE, PORTS_EXHAUSTED, QUOTA_EXCEEDED };

/* Who tells what is told now, and when that is; NULL: nobody, as while state moves. */
extern struct nf *events_of;
extern u64 events_us;

void events_dropped(const struct packet *p);
/* A signature of the NF's, by its number there, which the packet has met. */
void events_alert(const struct packet *p, u32 signature);
/* What becomes of a mapping; `outside` is 0 where there is none. */
void events_nat(enum nat_event event, u8 protocol, u32 inside, u32 inside_port, u32 outside, u32 outside_port);

#endif

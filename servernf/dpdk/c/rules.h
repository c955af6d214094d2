/* Rules that choose a number for each packet: the first condition that holds decides ("Match keys" in
 * docs/architecture.md). What enters inside has one list, what enters outside another. */
#ifndef DPDK_RULES_H
#define DPDK_RULES_H

#include "nf.h"

#define NOTHING 0xFFFFFFFFu
#define MOST_RULED 32 /* packets at once: a burst's */

/* As Python writes it (`servernf/dpdk/conditions.py`); a bit of `asks` says that a part counts. */
struct condition {
    u64 source[2], source_mask[2], destination[2], destination_mask[2]; /* low word first */
    u32 asks, chosen;
    u16 ether_type, source_low, source_high, destination_low, destination_high, vlan; /* UNTAGGED: no tag */
    u8 source_version, destination_version, version, protocol, flags, flags_mask, later_fragment, icmp_type,
        icmp_code, unused[3];
};
_Static_assert(sizeof(struct condition) == 96, "a condition is 96 bytes");

enum {
    ASKS_SOURCE = 1,
    ASKS_DESTINATION = 2,
    ASKS_PROTOCOL = 4,
    ASKS_PORTS = 8,
    ASKS_ICMP_TYPE = 16,
    ASKS_ICMP_CODE = 32,
    ASKS_FLAGS = 64,
    ASKS_ETHER_TYPE = 128,
    ASKS_VERSION = 256,
    ASKS_LATER_FRAGMENT = 512,
    ASKS_VLAN = 1024,
};

struct classifier;
struct conditions;

struct rules {
    u32 count[2], otherwise[2];
    const struct condition *first[2]; /* in `conditions` */
    struct conditions *conditions;
    struct classifier *many[2][2]; /* by the port entered, for IPv4 and IPv6; NULL: read in order */
    bool has_many;
};

/* Read rules whose choices are below `choices` or NOTHING; false: the message is wrong, or there is no memory. */
bool rules_read(struct rules *r, struct reader *config, u32 choices);
void rules_free(struct rules *r);
/* What is chosen for a packet that has entered `p->port`. */
u32 rules_choose(const struct rules *r, const struct packet *p);
/* The same for packets of a burst. */
void rules_choose_all(const struct rules *r, struct packet *const *packets, u32 count, u32 *chosen);

#endif

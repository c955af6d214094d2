/* Many rules at once, by DPDK's rte_acl. Without DPDK there are none, and rules are read in order. */
#ifndef DPDK_CLASSIFIER_H
#define DPDK_CLASSIFIER_H

#include "rules.h"

struct classifier;

/* Of conditions for IP packets of one version, in this order. NULL and nothing in `wrong`: they are better read in order
 * (few, or more protocols than it knows). It is built by `works.h`: until that is done the conditions stay, and nothing is
 * looked up. */
struct classifier *classifier_make(const struct condition *first, u32 count, u8 version, const char **wrong);
void classifier_free(struct classifier *c);
/* Of each packet, an IP packet of that version, the index of the first condition that holds, or NOTHING. */
void classifier_look(const struct classifier *c, struct packet *const *packets, u32 count, u32 *found);

#endif

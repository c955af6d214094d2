#ifndef DPDK_MOVING_H
#define DPDK_MOVING_H

#include "messages.h"

/* A message about state that moves (`enum ask`); what is wrong with it, or NULL. */
const char *moving_serve(u32 kind, u32 number, struct reader *r, struct writer *answer);

#endif

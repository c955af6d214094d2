/* How packets go from NF to NF of a core, and leave. */
#ifndef DPDK_STEPS_H
#define DPDK_STEPS_H

#include "nf.h"

struct leaving {
    u8 ethernet[14];
    u32 path; /* as it is sent */
};

struct onward {
    const struct step *step;
    const struct leaving *leaving;
};

struct step {
    struct nf *nf;
    u32 port, ports;
    const struct onward *next; /* by the port left */
};

#endif

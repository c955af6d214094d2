/* What a generated program includes before all else. */
#ifndef FAST_PROGRAM_H
#define FAST_PROGRAM_H

#include <stdlib.h>

#include "device.h"
#include "prf.h"
#include "profiles.h"
#include "wide.h"

/* A varbit field: its bytes lie in the packet that is being processed. */
struct varbit {
    const u8 *bytes;
    u32 size;
};

static inline bool same_varbit(struct varbit a, struct varbit b)
{
    return a.size == b.size && (!a.size || !memcmp(a.bytes, b.bytes, a.size));
}

#endif

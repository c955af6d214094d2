/* A clock that also ends what waits in a system call: a transmit ring of an interface that is gone. */
#ifndef HOST_TICKING_H
#define HOST_TICKING_H

#include "base.h"

/* Tick ten times a second from now on. */
void start_ticking(void);
/* Whether it has ticked since this was asked last. */
bool has_ticked(void);

#endif

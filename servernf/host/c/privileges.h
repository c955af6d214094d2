/* What a process that reads strangers' packets may do once its ports are open: nothing. */
#ifndef HOST_PRIVILEGES_H
#define HOST_PRIVILEGES_H

#include "base.h"

/* Give up for good what `execve` could give; while there is one thread, for each has its own. */
bool confine(void);
/* Become user and group `user`, without capabilities, for good; false, and a word on standard error, if not. */
bool become(u32 user);

#endif

/* Frames as ports hand them over. */
#ifndef HOST_FRAMES_H
#define HOST_FRAMES_H

#include "base.h"

#define MAX_FRAME 65535
#define SLACK 16 /* bytes behind a received frame that may be read, whatever they are */

struct received {
    u32 port, size;
    u8 *bytes; /* `SLACK` more are readable */
};

#endif

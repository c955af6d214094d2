/* Ports of a device: what the process needs of that which moves frames, and has by DPDK or not at all. */
#ifndef HOST_PORTS_H
#define HOST_PORTS_H

#include "frames.h"

#include <poll.h>

#define BURST 32
#define MAX_PORTS 512

/* Why frames are dropped by who moves them. */
enum drop {
    DROP_UNKNOWN_PORT,
    DROP_RECEIVE_QUEUE_FULL,
    DROP_SEND_QUEUE_FULL,
    DROP_LINK_DOWN,
    DROP_TOO_LONG,
    DROP_TOO_SHORT,
    DROP_EVENT_QUEUE_FULL,
    DROPS
};

/* Open ports, each said as NUMBER@INTERFACE; false, and a word on standard error, if one cannot be. */
bool ports_open(char **words, u32 count);

/* A device of DPDK's that is the process's alone, port 0. */
struct device {
    char *name;          /* as DPDK knows it: a PCI address, or of a virtual device */
    char **eal;          /* words that EAL is started with */
    u32 eal_count;
    u64 mac, mac_mask;   /* frames to these come to it */
    bool polled;         /* it is asked again and again, else it must wake who waits */
};
bool ports_open_device(const struct device *device);
void ports_close(void);
u32 ports_count(void);

/* Frames that have come in by the port of an index, at most BURST; they stay until the next call. */
u32 ports_receive(u32 index, struct received *frames);
/* Room for a frame that leaves by a port; NULL: it is dropped, and counted. */
u8 *ports_room(u32 port, u32 size);
/* Send what has been written. */
void ports_flush(void);

/* Sleep until a frame, one of `others` or a tick of the clock comes; these are the first of `polled`. */
void ports_wait(struct pollfd *polled, u32 others);
/* Ten times a second: which links are up. */
void ports_tick(void);

/* Frames dropped so far, as `enum drop` counts. */
void ports_drops(u64 *drops);

#endif

/* A process without ports: frames come and go as messages. For tests, equivalence checks and measuring. */
#include "ports.h"

#include <stdio.h>

bool ports_open(char **words, u32 count)
{
    if (count)
        fprintf(stderr, "port %s: this process is built without ports\n", words[0]);
    return !count;
}

bool ports_open_device(const struct device *device)
{
    fprintf(stderr, "device %s: this process is built without ports\n", device->name);
    return false;
}

void ports_close(void)
{
}

u32 ports_count(void)
{
    return 0;
}

u32 ports_receive(u32 index, struct received *frames)
{
    (void)index;
    (void)frames;
    return 0;
}

u8 *ports_room(u32 port, u32 size)
{
    (void)port;
    (void)size;
    return NULL;
}

void ports_flush(void)
{
}

void ports_wait(struct pollfd *polled, u32 others)
{
    poll(polled, others, -1);
}

void ports_tick(void)
{
}

void ports_drops(u64 *drops)
{
    (void)drops;
}

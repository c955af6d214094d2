/* What a program, a shared object, and the process that runs it are to each other.
 *
 * The process has the ports, the clock and the parent's socket; an engine has tables and code. One thread
 * calls all of it.
 */
#ifndef FAST_ENGINE_H
#define FAST_ENGINE_H

#include "frames.h"
#include "messages.h"

#define ENGINE_VERSION 1

struct device;

/* The process's. */
struct services {
    u8 *(*frame_out)(u32 port, u32 size); /* room for a frame that leaves; NULL: there is none */
    void (*digest_out)(u32 list, const u64 *words, u32 count);
};

struct engine {
    u32 version;
    struct device *(*make)(const struct services *services); /* NULL: no memory */
    void (*end)(struct device *d);
    void (*burst)(struct device *d, u64 now_us, const struct received *frames, u32 count);
    /* A message of `enum ask`, its payload and the answer's; what is wrong with it, or NULL. */
    const char *(*serve)(struct device *d, u32 kind, struct reader *r, struct writer *answer);
};

#endif

/* Bytes of messages: read with bounds, written into a buffer that grows up to MAX_MESSAGE. */
#ifndef HOST_MESSAGES_H
#define HOST_MESSAGES_H

#include "base.h"

#define MAX_MESSAGE (64u << 20)

struct reader {
    const u8 *at, *end;
    bool bad;
};

struct writer {
    u8 *bytes;
    size_t size, room;
    bool full;
};

/* Room for `size` more bytes, which the caller fills; NULL: there is none, and `full` says so. */
u8 *write_room(struct writer *w, size_t size);
void write_bytes(struct writer *w, const void *bytes, size_t size);
static inline void write_u32(struct writer *w, u32 value)
{
    write_bytes(w, &value, sizeof value);
}
static inline void write_u64(struct writer *w, u64 value)
{
    write_bytes(w, &value, sizeof value);
}

/* The next bytes; NULL: so many are not there, and the reader is bad from now on. */
const u8 *take(struct reader *r, size_t size);
u32 take_u32(struct reader *r);
u64 take_u64(struct reader *r);
bool take_words(struct reader *r, u64 *to, size_t count);

/* What may be wrong with a message, in words. */
extern const char BAD[], NO_MEMORY[];

#endif

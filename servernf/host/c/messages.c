#include "messages.h"

#include <stdlib.h>

const char BAD[] = "a message that is too short, too long or out of range";
const char NO_MEMORY[] = "no memory";

u8 *write_room(struct writer *w, size_t size)
{
    if (w->full)
        return NULL;
    if (w->size + size > w->room) {
        size_t room = 2 * (w->size + size) + 4096;
        u8 *more = w->size + size > MAX_MESSAGE ? NULL : realloc(w->bytes, room);
        if (!more) {
            w->full = true;
            return NULL;
        }
        w->bytes = more;
        w->room = room;
    }
    w->size += size;
    return w->bytes + w->size - size;
}

void write_bytes(struct writer *w, const void *bytes, size_t size)
{
    u8 *at = size ? write_room(w, size) : NULL;
    if (at)
        memcpy(at, bytes, size);
}

const u8 *take(struct reader *r, size_t size)
{
    const u8 *at = r->at;
    if (r->bad || (size_t)(r->end - at) < size) {
        r->bad = true;
        return NULL;
    }
    r->at += size;
    return at;
}

u32 take_u32(struct reader *r)
{
    u32 value = 0;
    const u8 *at = take(r, sizeof value);
    if (at)
        memcpy(&value, at, sizeof value);
    return value;
}

u64 take_u64(struct reader *r)
{
    u64 value = 0;
    const u8 *at = take(r, sizeof value);
    if (at)
        memcpy(&value, at, sizeof value);
    return value;
}

bool take_words(struct reader *r, u64 *to, size_t count)
{
    const u8 *at = take(r, count * sizeof *to);
    if (at)
        memcpy(to, at, count * sizeof *to);
    return at != NULL;
}

/* A device without ports: packets come and go as messages. For tests, equivalence checks and measuring. */
#include "boundary.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int control; /* the descriptor that the parent gives */

struct frames {
    struct writer out; /* port, size, bytes of each */
    u64 count;
};

static struct writer told;

u8 *frame_out(struct device *d, u32 port, u32 size)
{
    struct frames *f = d->host;
    if (f->out.size + size + 8 > f->out.room) {
        size_t room = 2 * f->out.room + size + 4096;
        u8 *more = room > MAX_MESSAGE ? NULL : realloc(f->out.bytes, room);
        if (!more) {
            d->no_room++;
            return NULL;
        }
        f->out.bytes = more;
        f->out.room = room;
    }
    u8 *at = f->out.bytes + f->out.size;
    memcpy(at, &port, 4);
    memcpy(at + 4, &size, 4);
    f->out.size += size + 8;
    f->count++;
    return at + 8;
}

void frames_to(struct device *d, struct writer *answer)
{
    struct frames *f = d->host;
    write_bytes(answer, f->out.bytes, f->out.size);
    f->out.size = 0;
}

void frames_forget(struct device *d, u64 *count)
{
    struct frames *f = d->host;
    *count += f->count;
    f->count = 0;
    f->out.size = 0;
}

void digest_out(struct device *d, u32 list, const u64 *words, u32 count)
{
    (void)d;
    u32 head[3] = {8 + 4 + count * 8, TELL_DIGEST, list};
    write_bytes(&told, head, sizeof head);
    write_bytes(&told, words, count * sizeof *words);
}

static bool all(bool writes, u8 *bytes, size_t size)
{
    while (size) {
        ssize_t n = writes ? write(control, bytes, size) : read(control, bytes, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        bytes += n;
        size -= (size_t)n;
    }
    return true;
}

int main(int count, char **words)
{
    static struct device device;
    static struct frames frames;
    struct handles handles = {0};
    struct writer answer = {0};
    u8 *bytes = NULL;
    u32 room = 0, head[2];
    control = count == 2 ? atoi(words[1]) : -1;
    device.host = &frames;
    if (!device_init(&device)) {
        fputs("no memory for the tables of the program\n", stderr);
        return 1;
    }
    while (all(false, (u8 *)head, sizeof head)) {
        if (head[0] < sizeof head || head[0] > MAX_MESSAGE)
            return 2;
        u32 size = head[0] - (u32)sizeof head;
        if (size > room) {
            u8 *more = realloc(bytes, size);
            if (!more)
                return 1;
            bytes = more;
            room = size;
        }
        if (!all(false, bytes, size))
            break;
        answer.size = told.size = 0;
        answer.full = told.full = false;
        u32 kind = serve(&device, &handles, head[1], bytes, size, &answer);
        u32 back[2] = {(u32)(sizeof back + answer.size), kind};
        if (!all(true, told.bytes, told.size) || !all(true, (u8 *)back, sizeof back) ||
            !all(true, answer.bytes, answer.size))
            break;
    }
    handles_free(&handles);
    device_free(&device);
    free(answer.bytes);
    free(told.bytes);
    free(frames.out.bytes);
    free(bytes);
    return 0;
}

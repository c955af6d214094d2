/* Reassembly of one direction of a TCP connection (`streams.h` has both).
 *
 * What has been seen is what the receiver gets: bytes are held until they are acknowledged, and another copy of them must
 * be the same, since nobody between the ends can know which one arrived (Ptacek and Newsham 1998). Positions count payload
 * bytes from where the stream began and do not wrap; sequence numbers do (RFC 9293, 3.4) and are taken relative to the next
 * byte expected.
 */
#ifndef DPDK_TCP_STREAM_H
#define DPDK_TCP_STREAM_H

#include "pieces.h"
#include "records.h"

#define MAX_SEGMENTS 64                /* behind holes */
#define MAX_WAITING_BYTES (128 << 10)  /* the same */
#define MAX_HELD_BYTES (512 << 10)     /* in order, but not acknowledged; both are counted with OVERHEAD */
#define OVERHEAD 128                   /* bytes that a piece counts beside its own, as in the Python runtime */
#define MOST_PARTS 2

/* What one side has sent. */
struct direction {
    i64 position, acked, floor; /* `floor`: of the first byte held; the bytes before `position` are */
    u32 next;                   /* the sequence number that is expected */
    u32 held_first, held_last, waiting_first, waiting_count;
    i64 held_cost, waiting_cost;
    u32 tail, label; /* what is kept of it: the piece of its last bytes, what packets are labelled with (0: nothing) */
    bool used, has_memory;
};

/* Bytes in order, in parts. */
struct text {
    const char *part[MOST_PARTS];
    u32 size[MOST_PARTS], count;
};

enum added { ADDED, OTHER_COPY, LACKS_ROOM };

/* It begins with the byte of a sequence number; `is_first`: none was sent before. */
void stream_start(struct direction *d, u32 seq, bool is_first);
/* The receiver has all before a sequence number, so no copy of it matters any more. */
void stream_acknowledge(struct pieces *s, struct direction *d, u32 seq);
/* Take a segment; the bytes that are now in order become a part of `ready`, until the next call. `room`: how many bytes
 * more may be held in all. What is in order is not refused for it; it is not held then. `strict`: a copy of bytes that are
 * held no more is OTHER_COPY. `slides`: of what is in order the last MAX_HELD_BYTES are held, more is not LACKS_ROOM. If it
 * is not ADDED, nothing has changed. */
enum added stream_add(struct pieces *s, struct direction *d, u32 seq, const u8 *payload, u32 size, i64 room, bool strict,
                      bool slides, struct text *ready);
/* Have room to remember so many last bytes; false: there is none. */
bool stream_reserve(struct pieces *s, struct direction *d, u32 bytes);
/* Remember the last bytes of a text. */
void stream_remember(struct pieces *s, struct direction *d, const struct text *text, u32 bytes);
void stream_release(struct pieces *s, struct direction *d);

static inline i64 stream_cost(const struct direction *d)
{
    return d->held_cost + d->waiting_cost;
}

/* As it is written (servernf/wire/state.py): numbers, what is held, what waits, what is remembered. */
void stream_write(const struct pieces *s, const struct direction *d, struct writer *w);
/* False: it says what cannot be, or there is no room. */
bool stream_read(struct pieces *s, struct direction *d, struct reader *r);

#endif

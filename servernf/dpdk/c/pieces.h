/* Bytes that are kept for a while: pieces in a region that is reserved from the beginning, by sizes that are powers of 2. No
 * packet waits for an allocator, and the memory is that of the most that was ever kept.
 */
#ifndef DPDK_PIECES_H
#define DPDK_PIECES_H

#include "base.h"

#define PIECE_UNIT 64u
#define PIECE_SIZES 12 /* the largest holds more than a frame */

struct piece {
    i64 position; /* the owner's */
    u32 next, size;
    u8 class, unused[7];
    u8 bytes[];
};

/* Pieces have numbers; 0 is none. */
struct pieces {
    u8 *region;
    u32 high, most; /* units */
    u32 free[PIECE_SIZES];
};

bool pieces_open(struct pieces *s, size_t bytes);
void pieces_close(struct pieces *s);
/* One with room for so many bytes, without any; 0: there is no room. */
u32 piece_take(struct pieces *s, u32 room);
void piece_give(struct pieces *s, u32 at);

static inline struct piece *piece_at(const struct pieces *s, u32 at)
{
    return (struct piece *)(s->region + (size_t)(at - 1) * PIECE_UNIT);
}
/* Have the cache bring in the room of the piece that will be taken next for so many bytes. */
static inline void piece_prefetch(const struct pieces *s, u32 room)
{
    u32 class = 0;
    while (class < PIECE_SIZES - 1 && PIECE_UNIT << class < room + sizeof(struct piece))
        class ++;
    const u8 *at = s->free[class] ? (const u8 *)piece_at(s, s->free[class]) : NULL;
    for (u32 i = 0; at && i < room + sizeof(struct piece); i += 64)
        __builtin_prefetch(at + i, 1);
}
static inline u32 piece_room(const struct piece *p)
{
    return (PIECE_UNIT << p->class) - (u32)sizeof *p;
}

#endif

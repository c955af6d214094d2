#include "pieces.h"

#include "index.h"

bool pieces_open(struct pieces *s, size_t bytes)
{
    *s = (struct pieces){.region = region_open(bytes), .most = (u32)(bytes / PIECE_UNIT)};
    return s->region;
}

void pieces_close(struct pieces *s)
{
    region_close(s->region, (size_t)s->most * PIECE_UNIT);
}

u32 piece_take(struct pieces *s, u32 room)
{
    size_t bytes = room + sizeof(struct piece);
    u8 class = 0;
    while (class < PIECE_SIZES && (size_t)PIECE_UNIT << class < bytes)
        class ++;
    if (class == PIECE_SIZES)
        return 0;
    u32 at = s->free[class];
    if (at) {
        s->free[class] = piece_at(s, at)->next;
    } else {
        if (s->most - s->high < 1u << class)
            return 0;
        at = s->high + 1;
        s->high += 1u << class;
    }
    *piece_at(s, at) = (struct piece){.class = class};
    return at;
}

void piece_give(struct pieces *s, u32 at)
{
    struct piece *p = piece_at(s, at);
    p->next = s->free[p->class];
    s->free[p->class] = at;
}

#include "index.h"

#include <sys/mman.h>

#define LOAD 4 /* records a line, on the average */
#define FIRST_LINES 16

void *region_open(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

void region_close(void *region, size_t bytes)
{
    if (region)
        munmap(region, bytes);
}

static void clear(struct line *line)
{
    line->used = 0;
    line->more = NIL;
}

bool index_open(struct index *ix, u32 records)
{
    u32 most = records / LOAD + 1;
    *ix = (struct index){.most = most < FIRST_LINES ? FIRST_LINES : most, .used = FIRST_LINES, .mask = FIRST_LINES - 1};
    ix->spare = NIL;
    ix->spills = ix->most / 2 + FIRST_LINES;
    ix->bytes = (size_t)(ix->most + ix->spills) * sizeof *ix->lines;
    ix->lines = region_open(ix->bytes);
    for (u32 i = 0; ix->lines && i < FIRST_LINES; i++)
        clear(&ix->lines[i]);
    return ix->lines;
}

void index_close(struct index *ix)
{
    region_close(ix->lines, ix->bytes);
    ix->lines = NULL;
}

static u32 take_spill(struct index *ix)
{
    u32 at = ix->spare;
    if (at != NIL)
        ix->spare = ix->lines[at].more;
    else if (ix->spilled < ix->spills)
        at = ix->most + ix->spilled++;
    if (at != NIL)
        clear(&ix->lines[at]);
    return at;
}

static void give_spill(struct index *ix, u32 at)
{
    ix->lines[at].more = ix->spare;
    ix->spare = at;
}

static bool put(struct index *ix, u32 hash, u32 at)
{
    struct line *line = index_line(ix, hash);
    while (line->used == LINE_SLOTS) {
        if (line->more == NIL) {
            u32 more = take_spill(ix);
            if (more == NIL)
                return false;
            line->more = more;
        }
        line = &ix->lines[line->more];
    }
    line->tag[line->used] = hash;
    line->at[line->used++] = at;
    return true;
}

/* One more line: it takes half of what another one has. */
static void grow(struct index *ix)
{
    if (ix->used > ix->mask)
        ix->mask = 2 * ix->mask + 1;
    struct line *from = &ix->lines[ix->used & ix->mask >> 1], part = *from;
    clear(from);
    clear(&ix->lines[ix->used++]);
    for (;;) {
        for (u32 i = 0; i < part.used; i++)
            put(ix, part.tag[i], part.at[i]);
        if (part.more == NIL)
            return;
        u32 next = part.more;
        part = ix->lines[next];
        give_spill(ix, next);
    }
}

bool index_enter(struct index *ix, u32 hash, u32 at)
{
    if (!put(ix, hash, at))
        return false;
    if (++ix->count > ix->used * LOAD && ix->used < ix->most)
        grow(ix);
    return true;
}

void index_leave(struct index *ix, u32 hash, u32 at)
{
    for (struct line *line = index_line(ix, hash), *before = NULL;; before = line, line = &ix->lines[line->more]) {
        for (u32 i = 0; i < line->used; i++) {
            if (line->tag[i] != hash || line->at[i] != at)
                continue;
            line->used--;
            line->tag[i] = line->tag[line->used];
            line->at[i] = line->at[line->used];
            if (!line->used && before) {
                u32 gone = before->more;
                before->more = line->more;
                give_spill(ix, gone);
            }
            ix->count--;
            return;
        }
        if (line->more == NIL)
            return;
    }
}

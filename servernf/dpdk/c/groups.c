/* Records by group while state moves: the hash of their flow by which switches dispatch (servernf/wire/buckets.py). */
#include "table.h"

static u16 row_of(u32 value)
{
    for (int i = 0; i < 8; i++)
        value = value >> 1 ^ (value & 1 ? 0xA001 : 0); /* 0x8005 reflected */
    return (u16)value;
}

u16 group_of(u128 chosen)
{
    static u16 rows[256];
    if (!rows[1])
        for (u32 i = 0; i < 256; i++)
            rows[i] = row_of(i);
    u32 value = 0;
    for (int shift = chosen >> 32 ? 120 : 24; shift >= 0; shift -= 8) /* zeros in front leave 0 */
        value = value >> 8 ^ rows[(value ^ (u8)(chosen >> shift)) & 0xFF];
    return (u16)value;
}

u32 group_of_flow(struct flow f, enum group_key by)
{
    return group_of(by == BY_INSIDE ? f.inside : by == BY_OUTSIDE ? f.outside : f.inside ^ f.outside);
}

bool groups_open(struct table *t, enum group_key by)
{
    struct groups *g = t->groups;
    if (g) {
        g->users += g->by == by;
        return g->by == by;
    }
    g = calloc(1, sizeof *g);
    if (!g)
        return false;
    g->by = by;
    g->users = 1;
    g->bytes = (size_t)t->capacity * sizeof *g->links;
    g->links = region_open(g->bytes);
    memset(g->first, 0xFF, sizeof g->first);
    if (!g->links)
        free(g);
    else
        t->groups = g;
    return g->links;
}

void groups_close(struct table *t)
{
    struct groups *g = t->groups;
    if (!g || --g->users)
        return;
    region_close(g->links, g->bytes);
    free(g);
    t->groups = NULL;
}

static void link_up(struct groups *g, const struct table *t, const struct entry *e)
{
    struct link *l = &g->links[e->number];
    u32 group = group_of_flow(t->kind->flow(t, e), g->by), first = g->first[group];
    *l = (struct link){NIL, first, group};
    if (first != NIL)
        g->links[first].before = e->number;
    g->first[group] = e->number;
    g->count[group]++;
}

bool groups_build(struct table *t, u32 records)
{
    struct groups *g = t->groups;
    for (; records && g->built < t->high; records--, g->built++) {
        const struct entry *e = entry_at(t, g->built);
        if (e->live)
            link_up(g, t, e);
    }
    return g->built >= t->high;
}

/* Numbers that are new come behind what is built, or are built at once: once all is, `built` follows. */
static bool is_linked(const struct groups *g, const struct entry *e)
{
    return e->number < g->built;
}

bool groups_opened;

static void tell(struct groups *g, u32 group, bool opened)
{
    for (u32 i = 0; i < g->watched; i++) {
        struct watch *w = &g->watches[i];
        if (!w->used || !is_set(w->scope, group))
            continue;
        set_bit(w->touched, group);
        w->opened |= opened;
        groups_opened |= opened;
    }
}

void table_touched(struct table *t, const struct entry *e)
{
    struct groups *g = t->groups;
    if (is_linked(g, e))
        tell(g, g->links[e->number].group, false);
}

void groups_entered(struct table *t, const struct entry *e)
{
    struct groups *g = t->groups;
    if (e->number == g->built && t->high == e->number + 1)
        g->built++;
    if (!is_linked(g, e))
        return; /* it is found when it is built */
    link_up(g, t, e);
    tell(g, g->links[e->number].group, true);
}

void groups_leaves(struct table *t, const struct entry *e)
{
    struct groups *g = t->groups;
    if (!is_linked(g, e))
        return;
    struct link *l = &g->links[e->number];
    if (l->before == NIL)
        g->first[l->group] = l->after;
    else
        g->links[l->before].after = l->after;
    if (l->after != NIL)
        g->links[l->after].before = l->before;
    g->count[l->group]--;
    tell(g, l->group, true);
}

void groups_changed(struct table *t, const struct entry *e)
{
    groups_leaves(t, e);
    groups_entered(t, e);
}

/* What the parent asks of state while it moves: records by group, written and entered as servernf/wire/state.py has
 * them. A message is done whole, or it has changed nothing. */
#include "moving.h"

#include "boundary.h"
#include "engine.h"
#include "spaces.h"
#include "table.h"

#define NO_TABLE "no table has this number"

static const char *open_groups(struct table *t, struct reader *r)
{
    u32 by = take_u32(r);
    if (r->bad || by >= GROUP_KEYS)
        return BAD;
    return groups_open(t, by) ? NULL : "its records are known by another key, or there is no memory";
}

static const char *follow(struct table *t, struct reader *r, struct writer *w)
{
    struct groups *g = t->groups;
    u32 at = 0;
    while (g && at < MOST_WATCHES && g->watches[at].used)
        at++;
    if (!g || at == MOST_WATCHES)
        return "its groups are not known, or too many ask for them";
    if (!take_words(r, g->watches[at].scope, GROUPS / 64))
        return BAD;
    memset(g->watches[at].touched, 0, sizeof g->watches[at].touched);
    g->watches[at].used = true;
    g->watches[at].opened = false;
    g->watched = g->watched > at ? g->watched : at + 1;
    write_u32(w, at);
    return NULL;
}

static struct watch *watch_of(struct table *t, struct reader *r)
{
    u32 at = take_u32(r);
    return t->groups && !r->bad && at < MOST_WATCHES && t->groups->watches[at].used ? &t->groups->watches[at] : NULL;
}

/* Groups that were touched, or all that have records, and how many these are. */
static const char *touched(struct table *t, struct reader *r, struct writer *w)
{
    struct watch *of = watch_of(t, r);
    u32 all = take_u32(r);
    if (!of || r->bad)
        return BAD;
    write_u32(w, of->opened);
    for (u32 group = 0; group < GROUPS; group++) {
        u32 count = t->groups->count[group];
        if (is_set(of->touched, group) || (all && count && is_set(of->scope, group))) {
            write_u32(w, group);
            write_u32(w, count);
        }
    }
    memset(of->touched, 0, sizeof of->touched);
    of->opened = false;
    return NULL;
}

/* -- records of groups ---------------------------------------------------------------------------------------- */

struct asked {
    struct table *tables[MOST_TABLES_OF_NF];
    u32 table_count, group_count;
    const u8 *groups; /* a number each */
    struct spaces spaces;
};

static bool is_asked(const struct asked *a, const struct table *t, const struct entry *e)
{
    return !a->spaces.narrow || spaces_have(&a->spaces, t->kind->flow(t, e));
}

static u32 asked_group(const struct asked *a, u32 i)
{
    u32 group;
    memcpy(&group, a->groups + 4 * i, sizeof group);
    return group;
}

static bool read_asked(struct asked *a, struct reader *r)
{
    a->table_count = take_u32(r);
    for (u32 i = 0; i < a->table_count; i++) {
        struct table *t = i < MOST_TABLES_OF_NF ? table_of(take_u32(r)) : NULL;
        if (!t || !t->groups)
            return false;
        a->tables[i] = t;
    }
    a->group_count = take_u32(r);
    a->groups = a->group_count > GROUPS ? NULL : take(r, 4 * (size_t)a->group_count);
    for (u32 i = 0; a->groups && i < a->group_count; i++)
        if (asked_group(a, i) >= GROUPS)
            return false;
    return a->groups && take_spaces(r, &a->spaces);
}

static const struct table *sorted_of;

static int by_turn(const void *one, const void *other)
{
    u64 a = entry_at(sorted_of, *(const u32 *)one)->turn, b = entry_at(sorted_of, *(const u32 *)other)->turn;
    return a < b ? -1 : a > b;
}

/* Of each table how many records, their bytes and these, those longest unused first. */
static const char *write_groups(struct reader *r, struct writer *w)
{
    struct asked a;
    u64 now_us = take_u64(r);
    if (!read_asked(&a, r))
        return BAD;
    for (u32 i = 0; i < a.table_count; i++) {
        const struct table *t = a.tables[i];
        u32 count = 0, all = 0;
        for (u32 k = 0; k < a.group_count; k++)
            all += t->groups->count[asked_group(&a, k)];
        u32 *found = malloc(all * sizeof *found + 1);
        if (!found)
            return NO_MEMORY;
        for (u32 k = 0; k < a.group_count; k++)
            for (u32 at = t->groups->first[asked_group(&a, k)]; at != NIL && count < all; at = t->groups->links[at].after)
                if (is_asked(&a, t, entry_at(t, at)))
                    found[count++] = at;
        sorted_of = t;
        qsort(found, count, sizeof *found, by_turn);
        size_t head = w->size;
        write_u32(w, count);
        write_u32(w, 0);
        for (u32 k = 0; k < count && !w->full; k++)
            t->kind->write(t, entry_at(t, found[k]), w, now_us);
        free(found);
        u32 size = (u32)(w->size - head - 8);
        if (!w->full)
            memcpy(w->bytes + head + 4, &size, sizeof size);
    }
    return NULL;
}

static void remove_entry(struct table *t, struct entry *e)
{
    if (t->kind->remove)
        t->kind->remove(t, e);
    else
        table_remove(t, e);
}

static const char *discard_groups(struct reader *r, struct writer *w)
{
    struct asked a;
    u32 gone = 0;
    if (!read_asked(&a, r))
        return BAD;
    for (u32 i = 0; i < a.table_count; i++)
        for (u32 k = 0; k < a.group_count; k++) {
            struct table *t = a.tables[i];
            for (u32 at = t->groups->first[asked_group(&a, k)], next; at != NIL; at = next) {
                next = t->groups->links[at].after;
                if (!is_asked(&a, t, entry_at(t, at)))
                    continue;
                remove_entry(t, entry_at(t, at));
                gone++;
            }
        }
    write_u32(w, gone);
    return NULL;
}

/* -- all records ------------------------------------------------------------------------------------------------ */

/* Some records from a number on: the next number (NIL: there are no more), then of each its turn, its bytes and these. */
static const char *scan(struct table *t, struct reader *r, struct writer *w)
{
    u64 now_us = take_u64(r);
    u32 at = take_u32(r), most = take_u32(r);
    size_t next = w->size;
    write_u32(w, NIL);
    for (; most && at < t->high; at++, most--) {
        const struct entry *e = entry_at(t, at);
        if (!e->live)
            continue;
        write_u64(w, e->turn);
        size_t head = w->size;
        write_u32(w, 0);
        t->kind->write(t, e, w, now_us);
        u32 size = (u32)(w->size - head - 4);
        if (!w->full)
            memcpy(w->bytes + head, &size, sizeof size);
    }
    if (at < t->high && !w->full)
        memcpy(w->bytes + next, &at, sizeof at);
    return NULL;
}

static void clear(struct table *t)
{
    for (u32 at = 0; at < t->high; at++)
        if (entry_at(t, at)->live)
            remove_entry(t, entry_at(t, at));
}

/* -- entering ------------------------------------------------------------------------------------------------- */

struct entering {
    const struct nf *judge;
    struct reader records;
    u64 groups[GROUPS / 64]; /* that records may be of */
    struct spaces spaces;
    bool any; /* of any group */
    u32 entered;
    struct place {
        struct table *table;
        u32 at;
    } *places; /* what has been entered */
    u32 room;
};

static bool remember(struct entering *e, struct table *t)
{
    if (e->entered == e->room) {
        u32 room = 2 * e->room + 256;
        struct place *more = realloc(e->places, room * sizeof *more);
        if (!more)
            return false;
        e->places = more;
        e->room = room;
    }
    e->places[e->entered++] = (struct place){t, t->last_entered};
    return true;
}

static const char *enter_table(struct entering *e, struct reader *r)
{
    struct table *t = table_of(take_u32(r));
    u64 now_us = take_u64(r);
    u32 count = take_u32(r), size = take_u32(r);
    const u8 *from = take(r, size);
    struct reader records = {from, from + size, false};
    if (!t || !from)
        return BAD;
    for (u32 i = 0; i < count; i++) {
        const char *wrong = t->kind->read(t, &records, now_us, e->judge);
        if (wrong)
            return wrong;
        if (!remember(e, t)) {
            remove_entry(t, entry_at(t, t->last_entered));
            return NO_MEMORY;
        }
        if (!e->any && !(t->groups && t->last_entered < t->groups->built &&
                         is_set(e->groups, t->groups->links[t->last_entered].group) &&
                         spaces_have(&e->spaces, t->kind->flow(t, entry_at(t, t->last_entered)))))
            return "is of none of the groups that are said";
    }
    return records.bad || records.at != records.end ? BAD : NULL;
}

/* Records for an instance: the groups that they may be of (none: any) and flow spaces, then of some tables its number, the time by which
 * ages are meant, how many, and their bytes. */
static const char *enter(u32 instance, struct reader *r, struct writer *w)
{
    static struct entering e;
    e = (struct entering){.judge = engine_instance(instance)};
    u32 groups = take_u32(r);
    const u8 *from = groups > GROUPS ? NULL : take(r, 4 * (size_t)groups);
    bool good = from && take_spaces(r, &e.spaces);
    u32 tables = take_u32(r);
    if (!good || !e.judge || r->bad)
        return BAD;
    e.any = !groups;
    for (u32 i = 0; i < groups; i++) {
        u32 group;
        memcpy(&group, from + 4 * i, sizeof group);
        if (group >= GROUPS)
            return BAD;
        set_bit(e.groups, group);
    }
    const char *wrong = NULL;
    for (u32 i = 0; i < tables && !wrong; i++)
        wrong = enter_table(&e, r);
    if (!wrong && (r->bad || r->at != r->end))
        wrong = BAD;
    for (u32 i = e.entered; wrong && i-- > 0;) {
        struct entry *gone = entry_at(e.places[i].table, e.places[i].at);
        if (gone->live) /* another one may have taken it along */
            remove_entry(e.places[i].table, gone);
    }
    free(e.places);
    write_u32(w, e.entered);
    return wrong;
}

/* -- messages ------------------------------------------------------------------------------------------------- */

const char *moving_serve(u32 kind, u32 number, struct reader *r, struct writer *w)
{
    struct table *t = table_of(number);
    struct watch *of;
    switch (kind) {
    case ASK_WRITE:
        return write_groups(r, w);
    case ASK_DISCARD:
        return discard_groups(r, w);
    case ASK_ENTER:
        return enter(number, r, w);
    default:
        break;
    }
    if (!t)
        return NO_TABLE;
    switch (kind) {
    case ASK_GROUP:
        return open_groups(t, r);
    case ASK_BUILD:
        if (!t->groups)
            return BAD;
        write_u32(w, groups_build(t, take_u32(r)));
        return NULL;
    case ASK_UNGROUP:
        groups_close(t);
        return NULL;
    case ASK_FOLLOW:
        return follow(t, r, w);
    case ASK_UNFOLLOW:
        of = watch_of(t, r);
        if (of)
            of->used = false;
        return of ? NULL : BAD;
    case ASK_TOUCHED:
        return touched(t, r, w);
    case ASK_SCAN:
        return scan(t, r, w);
    case ASK_CLEAR:
        clear(t);
        return NULL;
    default:
        return "a message that is not known";
    }
}

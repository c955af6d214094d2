#include "boundary.h"
#include "device.h"
#include "profiles.h"

#include <stdlib.h>

#define MANY 4096 /* bytes of changes, after which the keys that each concerns are not looked for */

/* -- changes --------------------------------------------------------------------------------------- */

static u32 args_of(u32 table)
{
    const struct table_form *form = &program.tables[table];
    u32 most = 0;
    for (u32 i = 0; i < form->action_count; i++)
        if (form->arg_words[i] > most)
            most = form->arg_words[i];
    return most;
}

static bool fits(u32 table, u32 action, u32 args)
{
    return table < program.table_count && action < program.tables[table].action_count &&
           program.tables[table].arg_words[action] == args;
}

static bool room_for(struct handles *h, u32 handle)
{
    if (handle < h->room)
        return true;
    if (handle >= MAX_ENTRIES)
        return false;
    u32 room = h->room ? h->room : 256;
    while (room <= handle)
        room *= 2;
    struct entry **of = realloc(h->of, room * sizeof *of);
    if (of)
        h->of = of;
    u32 *tables = of ? realloc(h->tables, room * sizeof *tables) : NULL;
    if (!tables)
        return false;
    h->tables = tables;
    memset(h->of + h->room, 0, (room - h->room) * sizeof *of);
    h->room = room;
    return true;
}

static struct entry *entry_at(struct device *d, u32 handle, u32 *table)
{
    if (handle & DEFAULT_OF) {
        *table = handle & ~DEFAULT_OF;
        return *table < program.table_count ? d->tables[*table].miss : NULL;
    }
    if (handle >= d->handles.room || !d->handles.of[handle])
        return NULL;
    *table = d->handles.tables[handle];
    return d->handles.of[handle];
}

static const char *add(struct device *d, struct reader *r)
{
    u32 number = take_u32(r), handle = take_u32(r), action = take_u32(r), priority = take_u32(r);
    u32 length = take_u32(r), ranges = take_u32(r), args = take_u32(r);
    u64 packets = take_u64(r), bytes = take_u64(r);
    if (r->bad || !fits(number, action, args) || ranges > 64)
        return BAD;
    const struct table_form *form = &program.tables[number];
    struct table *t = &d->tables[number];
    if (form->kind == KEYLESS || (form->kind == LPM && length > form->lpm_width) ||
        (ranges && form->kind != TERNARY))
        return BAD;
    if (!room_for(&d->handles, handle))
        return NO_MEMORY;
    if (d->handles.of[handle])
        return BAD;
    struct entry *e = entry_new(t->words, ranges, args_of(number));
    u64 mask[MAX_KEY_WORDS];
    if (!e)
        return NO_MEMORY;
    take_words(r, e->key, t->words);
    if (form->kind == TERNARY)
        take_words(r, mask, t->words);
    for (u32 i = 0; i < ranges; i++) {
        struct range *range = &e->ranges[i];
        range->shift = take_u32(r);
        range->width = take_u32(r);
        range->low = take_u64(r);
        range->high = take_u64(r);
        r->bad |= !range->width || range->width > 64 || range->shift + (u64)range->width > form->width;
    }
    take_words(r, e->args, args);
    e->action = action;
    e->priority = priority;
    e->length = length;
    e->packets = packets;
    e->bytes = bytes;
    e->handle = handle;
    if (r->bad || !table_add(t, e, mask)) {
        entry_free(e);
        return r->bad ? BAD : NO_MEMORY;
    }
    d->handles.of[handle] = e;
    d->handles.tables[handle] = number;
    return NULL;
}

static const char *set(struct device *d, struct reader *r, bool is_default)
{
    u32 number = 0, handle = take_u32(r), action = take_u32(r), args = take_u32(r), counted = take_u32(r);
    u64 packets = take_u64(r), bytes = take_u64(r);
    struct entry *e = entry_at(d, is_default ? handle | DEFAULT_OF : handle, &number);
    if (r->bad || !e || !fits(number, action, args))
        return BAD;
    struct table *t = &d->tables[number];
    if (is_default && e->arg_words < args) {
        struct entry *more = entry_new(t->words, 0, args_of(number));
        if (!more)
            return NO_MEMORY;
        more->packets = e->packets;
        more->bytes = e->bytes;
        t->miss = more;
        entry_free(e);
        e = more;
        t->changed = true; /* the memo knows the old one */
    }
    if (!take_words(r, e->args, args))
        return BAD;
    e->action = action;
    if (counted) {
        e->packets = packets;
        e->bytes = bytes;
    }
    return NULL;
}

static const char *configure(struct device *d, struct reader *r, bool is_cell)
{
    u32 number = 0, first = take_u32(r), cell = is_cell ? take_u32(r) : 0, configured = take_u32(r);
    u64 cir = take_u64(r), cburst = take_u64(r), pir = take_u64(r), pburst = take_u64(r);
    struct meter *m = NULL;
    if (r->bad)
        return BAD;
    if (is_cell) {
        if (first < program.meter_count && cell < program.meter_sizes[first])
            m = &d->meters[first][cell];
    } else {
        struct entry *e = entry_at(d, first, &number);
        if (!e || !program.tables[number].meter)
            return BAD;
        if (!e->meter && !(e->meter = calloc(1, sizeof *e->meter)))
            return NO_MEMORY;
        m = e->meter;
        m->packets = program.tables[number].meter == METER_PACKETS;
    }
    if (!m)
        return BAD;
    if (configured)
        meter_configure(m, cir, cburst, pir, pburst);
    else
        m->configured = false;
    return NULL;
}

static const char *set_cell(struct device *d, struct reader *r, bool is_counter)
{
    u32 array = take_u32(r), cell = take_u32(r);
    if (r->bad || array >= (is_counter ? program.counter_count : program.register_count))
        return BAD;
    if (cell >= (is_counter ? program.counter_sizes : program.register_sizes)[array])
        return BAD;
    u32 words = is_counter ? 2 : program.register_words[array];
    u64 *cells = is_counter ? d->counters[array] : d->registers[array];
    return take_words(r, cells + (size_t)cell * words, words) ? NULL : BAD;
}

static const char *set_copies(struct copies **table, u32 most, struct reader *r)
{
    u32 ident = take_u32(r), count = take_u32(r), exists = take_u32(r);
    if (r->bad || ident >= most || count > MAX_COPIES)
        return BAD;
    const u8 *at = take(r, count * sizeof(struct copy));
    if (!at)
        return BAD;
    struct copies *made = NULL;
    if (exists) {
        made = malloc(sizeof *made + count * sizeof(struct copy));
        if (!made)
            return NO_MEMORY;
        made->count = count;
        memcpy(made->of, at, count * sizeof(struct copy));
    }
    free(table[ident]);
    table[ident] = made;
    return NULL;
}

static const char *change(struct device *d, struct reader *r)
{
    u32 kind = take_u32(r), number;
    switch (kind) {
    case CHANGE_ADD:
        return add(d, r);
    case CHANGE_REMOVE: {
        u32 handle = take_u32(r);
        struct entry *e = handle & DEFAULT_OF ? NULL : entry_at(d, handle, &number);
        if (r->bad || !e)
            return BAD;
        table_remove(&d->tables[number], e);
        d->handles.of[handle] = NULL;
        entry_free(e);
        return NULL;
    }
    case CHANGE_SET:
    case CHANGE_DEFAULT:
        return set(d, r, kind == CHANGE_DEFAULT);
    case CHANGE_METER:
    case CHANGE_METER_CELL:
        return configure(d, r, kind == CHANGE_METER_CELL);
    case CHANGE_COUNTER:
    case CHANGE_REGISTER:
        return set_cell(d, r, kind == CHANGE_COUNTER);
    case CHANGE_GROUP:
        return set_copies(d->groups, GROUPS, r);
    case CHANGE_SESSION:
        return set_copies(d->sessions, SESSIONS, r);
    case CHANGE_CHOICE:
        return choice_change(d, r);
    default:
        return BAD;
    }
}

static const char *changes(struct device *d, struct reader *r)
{
    const char *wrong = NULL;
    if (r->end - r->at > MANY)
        for (u32 i = 0; i < program.table_count; i++)
            table_expect_many(&d->tables[i]);
    while (!wrong && r->at < r->end)
        wrong = change(d, r);
    for (u32 i = 0; i < program.table_count; i++)
        table_commit(&d->tables[i]);
    return wrong;
}

/* -- questions ------------------------------------------------------------------------------------- */

static const char *entries(struct device *d, struct reader *r, struct writer *w)
{
    while (!r->bad && r->at < r->end) {
        u32 table;
        struct entry *e = entry_at(d, take_u32(r), &table);
        if (!e)
            return BAD;
        write_u64(w, e->packets);
        write_u64(w, e->bytes);
        write_u64(w, e->used_us);
    }
    return r->bad ? BAD : NULL;
}

static const char *cells(struct device *d, struct reader *r, struct writer *w, bool counters)
{
    u32 array = take_u32(r);
    if (r->bad || array >= (counters ? program.counter_count : program.register_count))
        return BAD;
    if (counters)
        write_bytes(w, d->counters[array], 2 * sizeof(u64) * program.counter_sizes[array]);
    else
        write_bytes(w, d->registers[array],
                    sizeof(u64) * program.register_words[array] * (size_t)program.register_sizes[array]);
    return NULL;
}

const char *device_serve(struct device *d, u32 kind, struct reader *r, struct writer *answer)
{
    switch (kind) {
    case ASK_CHANGES:
        return changes(d, r);
    case ASK_ENTRIES:
        return entries(d, r, answer);
    case ASK_COUNTERS:
    case ASK_REGISTERS:
        return cells(d, r, answer, kind == ASK_COUNTERS);
    case ASK_STATE:
        write_u64(answer, d->received);
        write_u64(answer, d->loops_cut);
        write_u64(answer, d->faults);
        write_u64(answer, d->no_room);
        return NULL;
    default:
        return BAD;
    }
}

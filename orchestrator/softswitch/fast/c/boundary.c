#include "boundary.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* -- bytes ----------------------------------------------------------------------------------------- */

void write_bytes(struct writer *w, const void *bytes, size_t size)
{
    if (w->full || !size)
        return;
    if (w->size + size > w->room) {
        size_t room = 2 * (w->size + size) + 4096;
        u8 *more = w->size + size > MAX_MESSAGE ? NULL : realloc(w->bytes, room);
        if (!more) {
            w->full = true;
            return;
        }
        w->bytes = more;
        w->room = room;
    }
    memcpy(w->bytes + w->size, bytes, size);
    w->size += size;
}

static const u8 *take(struct reader *r, size_t size)
{
    const u8 *at = r->at;
    if (r->bad || (size_t)(r->end - at) < size) {
        r->bad = true;
        return NULL;
    }
    r->at += size;
    return at;
}

static u32 take_u32(struct reader *r)
{
    u32 value = 0;
    const u8 *at = take(r, sizeof value);
    if (at)
        memcpy(&value, at, sizeof value);
    return value;
}

static u64 take_u64(struct reader *r)
{
    u64 value = 0;
    const u8 *at = take(r, sizeof value);
    if (at)
        memcpy(&value, at, sizeof value);
    return value;
}

static bool take_words(struct reader *r, u64 *to, size_t count)
{
    const u8 *at = take(r, count * sizeof *to);
    if (at)
        memcpy(to, at, count * sizeof *to);
    return at != NULL;
}

/* -- changes --------------------------------------------------------------------------------------- */

static const char BAD[] = "a message that is too short, too long or out of range";
static const char NO_MEMORY[] = "no memory";

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
    if (handle >= DEFAULT_OF / 2)
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

void handles_free(struct handles *h)
{
    for (u32 i = 0; i < h->room; i++)
        entry_free(h->of[i]);
    free(h->of);
    free(h->tables);
}

static struct entry *entry_at(struct device *d, struct handles *h, u32 handle, u32 *table)
{
    if (handle & DEFAULT_OF) {
        *table = handle & ~DEFAULT_OF;
        return *table < program.table_count ? d->tables[*table].miss : NULL;
    }
    if (handle >= h->room || !h->of[handle])
        return NULL;
    *table = h->tables[handle];
    return h->of[handle];
}

static const char *add(struct device *d, struct handles *h, struct reader *r)
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
    if (!room_for(h, handle))
        return NO_MEMORY;
    if (h->of[handle])
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
    e->used_us = d->now_us;
    e->handle = handle;
    if (r->bad || !table_add(t, e, mask)) {
        entry_free(e);
        return r->bad ? BAD : NO_MEMORY;
    }
    h->of[handle] = e;
    h->tables[handle] = number;
    return NULL;
}

static const char *set(struct device *d, struct handles *h, struct reader *r, bool is_default)
{
    u32 number = 0, handle = take_u32(r), action = take_u32(r), args = take_u32(r), counted = take_u32(r);
    u64 packets = take_u64(r), bytes = take_u64(r);
    struct entry *e = entry_at(d, h, is_default ? handle | DEFAULT_OF : handle, &number);
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

static const char *configure(struct device *d, struct handles *h, struct reader *r, bool is_cell)
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
        struct entry *e = entry_at(d, h, first, &number);
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

static const char *change(struct device *d, struct handles *h, struct reader *r)
{
    u32 kind = take_u32(r), number;
    switch (kind) {
    case CHANGE_ADD:
        return add(d, h, r);
    case CHANGE_REMOVE: {
        u32 handle = take_u32(r);
        struct entry *e = handle & DEFAULT_OF ? NULL : entry_at(d, h, handle, &number);
        if (r->bad || !e)
            return BAD;
        table_remove(&d->tables[number], e);
        h->of[handle] = NULL;
        entry_free(e);
        return NULL;
    }
    case CHANGE_SET:
    case CHANGE_DEFAULT:
        return set(d, h, r, kind == CHANGE_DEFAULT);
    case CHANGE_METER:
    case CHANGE_METER_CELL:
        return configure(d, h, r, kind == CHANGE_METER_CELL);
    case CHANGE_COUNTER:
    case CHANGE_REGISTER:
        return set_cell(d, r, kind == CHANGE_COUNTER);
    case CHANGE_GROUP:
        return set_copies(d->groups, GROUPS, r);
    case CHANGE_SESSION:
        return set_copies(d->sessions, SESSIONS, r);
    default:
        return BAD;
    }
}

static const char *changes(struct device *d, struct handles *h, struct reader *r)
{
    const char *wrong = NULL;
    while (!wrong && r->at < r->end)
        wrong = change(d, h, r);
    for (u32 i = 0; i < program.table_count; i++)
        table_commit(&d->tables[i]);
    return wrong;
}

/* -- questions ------------------------------------------------------------------------------------- */

static const char *entries(struct device *d, struct handles *h, struct reader *r, struct writer *w)
{
    while (!r->bad && r->at < r->end) {
        u32 table;
        struct entry *e = entry_at(d, h, take_u32(r), &table);
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

struct frame {
    u32 port, size;
    u8 *bytes;
};

static void frames_free(struct frame *frames, u32 count)
{
    for (u32 i = 0; i < count; i++)
        free(frames[i].bytes);
    free(frames);
}

/* Received frames, each with the slack that the program may read. */
static struct frame *take_frames(struct reader *r, u32 *count)
{
    struct frame *frames = NULL;
    u32 room = 0;
    *count = 0;
    while (!r->bad && r->at < r->end) {
        if (*count == room) {
            room = room ? 2 * room : 64;
            struct frame *more = realloc(frames, room * sizeof *more);
            if (!more)
                break;
            frames = more;
        }
        struct frame f = {take_u32(r), take_u32(r), NULL};
        const u8 *bytes = f.size > MAX_FRAME ? NULL : take(r, f.size);
        f.bytes = bytes ? calloc(1, f.size + SLACK) : NULL;
        if (!f.bytes) {
            r->bad = true;
            break;
        }
        memcpy(f.bytes, bytes, f.size);
        frames[(*count)++] = f;
    }
    if (!r->bad && r->at == r->end)
        return frames ? frames : calloc(1, sizeof *frames);
    frames_free(frames, *count);
    return NULL;
}

static const char *packets(struct device *d, struct reader *r, struct writer *w)
{
    u64 now_us = take_u64(r);
    u32 count;
    struct frame *frames = take_frames(r, &count);
    if (!frames)
        return BAD;
    d->now_us = now_us;
    for (u32 i = 0; i < count; i++)
        device_process(d, frames[i].port, frames[i].bytes, frames[i].size);
    frames_to(d, w);
    frames_free(frames, count);
    return NULL;
}

static u64 nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (u64)now.tv_sec * 1000000000 + (u64)now.tv_nsec;
}

static const char *measure(struct device *d, struct reader *r, struct writer *w)
{
    u64 rounds = take_u64(r), out = 0;
    u32 count;
    struct frame *frames = take_frames(r, &count);
    if (!frames)
        return BAD;
    u64 before = nanoseconds();
    for (u64 n = 0; n < rounds; n++) {
        for (u32 i = 0; i < count; i++)
            device_process(d, frames[i].port, frames[i].bytes, frames[i].size);
        frames_forget(d, &out);
    }
    write_u64(w, nanoseconds() - before);
    write_u64(w, out);
    frames_free(frames, count);
    return NULL;
}

enum ask serve(struct device *d, struct handles *h, u32 kind, const u8 *bytes, size_t size,
               struct writer *answer)
{
    struct reader r = {bytes, bytes + size, false};
    const char *wrong = NULL;
    switch (kind) {
    case ASK_HELLO:
        write_u32(answer, BOUNDARY_VERSION);
        break;
    case ASK_CHANGES:
        wrong = changes(d, h, &r);
        break;
    case ASK_ENTRIES:
        wrong = entries(d, h, &r, answer);
        break;
    case ASK_COUNTERS:
    case ASK_REGISTERS:
        wrong = cells(d, &r, answer, kind == ASK_COUNTERS);
        break;
    case ASK_PACKETS:
        wrong = packets(d, &r, answer);
        break;
    case ASK_MEASURE:
        wrong = measure(d, &r, answer);
        break;
    case ASK_STATE:
        write_u64(answer, d->received);
        write_u64(answer, d->loops_cut);
        write_u64(answer, d->faults);
        write_u64(answer, d->no_room);
        break;
    default:
        wrong = BAD;
    }
    if (!wrong && answer->full)
        wrong = NO_MEMORY;
    if (!wrong)
        return ANSWER;
    answer->size = 0;
    answer->full = false;
    write_bytes(answer, wrong, strlen(wrong));
    return ANSWER_ERROR;
}

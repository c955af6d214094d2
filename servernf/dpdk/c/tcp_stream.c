#include "tcp_stream.h"

#define SMALL 2048 /* bytes of pieces that become one */
#define NONE_BEFORE (-((i64)1 << 62))
#define MOST_PIECES 4096 /* of a direction that is read */
#define NUMBER_BYTES 20
#define POSITION_BYTES 8

static i64 most(i64 one, i64 other)
{
    return one > other ? one : other;
}
static i64 least(i64 one, i64 other)
{
    return one < other ? one : other;
}

void stream_start(struct direction *d, u32 seq, bool is_first)
{
    *d = (struct direction){.next = seq, .acked = is_first ? NONE_BEFORE : 0, .used = true};
}

/* -- what is held ------------------------------------------------------------------------------------------ */

static void give_first(struct pieces *s, struct direction *d)
{
    u32 at = d->held_first;
    struct piece *p = piece_at(s, at);
    d->held_first = p->next;
    d->floor += p->size;
    d->held_cost -= p->size + OVERHEAD;
    if (!d->held_first)
        d->held_last = 0;
    piece_give(s, at);
}

void stream_acknowledge(struct pieces *s, struct direction *d, u32 seq)
{
    u32 behind = d->next - seq;
    d->acked = d->position - (behind >= 1u << 31 ? 0 : behind); /* a FIN, too */
    while (d->held_first && d->floor + piece_at(s, d->held_first)->size <= d->acked)
        give_first(s, d);
}

static void append(struct pieces *s, struct direction *d, u32 at)
{
    if (d->held_last)
        piece_at(s, d->held_last)->next = at;
    else
        d->held_first = at;
    d->held_last = at;
}

/* The last piece, with room for so many bytes; 0: there is none. */
static u32 grown(struct pieces *s, struct direction *d, u32 room)
{
    struct piece *last = piece_at(s, d->held_last);
    if (piece_room(last) >= room)
        return d->held_last;
    u32 at = piece_take(s, room), *link = &d->held_first;
    if (!at)
        return 0;
    struct piece *larger = piece_at(s, at);
    larger->size = last->size;
    memcpy(larger->bytes, last->bytes, last->size);
    while (*link != d->held_last)
        link = &piece_at(s, *link)->next;
    piece_give(s, *link);
    *link = d->held_last = at;
    return at;
}

/* Take the next bytes in order; the oldest ones go where there is no room. */
static void hold(struct pieces *s, struct direction *d, const u8 *bytes, u32 size, i64 room, bool slides)
{
    i64 limit = d->held_cost + most(room, 0);
    u32 at = 0;
    d->position += size;
    d->next += size;
    if (d->held_last && piece_at(s, d->held_last)->size + size <= SMALL) {
        at = grown(s, d, piece_at(s, d->held_last)->size + size);
        d->held_cost += size;
    } else if ((at = piece_take(s, size))) {
        append(s, d, at);
        d->held_cost += size + OVERHEAD;
    }
    if (at) {
        struct piece *p = piece_at(s, at);
        memcpy(p->bytes + p->size, bytes, size);
        p->size += size;
    }
    if (slides && limit > MAX_HELD_BYTES)
        limit = MAX_HELD_BYTES;
    while (d->held_first && (!at || d->held_cost > limit))
        give_first(s, d);
    if (!d->held_first) {
        d->floor = d->position;
        d->held_cost = 0;
    }
}

/* -- segments ---------------------------------------------------------------------------------------------- */

/* Bytes of a segment that lie before what is expected are the same as they were. */
static bool is_same(const struct pieces *s, const struct direction *d, i64 start, const u8 *payload, u32 known, bool strict)
{
    i64 at = d->floor, first = most(start, d->acked), end = start + known;
    if (strict && first < least(at, end))
        return false;
    for (u32 i = d->held_first; i; i = piece_at(s, i)->next) {
        const struct piece *p = piece_at(s, i);
        i64 low = most(at, first), high = least(at + p->size, end);
        if (low < high && memcmp(p->bytes + (low - at), payload + (low - start), (size_t)(high - low)))
            return false;
        at += p->size;
    }
    return true;
}

struct gap {
    i64 at;
    u32 size;
};

/* The parts of a segment that no waiting piece has; -1: another copy differs. */
static int gaps_of(const struct pieces *s, const struct direction *d, i64 position, const u8 *payload, u32 size,
                   struct gap *gaps)
{
    i64 end = position + size, at = position;
    int count = 0;
    for (u32 i = d->waiting_first; i; i = piece_at(s, i)->next) {
        const struct piece *p = piece_at(s, i);
        if (p->position >= end)
            break;
        i64 low = most(p->position, position), high = least(p->position + p->size, end);
        if (low >= high)
            continue;
        if (memcmp(p->bytes + (low - p->position), payload + (low - position), (size_t)(high - low)))
            return -1;
        if (at < low)
            gaps[count++] = (struct gap){at, (u32)(low - at)};
        at = high;
    }
    if (at < end)
        gaps[count++] = (struct gap){at, (u32)(end - at)};
    return count;
}

static void enter_waiting(struct pieces *s, struct direction *d, u32 at)
{
    u32 *link = &d->waiting_first;
    struct piece *p = piece_at(s, at);
    while (*link && piece_at(s, *link)->position < p->position)
        link = &piece_at(s, *link)->next;
    p->next = *link;
    *link = at;
    d->waiting_count++;
    d->waiting_cost += p->size + OVERHEAD;
}

/* Have the waiting pieces that are in order now go on, as one. */
static void go_on(struct pieces *s, struct direction *d, i64 room, bool slides, struct text *ready)
{
    static u8 joined[(MAX_WAITING_BYTES + (1 << 17))];
    i64 at = d->position, cost = 0;
    u32 size = 0;
    for (u32 i = d->waiting_first; i && piece_at(s, i)->position == at; i = piece_at(s, i)->next) {
        at += piece_at(s, i)->size;
        cost += piece_at(s, i)->size + OVERHEAD;
    }
    room -= d->waiting_cost - cost; /* as if those that stay had come now */
    while (d->waiting_first && d->position < at) {
        u32 first = d->waiting_first;
        struct piece *p = piece_at(s, first);
        i64 before = d->held_cost;
        d->waiting_first = p->next;
        d->waiting_count--;
        d->waiting_cost -= p->size + OVERHEAD;
        memcpy(joined + size, p->bytes, p->size);
        size += p->size;
        u32 bytes = p->size;
        piece_give(s, first);
        hold(s, d, joined + size - bytes, bytes, room, slides);
        room -= d->held_cost - before;
    }
    if (size) {
        ready->part[ready->count] = (const char *)joined;
        ready->size[ready->count++] = size;
    }
}

static enum added add_out_of_order(struct pieces *s, struct direction *d, i64 position, const u8 *payload, u32 size,
                                   i64 room, bool slides, struct text *ready)
{
    struct gap gaps[MAX_SEGMENTS + 1];
    u32 taken[MAX_SEGMENTS + 1];
    int count = gaps_of(s, d, position, payload, size, gaps);
    if (count < 0)
        return OTHER_COPY;
    if (position > d->position) { /* what is next goes out at once and never waits */
        i64 cost = 0;
        for (int i = 0; i < count; i++)
            cost += gaps[i].size + OVERHEAD;
        if ((count && d->waiting_count + (u32)count > MAX_SEGMENTS) ||
            cost > least(room, MAX_WAITING_BYTES - d->waiting_cost))
            return LACKS_ROOM;
    } else if (d->held_cost > MAX_HELD_BYTES && !slides) {
        return LACKS_ROOM;
    }
    for (int i = 0; i < count; i++) {
        taken[i] = piece_take(s, gaps[i].size);
        if (taken[i])
            continue;
        while (i-- > 0)
            piece_give(s, taken[i]);
        return LACKS_ROOM;
    }
    room += d->waiting_cost;
    for (int i = 0; i < count; i++) {
        struct piece *p = piece_at(s, taken[i]);
        p->position = gaps[i].at;
        p->size = gaps[i].size;
        memcpy(p->bytes, payload + (gaps[i].at - position), p->size);
        enter_waiting(s, d, taken[i]);
    }
    go_on(s, d, room, slides, ready);
    return ADDED;
}

enum added stream_add(struct pieces *s, struct direction *d, u32 seq, const u8 *payload, u32 size, i64 room, bool strict,
                      bool slides, struct text *ready)
{
    i64 offset = (int32_t)(seq - d->next);
    if (offset < 0) {
        u32 known = (u32)least(-offset, size);
        if (!is_same(s, d, d->position + offset, payload, known, strict))
            return OTHER_COPY;
        payload += known;
        size -= known;
        offset = 0;
    }
    if (!size)
        return ADDED;
    if (offset || d->waiting_first)
        return add_out_of_order(s, d, d->position + offset, payload, size, room, slides, ready);
    if (d->held_cost > MAX_HELD_BYTES && !slides)
        return LACKS_ROOM;
    hold(s, d, payload, size, room, slides);
    ready->part[ready->count] = (const char *)payload;
    ready->size[ready->count++] = size;
    return ADDED;
}

/* -- what is remembered -------------------------------------------------------------------------------------- */

bool stream_reserve(struct pieces *s, struct direction *d, u32 bytes)
{
    if (!bytes || (d->tail && piece_room(piece_at(s, d->tail)) >= bytes))
        return true;
    u32 at = piece_take(s, bytes);
    if (!at)
        return false;
    if (d->tail) {
        struct piece *from = piece_at(s, d->tail), *to = piece_at(s, at);
        to->size = from->size;
        memcpy(to->bytes, from->bytes, from->size);
        piece_give(s, d->tail);
    }
    d->tail = at;
    return true;
}

void stream_remember(struct pieces *s, struct direction *d, const struct text *text, u32 bytes)
{
    d->has_memory = true;
    if (!d->tail)
        return;
    struct piece *p = piece_at(s, d->tail);
    u32 kept = 0;
    for (u32 i = 0; i < text->count; i++) { /* the first part may be what is remembered now */
        u32 size = text->size[i] > bytes ? bytes : text->size[i];
        u32 stays = kept + size > bytes ? bytes - size : kept;
        memmove(p->bytes, p->bytes + kept - stays, stays);
        memmove(p->bytes + stays, text->part[i] + text->size[i] - size, size);
        kept = stays + size;
    }
    p->size = kept;
}

void stream_release(struct pieces *s, struct direction *d)
{
    u32 lists[] = {d->held_first, d->waiting_first, d->tail};
    for (u32 i = 0; i < 3; i++)
        for (u32 at = lists[i]; at;) {
            u32 next = i < 2 ? piece_at(s, at)->next : 0;
            piece_give(s, at);
            at = next;
        }
    *d = (struct direction){0};
}

/* -- as it is written ----------------------------------------------------------------------------------------- */

static u32 count_of(const struct pieces *s, u32 at)
{
    u32 count = 0;
    for (; at; at = piece_at(s, at)->next)
        count++;
    return count;
}

void stream_write(const struct pieces *s, const struct direction *d, struct writer *w)
{
    put_be(w, d->used ? NUMBER_BYTES : 0, 4);
    if (d->used) {
        put_be(w, d->next, 4);
        put_be(w, (u64)d->position, 8);
        put_be(w, (u64)d->acked, 8);
    }
    put_be(w, count_of(s, d->held_first), 4);
    for (u32 at = d->held_first; at; at = piece_at(s, at)->next)
        put_bytes(w, piece_at(s, at)->bytes, piece_at(s, at)->size);
    put_be(w, count_of(s, d->waiting_first), 4);
    for (u32 at = d->waiting_first; at; at = piece_at(s, at)->next) {
        put_be(w, POSITION_BYTES + piece_at(s, at)->size, 4);
        put_be(w, (u64)piece_at(s, at)->position, 8);
        write_bytes(w, piece_at(s, at)->bytes, piece_at(s, at)->size);
    }
    put_be(w, d->has_memory ? 1 + !!d->label : 0, 4);
    if (!d->has_memory)
        return;
    put_bytes(w, d->tail ? piece_at(s, d->tail)->bytes : NULL, d->tail ? piece_at(s, d->tail)->size : 0);
    if (d->label) {
        put_be(w, 4, 4);
        put_be(w, d->label, 4);
    }
}

/* A piece of what is read; 0: there is none, or no room. */
static u32 read_piece(struct pieces *s, struct reader *r)
{
    u32 size;
    const u8 *from = get_bytes(r, &size, 1 << 16);
    u32 at = from && size ? piece_take(s, size) : 0;
    if (!at) {
        r->bad = true;
        return 0;
    }
    piece_at(s, at)->size = size;
    memcpy(piece_at(s, at)->bytes, from, size);
    return at;
}

static void read_held(struct pieces *s, struct direction *d, struct reader *r)
{
    u32 count = (u32)get_be(r, 4);
    i64 size = 0;
    r->bad |= count > MOST_PIECES;
    for (u32 i = 0; i < count && !r->bad; i++) {
        u32 at = read_piece(s, r);
        if (!at)
            break;
        append(s, d, at);
        size += piece_at(s, at)->size;
        d->held_cost += piece_at(s, at)->size + OVERHEAD;
    }
    r->bad |= d->position < size;
    d->floor = d->position - size;
}

static void read_waiting(struct pieces *s, struct direction *d, struct reader *r)
{
    u32 count = (u32)get_be(r, 4);
    i64 end = d->position + 1;
    r->bad |= count > MAX_SEGMENTS;
    for (u32 i = 0; i < count && !r->bad; i++) {
        u32 at = read_piece(s, r);
        if (!at)
            break;
        struct piece *p = piece_at(s, at);
        if (p->size <= POSITION_BYTES) {
            r->bad = true;
            piece_give(s, at);
            break;
        }
        p->position = (i64)load_be(p->bytes, POSITION_BYTES);
        p->size -= POSITION_BYTES;
        memmove(p->bytes, p->bytes + POSITION_BYTES, p->size);
        r->bad |= p->position < end;
        end = p->position + p->size;
        enter_waiting(s, d, at);
    }
    r->bad |= d->waiting_cost > MAX_WAITING_BYTES;
}

static void read_memory(struct pieces *s, struct direction *d, struct reader *r)
{
    u32 count = (u32)get_be(r, 4), size;
    r->bad |= count > 2;
    d->has_memory = count;
    if (!count || r->bad)
        return;
    const u8 *from = get_bytes(r, &size, 1 << 16);
    if (from && size) {
        d->tail = piece_take(s, size);
        r->bad |= !d->tail;
        if (d->tail) {
            piece_at(s, d->tail)->size = size;
            memcpy(piece_at(s, d->tail)->bytes, from, size);
        }
    }
    if (count == 2) {
        r->bad |= get_be(r, 4) != 4;
        d->label = (u32)get_be(r, 4);
    }
}

bool stream_read(struct pieces *s, struct direction *d, struct reader *r)
{
    u32 size = (u32)get_be(r, 4);
    *d = (struct direction){.used = size};
    r->bad |= size && size != NUMBER_BYTES;
    if (size) {
        d->next = (u32)get_be(r, 4);
        d->position = (i64)get_be(r, 8);
        d->acked = (i64)get_be(r, 8);
        r->bad |= d->position < 0 || d->position > (i64)1 << 62;
    }
    read_held(s, d, r);
    read_waiting(s, d, r);
    read_memory(s, d, r);
    if (!r->bad && (d->used || !(d->held_first || d->waiting_first || d->has_memory)))
        return true;
    stream_release(s, d);
    return false;
}

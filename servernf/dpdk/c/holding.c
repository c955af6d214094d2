#include "holding.h"

#include "noting.h"
#include "table.h"

#define MOST_WAITING 16384
#define ROOM 2048 /* of a frame */

static struct hold {
    bool used;
    enum hold_for what;
    u64 every, acked, heard_us; /* `acked`: of so many packets the standby has all updates */
} holds[MOST_HOLDS];

static struct waiting {
    u64 total; /* packets that had come with its burst */
    u32 size;
    bool opens;
    u8 bytes[ROOM];
} *waiting;

static u32 first, count; /* of those that wait, in a ring */
static u64 total;        /* packets since there are replications */
static bool asked;       /* the parent knows that something waits */
static u64 *behind;
bool holding;

void holding_start(u64 *counter)
{
    behind = counter;
}

void holding_end(void)
{
    if (waiting)
        region_close(waiting, MOST_WAITING * sizeof *waiting);
    waiting = NULL;
}

/* How much must be acknowledged before a frame leaves. */
static u64 needed(const struct hold *h, u64 of, bool opens)
{
    if (h->what == FOR_ALL || (h->what == FOR_OPENING && opens))
        return of;
    return h->what == FOR_MOST && of > h->every ? of - h->every : 0;
}

static bool lease_holds(const struct hold *h, u64 now_us)
{
    return now_us < h->heard_us + LEASE_US;
}

/* Whether the standby is to be told at once, and not only by time. */
static bool wants(const struct hold *h, bool opens, u64 now_us)
{
    if (!lease_holds(h, now_us))
        return true;
    return h->what == FOR_MOST ? total >= h->acked + (h->every + 1) / 2 : needed(h, total, opens) > h->acked;
}

static bool opens_tcp(const struct sent *s)
{
    struct packet p = {.at = s->bytes + TAG_BYTES, .size = s->size - TAG_BYTES};
    return s->size > TAG_BYTES && packet_parse(&p) && p.protocol == TCP && p.l4 && p.at[p.l4 + 13] & 7;
}

static void append(const u8 *bytes, u32 size, bool opens)
{
    if (count == MOST_WAITING || size > ROOM) {
        ++*behind;
        return;
    }
    struct waiting *w = &waiting[(first + count++) % MOST_WAITING];
    w->total = total;
    w->size = size;
    w->opens = opens;
    memcpy(w->bytes, bytes, size);
}

void holding_burst(const struct sent *sent, u32 out, u32 received, u64 now_us)
{
    bool opens = groups_opened, tell = false;
    groups_opened = false;
    total += received;
    for (u32 i = 0; i < out && !opens; i++)
        opens = opens_tcp(&sent[i]);
    for (u32 i = 0; i < MOST_HOLDS && !asked; i++)
        tell |= holds[i].used && wants(&holds[i], opens, now_us);
    for (u32 i = 0; i < out; i++)
        append(sent[i].bytes, sent[i].size, opens);
    if (tell && noting_room(TOLD_WAITS, 0, sizeof total))
        asked = true;
}

void holding_frame(const u8 *bytes, u32 size)
{
    append(bytes, size, true);
}

static bool is_ready(const struct waiting *w, u64 now_us)
{
    for (u32 i = 0; i < MOST_HOLDS; i++) {
        const struct hold *h = &holds[i];
        if (h->used && (h->acked < needed(h, w->total, w->opens) || !lease_holds(h, now_us)))
            return false;
    }
    return true;
}

void holding_release(u64 now_us, void (*leave)(const u8 *bytes, u32 size, struct writer *w), struct writer *to)
{
    bool any = false;
    while (count && is_ready(&waiting[first], now_us)) {
        leave(waiting[first].bytes, waiting[first].size, to);
        first = (first + 1) % MOST_WAITING;
        count--;
    }
    for (u32 i = 0; i < MOST_HOLDS && !any; i++)
        any = holds[i].used;
    holding = any || count;
}

/* -- messages ------------------------------------------------------------------------------------------------- */

const char *hold_open(u32 number, struct reader *r, struct writer *w)
{
    u32 what = take_u32(r), every = take_u32(r);
    u64 heard_us = take_u64(r);
    if (number >= MOST_HOLDS || holds[number].used || what >= HOLD_KINDS || r->bad || r->at != r->end)
        return BAD;
    if (!waiting && !(waiting = region_open(MOST_WAITING * sizeof *waiting)))
        return NO_MEMORY;
    holds[number] = (struct hold){true, what, every, total, heard_us};
    holding = true;
    write_u64(w, total);
    return NULL;
}

const char *hold_acked(u32 number, struct reader *r)
{
    u64 acked = take_u64(r), heard_us = take_u64(r);
    if (number >= MOST_HOLDS || !holds[number].used || r->bad || r->at != r->end || acked > total)
        return BAD;
    holds[number].acked = acked;
    holds[number].heard_us = heard_us;
    return NULL;
}

const char *hold_close(u32 number, struct reader *r, struct writer *w)
{
    u32 drops = take_u32(r);
    if (number >= MOST_HOLDS || !holds[number].used || r->bad || r->at != r->end)
        return BAD;
    holds[number].used = false;
    write_u64(w, drops ? count : 0);
    count = drops ? 0 : count;
    return NULL;
}

void hold_counted(struct writer *w)
{
    write_u64(w, total);
    write_u32(w, count);
    write_u32(w, asked);
    asked = false;
}

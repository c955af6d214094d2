#include "noting.h"

#include "prf.h"

#include <time.h>

#define CONTEXT_BYTES 16

bool noting_any;

static struct {
    u32 key0, key1, of, unused;
    u64 below;
} *keys;
static u32 key_count;
static u8 *(*tell)(u32 kind, u32 slot, u32 size);
static u64 *untold_count;
static bool watched[MOST_FRAMES]; /* by a packet's index in its burst */
static u64 burst_us, entered_ns, entered_cpu_ns;
static u32 burst_tables;

/* What a watched packet was when it was given to an NF. */
static struct {
    u32 size;
    u8 words[CONTEXT_BYTES], bytes[MAX_FRAME + HEADROOM];
} given[MOST_FRAMES];

static u64 ns_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (u64)now.tv_sec * 1000000000 + (u64)now.tv_nsec;
}

bool noting_read(struct reader *r)
{
    u32 count = take_u32(r);
    const u8 *from = count > MOST_KEYS ? NULL : take(r, count * sizeof *keys);
    if (!from || r->at != r->end)
        return false;
    void *read = malloc(count * sizeof *keys + 1);
    if (!read)
        return false;
    memcpy(read, from, count * sizeof *keys);
    free(keys);
    keys = read;
    key_count = count;
    noting_any = false;
    return true;
}

void noting_tells(u8 *(*room)(u32 kind, u32 slot, u32 size), u64 *count)
{
    tell = room;
    untold_count = count;
}

void noting_end(void)
{
    free(keys);
    keys = NULL;
    key_count = 0;
}

void noting_begin(const struct received *frames, u32 count, u64 now_us, u32 tables)
{
    u8 contexts[MOST_FRAMES][CONTEXT_BYTES] = {{0}}, answers[MOST_FRAMES];
    noting_any = false;
    if (likely(!key_count) || !tell)
        return;
    burst_us = now_us;
    burst_tables = tables;
    memset(watched, 0, sizeof watched);
    for (u32 i = 0; i < count; i++)
        if (frames[i].size >= TAG_BYTES)
            memcpy(contexts[i], frames[i].bytes + 22, CONTEXT_BYTES);
    for (u32 k = 0; k < key_count; k++) {
        prf_below(keys[k].key0, keys[k].key1, keys[k].below, (int)keys[k].of, contexts[0], count, answers);
        for (u32 i = 0; i < count; i++)
            noting_any |= watched[i] |= answers[i] && frames[i].size >= TAG_BYTES;
    }
}

/* -- notes ------------------------------------------------------------------------------------------------- */

static u8 *put(u8 *at, const void *bytes, size_t size)
{
    memcpy(at, bytes, size);
    return at + size;
}

u8 *noting_room(u32 kind, u32 slot, u32 size)
{
    u8 *at = tell ? tell(kind, slot, size) : NULL;
    if (!at && tell)
        (*untold_count)++;
    return at;
}

void noting_lost(const struct packet *p, u32 step, u32 why)
{
    if (!watched[p->index])
        return;
    struct note_lost head = {.now_us = burst_us, .at_ns = ns_of(CLOCK_MONOTONIC), .step = step, .why = why, .branch = p->branch,
                             .path = p->path, .size = p->size};
    u8 *at = noting_room(TOLD_LOST, burst_tables, (u32)sizeof head + p->size);
    if (!at)
        return;
    memcpy(head.words, p->words, sizeof head.words);
    put(put(at, &head, sizeof head), p->at, p->size);
}

void noting_before(struct packet *const *packets, u32 count)
{
    for (u32 i = 0; i < count; i++) {
        const struct packet *p = packets[i];
        if (!watched[p->index])
            continue;
        given[i].size = p->size > sizeof given[i].bytes ? (u32)sizeof given[i].bytes : p->size;
        memcpy(given[i].words, p->words, CONTEXT_BYTES);
        memcpy(given[i].bytes, p->at, given[i].size);
    }
    entered_ns = ns_of(CLOCK_MONOTONIC);
    entered_cpu_ns = ns_of(CLOCK_THREAD_CPUTIME_ID);
}

static bool is_sent_by(const struct packet *b, const struct packet *p)
{
    return b->index == p->index && b->step == p->step;
}

void noting_after(struct packet *const *packets, u32 count, const struct step *first, size_t step_size,
                  const struct packet *beside, u32 beside_count)
{
    u64 cpu_ns = ns_of(CLOCK_THREAD_CPUTIME_ID) - entered_cpu_ns, left_ns = ns_of(CLOCK_MONOTONIC);
    for (u32 i = 0; i < count; i++) {
        const struct packet *p = packets[i];
        if (!watched[p->index])
            continue;
        struct note_call head = {.now_us = burst_us,
                                 .entered_ns = entered_ns,
                                 .left_ns = left_ns,
                                 .cpu_ns = cpu_ns,
                                 .calls = count,
                                 .step = (u32)(((const u8 *)p->step - (const u8 *)first) / step_size),
                                 .port = p->left,
                                 .reason = p->reason,
                                 .branch = p->branch,
                                 .given = given[i].size,
                                 .left = p->size};
        u32 size = (u32)sizeof head + head.given + head.left;
        for (u32 b = 0; b < beside_count; b++)
            if (is_sent_by(&beside[b], p)) {
                head.emitted++;
                size += 8 + beside[b].size;
            }
        u8 *at = noting_room(TOLD_CALL, burst_tables, size);
        if (!at)
            continue;
        memcpy(head.words, given[i].words, CONTEXT_BYTES);
        memcpy(head.words_after, p->words, CONTEXT_BYTES);
        at = put(at, &head, sizeof head);
        at = put(at, given[i].bytes, head.given);
        at = put(at, p->at, head.left);
        for (u32 b = 0; b < beside_count; b++)
            if (is_sent_by(&beside[b], p)) {
                u32 about[2] = {beside[b].left, beside[b].size};
                at = put(put(at, about, sizeof about), beside[b].at, beside[b].size);
            }
    }
}

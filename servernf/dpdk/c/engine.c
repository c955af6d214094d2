/* The data path: the tag (NSH, RFC 8300) is read, its path leads to a step, and steps follow each other until the
 * packet leaves or is dropped.
 *
 * A burst goes through an NF as one call: of the packets that wait, those that are at the first one's NF go together,
 * in the order of their arrival. Tables are replaced as a whole between two bursts.
 */
#include "engine.h"

#include "events.h"
#include "gates.h"
#include "holding.h"
#include "moving.h"
#include "noting.h"
#include "steps.h"
#include "table.h"
#include "works.h"

#include <time.h>

#define TIMED_OF 8     /* of so many bursts of an NF one is timed */
#define MOST_CALLS 256 /* of a burst: more only where chains were made that lead round */
#define TIDY_US 1000000
#define KEPT (LOST_REASONS + 1) /* instead of a reason: a frame is not lost, but kept for later */
#define MOST_BESIDE 2048 /* bytes of a frame that an NF sends beside others */

struct slot {
    u32 path; /* 0 is no path: its SPI would be 0, which RFC 8300 leaves unused here */
    const struct step *step;
};

struct tables {
    u32 number, step_count, exit_count, shift;
    struct step *steps;
    struct onward *next;
    struct leaving *exits;
    struct slot *slots; /* 2^(32 - shift), at most half of them used */
};

struct uses {
    u32 tables[MOST_TABLES_OF_NF], count;
};

static struct nf *instances[MOST_INSTANCES];
static struct uses uses[MOST_INSTANCES];
static struct tables *tables;
static struct shared memory;
static u64 mac, mac_mask; /* as eight bytes that a frame begins with are loaded */
static struct nf_ops *registered;
static u64 tidy_us;
static bool gates_pass; /* frames that have been kept go by gates */

void nf_register(struct nf_ops *ops)
{
    ops->next = registered;
    registered = ops;
}

const struct nf_ops *nf_first(void)
{
    return registered;
}

const char *const LATER = "later";
static u32 being_made; /* the number of the instance that works are done for */

static u32 reasons_of(const struct nf_ops *ops)
{
    u32 count = 0;
    while (ops->reasons[count])
        count++;
    return count;
}

/* -- instances ------------------------------------------------------------------------------------------- */

static void end_instance(u32 number)
{
    struct nf *nf = instances[number];
    instances[number] = NULL;
    if (nf && nf->ops->fini)
        nf->ops->fini(nf);
    else
        free(nf);
}

static bool has_words(u32 at, u32 count)
{
    return at <= memory.count && memory.count - at >= count;
}

static const char *make(u32 number, struct reader *r)
{
    u32 told_as = take_u32(r), counters = take_u32(r), budgets[EVENTS];
    for (u32 i = 0; i < EVENTS; i++) {
        budgets[i] = take_u32(r);
        r->bad |= !has_words(budgets[i], BUDGET);
    }
    u32 size = take_u32(r);
    const char *name = (const char *)take(r, size);
    if (number >= MOST_INSTANCES || instances[number])
        return "an instance's number that is out of range, or another's";
    if (!name)
        return BAD;
    for (const struct nf_ops *ops = nf_first(); ops; ops = ops->next) {
        if (strlen(ops->name) != size || memcmp(ops->name, name, size))
            continue;
        u32 reasons = 1 + reasons_of(ops);
        if (!has_words(counters, reasons + TIMES))
            return BAD;
        u32 none[MOST_TABLES_OF_NF];
        tables_taken(none);
        struct nf *nf = ops->init(r, &memory);
        if (!nf)
            return r->bad ? BAD : "a configuration that is not good, or there is no memory for it";
        nf->ops = ops;
        nf->counters = memory.words + counters;
        nf->number = number;
        nf->times = nf->counters + reasons;
        nf->told_as = told_as;
        for (u32 i = 0; i < EVENTS; i++)
            nf->events[i] = memory.words + budgets[i];
        nf->ports = nf->ports ? nf->ports : 2;
        instances[number] = nf;
        uses[number].count = tables_taken(uses[number].tables);
        being_made = number;
        if (!r->bad && r->at == r->end)
            return works_done() ? engine_made() : LATER;
        end_instance(number);
        return BAD;
    }
    return "no such NF";
}

const char *engine_made(void)
{
    if (!works_failed())
        return NULL;
    end_instance(being_made);
    return "no memory for so many rules";
}

static const char *forget(u32 number)
{
    if (number >= MOST_INSTANCES || !instances[number])
        return "no instance has this number";
    for (u32 i = 0; tables && i < tables->step_count; i++)
        if (tables->steps[i].nf == instances[number])
            return "a step names this instance";
    end_instance(number);
    return NULL;
}

struct nf *engine_instance(u32 number)
{
    return number < MOST_INSTANCES ? instances[number] : NULL;
}

static const char *end_state(u32 number)
{
    struct table *t = table_of(number);
    if (!t)
        return "no table has this number";
    for (u32 i = 0; i < MOST_INSTANCES; i++)
        for (u32 k = 0; instances[i] && k < uses[i].count; k++)
            if (uses[i].tables[k] == number || table_of(uses[i].tables[k])->other == t)
                return "an instance uses this table";
    table_end(t);
    return NULL;
}

/* -- tables ---------------------------------------------------------------------------------------------- */

static void tables_free(struct tables *t)
{
    if (!t)
        return;
    free(t->steps);
    free(t->next);
    free(t->exits);
    free(t->slots);
    free(t);
}

static u32 slot_of(const struct tables *t, u32 path)
{
    return (u32)((u64)(path * 0x9E3779B1u) >> t->shift);
}

static bool read_following(struct tables *t, struct reader *r, struct onward *f)
{
    u32 kind = take_u32(r), index = take_u32(r);
    *f = (struct onward){0};
    if (kind == FOLLOWS_STEP && index < t->step_count)
        f->step = &t->steps[index];
    else if (kind == FOLLOWS_EXIT && index < t->exit_count)
        f->leaving = &t->exits[index];
    else
        return kind == FOLLOWS_NOTHING;
    return true;
}

static bool read_steps(struct tables *t, struct reader *r)
{
    u32 used = 0, ports = take_u32(r);
    if (ports > MOST_STEPS)
        return false;
    t->next = calloc((size_t)ports + 1, sizeof *t->next);
    for (u32 i = 0; t->next && i < t->step_count; i++) {
        struct step *s = &t->steps[i];
        u32 instance = take_u32(r);
        s->port = take_u32(r);
        s->ports = take_u32(r);
        s->nf = r->bad || instance >= MOST_INSTANCES ? NULL : instances[instance];
        if (!s->nf || s->port >= s->nf->ports || s->ports != s->nf->ports || s->ports > ports - used)
            return false;
        s->next = t->next + used;
        for (u32 port = 0; port < s->ports; port++)
            if (!read_following(t, r, &t->next[used++]))
                return false;
    }
    return t->next != NULL;
}

static bool read_paths(struct tables *t, struct reader *r)
{
    u32 count = take_u32(r), bits = 1;
    if (count > MOST_STEPS)
        return false;
    while (1u << bits < 2 * count)
        bits++;
    t->shift = 32 - bits;
    t->slots = calloc((size_t)1 << bits, sizeof *t->slots);
    for (u32 i = 0; t->slots && i < count; i++) {
        u32 path = take_u32(r), step = take_u32(r), at = slot_of(t, path);
        if (!path || step >= t->step_count)
            return false;
        while (t->slots[at].path && t->slots[at].path != path)
            at = (at + 1) & ((1u << bits) - 1);
        t->slots[at] = (struct slot){path, &t->steps[step]};
    }
    return t->slots != NULL;
}

static bool read_exits(struct tables *t, struct reader *r)
{
    for (u32 i = 0; i < t->exit_count; i++) {
        const u8 *from = take(r, sizeof t->exits[i].ethernet);
        if (!from)
            return false;
        memcpy(t->exits[i].ethernet, from, sizeof t->exits[i].ethernet);
        t->exits[i].path = __builtin_bswap32(take_u32(r));
    }
    return true;
}

static const char *replace_tables(struct reader *r)
{
    struct tables *t = calloc(1, sizeof *t);
    if (!t)
        return NO_MEMORY;
    t->number = take_u32(r);
    t->step_count = take_u32(r);
    t->exit_count = take_u32(r);
    if (t->step_count <= MOST_STEPS && t->exit_count <= MOST_STEPS) {
        t->steps = calloc((size_t)t->step_count + 1, sizeof *t->steps);
        t->exits = calloc((size_t)t->exit_count + 1, sizeof *t->exits);
    }
    if (!t->steps || !t->exits || !read_steps(t, r) || !read_exits(t, r) || !read_paths(t, r) || r->bad ||
        r->at != r->end) {
        tables_free(t);
        return BAD;
    }
    tables_free(tables);
    tables = t;
    return NULL;
}

/* -- messages -------------------------------------------------------------------------------------------- */

static void write_text(struct writer *w, const char *text)
{
    write_bytes(w, text, strlen(text) + 1);
}

static void hello(struct writer *w)
{
    write_u32(w, BOUNDARY_VERSION);
    for (const struct nf_ops *ops = nf_first(); ops; ops = ops->next) {
        write_text(w, ops->name);
        for (u32 i = 0; ops->reasons[i]; i++)
            write_text(w, ops->reasons[i]);
        write_text(w, "");
    }
}

const char *engine_serve(u32 kind, u32 instance, struct reader *r, struct writer *answer)
{
    switch (kind) {
    case ASK_HELLO:
        hello(answer);
        return NULL;
    case ASK_MAKE:
        return make(instance, r);
    case ASK_FORGET:
        return forget(instance);
    case ASK_TABLES:
        return replace_tables(r);
    case ASK_STATE: {
        const char *wrong;
        struct table *t = table_make(instance, r, &wrong);
        if (!t || (!r->bad && r->at == r->end))
            return wrong;
        table_end(t);
        return BAD;
    }
    case ASK_END_STATE:
        return end_state(instance);
    case ASK_WATCH:
        return noting_read(r) ? NULL : BAD;
    case ASK_STATS: {
        struct nf *nf = engine_instance(instance);
        return nf && nf->ops->stats ? nf->ops->stats(nf, r, answer) : "no instance that has more to tell has this number";
    }
    case ASK_GATE:
        return gate_open(instance, r);
    case ASK_KEPT:
        return gate_kept(instance, answer);
    case ASK_MARKS:
        gates_marks(r, answer);
        return NULL;
    case ASK_HOLD:
        return hold_open(instance, r, answer);
    case ASK_COUNTED:
        hold_counted(answer);
        return NULL;
    default:
        return moving_serve(kind, instance, r, answer);
    }
}

bool engine_start(u64 mac_number, struct shared shared)
{
    const u8 asked[8] = {0xFF, 0, 0xFF, 0xFF, 0xFF, 0xFF};
    u8 own[8] = {0};
    memory = shared;
    store_be(own, mac_number, 6);
    memcpy(&mac_mask, asked, sizeof asked);
    memcpy(&mac, own, sizeof own);
    mac &= mac_mask;
    tables_open(shared);
    holding_start(memory.words + LOST + STANDBY_BEHIND);
    return shared.count >= LOST + LOST_REASONS;
}

void engine_end(void)
{
    tables_free(tables);
    tables = NULL;
    for (u32 i = 0; i < MOST_INSTANCES; i++)
        end_instance(i);
    tables_close();
    gates_end();
    holding_end();
    noting_end();
}

/* -- packets --------------------------------------------------------------------------------------------- */

static const struct step *step_of(const struct tables *t, u32 path)
{
    for (u32 at = slot_of(t, path);; at = (at + 1) & (~(u32)0 >> t->shift)) {
        if (likely(t->slots[at].path == path))
            return t->slots[at].step;
        if (!t->slots[at].path)
            return NULL;
    }
}

/* Version 0, MD type 1, length 6, Ethernet, behind NSH's EtherType. RFC 8300, 2.2: who does not handle OAM packets (O
 * bit) discards them; unassigned bits are ignored. */
#define TAG_MASK 0xFFFFE03F0FFF0000u
#define TAG_IS 0x894F000601030000u

/* The path of the packet before, which is most often the next one's, and where it leads. */
struct entered {
    u32 path;
    const struct step *step; /* NULL: nowhere, as path 0 */
};

/* Read a frame's tag, and parse the frame in it; what is wrong, or LOST_REASONS. */
static inline enum lost enter(struct packet *p, const struct received *f, const struct tables *t,
                              struct entered *before)
{
    const u8 *at = f->bytes;
    u64 to;
    if (unlikely(f->size < TAG_BYTES))
        return BAD_TAG;
    u64 head = load_be(at + 12, 8);
    memcpy(&to, at, sizeof to);
    bool mine = (to & mac_mask) == mac;
    if (unlikely((head & TAG_MASK) != TAG_IS)) {
        if (!mine || !gates_mark(at, f->size))
            return BAD_TAG;
        memory.words[FRAMES_IN]--; /* it is the manager's, and no packet */
        return KEPT;
    }
    if (unlikely(!mine))
        return NOT_MINE;
    p->ttl = head >> 38 & 0x3F;
    if (unlikely(p->ttl <= 1))
        return NSH_TTL;
    u32 path = p->path = (u32)load_be(at + 18, 4);
    if (path != before->path)
        *before = (struct entered){path, t && path ? step_of(t, path) : NULL};
    p->step = before->step;
    if (unlikely(!p->step))
        return UNKNOWN_PATH;
    memcpy(p->words, at + 22, sizeof p->words);
    p->port = (u8)p->step->port;
    p->at = f->bytes + TAG_BYTES;
    p->size = f->size - TAG_BYTES;
    p->room = HEADROOM;
    if (unlikely(!packet_parse_inline(p)))
        return MALFORMED;
    return unlikely(gates_open) && !gates_pass && gates_keep(p, f) ? KEPT : LOST_REASONS;
}

static inline void leave(struct packet *p, struct sent *sent)
{
    const struct leaving *to = p->leaving;
    u8 *at = p->at - TAG_BYTES;
    u32 base = (p->ttl - 1u) << 6 | 6;
    memcpy(at, to->ethernet, sizeof to->ethernet);
    store_be(at + 14, (u64)base << 16 | 0x0103, 4);
    memcpy(at + 18, &to->path, 4);
    memcpy(at + 22, p->words, sizeof p->words);
    *sent = (struct sent){at, p->size + TAG_BYTES, p->index};
}

static void lose(enum lost why)
{
    memory.words[LOST + why]++;
}

/* The same of a packet that has its tag's words. */
static void lose_packet(const struct packet *p, enum lost why)
{
    lose(why);
    if (unlikely(noting_any) && why >= NSH_TTL)
        noting_lost(p, p->step ? (u32)(p->step - tables->steps) : NO_STEP, why);
}

static u64 now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (u64)now.tv_sec * 1000000000 + (u64)now.tv_nsec;
}

/* As process_burst, of which it takes the time now and then. */
static void process(struct nf *nf, struct packet *const *packets, u32 count, u64 now_us)
{
    if (nf->bursts++ % TIMED_OF) {
        nf->ops->process_burst(nf, packets, count, now_us);
        return;
    }
    u64 began = now_ns();
    nf->ops->process_burst(nf, packets, count, now_us);
    u64 spent = now_ns() - began;
    nf->times[RECENT + nf->times[TIMED]++ % RECENT_TIMES] = spent;
    nf->times[TIMED_PACKETS] += count;
    nf->times[TIMED_NS] += spent;
}

/* What NFs send beside the frames of a burst. */
static struct packet beside[MOST_EMITTED];
static u8 beside_room[MOST_EMITTED][HEADROOM + TAG_BYTES + MOST_BESIDE + SLACK]; /* until the next burst */
static u32 beside_count;

/* Have one NF take those of the waiting packets that are at it; those that go on stay, in order. */
static u32 call(struct packet **waiting, u32 count, u64 now_us)
{
    struct packet *taken[MOST_FRAMES];
    struct nf *nf = waiting[0]->step->nf;
    u32 n = 0, kept = 0;
    taken[0] = waiting[0];
    for (u32 i = 0; i < count; i++) { /* no branch: bursts are mixed in any way */
        taken[n] = waiting[i];
        n += waiting[i]->step->nf == nf;
    }
    nf->counters[0] += n;
    events_of = nf;
    if (unlikely(noting_any)) {
        u32 first = beside_count;
        noting_before(taken, n);
        process(nf, taken, n, now_us);
        noting_after(taken, n, tables->steps, sizeof *tables->steps, beside + first, beside_count - first);
    } else {
        process(nf, taken, n, now_us);
    }
    for (u32 i = 0; i < count; i++) {
        struct packet *p = waiting[i];
        const struct step *at = p->step;
        if (likely(at->nf == nf)) {
            if (unlikely(p->left >= HELD)) {
                if (p->left == DROPPED) {
                    nf->counters[1 + p->reason]++;
                    events_dropped(p);
                }
                continue;
            }
            static const struct onward nothing;
            const struct onward *f = p->left < at->ports ? &at->next[p->left] : &nothing;
            if (!f->step) {
                p->leaving = f->leaving;
                if (unlikely(!f->leaving))
                    lose_packet(p, NO_NEXT_HOP);
                continue;
            }
            p->step = f->step;
            p->port = (u8)f->step->port;
        }
        waiting[kept++] = p;
    }
    return kept;
}

/* -- frames that NFs send beside those of a burst ------------------------------------------------------------------ */

bool packet_emit(const struct packet *p, u8 port, const u8 *bytes, u32 size)
{
    if (beside_count == MOST_EMITTED || size > MOST_BESIDE)
        return false;
    u8 *at = beside_room[beside_count] + HEADROOM + TAG_BYTES;
    struct packet *b = &beside[beside_count++];
    *b = *p;
    b->at = at;
    b->size = size;
    b->room = HEADROOM;
    b->left = port;
    b->leaving = NULL;
    b->branch = 1;
    for (u32 i = 0; i + 1 < beside_count; i++)
        b->branch = (u16)(b->branch + (beside[i].index == p->index));
    memcpy(at, bytes, size);
    return true;
}

/* Have a frame go on from where it was sent; whether an NF comes next. */
static bool goes_on(struct packet *b)
{
    const struct onward *f = b->left < b->step->ports ? &b->step->next[b->left] : NULL;
    if (f && f->leaving) {
        b->leaving = f->leaving;
    } else if (!f || !f->step) {
        lose_packet(b, NO_NEXT_HOP);
    } else if (!packet_parse(b)) {
        lose_packet(b, MALFORMED);
    } else {
        b->step = f->step;
        b->port = (u8)f->step->port;
        return true;
    }
    return false;
}

/* Run them to completion, and those that NFs send beside them. */
static void run_beside(u64 now_us)
{
    for (u32 next = 0; next < beside_count;) {
        struct packet *waiting[MOST_FRAMES];
        u32 all = 0, calls = 0;
        for (; next < beside_count && all < MOST_FRAMES; next++)
            if (goes_on(&beside[next]))
                waiting[all++] = &beside[next];
        while (all && calls++ < MOST_CALLS)
            all = call(waiting, all, now_us);
        memory.words[LOST + LOOP] += all;
    }
}

/* Those that were sent behind a frame of the burst. */
static u32 leave_beside(u32 index, struct sent *sent, u32 out)
{
    for (u32 i = 0; i < beside_count; i++)
        if (beside[i].index == index && beside[i].leaving) {
            leave(&beside[i], &sent[out]);
            sent[out++].index = NO_INDEX;
        }
    return out;
}

u32 engine_give(const struct received *frames, u32 count, u64 now_us, struct sent *sent)
{
    gates_pass = true;
    u32 out = engine_burst(frames, count, now_us, sent);
    gates_pass = false;
    return out;
}

static void tidy(u64 now_us)
{
    tidy_us = now_us + TIDY_US;
    for (u32 i = 0; i < MOST_INSTANCES; i++)
        if (instances[i] && instances[i]->ops->tidy) {
            events_of = instances[i];
            instances[i]->ops->tidy(instances[i], now_us);
        }
}

/* A frame that does not come to a step. */
static void lose_frame(struct packet *p, const struct received *f, enum lost why)
{
    if (unlikely(noting_any) && why >= NSH_TTL) {
        memcpy(p->words, f->bytes + 22, sizeof p->words);
        p->path = (u32)load_be(f->bytes + 18, 4);
        p->step = why == MALFORMED ? p->step : NULL;
        p->at = f->bytes + TAG_BYTES;
        p->size = f->size - TAG_BYTES;
        lose_packet(p, why);
    } else {
        lose(why);
    }
}

u32 engine_burst(const struct received *frames, u32 count, u64 now_us, struct sent *sent)
{
    struct packet packets[MOST_FRAMES], *waiting[MOST_FRAMES];
    struct entered before = {0};
    u32 all = 0, out = 0, calls = 0;
    beside_count = 0;
    events_us = now_us;
    memory.words[FRAMES_IN] += count;
    noting_begin(frames, count, now_us, tables ? tables->number : 0);
    for (u32 i = 0; i < count; i++) {
        packets[i].index = (u8)i;
        packets[i].branch = 0;
        packets[i].leaving = NULL;
        enum lost why = enter(&packets[i], &frames[i], tables, &before);
        if (likely(why == LOST_REASONS))
            waiting[all++] = &packets[i];
        else if (why != KEPT)
            lose_frame(&packets[i], &frames[i], why);
    }
    while (all && calls++ < MOST_CALLS)
        all = call(waiting, all, now_us);
    memory.words[LOST + LOOP] += all;
    if (unlikely(beside_count))
        run_beside(now_us);
    for (u32 i = 0; i < count; i++) {
        if (likely(packets[i].leaving))
            leave(&packets[i], &sent[out++]);
        if (unlikely(beside_count))
            out = leave_beside(i, sent, out);
    }
    memory.words[FRAMES_OUT] += out;
    if (unlikely(now_us >= tidy_us))
        tidy(now_us);
    events_of = NULL;
    return out;
}

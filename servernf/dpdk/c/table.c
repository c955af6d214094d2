#include "table.h"

static struct table *tables[MOST_TABLES];
static struct shared memory;
static struct kind *kinds;
static u32 taken[MOST_TABLES_OF_NF], taken_count;

void kind_register(struct kind *kind)
{
    kind->next = kinds;
    kinds = kind;
}

struct table *table_of(u32 number)
{
    return number < MOST_TABLES ? tables[number] : NULL;
}

struct table *table_take(struct reader *config, const struct kind *kind)
{
    struct table *t = table_of(take_u32(config));
    if (config->bad || !t || t->kind != kind || taken_count == MOST_TABLES_OF_NF) {
        config->bad = true;
        return NULL;
    }
    taken[taken_count++] = t->number;
    return t;
}

u32 tables_taken(u32 *numbers)
{
    u32 count = taken_count;
    memcpy(numbers, taken, sizeof taken);
    taken_count = 0;
    return count;
}

void tables_open(struct shared shared)
{
    memory = shared;
}

void tables_close(void)
{
    for (u32 i = 0; i < MOST_TABLES; i++)
        if (tables[i])
            table_end(tables[i]);
}

/* -- records ---------------------------------------------------------------------------------------------- */

static size_t entries_bytes(const struct table *t)
{
    return (size_t)t->capacity * t->entry_size;
}

static size_t shares_bytes(const struct table *t)
{
    return (size_t)t->capacity * sizeof *t->shares;
}

static size_t ranking_bytes(const struct table *t)
{
    return ((size_t)t->capacity + 2) * sizeof *t->rankings[0].by_count;
}

static bool open_records(struct table *t)
{
    t->free = t->share_free = NIL;
    t->entries = region_open(entries_bytes(t));
    if (!t->entries || !index_open(&t->by_key, t->capacity))
        return false;
    if (!t->kind->fair)
        return true;
    t->shares = region_open(shares_bytes(t));
    for (int i = 0; i < 2; i++)
        t->rankings[i].by_count = region_open(ranking_bytes(t));
    return t->shares && t->rankings[0].by_count && t->rankings[1].by_count &&
           index_open(&t->by_source, t->capacity);
}

struct table *table_make(u32 number, struct reader *r, const char **wrong)
{
    u32 size = take_u32(r), counts = take_u32(r), bytes = take_u32(r);
    const char *name = (const char *)take(r, bytes);
    const struct kind *kind = kinds;
    *wrong = BAD;
    if (number >= MOST_TABLES || tables[number] || !name || !size || size >= 1u << 31 || counts > memory.count ||
        memory.count - counts < TABLE_WORDS)
        return NULL;
    while (kind && (strlen(kind->name) != bytes || memcmp(kind->name, name, bytes)))
        kind = kind->next;
    struct table *t = kind ? calloc(1, sizeof *t) : NULL;
    if (!t)
        return NULL;
    t->kind = kind;
    t->number = number;
    t->size = size;
    t->capacity = size + 1; /* a new one is in it before another one goes */
    t->counts = memory.words + counts;
    t->entry_size = (u32)((kind->size + ENTRY_REST * 8 + 63) / 64 * 64);
    tables[number] = t;
    if (take_words(r, t->seeds, SEED_WORDS)) {
        *wrong = NO_MEMORY;
        if (open_records(t) && (!kind->open || kind->open(t, r))) {
            memset(t->counts, 0, TABLE_WORDS * sizeof *t->counts);
            *wrong = NULL;
            return t;
        }
    }
    table_end(t);
    return NULL;
}

void table_end(struct table *t)
{
    if (t->kind->close)
        t->kind->close(t);
    if (t->groups) {
        t->groups->users = 1;
        groups_close(t);
    }
    region_close(t->entries, entries_bytes(t));
    region_close(t->shares, shares_bytes(t));
    for (int i = 0; i < 2; i++)
        region_close(t->rankings[i].by_count, ranking_bytes(t));
    index_close(&t->by_key);
    index_close(&t->by_source);
    tables[t->number] = NULL;
    for (u32 i = 0; i < MOST_TABLES; i++)
        if (tables[i] && tables[i]->other == t)
            tables[i]->other = NULL;
    free(t);
}

struct entry *table_slot(struct table *t)
{
    u32 at = t->free;
    if (at != NIL)
        t->free = entry_at(t, at)->after;
    else if (t->high < t->capacity)
        at = t->high++;
    else
        return NULL;
    struct entry *e = entry_at(t, at);
    memset(e, 0, t->entry_size);
    e->number = at;
    e->before = e->after = e->share = NIL;
    e->live = 1;
    return e;
}

void table_free_slot(struct table *t, struct entry *e)
{
    e->live = 0;
    e->after = t->free;
    t->free = e->number;
}

u32 entry_key(const struct table *t, const struct entry *e, u8 *to)
{
    memcpy(to, e->key, sizeof e->key);
    if (!e->is_long)
        return to[15];
    memcpy(to + sizeof e->key, entry_rest(t, e), ENTRY_REST * 8);
    return to[KEY_WORDS * 8 - 1];
}

/* -- queues ----------------------------------------------------------------------------------------------- */

void queue_append(struct table *t, struct queue *q, struct entry *e)
{
    if (!q->count)
        q->first = e->number;
    else
        entry_at(t, q->last)->after = e->number;
    e->before = q->count ? q->last : NIL;
    e->after = NIL;
    q->last = e->number;
    q->count++;
}

void queue_remove(struct table *t, struct queue *q, struct entry *e)
{
    if (e->before == NIL)
        q->first = e->after;
    else
        entry_at(t, e->before)->after = e->after;
    if (e->after == NIL)
        q->last = e->before;
    else
        entry_at(t, e->after)->before = e->before;
    q->count--;
}

/* -- shares, ranked by a count of theirs that changes by one at a time ------------------------------------------ */

/* Numbers of shares are 1 more here, as the memory is 0 at first: nobody. */
static void rank(struct table *t, u32 which, u32 at, u32 was, u32 now)
{
    struct ranking *r = &t->rankings[which];
    struct share *s = &t->shares[at];
    if (now) {
        u32 last = r->by_count[now].last;
        u32 before = s->before[which], after = s->after[which];
        s->before[which] = last;
        s->after[which] = 0;
        if (last)
            t->shares[last - 1].after[which] = at + 1;
        else
            r->by_count[now].first = at + 1;
        r->by_count[now].last = at + 1;
        r->highest = now > r->highest ? now : r->highest;
        if (!was)
            return;
        *(before ? &t->shares[before - 1].after[which] : &r->by_count[was].first) = after;
        *(after ? &t->shares[after - 1].before[which] : &r->by_count[was].last) = before;
    } else {
        u32 before = s->before[which], after = s->after[which];
        *(before ? &t->shares[before - 1].after[which] : &r->by_count[was].first) = after;
        *(after ? &t->shares[after - 1].before[which] : &r->by_count[was].last) = before;
    }
    if (!r->by_count[was].first && was == r->highest)
        r->highest = now;
}

static struct share *first_of(const struct table *t, u32 which)
{
    const struct ranking *r = &t->rankings[which];
    return r->highest ? &t->shares[r->by_count[r->highest].first - 1] : NULL;
}

struct source {
    u64 bytes;
    u32 size;
};

static bool same_source(const void *of, u32 at, const void *key)
{
    const struct share *s = &((const struct table *)of)->shares[at];
    const struct source *wanted = key;
    return s->source == wanted->bytes && s->bytes == wanted->size;
}

/* The share of a source, made if it has none; NIL: no room. */
static u32 share_of(struct table *t, u64 source, u32 bytes)
{
    struct source wanted = {source, bytes};
    u64 words[2] = {source, bytes};
    u32 hash = hash_words(words, 2, t->seeds), at = index_find(&t->by_source, hash, same_source, t, &wanted);
    if (at != NIL)
        return at;
    at = t->share_free;
    if (at != NIL)
        t->share_free = t->shares[at].next_free;
    else if (t->share_high < t->capacity)
        at = t->share_high++;
    else
        return NIL;
    t->shares[at] = (struct share){.source = source, .bytes = bytes, .hash = hash};
    index_enter(&t->by_source, hash, at);
    return at;
}

static void enter_queue(struct table *t, struct entry *e, bool established)
{
    struct queue *q = &t->shares[e->share].queues[established];
    queue_append(t, q, e);
    e->established = established;
    rank(t, established, e->share, q->count - 1, q->count);
}

static void leave_queue(struct table *t, struct entry *e)
{
    struct queue *q = &t->shares[e->share].queues[e->established];
    queue_remove(t, q, e);
    rank(t, e->established, e->share, q->count + 1, q->count);
}

/* -- tables that are fair --------------------------------------------------------------------------------- */

static bool same_short(const void *of, u32 at, const void *key)
{
    const struct entry *e = entry_at(of, at);
    const struct key *k = key;
    return e->key[0] == k->word[0] && e->key[1] == k->word[1] && !e->is_long;
}

static bool same_long(const void *of, u32 at, const void *key)
{
    const struct entry *e = entry_at(of, at);
    const struct key *k = key;
    return e->key[0] == k->word[0] && e->key[1] == k->word[1] && e->is_long &&
           !memcmp(entry_rest(of, e), &k->word[2], ENTRY_REST * 8);
}

struct entry *table_find(const struct table *t, const struct key *k, u32 hash)
{
    u32 at = likely(k->words == 2) ? index_find(&t->by_key, hash, same_short, t, k)
                                   : index_find(&t->by_key, hash, same_long, t, k);
    return at == NIL ? NULL : entry_at(t, at);
}

struct entry *table_enter(struct table *t, const struct key *k, u32 hash, u64 source, u32 source_bytes,
                          bool established)
{
    struct entry *e = table_slot(t);
    u32 share = e ? share_of(t, source, source_bytes) : NIL;
    if (share == NIL || !index_enter(&t->by_key, hash, e->number)) {
        if (e)
            table_free_slot(t, e);
        return NULL;
    }
    e->key[0] = k->word[0];
    e->key[1] = k->word[1];
    e->is_long = k->words != 2;
    if (e->is_long)
        memcpy(entry_rest(t, e), &k->word[2], ENTRY_REST * 8);
    e->share = share;
    e->hash = hash;
    enter_queue(t, e, established);
    table_entered(t, e);
    return e;
}

void table_remove(struct table *t, struct entry *e)
{
    struct share *s = &t->shares[e->share];
    table_leaves(t, e);
    index_leave(&t->by_key, e->hash, e->number);
    leave_queue(t, e);
    if (!s->queues[0].count && !s->queues[1].count) {
        index_leave(&t->by_source, s->hash, e->share);
        s->next_free = t->share_free;
        t->share_free = e->share;
    }
    table_free_slot(t, e);
}

struct entry *table_over(struct table *t, const struct entry *new)
{
    if (t->counts[COUNTED] <= t->size)
        return NULL;
    const struct share *own = &t->shares[new->share], *most = first_of(t, 0);
    struct entry *victim = entry_at(t, most->queues[0].first);
    if (victim == new) {
        const struct share *richest = first_of(t, 1);
        if (richest && richest->queues[1].count > own->queues[1].count + 1)
            victim = entry_at(t, richest->queues[1].first);
    }
    return victim;
}

void table_evict(struct table *t, struct entry *e)
{
    t->counts[EVICTED]++;
    table_remove(t, e);
}

void table_refresh(struct table *t, struct entry *e)
{
    e->turn = ++t->turn;
    if (e->after != NIL) {
        struct queue *q = &t->shares[e->share].queues[e->established];
        queue_remove(t, q, e);
        queue_append(t, q, e);
    }
    table_touch(t, e);
}

void table_establish(struct table *t, struct entry *e, bool established)
{
    if (e->established == established)
        return;
    leave_queue(t, e);
    enter_queue(t, e, established);
    table_touch(t, e);
}

void table_entered(struct table *t, struct entry *e)
{
    e->turn = ++t->turn;
    t->last_entered = e->number;
    t->counts[COUNTED]++;
    if (unlikely(t->groups))
        groups_entered(t, e);
}

void table_leaves(struct table *t, struct entry *e)
{
    t->counts[COUNTED]--;
    if (unlikely(t->groups))
        groups_leaves(t, e);
    if (t->kind->left)
        t->kind->left(t, e);
}

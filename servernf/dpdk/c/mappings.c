#include "mappings.h"

#include "events.h"

#define EXPIRED_AT_ONCE 8
#define QUEUED_FOR_US 1000000
#define ALL_REMOTES (1u << 20) /* of a table */
#define REMOTE_BYTES 7

struct host {
    u64 key; /* protocol and inside address */
    struct queue queues[2];
    u32 hash, next_free;
};

struct remote {
    u64 end;
    u32 mapping, before, after, hash;
};

/* What a table of mappings has beside its records. */
struct more {
    struct index by_outside, by_host, by_remote;
    struct host *hosts;
    struct remote *remotes;
    u32 host_high, host_free, remote_high, remote_free, pools;
    struct pool pool[MOST_POOLS];
};

static struct mapping *mapping_at(const struct table *t, u32 at)
{
    return (struct mapping *)entry_at(t, at);
}

/* -- pools ------------------------------------------------------------------------------------------------ */

void ports_of(const struct ports_share *s, u32 inside, u32 *low, u32 *high)
{
    u64 span = s->high - s->low + 1, bucket = (u64)group_of(inside) * s->buckets >> 16;
    *low = s->low + (u32)(span * bucket / s->buckets);
    *high = s->low + (u32)(span * (bucket + 1) / s->buckets) - 1;
}

bool share_holds(const struct ports_share *s, const struct mapping *m)
{
    u32 low, high, port = key_port(m->entry.key[1]), outside = key_address(m->entry.key[1]);
    ports_of(s, key_address(m->entry.key[0]), &low, &high);
    for (u32 i = 0; i < s->count; i++)
        if (s->addresses[i] == outside)
            return port >= low && port <= high;
    return false;
}

u32 pool_of(struct table *t, u8 protocol, u32 outside)
{
    struct more *more = t->more;
    for (u32 i = 0; i < more->pools; i++)
        if (more->pool[i].outside == outside && more->pool[i].protocol == protocol)
            return i;
    if (more->pools == MOST_POOLS)
        return NIL;
    more->pool[more->pools].outside = outside;
    more->pool[more->pools].protocol = protocol;
    return more->pools++;
}

/* The first free port from one on, up to another; NIL: none. */
static u32 first_free(const struct pool *pool, u32 from, u32 to)
{
    for (u32 word = from / 64; word <= to / 64; word++) {
        u64 free = ~pool->taken[word];
        if (word == from / 64)
            free &= ~(u64)0 << from % 64;
        if (free) {
            u32 port = 64 * word + (u32)__builtin_ctzll(free);
            return port <= to ? port : NIL;
        }
    }
    return NIL;
}

static u32 free_port(const struct pool *pool, u32 wanted, u32 low, u32 high)
{
    u32 port = wanted > high ? NIL : first_free(pool, wanted > low ? wanted : low, high);
    return port != NIL ? port : first_free(pool, low, high);
}

/* -- hosts ------------------------------------------------------------------------------------------------ */

static bool same_host(const void *of, u32 at, const void *key)
{
    return ((const struct more *)of)->hosts[at].key == *(const u64 *)key;
}

static u64 host_key(u8 protocol, u32 inside)
{
    return (u64)protocol << 32 | inside;
}

static u32 find_host(const struct table *t, u64 key, u32 hash)
{
    const struct more *more = t->more;
    return index_find(&more->by_host, hash, same_host, more, &key);
}

static u32 make_host(struct table *t, u64 key)
{
    struct more *more = t->more;
    u32 hash = hash_word(key, t->seeds), at = find_host(t, key, hash);
    if (at != NIL)
        return at;
    at = more->host_free;
    if (at != NIL)
        more->host_free = more->hosts[at].next_free;
    else
        at = more->host_high++; /* no more hosts than mappings */
    more->hosts[at] = (struct host){.key = key, .hash = hash};
    index_enter(&more->by_host, hash, at);
    return at;
}

static void host_append(struct table *t, struct mapping *m)
{
    struct queue *q = &((struct more *)t->more)->hosts[m->entry.share].queues[m->entry.established];
    m->host_before = q->count ? q->last : NIL;
    m->host_after = NIL;
    if (q->count)
        mapping_at(t, q->last)->host_after = m->entry.number;
    else
        q->first = m->entry.number;
    q->last = m->entry.number;
    q->count++;
}

static void host_remove(struct table *t, struct mapping *m)
{
    struct queue *q = &((struct more *)t->more)->hosts[m->entry.share].queues[m->entry.established];
    if (m->host_before == NIL)
        q->first = m->host_after;
    else
        mapping_at(t, m->host_before)->host_after = m->host_after;
    if (m->host_after == NIL)
        q->last = m->host_before;
    else
        mapping_at(t, m->host_after)->host_before = m->host_before;
    q->count--;
}

/* -- remotes ---------------------------------------------------------------------------------------------- */

struct wanted_remote {
    u64 end;
    u32 mapping;
};

static bool same_remote(const void *of, u32 at, const void *key)
{
    const struct remote *r = &((const struct more *)of)->remotes[at];
    const struct wanted_remote *wanted = key;
    return r->end == wanted->end && r->mapping == wanted->mapping;
}

static u32 remote_hash(const struct table *t, const struct mapping *m, u64 end)
{
    u64 words[2] = {end, m->entry.number};
    return hash_words(words, 2, t->seeds);
}

static u32 find_remote(const struct table *t, const struct mapping *m, u64 end, u32 hash)
{
    const struct more *more = t->more;
    struct wanted_remote wanted = {end, m->entry.number};
    return index_find(&more->by_remote, hash, same_remote, more, &wanted);
}

static void forget_first_remote(struct table *t, struct mapping *m)
{
    struct more *more = t->more;
    u32 at = m->first_remote;
    index_leave(&more->by_remote, more->remotes[at].hash, at);
    m->first_remote = more->remotes[at].after;
    m->remotes--;
    more->remotes[at].after = more->remote_free;
    more->remote_free = at;
}

void mapping_remember(struct table *t, struct mapping *m, u64 remote)
{
    struct more *more = t->more;
    u32 hash = remote_hash(t, m, remote);
    if (find_remote(t, m, remote, hash) != NIL)
        return;
    if (m->remotes == MOST_REMOTES || (more->remote_free == NIL && more->remote_high == ALL_REMOTES)) {
        if (!m->remotes)
            return; /* others have all the room */
        forget_first_remote(t, m);
    }
    u32 at = more->remote_free;
    if (at != NIL)
        more->remote_free = more->remotes[at].after;
    else
        at = more->remote_high++;
    more->remotes[at] = (struct remote){remote, m->entry.number, NIL, NIL, hash};
    if (m->remotes)
        more->remotes[m->last_remote].after = at;
    else
        m->first_remote = at;
    m->last_remote = at;
    m->remotes++;
    index_enter(&more->by_remote, hash, at);
}

bool mapping_remembers(const struct table *t, const struct mapping *m, u64 remote)
{
    return find_remote(t, m, remote, remote_hash(t, m, remote)) != NIL;
}

/* -- mappings --------------------------------------------------------------------------------------------- */

static bool same_inside(const void *of, u32 at, const void *key)
{
    return entry_at(of, at)->key[0] == *(const u64 *)key;
}

static bool same_outside(const void *of, u32 at, const void *key)
{
    return entry_at(of, at)->key[1] == *(const u64 *)key;
}

struct mapping *mapping_find(const struct table *t, u64 key, u32 hash, bool inside)
{
    u32 at = inside ? index_find(&t->by_key, hash, same_inside, t, &key)
                    : index_find(&((const struct more *)t->more)->by_outside, hash, same_outside, t, &key);
    return at == NIL ? NULL : mapping_at(t, at);
}

const struct index *mappings_by_outside(const struct table *t)
{
    return &((const struct more *)t->more)->by_outside;
}

static void queue_up(struct table *t, struct mapping *m, bool established, u64 now_us)
{
    struct more *more = t->more;
    m->entry.established = established;
    m->entry.turn = now_us;
    queue_append(t, &more->pool[m->pool].queues[established], &m->entry);
    host_append(t, m);
}

static void leave_queues(struct table *t, struct mapping *m)
{
    struct more *more = t->more;
    queue_remove(t, &more->pool[m->pool].queues[m->entry.established], &m->entry);
    host_remove(t, m);
}

static enum timeout kind_of(u8 protocol, bool established)
{
    return established ? OF_ESTABLISHED : protocol == UDP ? OF_UDP : protocol == TCP ? OF_TCP : OF_ICMP;
}

/* Enter one whose inside and outside are free. */
static struct mapping *add(struct table *t, u32 pool, u64 inside, u64 outside, u64 now_us)
{
    struct more *more = t->more;
    struct mapping *m = (struct mapping *)table_slot(t);
    if (!m)
        return NULL;
    m->entry.key[0] = inside;
    m->entry.key[1] = outside;
    m->entry.hash = hash_word(inside, t->seeds);
    m->entry.kind = kind_of((u8)inside, false);
    m->pool = pool;
    m->first_session = m->last_session = m->first_remote = m->last_remote = NIL;
    m->used_us = now_us;
    m->entry.share = make_host(t, host_key((u8)inside, key_address(inside)));
    queue_up(t, m, false, now_us);
    set_bit(more->pool[pool].taken, key_port(outside));
    index_enter(&t->by_key, m->entry.hash, m->entry.number);
    index_enter(&more->by_outside, hash_word(outside, t->seeds), m->entry.number);
    table_entered(t, &m->entry);
    m->entry.turn = now_us;
    return m;
}

struct mapping *mapping_make(struct table *t, u32 pool, u32 inside, u32 number, u32 low, u32 high, u64 now_us)
{
    struct more *more = t->more;
    const struct pool *p = &more->pool[pool];
    u32 port = free_port(p, number, low, high);
    if (port == NIL)
        return NULL;
    u8 protocol = (u8)p->protocol;
    struct mapping *m =
        add(t, pool, mapping_key(protocol, inside, number), mapping_key(protocol, p->outside, port), now_us);
    if (m)
        events_nat(BIB_CREATE, protocol, inside, number, p->outside, port);
    return m;
}

void mapping_remove(struct table *t, struct mapping *m)
{
    struct more *more = t->more;
    const u64 *ends = m->entry.key;
    events_nat(BIB_DELETE, mapping_protocol(m), key_address(ends[0]), key_port(ends[0]), key_address(ends[1]),
               key_port(ends[1]));
    while (m->sessions)
        table_remove(t->other, entry_at(t->other, m->first_session));
    while (m->remotes)
        forget_first_remote(t, m);
    table_leaves(t, &m->entry);
    leave_queues(t, m);
    struct host *h = &more->hosts[m->entry.share];
    if (!h->queues[0].count && !h->queues[1].count) {
        index_leave(&more->by_host, h->hash, m->entry.share);
        h->next_free = more->host_free;
        more->host_free = m->entry.share;
    }
    u32 port = key_port(m->entry.key[1]);
    more->pool[m->pool].taken[port / 64] &= ~((u64)1 << port % 64);
    index_leave(&t->by_key, m->entry.hash, m->entry.number);
    index_leave(&more->by_outside, hash_word(m->entry.key[1], t->seeds), m->entry.number);
    table_free_slot(t, &m->entry);
}

void mapping_used(struct table *t, struct mapping *m, u64 now_us)
{
    m->used_us = now_us;
    if (unlikely(now_us - m->entry.turn >= QUEUED_FOR_US)) {
        leave_queues(t, m);
        queue_up(t, m, m->entry.established, now_us);
    }
    table_touch(t, &m->entry);
}

void mapping_established(struct table *t, struct mapping *m, int change)
{
    m->established += (u32)change;
    bool established = m->established;
    if (established == m->entry.established)
        return;
    leave_queues(t, m);
    m->entry.kind = kind_of(mapping_protocol(m), established);
    queue_up(t, m, established, m->used_us);
    table_touch(t, &m->entry);
}

/* Of what is first in two queues, some that has expired. */
static void expire(struct table *t, const struct queue *queues, const u64 *timeouts_us, u64 now_us)
{
    for (u32 which = 0; which < 2; which++)
        for (u32 i = 0; i < EXPIRED_AT_ONCE && queues[which].count; i++) {
            struct mapping *m = mapping_at(t, queues[which].first);
            if (now_us < m->used_us + timeouts_us[m->entry.kind])
                break;
            mapping_remove(t, m);
        }
}

void pool_expire(struct table *t, u32 pool, const u64 *timeouts_us, u64 now_us)
{
    expire(t, ((struct more *)t->more)->pool[pool].queues, timeouts_us, now_us);
}

void pools_expire(struct table *t, const u64 *timeouts_us, u64 now_us)
{
    for (u32 i = 0; i < ((struct more *)t->more)->pools; i++)
        pool_expire(t, i, timeouts_us, now_us);
}

u32 mappings_of_host(struct table *t, u8 protocol, u32 inside, const u64 *timeouts_us, u64 now_us)
{
    struct more *more = t->more;
    u64 key = host_key(protocol, inside);
    u32 at = find_host(t, key, hash_word(key, t->seeds));
    if (at == NIL)
        return 0;
    struct host *h = &more->hosts[at];
    expire(t, h->queues, timeouts_us, now_us); /* the host's memory stays, if not its place */
    return h->queues[0].count + h->queues[1].count;
}

/* -- records of mappings ------------------------------------------------------------------------------------- */

static bool open_mappings(struct table *t, struct reader *config)
{
    struct more *more = t->more = region_open(sizeof *more);
    t->other = table_of(take_u32(config)); /* its sessions */
    if (!more || !t->other || t->other->kind != &session_kind)
        return false;
    t->other->other = t;
    more->host_free = more->remote_free = NIL;
    more->hosts = region_open((size_t)t->capacity * sizeof *more->hosts);
    more->remotes = region_open((size_t)ALL_REMOTES * sizeof *more->remotes);
    return more->hosts && more->remotes && index_open(&more->by_outside, t->capacity) &&
           index_open(&more->by_host, t->capacity) && index_open(&more->by_remote, ALL_REMOTES);
}

static void close_mappings(struct table *t)
{
    struct more *more = t->more;
    if (!more)
        return;
    region_close(more->hosts, (size_t)t->capacity * sizeof *more->hosts);
    region_close(more->remotes, (size_t)ALL_REMOTES * sizeof *more->remotes);
    index_close(&more->by_outside);
    index_close(&more->by_host);
    index_close(&more->by_remote);
    region_close(more, sizeof *more);
}

static struct flow flow_of_mapping(const struct table *t, const struct entry *e)
{
    (void)t;
    return (struct flow){key_address(e->key[0]), 0};
}

static void write_mapping(const struct table *t, const struct entry *e, struct writer *w, u64 now_us)
{
    const struct mapping *m = (const struct mapping *)e;
    const struct more *more = t->more;
    put_be(w, mapping_protocol(m), 1);
    put_be(w, key_address(e->key[0]), 4);
    put_be(w, key_port(e->key[0]), 2);
    put_be(w, key_address(e->key[1]), 4);
    put_be(w, key_port(e->key[1]), 2);
    put_be(w, m->established, 4);
    put_age(w, now_us, m->used_us);
    put_be(w, m->remotes * REMOTE_BYTES, 4);
    for (u32 at = m->first_remote, i = 0; i < m->remotes; i++, at = more->remotes[at].after)
        put_be(w, more->remotes[at].end, REMOTE_BYTES);
}

static const char *read_mapping(struct table *t, struct reader *r, u64 now_us, const struct nf *judge)
{
    u8 protocol = (u8)get_be(r, 1);
    u32 address = (u32)get_be(r, 4), number = (u32)get_be(r, 2), outside = (u32)get_be(r, 4);
    u32 port = (u32)get_be(r, 2), size;
    get_be(r, 4); /* established: as many as come along */
    u64 used_us = get_time(r, now_us), key = mapping_key(protocol, address, number);
    u64 other_key = mapping_key(protocol, outside, port);
    const u8 *remotes = get_bytes(r, &size, MOST_REMOTES * REMOTE_BYTES);
    if (r->bad || size % REMOTE_BYTES || (protocol != TCP && protocol != UDP && protocol != ICMP))
        return BAD;
    if (mapping_find(t, key, hash_word(key, t->seeds), true))
        return "is there already";
    if (mapping_find(t, other_key, hash_word(other_key, t->seeds), false))
        return "has an outside that is taken";
    struct mapping asked = {.entry.key = {key, other_key}};
    u32 pool = pool_of(t, protocol, outside);
    if (pool == NIL || !share_holds((const struct ports_share *)(judge + 1), &asked))
        return "has an outside that is not what its bucket has here";
    struct mapping *m = t->counts[COUNTED] >= t->size ? NULL : add(t, pool, key, other_key, now_us);
    if (!m)
        return "has no room";
    m->used_us = used_us;
    for (u32 at = 0; at < size; at += REMOTE_BYTES)
        mapping_remember(t, m, load_be(remotes + at, REMOTE_BYTES));
    return NULL;
}

static void remove_mapping(struct table *t, struct entry *e)
{
    mapping_remove(t, (struct mapping *)e);
}

struct kind mapping_kind = {.name = "mappings", .size = sizeof(struct mapping), .open = open_mappings,
                            .close = close_mappings, .remove = remove_mapping, .flow = flow_of_mapping,
                            .write = write_mapping, .read = read_mapping};
KIND(mapping_kind)

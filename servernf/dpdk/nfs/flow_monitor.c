/* Flow monitor: packets and bytes of every flow, both directions together (as IPFIX's biflows, RFC 5103); all packets
 * pass. Inside addresses share the table; a flow that has been idle begins anew when it comes again.
 */
#include "flow_keys.h"

#define LOOKED_AT 4096 /* records between two bursts, for who asks for the largest flows */

struct tally {
    struct entry entry;
    u64 packets, bytes, last_us;
};

struct flow_monitor {
    struct nf nf;
    struct table *flows;
    u32 most;
    u64 idle_us, *packets, *bytes;
};

/* -- records ---------------------------------------------------------------------------------------------- */

static struct flow flow_of(const struct table *t, const struct entry *e)
{
    u8 key[KEY_WORDS * 8];
    u32 size = entry_key(t, e, key);
    return flow_of_key(key, size);
}

static void write_counted(const struct table *t, const struct entry *e, struct writer *w, u64 now_us)
{
    const struct tally *c = (const struct tally *)e;
    write_key(t, e, w);
    put_be(w, c->packets, 8);
    put_be(w, c->bytes, 8);
    put_age(w, now_us, c->last_us);
    put_be(w, e->established, 1);
    write_source(t, e, w);
}

static const char *read_counted(struct table *t, struct reader *r, u64 now_us, const struct nf *judge)
{
    struct key k;
    const char *wrong;
    (void)judge;
    read_key(&k, r);
    u64 packets = get_be(r, 8), bytes = get_be(r, 8), last_us = get_time(r, now_us);
    bool established = get_be(r, 1);
    struct tally *c = (struct tally *)enter_read(t, &k, r, established, &wrong);
    if (!c)
        return wrong;
    c->packets = packets;
    c->bytes = bytes;
    c->last_us = last_us;
    return NULL;
}

static struct kind flows = {.name = "flows", .size = sizeof(struct tally), .fair = true, .flow = flow_of,
                            .write = write_counted, .read = read_counted};
KIND(flows)

/* -- configuration ------------------------------------------------------------------------------------------ */

static struct nf *init(struct reader *config, const struct shared *memory)
{
    struct flow_monitor *m = nf_make(sizeof *m, 0, 0);
    if (!m)
        return NULL;
    m->most = take_u32(config);
    m->idle_us = take_u64(config);
    u32 packets = take_u32(config), bytes = take_u32(config);
    m->flows = table_take(config, &flows);
    if (m->flows && m->most && m->most < m->flows->capacity && packets < memory->count && bytes < memory->count) {
        m->packets = memory->words + packets;
        m->bytes = memory->words + bytes;
        return &m->nf;
    }
    config->bad = true;
    free(m);
    return NULL;
}

/* Of the next records, key, packets and bytes of those that have so many bytes; first where to go on, 0: nowhere.
 */
static const char *stats(struct nf *nf, struct reader *asked, struct writer *w)
{
    const struct table *t = ((struct flow_monitor *)nf)->flows;
    u32 from = take_u32(asked);
    u64 floor = take_u64(asked);
    if (asked->bad)
        return BAD;
    u32 end = from < t->high && t->high - from > LOOKED_AT ? from + LOOKED_AT : t->high;
    write_u32(w, end < t->high ? end : 0);
    for (u32 at = from; at < end; at++) {
        const struct tally *c = (const struct tally *)entry_at(t, at);
        if (!c->entry.live || c->bytes < floor)
            continue;
        write_key(t, &c->entry, w);
        put_be(w, c->packets, 8);
        put_be(w, c->bytes, 8);
    }
    return NULL;
}

/* -- packets ---------------------------------------------------------------------------------------------- */

static void begin(struct flow_monitor *m, const struct packet *p, const struct key *k, u32 hash, u64 now_us)
{
    struct table *t = m->flows;
    u32 size;
    u64 host = host_of((const u8 *)k->word + 1, p->version == 4 ? 4 : 16, &size);
    t->size = m->most;
    struct tally *c = (struct tally *)table_enter(t, k, hash, host, size, false);
    if (!c)
        return;
    c->packets = 1;
    c->bytes = p->size;
    c->last_us = now_us;
    for (struct entry *over; c && (over = table_over(t, &c->entry));) {
        c = over == &c->entry ? NULL : c;
        table_evict(t, over);
    }
}

static void count_one(struct flow_monitor *m, const struct packet *p, const struct key *k, u32 hash, u64 now_us)
{
    struct tally *c = (struct tally *)table_find(m->flows, k, hash);
    if (!c) {
        begin(m, p, k, hash, now_us);
        return;
    }
    table_touch(m->flows, &c->entry);
    table_refresh(m->flows, &c->entry);
    if (c->last_us + m->idle_us <= now_us)
        c->packets = c->bytes = 0;
    c->packets++;
    c->bytes += p->size;
    c->last_us = now_us;
}

static void process_burst(struct nf *nf, struct packet *const *packets, u32 count, u64 now_us)
{
    struct flow_monitor *m = (struct flow_monitor *)nf;
    struct key keys[MOST_FRAMES];
    u32 hashes[MOST_FRAMES];
    for (u32 i = 0; i < count; i++)
        if (packets[i]->version) {
            key_of_flow(&keys[i], packets[i], packets[i]->port == INSIDE);
            hashes[i] = key_hash(m->flows, &keys[i]);
            index_prefetch(&m->flows->by_key, hashes[i]);
        }
    for (u32 i = 0; i < count; i++)
        if (packets[i]->version)
            table_prefetch(m->flows, hashes[i]);
    for (u32 i = 0; i < count; i++) {
        struct packet *p = packets[i];
        p->left = other(p->port);
        if (!p->version)
            continue;
        count_one(m, p, &keys[i], hashes[i], now_us);
        (*m->packets)++;
        *m->bytes += p->size;
    }
}

static const char *const reasons[] = {NULL};
static struct nf_ops ops = {.name = "flow_monitor", .reasons = reasons, .init = init, .process_burst = process_burst,
                            .stats = stats};
NF(ops)

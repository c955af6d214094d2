/* Network address and port translation (RFC 4787, 5382, 5508): endpoint-independent mapping.
 *
 * An inside (protocol, address, port or ICMP id) has one mapping to an outside (address, port), whoever it talks to
 * (RFC 4787, REQ-1); an inside address always has the same pool address (REQ-2). Each bucket of inside addresses has ports
 * of its own on every pool address (decision 0084), so return traffic finds the core that owns the bucket. An inside address
 * may have a share of the ports only (RFC 6888, REQ-4). A mapping serves TCP connections, each followed by the segments that
 * its receiver accepts; while one is established, so is the mapping (RFC 5382, REQ-5). Packets of either direction
 * refresh a mapping (RFC 4787, REQ-6), ICMP errors do not (RFC 5508, REQ-6). Only an echo reply is translated from outside.
 * Fragments follow their first (RFC 4787, REQ-14); IPv6 passes or is dropped.
 *
 * Mappings expire lazily: one is checked when it is looked up, and those longest unused when their pool needs a port. Another
 * configuration goes on with those whose ports are their bucket's, and takes the others' back as it meets them.
 */
#include "addresses.h"
#include "datagrams.h"
#include "events.h"
#include "mappings.h"

enum reason { IPV6, NOT_IP, PROTOCOL, FRAGMENT, UNACCEPTABLE, TOO_MANY, NO_FREE_PORT, NOT_IN_POOL, UNMAPPED, FILTERED,
              QUOTE };
enum filtering { BY_NOBODY, BY_ADDRESS, BY_PORT_TOO };

struct napt {
    struct nf nf;
    struct ports_share share; /* directly behind `nf`: `read_mapping` asks it */
    struct addresses owned;
    struct table *mappings, *sessions;
    struct datagrams datagrams;
    u64 timeouts_us[TIMEOUTS];
    u32 filtering, limit, mark, ipv6_passes;
    u32 addresses[];
};

static u32 marks; /* of configurations: their number */

static void fini(struct nf *nf)
{
    addresses_free(&((struct napt *)nf)->owned);
    free(nf);
}

static struct nf *init(struct reader *config, const struct shared *memory)
{
    (void)memory;
    u32 count = take_u32(config);
    struct napt *n = nf_make(sizeof *n, sizeof *n->addresses, count);
    if (!n)
        return NULL;
    n->share.low = take_u32(config);
    n->share.high = take_u32(config);
    n->share.buckets = take_u32(config);
    n->filtering = take_u32(config);
    n->limit = take_u32(config);
    n->ipv6_passes = take_u32(config);
    take_words(config, n->timeouts_us, TIMEOUTS);
    n->mappings = table_take(config, &mapping_kind);
    n->sessions = table_take(config, &session_kind);
    bool good = n->mappings && n->mappings->other == n->sessions && datagrams_read(&n->datagrams, config, true) && count &&
                n->share.low && n->share.low <= n->share.high && n->share.high <= 0xFFFF && n->share.buckets &&
                n->share.buckets <= n->share.high - n->share.low + 1 && n->filtering <= BY_PORT_TOO;
    for (u32 i = 0; i < count; i++)
        n->addresses[i] = take_u32(config);
    good = good && !config->bad && addresses_read(&n->owned, config, count);
    for (u32 i = 0; good && i < count; i++)
        good = pool_of(n->mappings, UDP, n->addresses[i]) != NIL &&
               pool_of(n->mappings, TCP, n->addresses[i]) != NIL && pool_of(n->mappings, ICMP, n->addresses[i]) != NIL;
    if (!good) {
        config->bad = true;
        fini(&n->nf);
        return NULL;
    }
    n->share.addresses = n->addresses;
    n->share.count = count;
    n->datagrams.sources[INSIDE] = true;
    n->datagrams.reason = FRAGMENT;
    n->mark = ++marks;
    return &n->nf;
}

/* -- mappings --------------------------------------------------------------------------------------------- */

static struct mapping *find(struct napt *n, u64 key, u32 hash, bool inside, u64 now_us)
{
    struct mapping *m = mapping_find(n->mappings, key, hash, inside);
    if (!m)
        return NULL;
    if (unlikely(now_us >= m->used_us + n->timeouts_us[m->entry.kind])) {
        mapping_remove(n->mappings, m);
        return NULL;
    }
    if (unlikely(m->known_to != n->mark)) {
        if (!share_holds(&n->share, m)) {
            mapping_remove(n->mappings, m);
            return NULL;
        }
        m->known_to = n->mark;
    }
    table_touch(n->mappings, &m->entry);
    return m;
}

static struct mapping *find_key(struct napt *n, u64 key, bool inside, u64 now_us)
{
    return find(n, key, hash_word(key, n->mappings->seeds), inside, now_us);
}

/* A new mapping; NULL: the packet is dropped. */
static struct mapping *create(struct napt *n, struct packet *p, u8 protocol, u32 inside, u32 number, u64 now_us)
{
    struct table *t = n->mappings;
    if (mappings_of_host(t, protocol, inside, n->timeouts_us, now_us) >= n->limit) {
        events_nat(QUOTA_EXCEEDED, protocol, inside, number, 0, 0);
        nf_drop(p, TOO_MANY);
        return NULL;
    }
    u32 outside = n->addresses[inside % n->share.count], pool = pool_of(t, protocol, outside), low, high;
    /* A port whose mapping has run out is free. */
    u64 wanted = mapping_key(protocol, outside, number);
    struct mapping *holder = mapping_find(t, wanted, hash_word(wanted, t->seeds), false);
    if (holder && now_us >= holder->used_us + n->timeouts_us[holder->entry.kind])
        mapping_remove(t, holder);
    pool_expire(t, pool, n->timeouts_us, now_us);
    ports_of(&n->share, inside, &low, &high);
    struct mapping *m = mapping_make(t, pool, inside, number, low, high, now_us);
    if (m) {
        m->known_to = n->mark;
    } else {
        events_nat(PORTS_EXHAUSTED, protocol, inside, number, outside, 0);
        nf_drop(p, NO_FREE_PORT);
    }
    return m;
}

static void lead(struct napt *n, struct packet *p, const struct mapping *m, u64 now_us)
{
    u32 inside = key_address(m->entry.key[0]);
    struct key k;
    key_of_fragment(&k, p);
    u128 address = p->port == INSIDE ? key_address(m->entry.key[1]) : inside;
    datagrams_lead(&n->datagrams, &n->nf, p, &k, address, __builtin_bswap32(inside), 4, now_us);
}

/* -- filtering (RFC 4787, 5) ------------------------------------------------------------------------------- */

static u64 remote_of(const struct napt *n, u8 protocol, u32 address, u32 port)
{
    if (n->filtering == BY_ADDRESS || protocol == ICMP)
        return address;
    return (u64)1 << 48 | (u64)address << 16 | port; /* not to be taken for an address */
}

static bool permits(const struct napt *n, const struct mapping *m, u32 address, u32 port)
{
    return mapping_remembers(n->mappings, m, remote_of(n, mapping_protocol(m), address, port));
}

/* -- ICMP errors: one follows the packet that it quotes (RFC 5508, REQ-4, REQ-5) ----------------------------------- */

static void error(struct napt *n, struct packet *p, const struct quote *q, u64 now_us)
{
    bool inside = p->port == INSIDE;
    /* The quoted packet went to an inside host, or came from one. */
    int32_t number = q->protocol == ICMP ? quote_echo(q) : quote_port(q, !inside);
    if (number == NO_PORT) {
        nf_drop(p, QUOTE);
        return;
    }
    u32 address = (u32)load_be(inside ? q->destination : q->source, 4);
    const struct mapping *m = find_key(n, mapping_key(q->protocol, address, (u32)number), inside, now_us);
    if (!m || (!inside && key_address(m->entry.key[1]) != (u32)packet_destination(p))) {
        nf_drop(p, UNMAPPED);
        return;
    }
    if (!inside && n->filtering) {
        int32_t port = quote_port(q, false);
        if (!permits(n, m, (u32)load_be(q->destination, 4), port < 0 ? 0 : (u32)port)) {
            nf_drop(p, FILTERED);
            return;
        }
    }
    u64 other = m->entry.key[inside];
    packet_translate_quote(p, q, !inside, key_address(other), (int32_t)key_port(other));
    if (inside)
        packet_set_source(p, key_address(other));
    else
        packet_set_destination(p, key_address(other));
}

/* -- packets ---------------------------------------------------------------------------------------------- */

/* The port, or the id of an echo, by which a mapping is known; NO_PORT: the packet is done. */
static int32_t number_of(struct napt *n, struct packet *p, u64 now_us)
{
    bool inside = p->port == INSIDE;
    if (likely(p->has_ports))
        return inside ? p->source_port : p->destination_port;
    if (p->later_fragment && (p->protocol == TCP || p->protocol == UDP || p->protocol == ICMP)) {
        datagrams_follow(&n->datagrams, &n->nf, p, now_us);
        return NO_PORT;
    }
    struct quote q;
    if (p->protocol == ICMP && packet_quote(p, &q)) {
        error(n, p, &q, now_us);
        return NO_PORT;
    }
    if (p->protocol != ICMP || p->at[p->l4] != (inside ? 8 : 0)) {
        nf_drop(p, PROTOCOL);
        return NO_PORT;
    }
    return (int32_t)load_be(p->at + p->l4 + 4, 2);
}

static void translate(struct packet *p, u64 to)
{
    bool icmp = p->protocol == ICMP;
    int32_t port = icmp ? NO_PORT : (int32_t)key_port(to);
    if (p->port == INSIDE)
        packet_set_source_end(p, key_address(to), port);
    else
        packet_set_destination_end(p, key_address(to), port);
    if (icmp)
        packet_set_icmp_id(p, (u16)key_port(to));
}

static void from_inside(struct napt *n, struct packet *p, int32_t number, u32 hash, u64 now_us)
{
    u8 protocol = (u8)p->protocol;
    u32 source = (u32)packet_source(p);
    bool leads = packet_leads_fragments(p), follows = protocol == TCP && !leads;
    struct mapping *m = find(n, mapping_key(protocol, source, (u32)number), hash, true, now_us);
    struct session fresh, *s = NULL;
    enum verdict verdict = ACCEPTED;
    if (follows) {
        fresh.entry.live = 0;
        s = session_judge(n->sessions, m, p, &fresh, &verdict);
        if (verdict == REFUSED) {
            if (m)
                translate(p, m->entry.key[1]);
            else
                nf_drop(p, UNACCEPTABLE);
            return;
        }
    }
    if (!m && !(m = create(n, p, protocol, source, (u32)number, now_us)))
        return;
    if (s)
        session_settle(n->sessions, m, s, verdict, p, now_us);
    if (n->filtering)
        mapping_remember(n->mappings, m,
                         remote_of(n, protocol, (u32)packet_destination(p), p->destination_port));
    if (leads)
        lead(n, p, m, now_us);
    translate(p, m->entry.key[1]);
    mapping_used(n->mappings, m, now_us);
}

static void from_outside(struct napt *n, struct packet *p, int32_t number, u32 hash, u64 now_us)
{
    u8 protocol = (u8)p->protocol;
    struct mapping *m =
        find(n, mapping_key(protocol, (u32)packet_destination(p), (u32)number), hash, false, now_us);
    if (!m) {
        nf_drop(p, UNMAPPED);
        return;
    }
    if (n->filtering && !permits(n, m, (u32)packet_source(p), p->source_port)) {
        nf_drop(p, FILTERED);
        return;
    }
    bool leads = packet_leads_fragments(p), refreshes = true;
    if (protocol == TCP) {
        refreshes = !leads;
        if (refreshes) {
            struct session fresh, *s;
            enum verdict verdict;
            fresh.entry.live = 0;
            s = session_judge(n->sessions, m, p, &fresh, &verdict);
            if (verdict != REFUSED)
                session_settle(n->sessions, m, s, verdict, p, now_us);
            refreshes = verdict == ACCEPTED || verdict == BEGINS;
        }
    }
    if (leads)
        lead(n, p, m, now_us);
    translate(p, m->entry.key[0]);
    if (refreshes)
        mapping_used(n->mappings, m, now_us);
}

static void process_burst(struct nf *nf, struct packet *const *packets, u32 count, u64 now_us)
{
    struct napt *n = (struct napt *)nf;
    struct table *t = n->mappings;
    u32 hashes[MOST_FRAMES];
    const struct index *ways[2] = {&t->by_key, mappings_by_outside(t)};
    for (u32 i = 0; i < count; i++) {
        const struct packet *p = packets[i];
        if (p->has_ports && p->version == 4) {
            u32 address = (u32)load_be(p->at + p->l3 + (p->port == INSIDE ? 12 : 16), 4);
            u16 port = p->port == INSIDE ? p->source_port : p->destination_port;
            hashes[i] = hash_word(mapping_key((u8)p->protocol, address, port), t->seeds);
            index_prefetch(ways[p->port], hashes[i]);
        }
    }
    for (u32 i = 0; i < count; i++)
        if (packets[i]->has_ports && packets[i]->version == 4) {
            u32 at = index_likely(ways[packets[i]->port], hashes[i]);
            if (at != NIL)
                __builtin_prefetch(entry_at(t, at), 1);
        }
    for (u32 i = 0; i < count; i++) {
        struct packet *p = packets[i];
        bool inside = p->port == INSIDE;
        p->left = other(p->port);
        if (p->version != 4) {
            if (p->version != 6 || !n->ipv6_passes)
                nf_drop(p, p->version == 6 ? IPV6 : NOT_IP);
            continue;
        }
        if (!inside && addresses_exact(&n->owned, packet_destination(p)) == NO_NUMBER) {
            nf_drop(p, NOT_IN_POOL);
            continue;
        }
        int32_t number = number_of(n, p, now_us);
        if (number == NO_PORT)
            continue;
        if (!p->has_ports) {
            u32 address = (u32)(inside ? packet_source(p) : packet_destination(p));
            hashes[i] = hash_word(mapping_key((u8)p->protocol, address, (u32)number), t->seeds);
        }
        if (inside)
            from_inside(n, p, number, hashes[i], now_us);
        else
            from_outside(n, p, number, hashes[i], now_us);
    }
}

static void tidy(struct nf *nf, u64 now_us)
{
    struct napt *n = (struct napt *)nf;
    pools_expire(n->mappings, n->timeouts_us, now_us);
    datagrams_tidy(&n->datagrams, nf, now_us);
}

/* What comes to the pool shows its bucket by its port, or an echo's id, also in a quote. */
static int32_t answer_hash(const struct nf *nf, const struct packet *p)
{
    const struct napt *n = (const struct napt *)nf;
    if (p->port != OUTSIDE || p->version != 4 || addresses_exact(&n->owned, packet_destination(p)) == NO_NUMBER)
        return -1;
    int32_t number = p->has_ports ? p->destination_port : NO_PORT;
    struct quote q;
    if (number == NO_PORT && p->protocol == ICMP && p->l4) {
        if (!packet_quote(p, &q))
            number = (int32_t)load_be(p->at + p->l4 + 4, 2);
        else if (q.l4)
            number = (int32_t)load_be(q.l4 + (q.protocol == ICMP ? 4 : 0), 2);
    }
    u64 span = n->share.high - n->share.low + 1;
    if (number < (int32_t)n->share.low || number > (int32_t)n->share.high)
        return -1;
    u64 past = (u64)(number - (int32_t)n->share.low);
    u64 bucket = ((past + 1) * n->share.buckets - 1) / span; /* the first one that ends behind it */
    return (int32_t)((bucket << 16) / n->share.buckets);
}

static const char *const reasons[] = {"ipv6",    "not_ip",      "protocol", "fragment", "unacceptable", "too_many_mappings",
                                       "no_port", "not_in_pool", "unmapped", "filtered", "quote",        NULL};
static struct nf_ops ops = {.name = "napt", .reasons = reasons, .init = init, .process_burst = process_burst,
                            .fini = fini, .tidy = tidy, .answer_hash = answer_hash};
NF(ops)

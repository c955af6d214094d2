/* L4 load balancer: connections to a virtual service go to its backends, and stay with them.
 *
 * Clients are outside, backends inside. A new connection's backend is chosen by weighted rendezvous hashing (Thaler and
 * Ravishankar 1998; logarithmic, Schindelhauer and Schomaker 2005) over the client's address and port: when a backend
 * comes or goes, only its own share moves. Clients share the table; a connection whose client has sent again after an
 * answer is safe from others' floods. Backends are judged by whether they answer (`backend_health.h`). An ICMP error
 * belongs to the connection that it quotes and is translated with the quote (RFC 5508, 4), so that path MTU discovery
 * works through the service; it refreshes nothing. Later fragments follow their first (RFC 4787, REQ-14).
 *
 * Another configuration goes on with the connections whose service and backend it has, and knows no others.
 */
#include "addresses.h"
#include "backend_health.h"
#include "crc32.h"
#include "datagrams.h"
#include "tcp_acceptance.h"

#include <math.h>

enum { FRAGMENT };
enum { MAY_TCP = 1, MAY_UDP = 2, MAY = 4 };

struct connection {
    struct entry entry;
    u64 used_us;
    u32 known_to, service, backend; /* the last configuration that was found to have both; where it has them */
    u32 back_hash;
    u16 port;
    bool answered;
    u128 address; /* with `port` its backend */
    struct key back; /* of what a reply carries */
};

struct backend {
    u64 address[2]; /* low word first */
    u32 port, weight, seed;
    u32 health; /* words of the shared memory, or NIL */
};
_Static_assert(sizeof(struct backend) == 32, "a backend is 32 bytes");

struct service {
    u64 address[2];
    u32 version, protocol, port, first, count, unused; /* backends */
};
_Static_assert(sizeof(struct service) == 40, "a service is 40 bytes");

struct balancer {
    struct nf nf;
    struct table *connections;
    struct datagrams datagrams;
    struct health_checks checks;
    struct addresses virtual[2], real[2]; /* by version: of which protocols packets may be */
    struct backend *backends;
    struct index by_end; /* services */
    u64 idle_us, *words;
    u32 mark, service_count, backend_count;
    struct service services[];
};

static u32 marks; /* of configurations: their number */

/* -- keys ------------------------------------------------------------------------------------------------- */

static void key_of_service(struct key *k, u32 version, u8 protocol, u128 address, u32 port)
{
    struct end end, none = {.size = 0};
    end_make(&end, (u8)version, address, port);
    key_of_ends(k, protocol, &end, &none);
}

struct asked_service {
    u32 version, protocol, port;
    u128 address;
};

static bool same_service(const void *of, u32 at, const void *key)
{
    const struct service *s = &((const struct balancer *)of)->services[at];
    const struct asked_service *asked = key;
    return s->version == asked->version && s->protocol == asked->protocol && s->port == asked->port &&
           words_long(s->address) == asked->address;
}

static u32 service_of(const struct balancer *b, u32 version, u8 protocol, u128 address, u32 port)
{
    struct asked_service asked = {version, protocol, port, address};
    struct key k;
    key_of_service(&k, version, protocol, address, port);
    return index_find(&b->by_end, key_hash(b->connections, &k), same_service, b, &asked);
}

/* The parts of a connection's key. */
static void parts_of(const struct connection *c, const struct table *t, u8 *key, u32 *half)
{
    *half = entry_key(t, &c->entry, key) / 2;
}

static bool same_back(const void *of, u32 at, const void *key)
{
    const struct connection *c = (const struct connection *)entry_at(of, at);
    const struct key *k = key;
    return c->back.words == k->words && !memcmp(c->back.word, k->word, k->words * 8);
}

/* -- records ---------------------------------------------------------------------------------------------- */

static bool open_connections(struct table *t, struct reader *config)
{
    (void)config;
    struct index *replies = t->more = calloc(1, sizeof *replies);
    return replies && index_open(replies, t->capacity);
}

static void close_connections(struct table *t)
{
    if (t->more)
        index_close(t->more);
    free(t->more);
}

/* What a reply carries is known, in another's place if another service took the same backend for the same client. */
static void know_back(struct table *t, struct connection *c)
{
    u8 key[KEY_WORDS * 8];
    u32 half;
    parts_of(c, t, key, &half);
    struct end backend, client = {.size = half};
    end_make(&backend, half == 6 ? 4 : 6, c->address, c->port);
    memcpy(client.bytes, key + 1 + half, half);
    key_of_ends(&c->back, key[0], &backend, &client);
    c->back_hash = key_hash(t, &c->back);
    u32 other = index_find(t->more, c->back_hash, same_back, t, &c->back);
    if (other != NIL)
        index_leave(t->more, c->back_hash, other);
    index_enter(t->more, c->back_hash, c->entry.number);
}

static void left(struct table *t, struct entry *e)
{
    struct connection *c = (struct connection *)e;
    if (c->back.words)
        index_leave(t->more, c->back_hash, e->number);
}

static struct flow flow_of(const struct table *t, const struct entry *e)
{
    u8 key[KEY_WORDS * 8];
    u32 size = entry_key(t, e, key);
    return flow_of_key(key, size);
}

static void write_connection(const struct table *t, const struct entry *e, struct writer *w, u64 now_us)
{
    const struct connection *c = (const struct connection *)e;
    struct end backend;
    end_make(&backend, e->is_long ? 6 : 4, c->address, c->port);
    write_key(t, e, w);
    put_age(w, now_us, c->used_us);
    put_be(w, c->answered, 1);
    put_be(w, e->established, 1);
    put_bytes(w, backend.bytes, backend.size);
    write_source(t, e, w);
}

static bool is_current(const struct balancer *b, struct connection *c, u64 now_us);

static const char *read_connection(struct table *t, struct reader *r, u64 now_us, const struct nf *judge)
{
    struct key k;
    const char *wrong;
    u32 size;
    read_key(&k, r);
    u64 used_us = get_time(r, now_us);
    bool answered = get_be(r, 1), established = get_be(r, 1);
    const u8 *backend = get_bytes(r, &size, 18);
    if (r->bad || size != (k.words == 2 ? 6 : 18))
        return BAD;
    struct connection *c = (struct connection *)enter_read(t, &k, r, established, &wrong);
    if (!c)
        return wrong;
    c->used_us = now_us;
    c->answered = answered;
    c->address = load_be_long(backend, size - 2);
    c->port = (u16)load_be(backend + size - 2, 2);
    know_back(t, c);
    if (!is_current((const struct balancer *)judge, c, now_us)) {
        table_remove(t, &c->entry);
        return "has no such service and backend here";
    }
    c->used_us = used_us;
    return NULL;
}

static struct kind connections = {.name = "balanced", .size = sizeof(struct connection), .fair = true,
                                  .open = open_connections, .close = close_connections, .left = left,
                                  .flow = flow_of, .write = write_connection, .read = read_connection};
KIND(connections)

/* -- configuration ------------------------------------------------------------------------------------------ */

static void fini(struct nf *nf)
{
    struct balancer *b = (struct balancer *)nf;
    for (u32 i = 0; i < 2; i++) {
        addresses_free(&b->virtual[i]);
        addresses_free(&b->real[i]);
    }
    free(b->backends);
    if (b->by_end.lines)
        index_close(&b->by_end);
    free(b);
}

static bool read_services(struct balancer *b, struct reader *config, const struct shared *memory)
{
    size_t size = (size_t)b->backend_count * sizeof *b->backends;
    const u8 *services = take(config, b->service_count * sizeof *b->services);
    const u8 *backends = size > MAX_MESSAGE ? NULL : take(config, size);
    b->backends = malloc(size + 1);
    if (!services || !backends || !b->backends || !index_open(&b->by_end, b->service_count))
        return false;
    memcpy(b->services, services, b->service_count * sizeof *b->services);
    memcpy(b->backends, backends, size);
    for (u32 i = 0; i < b->backend_count; i++) {
        u32 at = b->backends[i].health;
        if (b->backends[i].port > 0xFFFF || !b->backends[i].weight ||
            (at != NIL && (at > memory->count || memory->count - at < HEALTH_WORDS)))
            return false;
    }
    for (u32 i = 0; i < b->service_count; i++) {
        const struct service *s = &b->services[i];
        struct key k;
        if (!s->count || s->first > b->backend_count || b->backend_count - s->first < s->count ||
            (s->version != 4 && s->version != 6) || (s->protocol != TCP && s->protocol != UDP) || s->port > 0xFFFF)
            return false;
        key_of_service(&k, s->version, (u8)s->protocol, words_long(s->address), s->port);
        index_enter(&b->by_end, key_hash(b->connections, &k), i);
    }
    return true;
}

static struct nf *init(struct reader *config, const struct shared *memory)
{
    u32 services = take_u32(config), backends = take_u32(config);
    struct balancer *b = nf_make(sizeof *b, sizeof *b->services, services);
    if (!b)
        return NULL;
    b->service_count = services;
    b->backend_count = backends;
    b->mark = ++marks;
    b->words = memory->words;
    b->idle_us = take_u64(config);
    b->checks.timeout_us = take_u64(config);
    b->checks.retry_us = take_u64(config);
    b->checks.misses = take_u32(config);
    b->connections = table_take(config, &connections);
    bool good = b->connections && datagrams_read(&b->datagrams, config, false) && b->checks.misses <= MOST_MISSES &&
                read_services(b, config, memory);
    for (u32 i = 0; good && i < 2; i++)
        good = addresses_read(&b->virtual[i], config, MAY) && addresses_read(&b->real[i], config, MAY);
    b->datagrams.sources[INSIDE] = true;
    b->datagrams.reason = FRAGMENT;
    if (good)
        return &b->nf;
    config->bad = true;
    fini(&b->nf);
    return NULL;
}

/* -- connections ------------------------------------------------------------------------------------------ */

/* Whether this configuration has a connection's service and backend. */
static bool knows(const struct balancer *b, struct connection *c)
{
    u8 key[KEY_WORDS * 8];
    u32 half;
    if (c->known_to == b->mark)
        return true;
    parts_of(c, b->connections, key, &half);
    u32 found = service_of(b, half == 6 ? 4 : 6, key[0], load_be_long(key + 1, half - 2),
                           (u32)load_be(key + half - 1, 2));
    if (found == NIL)
        return false;
    const struct service *s = &b->services[found];
    for (u32 i = s->first; i < s->first + s->count; i++)
        if (words_long(b->backends[i].address) == c->address && b->backends[i].port == c->port) {
            c->known_to = b->mark;
            c->service = found;
            c->backend = i;
            return true;
        }
    return false;
}

/* Whether it is neither over nor no longer served. */
static bool is_current(const struct balancer *b, struct connection *c, u64 now_us)
{
    return now_us < c->used_us + b->idle_us && knows(b, c);
}

static struct health *health_of(const struct balancer *b, u32 backend, u8 protocol)
{
    u32 at = b->backends[backend].health;
    return protocol == TCP && b->checks.misses && at != NIL ? (struct health *)(b->words + at) : NULL;
}

/* CRC-32 is linear: without mixing, the backends' hashes would differ by constants. MurmurHash3's finaliser mixes. */
static double score(u32 seed, const struct backend *b)
{
    u32 h = seed ^ b->seed;
    h = (h ^ h >> 16) * 0x85EBCA6Bu;
    h = (h ^ h >> 13) * 0xC2B2AE35u;
    h ^= h >> 16;
    return -(double)b->weight / log((h + 0.5) / 4294967296.0);
}

/* The backend of a new connection: the one with the highest score of those that are up, of all where none is. */
static u32 choose(const struct balancer *b, const struct service *s, const struct end *client, u64 now_us)
{
    u32 seed = crc32_of(0, client->bytes, client->size), best = s->first, best_up = NIL;
    double most = -INFINITY, most_up = -INFINITY;
    for (u32 i = s->first; i < s->first + s->count; i++) {
        struct health *h = health_of(b, i, (u8)s->protocol);
        double found = score(seed, &b->backends[i]);
        bool up = !h || health_is_up(h, &b->checks, now_us);
        if (found > most) {
            most = found;
            best = i;
        }
        if (up && (best_up == NIL || found > most_up)) {
            most_up = found;
            best_up = i;
        }
    }
    return best_up == NIL ? best : best_up;
}

/* A new connection; NULL: there is no room for it, and `backend` says which would be its own. */
static struct connection *open_new(struct balancer *b, const struct packet *p, const struct key *k, u32 hash,
                                   u32 service, u64 now_us, u32 *backend)
{
    struct table *t = b->connections;
    struct end client;
    u32 size;
    end_of(p, true, &client);
    *backend = choose(b, &b->services[service], &client, now_us);
    u64 host = host_of(client.bytes, client.size - 2, &size);
    struct connection *c = (struct connection *)table_enter(t, k, hash, host, size, false);
    if (!c)
        return NULL;
    c->known_to = b->mark;
    c->service = service;
    c->backend = *backend;
    c->address = words_long(b->backends[*backend].address);
    c->port = (u16)b->backends[*backend].port;
    know_back(t, c);
    for (struct entry *over; c && (over = table_over(t, &c->entry));) {
        c = over == &c->entry ? NULL : c;
        table_evict(t, over);
    }
    return c;
}

/* -- packets ---------------------------------------------------------------------------------------------- */

static bool may_rewrite(const struct balancer *b, const struct packet *p)
{
    const struct addresses *of = (p->port == OUTSIDE ? b->virtual : b->real) + (p->version == 6);
    u32 found = addresses_exact(of, p->port == OUTSIDE ? packet_destination(p) : packet_source(p));
    return found != NO_NUMBER && found & (p->protocol == TCP ? MAY_TCP : p->protocol == UDP ? MAY_UDP : 0);
}

/* Whether a packet is a SYN that opens a connection. */
static bool is_opening(const struct packet *p)
{
    return p->protocol == TCP && (tcp_flags(p) & (FIN | SYN | RST | ACK)) == SYN;
}

static void balance(struct balancer *b, struct packet *p, u64 now_us)
{
    struct table *t = b->connections;
    u32 service = service_of(b, p->version, (u8)p->protocol, packet_destination(p), p->destination_port), backend;
    struct key k;
    if (service == NIL)
        return;
    key_of_flow(&k, p, false);
    u32 hash = key_hash(t, &k);
    struct connection *c = (struct connection *)table_find(t, &k, hash);
    if (c && !is_current(b, c, now_us)) {
        table_remove(t, &c->entry);
        c = NULL;
    }
    bool opening = (!c || !c->answered) && is_opening(p);
    if (opening && c) {
        struct health *h = health_of(b, c->backend, (u8)p->protocol);
        if (h && !health_is_up(h, &b->checks, now_us)) {
            table_remove(t, &c->entry);
            c = NULL;
        }
    }
    if (!c) {
        c = open_new(b, p, &k, hash, service, now_us, &backend);
        struct health *h = opening ? health_of(b, backend, (u8)p->protocol) : NULL;
        if (h)
            health_opened(h, &b->checks, now_us);
    } else {
        backend = c->backend;
        table_refresh(t, &c->entry);
        if (c->answered)
            table_establish(t, &c->entry, true);
    }
    if (c)
        c->used_us = now_us;
    packet_set_destination_end(p, words_long(b->backends[backend].address), (int32_t)b->backends[backend].port);
}

/* A reset in answer to a SYN is a refusal, all else a sign of life. */
static void answered(const struct balancer *b, struct connection *c, const struct packet *p, u64 now_us)
{
    struct health *h = health_of(b, c->backend, (u8)p->protocol);
    if (h) {
        if (!c->answered && tcp_flags(p) & RST) {
            health_refused(h, &b->checks, now_us);
            return;
        }
        if (h->unheard) /* nearly all frames tell nothing new */
            health_heard(h);
    }
    c->answered = true;
}

static struct connection *find_back(const struct balancer *b, const struct key *k, u64 now_us)
{
    struct table *t = b->connections;
    u32 at = index_find(t->more, key_hash(t, k), same_back, t, k);
    struct connection *c = at == NIL ? NULL : (struct connection *)entry_at(t, at);
    if (!c || !is_current(b, c, now_us))
        return NULL;
    table_touch(t, &c->entry);
    return c;
}

static void give_back(struct balancer *b, struct packet *p, u64 now_us)
{
    struct key k;
    key_of_flow(&k, p, true);
    struct connection *c = find_back(b, &k, now_us);
    if (!c)
        return;
    const struct service *s = &b->services[c->service];
    c->used_us = now_us;
    answered(b, c, p, now_us);
    table_refresh(b->connections, &c->entry);
    packet_set_source_end(p, words_long(s->address), (int32_t)s->port);
}

/* An ICMP error about a packet of a connection: from outside about a reply, from inside about what a client had sent. */
static void error(struct balancer *b, struct packet *p, const struct quote *q, u64 now_us)
{
    struct end source = {.size = q->bytes + 2u}, destination = {.size = q->bytes + 2u};
    struct key k;
    memcpy(source.bytes, q->source, q->bytes);
    memcpy(source.bytes + q->bytes, q->l4, 2);
    memcpy(destination.bytes, q->destination, q->bytes);
    memcpy(destination.bytes + q->bytes, q->l4 + 2, 2);
    if (p->port == OUTSIDE) {
        key_of_ends(&k, q->protocol, &source, &destination);
        struct connection *c = (struct connection *)table_find(b->connections, &k, key_hash(b->connections, &k));
        if (!c || !is_current(b, c, now_us) || packet_destination(p) != load_be_long(q->source, q->bytes))
            return;
        packet_translate_quote(p, q, true, c->address, c->port);
        packet_set_destination(p, c->address);
        return;
    }
    key_of_ends(&k, q->protocol, &destination, &source);
    const struct connection *c = find_back(b, &k, now_us);
    if (!c)
        return;
    const struct service *s = &b->services[c->service];
    packet_translate_quote(p, q, false, words_long(s->address), (int32_t)s->port);
    if (packet_source(p) == c->address)
        packet_set_source(p, words_long(s->address));
}

static void without_ports(struct balancer *b, struct packet *p, u64 now_us)
{
    struct quote q;
    if (p->later_fragment && may_rewrite(b, p))
        datagrams_follow(&b->datagrams, &b->nf, p, now_us);
    else if (packet_quote(p, &q) && quote_port(&q, true) != NO_PORT)
        error(b, p, &q, now_us);
}

static void one(struct balancer *b, struct packet *p, u64 now_us)
{
    bool leads = packet_leads_fragments(p) && may_rewrite(b, p);
    struct key k;
    if (leads)
        key_of_fragment(&k, p);
    if (p->port == OUTSIDE)
        balance(b, p, now_us);
    else
        give_back(b, p, now_us);
    if (leads) {
        struct end client;
        u32 size;
        end_of(p, p->port == OUTSIDE, &client);
        u64 host = host_of(client.bytes, client.size - 2, &size);
        u128 address = p->port == OUTSIDE ? packet_destination(p) : packet_source(p);
        datagrams_lead(&b->datagrams, &b->nf, p, &k, address, host, size, now_us);
    }
}

static void prefetch(const struct balancer *b, struct packet *const *packets, u32 count)
{
    struct table *t = b->connections;
    u32 hashes[MOST_FRAMES];
    struct key k;
    for (u32 i = 0; i < count; i++)
        if (packets[i]->has_ports) {
            key_of_flow(&k, packets[i], packets[i]->port == INSIDE);
            hashes[i] = key_hash(t, &k);
            index_prefetch(packets[i]->port == INSIDE ? t->more : &t->by_key, hashes[i]);
        }
    for (u32 i = 0; i < count; i++)
        if (packets[i]->has_ports) {
            u32 at = index_likely(packets[i]->port == INSIDE ? t->more : &t->by_key, hashes[i]);
            if (at != NIL)
                __builtin_prefetch(entry_at(t, at));
        }
}

static void process_burst(struct nf *nf, struct packet *const *packets, u32 count, u64 now_us)
{
    struct balancer *b = (struct balancer *)nf;
    prefetch(b, packets, count);
    for (u32 i = 0; i < count; i++) {
        struct packet *p = packets[i];
        p->left = other(p->port);
        if (p->has_ports)
            one(b, p, now_us);
        else if (p->version)
            without_ports(b, p, now_us);
    }
}

static void tidy(struct nf *nf, u64 now_us)
{
    datagrams_tidy(&((struct balancer *)nf)->datagrams, nf, now_us);
}

static const char *const reasons[] = {"fragment", NULL};
static struct nf_ops ops = {.name = "l4_load_balancer", .reasons = reasons, .init = init,
                            .process_burst = process_burst, .fini = fini, .tidy = tidy};
NF(ops)

/* Destination NAT (RFC 2663, 4.1; RFC 3022, 4.1): what comes from inside goes to one address, and answers show the one
 * asked.
 *
 * A connection is the protocol, the inside's address and port, and the outside's port as rewritten; both are 0 without
 * ports. Two original destinations of one connection share a record, the last one counts. Inside addresses share the
 * table; a connection on which inside has sent again after an answer is safe from others' floods. An ICMP error belongs to
 * the connection that it quotes, is translated with the quote and refreshes nothing (RFC 5508, REQ-6). Of an answer in
 * fragments the later ones follow the first (RFC 4787, REQ-14).
 */
#include "datagrams.h"

enum { FRAGMENT };

struct asked {
    struct entry entry;
    u64 used_us;
    u128 address; /* the destination that inside asked for */
    int32_t port; /* NO_PORT: without ports */
    bool answered;
};

struct dnat {
    struct nf nf;
    struct table *asked;
    struct datagrams datagrams;
    u128 address;
    u64 idle_us;
    u32 version, most;
    int32_t port; /* NO_PORT: it stays */
};

/* -- records ---------------------------------------------------------------------------------------------- */

static struct flow flow_of(const struct table *t, const struct entry *e)
{
    u8 key[KEY_WORDS * 8];
    u32 size = entry_key(t, e, key);
    return (struct flow){load_be_long(key + 1, size - 5), 0};
}

static void write_asked(const struct table *t, const struct entry *e, struct writer *w, u64 now_us)
{
    const struct asked *a = (const struct asked *)e;
    u8 address[16];
    store_be_long(address, a->address, 16);
    write_key(t, e, w);
    put_be(w, (u64)(i64)a->port, 8);
    put_age(w, now_us, a->used_us);
    put_be(w, a->answered, 1);
    put_be(w, e->established, 1);
    put_bytes(w, address, 16);
    write_source(t, e, w);
}

static const char *read_asked(struct table *t, struct reader *r, u64 now_us, const struct nf *judge)
{
    const struct dnat *dnat = (const struct dnat *)judge;
    struct key k;
    const char *wrong;
    u32 size;
    read_key(&k, r);
    i64 port = (i64)get_be(r, 8);
    u64 used_us = get_time(r, now_us);
    bool answered = get_be(r, 1), established = get_be(r, 1);
    const u8 *raw = get_bytes(r, &size, 16);
    if (r->bad || size != 16)
        return BAD;
    u128 address = load_be_long(raw, 16);
    if (port < NO_PORT || port > 0xFFFF)
        return "has a port that is none";
    if ((k.words == 2 ? 4u : 6u) != dnat->version || (dnat->version == 4 && address >> 32))
        return "is of another IP version";
    struct asked *a = (struct asked *)enter_read(t, &k, r, established, &wrong);
    if (!a)
        return wrong;
    a->used_us = used_us;
    a->address = address;
    a->port = (int32_t)port;
    a->answered = answered;
    return NULL;
}

static struct kind asked = {.name = "asked", .size = sizeof(struct asked), .fair = true, .flow = flow_of,
                            .write = write_asked, .read = read_asked};
KIND(asked)

/* -- configuration ------------------------------------------------------------------------------------------ */

static struct nf *init(struct reader *config, const struct shared *memory)
{
    (void)memory;
    struct dnat *d = nf_make(sizeof *d, 0, 0);
    if (!d)
        return NULL;
    u64 words[2] = {0};
    d->version = take_u32(config);
    d->port = (int32_t)take_u32(config);
    d->most = take_u32(config);
    d->idle_us = take_u64(config);
    take_words(config, words, 2);
    d->address = words_long(words);
    d->asked = table_take(config, &asked);
    if (d->asked && datagrams_read(&d->datagrams, config, false) && (d->version == 4 || d->version == 6) &&
        d->port >= NO_PORT && d->port <= 0xFFFF && d->most && d->most < d->asked->capacity) {
        d->datagrams.sources[INSIDE] = d->datagrams.sources[OUTSIDE] = true;
        d->datagrams.reason = FRAGMENT;
        return &d->nf;
    }
    config->bad = true;
    free(d);
    return NULL;
}

/* -- connections ------------------------------------------------------------------------------------------ */

/* Of an inside end (its port 0 without ports), and the outside's port as rewritten. */
static void key_of(struct key *k, u8 protocol, const struct end *inside, u32 port)
{
    u8 *at = (u8 *)k->word;
    key_start(k);
    at[0] = protocol;
    memcpy(at + 1, inside->bytes, inside->size);
    store_be(at + 1 + inside->size, port, 2);
    key_end(k, inside->size + 3);
}

static struct asked *live(struct dnat *d, const struct key *k, u64 now_us)
{
    struct asked *a = (struct asked *)table_find(d->asked, k, key_hash(d->asked, k));
    if (!a || now_us < a->used_us + d->idle_us) {
        if (a)
            table_touch(d->asked, &a->entry);
        return a;
    }
    table_remove(d->asked, &a->entry);
    return NULL;
}

static u32 or_0(int32_t port)
{
    return port < 0 ? 0 : (u32)port;
}

/* The port by which outside is asked for one. */
static int32_t target_of(const struct dnat *d, int32_t port)
{
    return port != NO_PORT && d->port != NO_PORT ? d->port : port;
}

static void redirect(struct dnat *d, struct packet *p, u64 now_us)
{
    int32_t port = p->has_ports ? p->destination_port : NO_PORT, target = target_of(d, port);
    struct table *t = d->asked;
    struct end inside;
    struct key k;
    end_of(p, true, &inside);
    key_of(&k, (u8)p->protocol, &inside, or_0(target));
    u32 hash = key_hash(t, &k), size;
    struct asked *a = (struct asked *)table_find(t, &k, hash);
    if (a) {
        table_refresh(t, &a->entry);
        if (a->answered)
            table_establish(t, &a->entry, true);
    } else {
        u64 host = host_of(inside.bytes, inside.size - 2, &size);
        t->size = d->most;
        a = (struct asked *)table_enter(t, &k, hash, host, size, false);
        for (struct entry *over; a && (over = table_over(t, &a->entry));) {
            a = over == &a->entry ? NULL : a;
            table_evict(t, over);
        }
    }
    if (a) {
        a->address = packet_destination(p);
        a->port = port;
        a->used_us = now_us;
    }
    packet_set_destination_end(p, d->address, target);
}

static void restore(struct dnat *d, struct packet *p, u64 now_us)
{
    struct end inside;
    struct key k;
    end_of(p, false, &inside);
    key_of(&k, (u8)p->protocol, &inside, p->has_ports ? p->source_port : 0);
    struct asked *a = live(d, &k, now_us);
    if (!a)
        return;
    a->used_us = now_us;
    a->answered = true;
    table_refresh(d->asked, &a->entry);
    /* A packet without ports may share its record with port 0: it has none to write. */
    packet_set_source_end(p, a->address, p->has_ports ? (int32_t)or_0(a->port) : NO_PORT);
}

/* -- ICMP errors ---------------------------------------------------------------------------------------------- */

static bool lacks_ports(const struct quote *q)
{
    return (q->protocol == TCP || q->protocol == UDP) && !q->l4;
}

/* A port, to write where the quoted packet has one. */
static int32_t own_port(const struct quote *q, int32_t port)
{
    return quote_port(q, true) == NO_PORT ? NO_PORT : (int32_t)or_0(port);
}

/* About a packet that had been redirected: its destination is the address. */
static void error_from_outside(struct dnat *d, struct packet *p, const struct quote *q, u64 now_us)
{
    if (load_be_long(q->destination, q->bytes) != d->address || lacks_ports(q))
        return;
    struct end inside;
    struct key k;
    end_make(&inside, p->version, load_be_long(q->source, q->bytes), or_0(quote_port(q, true)));
    key_of(&k, q->protocol, &inside, or_0(quote_port(q, false)));
    const struct asked *a = live(d, &k, now_us);
    if (!a)
        return;
    packet_translate_quote(p, q, false, a->address, own_port(q, a->port));
    if (packet_source(p) == d->address)
        packet_set_source(p, a->address);
}

/* About an answer: its source is what had been asked. */
static void error_from_inside(struct dnat *d, struct packet *p, const struct quote *q, u64 now_us)
{
    if (lacks_ports(q))
        return;
    int32_t port = quote_port(q, true), target = target_of(d, port);
    struct end inside;
    struct key k;
    end_make(&inside, p->version, load_be_long(q->destination, q->bytes), or_0(quote_port(q, false)));
    key_of(&k, q->protocol, &inside, or_0(target));
    const struct asked *a = live(d, &k, now_us);
    if (a && a->address == load_be_long(q->source, q->bytes) && a->port == port)
        packet_translate_quote(p, q, true, d->address, own_port(q, target));
}

/* -- packets ---------------------------------------------------------------------------------------------- */

static void from_inside(struct dnat *d, struct packet *p, u64 now_us)
{
    struct quote q;
    if (packet_quote(p, &q))
        error_from_inside(d, p, &q, now_us);
    else if (!p->later_fragment) {
        redirect(d, p, now_us);
        return;
    }
    packet_set_destination(p, d->address);
}

static void from_outside(struct dnat *d, struct packet *p, u64 now_us)
{
    struct quote q;
    if (packet_quote(p, &q)) {
        error_from_outside(d, p, &q, now_us);
        return;
    }
    if (packet_source(p) != d->address)
        return;
    if (p->later_fragment) {
        datagrams_follow(&d->datagrams, &d->nf, p, now_us);
        return;
    }
    bool leads = packet_leads_fragments(p);
    struct key k;
    if (leads)
        key_of_fragment(&k, p);
    restore(d, p, now_us);
    if (leads) {
        struct end inside;
        u32 size;
        end_of(p, false, &inside);
        u64 host = host_of(inside.bytes, inside.size - 2, &size);
        datagrams_lead(&d->datagrams, &d->nf, p, &k, packet_source(p), host, size, now_us);
    }
}

static void process_burst(struct nf *nf, struct packet *const *packets, u32 count, u64 now_us)
{
    struct dnat *d = (struct dnat *)nf;
    for (u32 i = 0; i < count; i++) {
        struct packet *p = packets[i];
        p->left = other(p->port);
        if (p->version != d->version)
            continue;
        if (p->port == INSIDE)
            from_inside(d, p, now_us);
        else
            from_outside(d, p, now_us);
    }
}

static void tidy(struct nf *nf, u64 now_us)
{
    datagrams_tidy(&((struct dnat *)nf)->datagrams, nf, now_us);
}

static const char *const reasons[] = {"fragment", NULL};
static struct nf_ops ops = {.name = "dnat", .reasons = reasons, .init = init, .process_burst = process_burst,
                            .tidy = tidy};
NF(ops)

/* Stateful firewall: rules say who may open a connection, what belongs to one passes.
 *
 * Both sides' packets of a connection meet in one table, which inside addresses share. Connections expire lazily, when
 * they are looked up. TCP is followed by the segments that its receiver accepts (`tcp_acceptance.h`; timeouts as
 * RFC 5382, 4); what it would ignore passes and changes nothing. UDP and echoes (RFC 792, RFC 4443, 4) have a timeout
 * each. An ICMP error passes with the connection that it quotes and refreshes nothing (RFC 5508, REQ-6). A later fragment
 * passes for 30 s after its first.
 */
#include "flow_keys.h"
#include "rules.h"
#include "tcp_acceptance.h"

#define FRAGMENT_TIMEOUT_US 30000000

#define PERMITS NOTHING /* instead of the number of the rule that denies */
enum { NOT_IP, FRAGMENT, NO_CONNECTION, DENIED, NO_ROOM, QUOTE };
enum { OF_UDP, OF_ESTABLISHED, OF_TCP, OF_ICMP, TIMEOUTS };
#define ESTABLISHED_TCP 256 /* of a kind, as it is written */

struct connection {
    struct entry entry; /* its kind says which timeout it has */
    u64 used_us;
    struct side inside, outside;
};

struct fragment {
    struct entry entry;
    u64 expires_us;
};

struct firewall {
    struct nf nf;
    struct rules rules;
    struct table *connections, *fragments;
    u64 timeouts_us[TIMEOUTS], *opened;
    u32 most;
    bool non_ip_passes;
};

/* -- records ---------------------------------------------------------------------------------------------- */

static struct flow flow_of_connection(const struct table *t, const struct entry *e)
{
    u8 key[KEY_WORDS * 8];
    u32 size = entry_key(t, e, key);
    return flow_of_key(key, size % 2 ? size : size - 1); /* an echo's says who asks, too */
}

static struct flow flow_of(const struct table *t, const struct entry *e)
{
    u8 key[KEY_WORDS * 8];
    u32 size = entry_key(t, e, key);
    return flow_of_fragment(key, size);
}

static void write_connection(const struct table *t, const struct entry *e, struct writer *w, u64 now_us)
{
    static const u16 kinds[] = {[OF_UDP] = UDP, [OF_ESTABLISHED] = ESTABLISHED_TCP, [OF_TCP] = TCP, [OF_ICMP] = ICMP};
    const struct connection *c = (const struct connection *)e;
    write_key(t, e, w);
    put_be(w, kinds[e->kind], 2);
    put_age(w, now_us, c->used_us);
    side_write(&c->inside, w);
    side_write(&c->outside, w);
    put_be(w, e->established, 1);
    write_source(t, e, w);
}

static const char *read_connection(struct table *t, struct reader *r, u64 now_us, const struct nf *judge)
{
    struct key k;
    struct side inside, outside;
    const char *wrong;
    (void)judge;
    read_key(&k, r);
    u32 kind = (u32)get_be(r, 2);
    u64 used_us = get_time(r, now_us);
    bool good = side_read(&inside, r);
    good = side_read(&outside, r) && good;
    bool established = get_be(r, 1);
    if (r->bad)
        return BAD;
    if (!good)
        return "has a number of TCP that is out of range";
    if (kind != UDP && kind != ESTABLISHED_TCP && kind != TCP && kind != ICMP)
        return "has a kind that is not known";
    struct connection *c = (struct connection *)enter_read(t, &k, r, established, &wrong);
    if (!c)
        return wrong;
    c->entry.kind = kind == UDP ? OF_UDP : kind == TCP ? OF_TCP : kind == ICMP ? OF_ICMP : OF_ESTABLISHED;
    c->used_us = used_us;
    c->inside = inside;
    c->outside = outside;
    return NULL;
}

static void write_fragment(const struct table *t, const struct entry *e, struct writer *w, u64 now_us)
{
    write_key(t, e, w);
    put_age(w, now_us, ((const struct fragment *)e)->expires_us);
    put_be(w, e->established, 1);
    write_source(t, e, w);
}

static const char *read_fragment(struct table *t, struct reader *r, u64 now_us, const struct nf *judge)
{
    struct key k;
    const char *wrong;
    (void)judge;
    read_key(&k, r);
    u64 expires_us = get_time(r, now_us);
    bool established = get_be(r, 1);
    struct fragment *f = (struct fragment *)enter_read(t, &k, r, established, &wrong);
    if (!f)
        return wrong;
    f->expires_us = expires_us;
    return NULL;
}

static struct kind connections = {.name = "connections", .size = sizeof(struct connection), .fair = true,
                                  .flow = flow_of_connection, .write = write_connection, .read = read_connection};
static struct kind fragments = {.name = "passed_fragments", .size = sizeof(struct fragment), .fair = true,
                                .flow = flow_of, .write = write_fragment, .read = read_fragment};
KIND(connections)
KIND(fragments)

/* -- configuration ------------------------------------------------------------------------------------------ */

static struct nf *init(struct reader *config, const struct shared *memory)
{
    struct firewall *f = nf_make(sizeof *f, 0, 0);
    if (!f)
        return NULL;
    f->most = take_u32(config);
    f->non_ip_passes = take_u32(config);
    u32 opened = take_u32(config);
    take_words(config, f->timeouts_us, TIMEOUTS);
    f->connections = table_take(config, &connections);
    f->fragments = table_take(config, &fragments);
    if (f->fragments && f->connections && opened < memory->count && f->most && f->most < f->connections->capacity &&
        rules_read(&f->rules, config, PERMITS)) {
        f->opened = memory->words + opened;
        return &f->nf;
    }
    config->bad = true;
    free(f);
    return NULL;
}

static void fini(struct nf *nf)
{
    rules_free(&((struct firewall *)nf)->rules);
    free(nf);
}

/* -- keys ------------------------------------------------------------------------------------------------- */

/* As of a flow, the identifier for both ports, and who asks. */
static void key_of_echo(struct key *k, u8 protocol, const u8 *source, const u8 *destination, u32 bytes,
                        const u8 *number, bool inside, bool inside_asks)
{
    u8 *at = (u8 *)k->word;
    key_start(k);
    *at++ = protocol;
    memcpy(at, inside ? source : destination, bytes);
    memcpy(at + bytes, number, 2);
    at += bytes + 2;
    memcpy(at, inside ? destination : source, bytes);
    memcpy(at + bytes, number, 2);
    at[bytes + 2] = inside_asks;
    key_end(k, 2 * bytes + 6);
}

/* The connection of the quoted packet, which the error's receiver has sent; false: it is not known. */
static bool key_of_quote(struct key *k, const struct packet *p, const struct quote *q, bool inside)
{
    u8 request = p->version == 4 ? 8 : 128, reply = p->version == 4 ? 0 : 129;
    if (!q->l4 || q->l4 + 8 > p->at + p->size || load_be_long(q->source, q->bytes) != packet_destination(p))
        return false;
    if (q->protocol == TCP || q->protocol == UDP) {
        struct end source = {.size = q->bytes + 2u}, destination = {.size = q->bytes + 2u};
        memcpy(source.bytes, q->source, q->bytes);
        memcpy(source.bytes + q->bytes, q->l4, 2);
        memcpy(destination.bytes, q->destination, q->bytes);
        memcpy(destination.bytes + q->bytes, q->l4 + 2, 2);
        /* The error has entered there, so what it quotes had entered by the other side. */
        key_of_ends(k, q->protocol, inside ? &destination : &source, inside ? &source : &destination);
        return true;
    }
    if (q->protocol != (p->version == 4 ? ICMP : ICMPV6) || (q->l4[0] != request && q->l4[0] != reply))
        return false;
    key_of_echo(k, q->protocol, q->source, q->destination, q->bytes, q->l4 + 4, !inside,
                inside != (q->l4[0] == request));
    return true;
}

/* -- connections ------------------------------------------------------------------------------------------ */

static struct connection *find(struct firewall *f, const struct key *k, u32 hash, u64 now_us)
{
    struct connection *c = (struct connection *)table_find(f->connections, k, hash);
    if (!c || now_us < c->used_us + f->timeouts_us[c->entry.kind]) {
        if (c)
            table_touch(f->connections, &c->entry);
        return c;
    }
    table_remove(f->connections, &c->entry);
    return NULL;
}

static bool drops(struct packet *p, u8 reason)
{
    nf_drop(p, reason);
    return false;
}

static bool permits(struct firewall *f, struct packet *p)
{
    u32 chosen = rules_choose(&f->rules, p);
    if (chosen == PERMITS)
        return true;
    nf_drop_by(p, DENIED, chosen);
    return false;
}

/* Enter what is new; false: there is no room. */
static bool opens(struct firewall *f, struct packet *p, const struct key *k, u32 hash, const struct connection *new,
                  u64 now_us)
{
    struct table *t = f->connections;
    u32 bytes = k->words == 2 ? 4 : 16, size;
    u64 host = host_of((const u8 *)k->word + 1, bytes, &size);
    t->size = f->most;
    (*f->opened)++;
    struct connection *c = (struct connection *)table_enter(t, k, hash, host, size, false);
    if (!c)
        return drops(p, NO_ROOM);
    c->used_us = now_us;
    c->entry.kind = new->entry.kind;
    c->inside = new->inside;
    c->outside = new->outside;
    for (struct entry *over; c && (over = table_over(t, &c->entry));) {
        c = over == &c->entry ? NULL : c;
        table_evict(t, over);
    }
    return c || drops(p, NO_ROOM);
}

static bool tcp_passes(struct firewall *f, struct packet *p, const struct key *k, u32 hash, u64 now_us)
{
    bool inside = p->port == INSIDE;
    struct connection *c = find(f, k, hash, now_us), new;
    /* Whether a fragmented one is intact is known to the receiver only. */
    if (packet_leads_fragments(p) || !tcp_is_intact(p))
        return c || drops(p, NO_CONNECTION);
    u8 flags = tcp_flags(p) & (FIN | SYN | RST | ACK);
    if (flags == SYN && (!c || tcp_is_open(&c->inside, &c->outside))) {
        if (!permits(f, p))
            return false;
    } else if (!c) {
        return drops(p, NO_CONNECTION);
    }
    if (!c) {
        side_start(&new.inside);
        side_start(&new.outside);
        new.entry.kind = OF_TCP;
        enum verdict verdict = tcp_accept(inside ? &new.inside : &new.outside, inside ? &new.outside : &new.inside, p);
        return verdict == REFUSED || opens(f, p, k, hash, &new, now_us); /* the receiver ignores it, too */
    }
    struct side *one = inside ? &c->inside : &c->outside, *other = inside ? &c->outside : &c->inside;
    bool was_over = tcp_is_over(one, other);
    enum verdict verdict = tcp_accept(one, other, p);
    if (verdict == REFUSED)
        return true;
    if (verdict == ACCEPTED || verdict == BEGINS || (was_over && flags == SYN) || (verdict == RESET && !was_over)) {
        c->used_us = now_us;
        table_refresh(f->connections, &c->entry);
    }
    if (flags != ACK || c->entry.kind == OF_TCP) {
        bool established = tcp_is_established(one, other);
        c->entry.kind = established ? OF_ESTABLISHED : OF_TCP;
        table_establish(f->connections, &c->entry, established);
    }
    return true;
}

static bool error_passes(struct firewall *f, struct packet *p, const struct quote *q, u64 now_us)
{
    struct key k;
    if (!key_of_quote(&k, p, q, p->port == INSIDE))
        return drops(p, QUOTE);
    return find(f, &k, key_hash(f->connections, &k), now_us) || drops(p, NO_CONNECTION);
}

static bool echo_or_other_passes(struct firewall *f, struct packet *p, u64 now_us)
{
    bool inside = p->port == INSIDE, v4 = p->version == 4;
    u8 protocol = v4 ? ICMP : ICMPV6, request = v4 ? 8 : 128, reply = v4 ? 0 : 129;
    int message = p->protocol == protocol && p->l4 ? p->at[p->l4] : -1;
    struct quote q;
    struct key k;
    if (message >= 0 && packet_quote(p, &q))
        return error_passes(f, p, &q, now_us);
    if (message != request && message != reply)
        return permits(f, p);
    const u8 *source = p->at + p->l3 + (v4 ? 12 : 8);
    u32 bytes = v4 ? 4 : 16;
    bool asks = message == request;
    key_of_echo(&k, protocol, source, source + bytes, bytes, p->at + p->l4 + 4, inside, inside == asks);
    u32 hash = key_hash(f->connections, &k);
    struct connection *c = find(f, &k, hash, now_us), new = {.entry.kind = OF_ICMP};
    if (c) {
        table_refresh(f->connections, &c->entry);
        c->used_us = now_us;
        return true;
    }
    if (!asks)
        return drops(p, NO_CONNECTION);
    side_start(&new.inside);
    side_start(&new.outside);
    return permits(f, p) && opens(f, p, &k, hash, &new, now_us);
}

static bool udp_passes(struct firewall *f, struct packet *p, const struct key *k, u32 hash, u64 now_us)
{
    struct connection *c = find(f, k, hash, now_us), new = {.entry.kind = OF_UDP};
    if (c) {
        table_refresh(f->connections, &c->entry);
        c->used_us = now_us;
        return true;
    }
    side_start(&new.inside);
    side_start(&new.outside);
    return permits(f, p) && opens(f, p, k, hash, &new, now_us);
}

/* -- fragments ---------------------------------------------------------------------------------------------- */

static void remember(struct firewall *f, const struct packet *p, u64 now_us)
{
    struct table *t = f->fragments;
    struct key k;
    key_of_fragment(&k, p);
    u32 hash = key_hash(t, &k), size;
    struct fragment *found = (struct fragment *)table_find(t, &k, hash);
    if (found) {
        table_refresh(t, &found->entry);
    } else {
        struct end inside;
        end_of(p, p->port == INSIDE, &inside);
        u64 host = host_of(inside.bytes, inside.size - 2, &size);
        found = (struct fragment *)table_enter(t, &k, hash, host, size, false);
        for (struct entry *over; found && (over = table_over(t, &found->entry));) {
            found = over == &found->entry ? NULL : found;
            table_evict(t, over);
        }
    }
    if (found)
        found->expires_us = now_us + FRAGMENT_TIMEOUT_US;
}

static void follow(struct firewall *f, struct packet *p, u64 now_us)
{
    struct key k;
    key_of_fragment(&k, p);
    const struct fragment *found = (struct fragment *)table_find(f->fragments, &k, key_hash(f->fragments, &k));
    if (!found || now_us >= found->expires_us)
        nf_drop(p, FRAGMENT);
}

/* -- packets ---------------------------------------------------------------------------------------------- */

static void process_burst(struct nf *nf, struct packet *const *packets, u32 count, u64 now_us)
{
    struct firewall *f = (struct firewall *)nf;
    struct table *t = f->connections;
    struct key keys[MOST_FRAMES];
    u32 hashes[MOST_FRAMES];
    for (u32 i = 0; i < count; i++)
        if (packets[i]->has_ports) {
            key_of_flow(&keys[i], packets[i], packets[i]->port == INSIDE);
            hashes[i] = key_hash(t, &keys[i]);
            index_prefetch(&t->by_key, hashes[i]);
        }
    for (u32 i = 0; i < count; i++)
        if (packets[i]->has_ports)
            table_prefetch(t, hashes[i]);
    for (u32 i = 0; i < count; i++) {
        struct packet *p = packets[i];
        p->left = other(p->port);
        if (!p->version) {
            if (!f->non_ip_passes)
                nf_drop(p, NOT_IP);
            continue;
        }
        if (p->later_fragment) {
            follow(f, p, now_us);
            continue;
        }
        bool passes;
        if (!p->has_ports)
            passes = echo_or_other_passes(f, p, now_us);
        else if (p->protocol == TCP)
            passes = tcp_passes(f, p, &keys[i], hashes[i], now_us);
        else
            passes = udp_passes(f, p, &keys[i], hashes[i], now_us);
        if (passes && packet_leads_fragments(p))
            remember(f, p, now_us);
    }
}

static const char *const reasons[] = {"not_ip", "fragment", "no_connection", "denied", "no_room", "quote", NULL};
static struct nf_ops ops = {.name = "stateful_firewall", .reasons = reasons, .init = init,
                            .process_burst = process_burst, .fini = fini};
NF(ops)

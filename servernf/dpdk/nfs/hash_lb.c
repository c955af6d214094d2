/* Hash load balancer (Maglev, NSDI 2016, 3.4): 251 buckets, each a backend; a flow's CRC-32 chooses one. No state.
 *
 * Clients are outside. Fragments, and everything where ports do not count, are hashed by addresses only, so that all
 * fragments of a datagram come to its backend. An ICMP error has the hash of the flow that it quotes, and is translated
 * with the quote (RFC 5508, 4).
 */
#include "addresses.h"
#include "crc32.h"

#define BUCKETS 251

struct service {
    u32 by_ports;
    u32 backend[BUCKETS]; /* of `to` */
};

struct hash_lb {
    struct nf nf;
    struct addresses virtual[2], backends[2]; /* by version: a service, a virtual address of `to` */
    u128 *to;
    struct service services[];
};

static void fini(struct nf *nf)
{
    struct hash_lb *lb = (struct hash_lb *)nf;
    for (u32 i = 0; i < 2; i++) {
        addresses_free(&lb->virtual[i]);
        addresses_free(&lb->backends[i]);
    }
    free(lb->to);
    free(lb);
}

static struct nf *init(struct reader *config, const struct shared *memory)
{
    (void)memory;
    u32 count = take_u32(config), known = take_u32(config);
    struct hash_lb *lb = known > MAX_MESSAGE / 16 ? NULL : nf_make(sizeof *lb, sizeof *lb->services, count);
    if (!lb)
        return NULL;
    lb->to = malloc((size_t)known * sizeof *lb->to + 1);
    for (u32 i = 0; lb->to && i < known; i++) {
        u64 words[2];
        if (!take_words(config, words, 2))
            break;
        lb->to[i] = words_long(words);
    }
    const u8 *from = take(config, count * sizeof *lb->services);
    if (from)
        memcpy(lb->services, from, count * sizeof *lb->services);
    bool good = from && lb->to;
    for (u32 i = 0; good && i < count; i++)
        for (u32 bucket = 0; bucket < BUCKETS; bucket++)
            good = good && lb->services[i].backend[bucket] < known;
    for (u32 i = 0; good && i < 2; i++)
        good = addresses_read(&lb->virtual[i], config, count) && addresses_read(&lb->backends[i], config, known);
    if (good)
        return &lb->nf;
    fini(&lb->nf);
    return NULL;
}

/* The bucket of a packet to a service. */
static u32 bucket_of(const struct service *s, const struct packet *p, const struct quote *q)
{
    u8 key[37];
    u32 size = 32;
    u128 source, destination;
    packet_flow(p, &source, &destination);
    store_be_long(key, source, 16);
    store_be_long(key + 16, destination, 16);
    if (s->by_ports) {
        int32_t one = q ? quote_port(q, false) : p->has_ports ? p->source_port : NO_PORT;
        int32_t other = q ? quote_port(q, true) : p->destination_port;
        bool divided = q ? quote_is_fragment(p, q) : p->has_ports && packet_leads_fragments(p);
        if (one != NO_PORT && !divided) {
            store_be(key + 32, (u32)one, 2);
            store_be(key + 34, (u32)other, 2);
            key[36] = q ? q->protocol : (u8)p->protocol;
            size = sizeof key;
        }
    }
    return crc32_of(0, key, size) % BUCKETS;
}

static void from_backend(const struct hash_lb *lb, struct packet *p, const struct quote *q)
{
    const struct addresses *backends = &lb->backends[p->version == 6];
    u32 found = addresses_exact(backends, packet_source(p));
    if (found != NO_NUMBER)
        packet_set_source(p, lb->to[found]);
    found = q ? addresses_exact(backends, load_be_long(q->destination, q->bytes)) : NO_NUMBER;
    if (found != NO_NUMBER)
        packet_translate_quote(p, q, false, lb->to[found], NO_PORT);
}

static void to_backend(const struct hash_lb *lb, struct packet *p, const struct quote *q)
{
    u128 asked = packet_destination(p);
    u32 found = addresses_exact(&lb->virtual[p->version == 6], asked);
    if (found == NO_NUMBER)
        return;
    const struct service *s = &lb->services[found];
    u128 backend = lb->to[s->backend[bucket_of(s, p, q)]];
    packet_set_destination(p, backend);
    if (q && load_be_long(q->source, q->bytes) == asked)
        packet_translate_quote(p, q, true, backend, NO_PORT);
}

static void translate(const struct nf *nf, struct packet *p, const struct quote *q)
{
    (p->port == INSIDE ? from_backend : to_backend)((const struct hash_lb *)nf, p, q);
}

static void process_burst(struct nf *nf, struct packet *const *packets, u32 count, u64 now_us)
{
    (void)now_us;
    nf_translate(nf, packets, count, translate);
}

static const char *const reasons[] = {NULL};
static struct nf_ops ops = {.name = "hash_lb", .reasons = reasons, .init = init, .process_burst = process_burst,
                            .fini = fini};
NF(ops)

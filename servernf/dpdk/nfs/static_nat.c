/* Static one-to-one NAT (RFC 2663, 4.1.1; RFC 3022, 4.1 for checksums): addresses are exchanged pair by pair; ports
 * stay, no state is kept. What an ICMP error quotes went the other way: its destination is translated as a source, its
 * source as a destination (RFC 5508, 4).
 */
#include "addresses.h"

struct table {
    struct addresses ipv4, ipv6; /* they say one of `to` each */
};

struct static_nat {
    struct nf nf;
    struct table from[2]; /* by the port entered */
    u128 to[];
};

static void fini(struct nf *nf)
{
    struct static_nat *nat = (struct static_nat *)nf;
    for (u32 port = 0; port < 2; port++) {
        addresses_free(&nat->from[port].ipv4);
        addresses_free(&nat->from[port].ipv6);
    }
    free(nat);
}

static struct nf *init(struct reader *config, const struct shared *memory)
{
    (void)memory;
    u32 count = take_u32(config);
    struct static_nat *nat = nf_make(sizeof *nat, sizeof *nat->to, count);
    if (!nat)
        return NULL;
    for (u32 i = 0; i < count; i++) {
        u64 words[2];
        if (!take_words(config, words, 2))
            break;
        nat->to[i] = words_long(words);
    }
    bool good = !config->bad;
    for (u32 port = 0; good && port < 2; port++)
        good = addresses_read(&nat->from[port].ipv4, config, count) &&
               addresses_read(&nat->from[port].ipv6, config, count);
    if (good)
        return &nat->nf;
    fini(&nat->nf);
    return NULL;
}

static void translate(const struct nf *nf, struct packet *p, const struct quote *q)
{
    const struct static_nat *nat = (const struct static_nat *)nf;
    const struct table *table = &nat->from[p->port];
    const struct addresses *known = p->version == 4 ? &table->ipv4 : &table->ipv6;
    u32 found = addresses_exact(known, p->port == INSIDE ? packet_source(p) : packet_destination(p));
    if (found != NO_NUMBER && p->port == INSIDE)
        packet_set_source(p, nat->to[found]);
    else if (found != NO_NUMBER)
        packet_set_destination(p, nat->to[found]);
    if (!q)
        return;
    found = addresses_exact(known, load_be_long(p->port == INSIDE ? q->destination : q->source, q->bytes));
    if (found != NO_NUMBER)
        packet_translate_quote(p, q, p->port == OUTSIDE, nat->to[found], NO_PORT);
}

static void process_burst(struct nf *nf, struct packet *const *packets, u32 count, u64 now_us)
{
    (void)now_us;
    nf_translate(nf, packets, count, translate);
}

static const char *const reasons[] = {NULL};
static struct nf_ops ops = {.name = "static_nat", .reasons = reasons, .init = init, .process_burst = process_burst,
                            .fini = fini};
NF(ops)

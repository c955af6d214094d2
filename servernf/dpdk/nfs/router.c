/* IPv4 and IPv6 router: longest prefix match, TTL, next hop's MAC (RFC 1812, 5.2; RFC 8200, 3); senders are told why a
 * packet goes no further, if it has addresses to tell them from (`icmp_errors.h`).
 *
 * Before it looks up, it drops frames that are neither for its MAC nor from it (another router of the graph), and
 * martian addresses (RFC 1812, 5.3; RFC 3927, 7; RFC 4291, 2.5).
 *
 * Prefixes come as the ranges between which the answer changes, at most twice as many as routes, so the longest match is
 * one search (`ranges.h`; for IPv6 a binary one), and no size of a table need be known before. Many come as prefixes,
 * too, for DPDK's tables (`fib.h`).
 */
#include "fib.h"
#include "icmp_errors.h"
#include "ranges.h"

#define MACS 12
#define MOST_BYTES 0xFFFF /* of an IP packet */

enum { NOT_IP, NOT_FOR_GATEWAY, MARTIAN, TTL, TOO_BIG, NO_ROUTE, NO_NEIGHBOR };

struct route { /* where prefixes lead to: all that lead to the same have one */
    u8 macs[MACS]; /* destination, source */
    u8 has_macs, port, unused[2];
};

struct router {
    struct nf nf;
    struct teller teller;
    struct ranges ipv4; /* these say a route each */
    struct addresses ipv6;
    struct fib *fib4, *fib6; /* and so do these */
    u32 count;
    struct route routes[];
};

static void fini(struct nf *nf)
{
    struct router *router = (struct router *)nf;
    ranges_free(&router->ipv4);
    addresses_free(&router->ipv6);
    fib_free(router->fib4);
    fib_free(router->fib6);
    free(router);
}

static struct nf *init(struct reader *config, const struct shared *memory)
{
    u32 ports = take_u32(config), count = take_u32(config);
    struct router *router = nf_make(sizeof *router, sizeof *router->routes, count);
    if (!router)
        return NULL;
    struct teller *teller = &router->teller;
    const u8 *gateway = take(config, sizeof teller->gateway);
    teller->versions = (u8)take_u32(config);
    teller->mtu = take_u32(config);
    u32 pace = take_u32(config);
    u64 words[4] = {0};
    take_words(config, words, 4);
    teller->address[0] = words_long(words);
    teller->address[1] = words_long(words + 2);
    config->bad |= pace >= memory->count || teller->mtu > MOST_BYTES;
    teller->full_us = memory->words + pace;
    const u8 *from = take(config, count * sizeof *router->routes);
    if (gateway)
        memcpy(teller->gateway, gateway, sizeof teller->gateway);
    if (from)
        memcpy(router->routes, from, count * sizeof *router->routes);
    for (u32 i = 0; from && i < count; i++)
        config->bad |= router->routes[i].port >= ports;
    struct addresses ipv4 = {0};
    bool good = from && ports >= 2 && ports <= MOST_PORTS && addresses_read(&ipv4, config, count) &&
                ranges_make(&router->ipv4, &ipv4) && addresses_read(&router->ipv6, config, count);
    addresses_free(&ipv4);
    if (good) {
        router->fib4 = fib_make(config, 4, count);
        router->fib6 = fib_make(config, 6, count);
    }
    if (good && !config->bad) {
        router->nf.ports = ports;
        router->count = count;
        return &router->nf;
    }
    fini(&router->nf);
    return NULL;
}

/* Loopback, link-local, multicast, reserved or unspecified. */
static bool is_martian(u8 version, u128 address)
{
    if (version == 4) {
        u32 ipv4 = (u32)address, first = ipv4 >> 24;
        return first == 0 || first == 127 || first >= 224 || ipv4 >> 16 == 0xA9FE;
    }
    return address >> 120 == 0xFF || address >> 118 == 0x3FA || address >> 1 == 0;
}

/* Bytes of the IP packet, as its header says. */
static u32 length_of(const struct packet *p)
{
    const u8 *l3 = p->at + p->l3;
    return (u32)(p->version == 4 ? load_be(l3 + 2, 2) : load_be(l3 + 4, 2) + 40);
}

/* Drop a packet, and tell its sender. RFC 1812 would have an IPv4 packet without DF fragmented. */
static void refuse(const struct router *router, struct packet *p, u8 why, u64 now_us)
{
    static const u8 told[] = {[TTL] = TIME_EXCEEDED, [TOO_BIG] = PACKET_TOO_BIG, [NO_ROUTE] = NET_UNREACHABLE,
                              [NO_NEIGHBOR] = HOST_UNREACHABLE};
    nf_drop(p, why);
    if (why >= TTL && (why != TOO_BIG || p->version == 6 || p->at[p->l3 + 6] & 0x40))
        icmp_tell(&router->teller, p, (enum icmp_error)told[why], now_us);
}

/* Why a packet is not even looked up, or NO_ROUTE. */
static u8 refused(const struct router *router, const struct packet *p, u128 destination)
{
    if (!p->version)
        return NOT_IP;
    if (memcmp(p->at, router->teller.gateway, 6) && memcmp(p->at + 6, router->teller.gateway, 6))
        return NOT_FOR_GATEWAY;
    if (is_martian(p->version, packet_source(p)) || is_martian(p->version, destination))
        return MARTIAN;
    if (packet_ttl(p) <= 1)
        return TTL;
    if (length_of(p) > router->teller.mtu)
        return TOO_BIG;
    return NO_ROUTE;
}

/* Where packets of one version go by their destinations, of those that go on. */
static void look_up(const struct fib *fib, u8 version, struct packet *const *packets, u32 count,
                    const u128 *destinations, const u8 *why, u32 *found)
{
    u128 asked[MOST_FRAMES];
    u32 numbers[MOST_FRAMES], index[MOST_FRAMES], some = 0;
    for (u32 i = 0; i < count; i++)
        if (packets[i]->version == version && why[i] == NO_ROUTE) {
            asked[some] = destinations[i];
            index[some++] = i;
        }
    fib_look(fib, asked, some, numbers);
    for (u32 i = 0; i < some; i++)
        found[index[i]] = numbers[i];
}

static void process_burst(struct nf *nf, struct packet *const *packets, u32 count, u64 now_us)
{
    const struct router *router = (const struct router *)nf;
    const struct fib *fib4 = fib_built(router->fib4), *fib6 = fib_built(router->fib6);
    u128 destinations[MOST_FRAMES];
    u32 found[MOST_FRAMES];
    u8 why[MOST_FRAMES];
    for (u32 i = 0; i < count; i++) {
        const struct packet *p = packets[i];
        destinations[i] = p->version ? packet_destination(p) : 0;
        why[i] = refused(router, p, destinations[i]);
        found[i] = NO_NUMBER;
        if (why[i] != NO_ROUTE || (p->version == 4 ? fib4 : fib6))
            continue;
        found[i] = p->version == 4 ? ranges_number(&router->ipv4, (u32)destinations[i])
                                   : addresses_range(&router->ipv6, destinations[i]);
    }
    if (fib4)
        look_up(fib4, 4, packets, count, destinations, why, found);
    if (fib6)
        look_up(fib6, 6, packets, count, destinations, why, found);
    for (u32 i = 0; i < count; i++) {
        struct packet *p = packets[i];
        if (found[i] >= router->count) {
            refuse(router, p, why[i], now_us);
            continue;
        }
        const struct route *route = &router->routes[found[i]];
        static const u8 nobody[6];
        if (route->has_macs && !memcmp(route->macs, nobody, sizeof nobody)) {
            refuse(router, p, NO_NEIGHBOR, now_us);
            continue;
        }
        packet_set_ttl(p, (u8)(packet_ttl(p) - 1));
        if (route->has_macs)
            memcpy(p->at, route->macs, MACS);
        p->left = route->port;
    }
}

/* How many prefixes are looked up by DPDK's tables. */
static const char *stats(struct nf *nf, struct reader *asked, struct writer *w)
{
    const struct router *router = (const struct router *)nf;
    (void)asked;
    write_u32(w, fib_count(router->fib4) + fib_count(router->fib6));
    return NULL;
}

static const char *const reasons[] = {"not_ip", "not_for_gateway", "martian", "ttl",
                                       "too_big", "no_route", "no_neighbor", NULL};
static struct nf_ops ops = {.name = "router", .reasons = reasons, .init = init, .process_burst = process_burst,
                            .fini = fini, .stats = stats};
NF(ops)

/* IPv4 and IPv6 router: longest prefix match, TTL, next hop's MAC (RFC 1812, 5.2; RFC 8200, 3); senders are told why a
 * packet goes no further, if it has addresses to tell them from (`icmp_errors.h`).
 *
 * Before it looks up, it drops frames that are neither for its MAC nor from it (another router of the graph), and
 * martian addresses (RFC 1812, 5.3; RFC 3927, 7; RFC 4291, 2.5).
 *
 * Prefixes come as the ranges between which the answer changes, at most twice as many as routes, so the longest match is
 * one search (`ranges.h`; for IPv6 a binary one), and no size of a table need be known before.
 */
#include "icmp_errors.h"
#include "ranges.h"

#define MACS 12
#define MOST_BYTES 0xFFFF /* of an IP packet */

enum { NOT_IP, NOT_FOR_GATEWAY, MARTIAN, TTL, TOO_BIG, NO_ROUTE, NO_NEIGHBOR };

struct route {
    u8 macs[MACS]; /* destination, source */
    u8 has_macs, port, unused[2];
};

struct router {
    struct nf nf;
    struct teller teller;
    struct ranges ipv4; /* these say a route each */
    struct addresses ipv6;
    struct route routes[];
};

static void fini(struct nf *nf)
{
    struct router *router = (struct router *)nf;
    ranges_free(&router->ipv4);
    addresses_free(&router->ipv6);
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
        router->nf.ports = ports;
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

static void process_burst(struct nf *nf, struct packet *const *packets, u32 count, u64 now_us)
{
    const struct router *router = (const struct router *)nf;
    for (u32 i = 0; i < count; i++) {
        struct packet *p = packets[i];
        u128 destination = p->version ? packet_destination(p) : 0;
        u8 why = refused(router, p, destination);
        u32 found = NO_NUMBER;
        if (why == NO_ROUTE)
            found = p->version == 4 ? ranges_number(&router->ipv4, (u32)destination)
                                    : addresses_range(&router->ipv6, destination);
        if (found == NO_NUMBER) {
            refuse(router, p, why, now_us);
            continue;
        }
        const struct route *route = &router->routes[found];
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

static const char *const reasons[] = {"not_ip", "not_for_gateway", "martian", "ttl",
                                       "too_big", "no_route", "no_neighbor", NULL};
static struct nf_ops ops = {.name = "router", .reasons = reasons, .init = init, .process_burst = process_burst,
                            .fini = fini};
NF(ops)

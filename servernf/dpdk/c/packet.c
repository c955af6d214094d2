#include "packet.h"

#include "checksums.h"

/* -- parsing --------------------------------------------------------------------------------------------- */

static bool is_vlan(u32 ether_type)
{
    return ether_type == 0x8100 || ether_type == 0x88A8;
}

static bool parse_ports(struct packet *p, u32 l4)
{
    const u8 *at = p->at;
    if (p->protocol == TCP) {
        if (p->size < l4 + 20)
            return false;
    } else if (p->size < l4 + 16 && (p->size < l4 + 8 || load_be(at + l4 + 4, 2) >= 16)) {
        return false; /* the label covers the first eight payload bytes, so a switch parses them */
    }
    p->l4 = (u16)l4;
    p->source_port = (u16)load_be(at + l4, 2);
    p->destination_port = (u16)load_be(at + l4 + 2, 2);
    p->has_ports = true;
    return true;
}

/* Whether a quoted IPv4 header announces eight bytes of TCP, UDP or ICMP. */
static bool quotes_l4(const u8 *quoted)
{
    return (quoted[0] & 0x0F) == 5 && !((quoted[6] & 0x1F) | quoted[7]) &&
           (quoted[9] == ICMP || quoted[9] == TCP || quoted[9] == UDP);
}

static bool is_error(u8 version, u8 kind)
{
    return version == 4 ? kind == 3 || kind == 11 || kind == 12 : kind >= 1 && kind <= 4;
}

static bool parse_icmp(struct packet *p, u32 l4)
{
    const u8 *quoted = p->at + l4 + 8;
    if (p->size < l4 + 8)
        return false;
    p->l4 = (u16)l4;
    if (!is_error(4, p->at[l4]))
        return true;
    if (p->size < l4 + 28)
        return false;
    return p->size >= l4 + 36 || !quotes_l4(quoted);
}

static bool parse_icmpv6(struct packet *p, u32 l4, u32 payload)
{
    if (p->size < l4 + 8)
        return false;
    p->l4 = (u16)l4;
    u8 kind = p->at[l4];
    if (kind >= 1 && kind <= 4) {
        if (p->size < l4 + 48)
            return false;
        u8 quoted = p->at[l4 + 14];
        return p->size >= l4 + 56 || (quoted != TCP && quoted != UDP && quoted != ICMPV6);
    }
    return !(kind == 135 && payload == 32) || p->size >= l4 + 32;
}

static bool parse_ipv4(struct packet *p, u32 l3)
{
    const u8 *at = p->at + l3;
    if (p->size < l3 + 20)
        return false;
    u32 header = (at[0] & 0x0Fu) << 2, l4 = l3 + header, fragment = (u32)load_be(at + 6, 2);
    if (at[0] >> 4 != 4 || header < 20 || p->size < l4)
        return false;
    p->version = 4;
    p->protocol = at[9];
    p->later_fragment = fragment & 0x1FFF;
    if (p->later_fragment)
        return true;
    if (p->protocol == TCP || p->protocol == UDP)
        return parse_ports(p, l4);
    return p->protocol != ICMP || parse_icmp(p, l4);
}

static bool parse_ipv6(struct packet *p, u32 l3)
{
    const u8 *at = p->at + l3;
    u32 l4 = l3 + 40;
    if (p->size < l4 || at[0] >> 4 != 6)
        return false;
    u32 payload = (u32)load_be(at + 4, 2);
    u8 protocol = at[6];
    if (protocol == IPV6_FRAGMENT) {
        if (p->size < l4 + 8)
            return false;
        protocol = p->at[l4];
        p->later_fragment = load_be(p->at + l4 + 2, 2) > 7;
        l4 += 8;
    }
    p->version = 6;
    p->protocol = protocol;
    if (p->later_fragment)
        return true;
    if (protocol == TCP || protocol == UDP)
        return parse_ports(p, l4);
    return protocol != ICMPV6 || parse_icmpv6(p, l4, payload);
}

bool packet_parse(struct packet *p)
{
    u32 l3 = 14;
    p->l4 = p->source_port = p->destination_port = 0;
    p->version = 0;
    p->has_ports = p->later_fragment = false;
    p->protocol = NO_PROTOCOL;
    if (p->size < l3)
        return false;
    u32 ether_type = (u32)load_be(p->at + 12, 2);
    while (is_vlan(ether_type) && l3 < 22) {
        if (p->size < l3 + 4)
            return false;
        ether_type = (u32)load_be(p->at + l3 + 2, 2);
        l3 += 4;
    }
    p->l3 = (u16)l3;
    p->ether_type = (u16)ether_type;
    switch (ether_type) {
    case 0x0800:
        return parse_ipv4(p, l3);
    case 0x86DD:
        return parse_ipv6(p, l3);
    case 0x0806:
        return p->size >= l3 + 28;
    default:
        return true;
    }
}

/* -- rewriting ------------------------------------------------------------------------------------------- */

/* Write an address and, unless it is NO_PORT, its port, which lies `port_at` bytes into the L4 header. */
static void set_end(struct packet *p, bool source, u128 address, int32_t port)
{
    u8 *l3 = p->at + p->l3, *l4 = p->l4 ? p->at + p->l4 : NULL;
    u32 bytes = p->version == 4 ? 4 : 16;
    u8 *at = l3 + (p->version == 4 ? 12 : 8) + (source ? 0 : bytes);
    u32 changed = delta(load_be_long(at, bytes), address, bytes);
    store_be_long(at, address, bytes);
    if (p->version == 4)
        patch(l3 + 10, changed);
    if (!l4)
        return;
    if (port != NO_PORT) {
        u16 *own = source ? &p->source_port : &p->destination_port;
        changed += 0xFFFFu - *own + (u32)port;
        store_be(l4 + (source ? 0 : 2), (u32)port, 2);
        *own = (u16)port;
    }
    if (p->protocol == UDP)
        patch_udp(l4 + 6, changed);
    else if (p->protocol == TCP)
        patch(l4 + 16, changed);
    else if (p->protocol == ICMPV6) /* covers a pseudo-header (RFC 4443, 2.3); ICMP's does not */
        patch(l4 + 2, changed);
}

void packet_set_source(struct packet *p, u128 address)
{
    set_end(p, true, address, NO_PORT);
}

void packet_set_destination(struct packet *p, u128 address)
{
    set_end(p, false, address, NO_PORT);
}

void packet_set_source_end(struct packet *p, u128 address, int32_t port)
{
    set_end(p, true, address, port);
}

void packet_set_destination_end(struct packet *p, u128 address, int32_t port)
{
    set_end(p, false, address, port);
}

void packet_set_icmp_id(struct packet *p, u16 number)
{
    u8 *l4 = p->at + p->l4;
    patch(l4 + 2, 0xFFFFu - (u32)load_be(l4 + 4, 2) + number);
    store_be(l4 + 4, number, 2);
}

void packet_set_ttl(struct packet *p, u8 ttl)
{
    u8 *l3 = p->at + p->l3;
    if (p->version == 6) {
        l3[7] = ttl;
        return;
    }
    patch(l3 + 10, delta((u128)l3[8] << 8, (u128)ttl << 8, 2));
    l3[8] = ttl;
}

void packet_set_dscp(struct packet *p, u8 dscp)
{
    u8 *l3 = p->at + p->l3;
    if (p->version == 4) {
        u8 old = l3[1];
        l3[1] = (u8)(dscp << 2 | (old & 3));
        patch(l3 + 10, delta(old, l3[1], 2));
    } else if (p->version == 6) { /* the traffic class lies across two bytes */
        l3[0] = (u8)(0x60 | dscp >> 2);
        l3[1] = (u8)((dscp & 3) << 6 | (l3[1] & 0x3F));
    }
}

/* -- quotes ---------------------------------------------------------------------------------------------- */

bool packet_quote(const struct packet *p, struct quote *q)
{
    if (!p->l4 || p->protocol != (p->version == 4 ? ICMP : ICMPV6) || !is_error(p->version, p->at[p->l4]))
        return false;
    u8 *at = p->at + p->l4 + 8;
    q->at = at;
    q->bytes = p->version == 4 ? 4 : 16;
    q->source = at + (p->version == 4 ? 12 : 8);
    q->destination = q->source + q->bytes;
    q->protocol = at[p->version == 4 ? 9 : 6];
    bool has_l4 = p->version == 4 ? quotes_l4(at)
                                  : q->protocol == TCP || q->protocol == UDP || q->protocol == ICMPV6;
    q->l4 = has_l4 ? at + (p->version == 4 ? 20 : 40) : NULL;
    return true;
}

int32_t quote_port(const struct quote *q, bool source)
{
    if (!q->l4 || (q->protocol != TCP && q->protocol != UDP))
        return NO_PORT;
    return (int32_t)load_be(q->l4 + (source ? 0 : 2), 2);
}

int32_t quote_echo(const struct quote *q)
{
    if (!q->l4 || (q->protocol != ICMP && q->protocol != ICMPV6))
        return NO_PORT;
    u8 kind = q->l4[0];
    bool is_echo = q->protocol == ICMP ? kind == 0 || kind == 8 : kind == 128 || kind == 129;
    return is_echo ? (int32_t)load_be(q->l4 + 4, 2) : NO_PORT;
}

bool quote_is_fragment(const struct packet *p, const struct quote *q)
{
    return p->version == 4 && quote_port(q, true) != NO_PORT && q->at[6] & 0x20;
}

/* Patch a checksum that another one covers; what has changed of that one's words. */
static u32 patched(u8 *at, u32 changed, bool is_udp)
{
    u32 before = (u32)load_be(at, 2);
    if (is_udp)
        patch_udp(at, changed);
    else
        patch(at, changed);
    return delta(before, load_be(at, 2), 2);
}

void packet_translate_quote(struct packet *p, const struct quote *q, bool source, u128 address, int32_t port)
{
    u8 *at = source ? q->source : q->destination;
    u32 addresses = delta(load_be_long(at, q->bytes), address, q->bytes), covered = addresses;
    store_be_long(at, address, q->bytes);
    if (port != NO_PORT) {
        u8 *port_at = q->l4 + (q->protocol == ICMP || q->protocol == ICMPV6 ? 4 : source ? 0 : 2);
        covered += delta(load_be(port_at, 2), (u32)port, 2);
        store_be(port_at, (u32)port, 2);
    }
    u32 all = covered; /* the error's own checksum covers all that changes in the quote, checksums included */
    if (p->version == 4)
        all += patched(q->at + 10, addresses, false);
    if (q->l4 && q->protocol == UDP)
        all += patched(q->l4 + 6, covered, true);
    else if (q->l4 && q->protocol == ICMPV6)
        all += patched(q->l4 + 2, covered, false);
    patch(p->at + p->l4 + 2, all);
}

void packet_flow(const struct packet *p, u128 *source, u128 *destination)
{
    struct quote q;
    *source = *destination = 0;
    if (packet_quote(p, &q)) {
        *source = load_be_long(q.destination, q.bytes);
        *destination = load_be_long(q.source, q.bytes);
    } else if (p->version) {
        *source = packet_source(p);
        *destination = packet_destination(p);
    }
}

/* One frame as NFs see it: its bytes, where its headers are, and what they say.
 *
 * What is malformed is said in docs/architecture.md: a frame that ends inside a header that it announces.
 */
#ifndef DPDK_PACKET_H
#define DPDK_PACKET_H

#include "base.h"

#define TAG_BYTES 38 /* outer Ethernet and NSH, MD type 1 (RFC 8300, 2.4) */
#define HEADROOM 128 /* bytes before a received frame that may be written: what DPDK's buffers have */

enum { ICMP = 1, TCP = 6, UDP = 17, IPV6_FRAGMENT = 44, ICMPV6 = 58, NO_PROTOCOL = -1, NO_PORT = -1 };
enum { INSIDE, OUTSIDE, HELD = 254, DROPPED };
#define NO_RULE 0xFFFFFFFFu

struct step;
struct leaving;

struct packet {
    u8 *at; /* the frame, without tag; before it there are `room` bytes, and those of the NSH tag */
    u32 size;
    u16 l3, l4; /* bytes from `at`; l4 is 0 where no header of it was parsed (a later fragment, another protocol) */
    u16 ether_type, source_port, destination_port;
    int16_t protocol;
    u8 version; /* 4, 6 or 0 */
    bool has_ports, later_fragment;
    u8 port;   /* that it has entered */
    u8 left;   /* the NF's answer: a port, DROPPED or HELD */
    u8 reason; /* why, as an index of the NF's reasons */
    u8 ttl;    /* of the tag */
    u8 index;  /* in its burst */
    u16 room;
    u16 branch; /* 0: it came with the burst; what NFs sent beside that is numbered */
    u32 path;   /* it came by */
    u32 rule;   /* that asked for its drop */
    const struct step *step;
    const struct leaving *leaving; /* NULL: it does not, or not yet */
    u8 words[16]; /* the tag's context words */
};

/* Parse `at` and `size`; false: malformed. */
bool packet_parse(struct packet *p);

/* The same, where most packets are TCP or UDP in IPv4, with no VLAN tag, no option and no offset: those are parsed here. */
static inline bool packet_parse_inline(struct packet *p)
{
    enum { L3 = 14, L4 = L3 + 20, LEAST = L4 + 20 };
    const u8 *at = p->at;
    if (unlikely(p->size < LEAST))
        return packet_parse(p);
    u32 type_and_version = (u32)load_be(at + 12, 4) >> 8, fragment_and_protocol = (u32)load_be(at + L3 + 6, 4);
    u8 protocol = (u8)fragment_and_protocol;
    if (unlikely(type_and_version != 0x080045 || fragment_and_protocol & 0x1FFF0000 ||
                 (protocol != TCP && protocol != UDP)))
        return packet_parse(p);
    u32 ports = (u32)load_be(at + L4, 4);
    p->l3 = L3;
    p->l4 = L4;
    p->ether_type = 0x0800;
    p->source_port = (u16)(ports >> 16);
    p->destination_port = (u16)ports;
    p->protocol = protocol;
    p->version = 4;
    p->has_ports = true;
    p->later_fragment = false;
    return true;
}

/* So many bytes more in front, to be written, or less; then it is to be parsed again. False: there is no room. */
static inline bool packet_grow(struct packet *p, u32 bytes)
{
    if (unlikely(p->room < bytes))
        return false;
    p->at -= bytes;
    p->size += bytes;
    p->room = (u16)(p->room - bytes);
    return true;
}
static inline void packet_shrink(struct packet *p, u32 bytes)
{
    p->at += bytes;
    p->size -= bytes;
    p->room = (u16)(p->room + bytes);
}

/* Addresses as numbers; an IPv4 one is its 32 bits. The packet is IP. */
static inline u128 packet_source(const struct packet *p)
{
    return p->version == 4 ? load_be(p->at + p->l3 + 12, 4) : load_be_long(p->at + p->l3 + 8, 16);
}
static inline u128 packet_destination(const struct packet *p)
{
    return p->version == 4 ? load_be(p->at + p->l3 + 16, 4) : load_be_long(p->at + p->l3 + 24, 16);
}
/* Write an address; all checksums that cover it follow. */
void packet_set_source(struct packet *p, u128 address);
void packet_set_destination(struct packet *p, u128 address);
/* The same, and the port of a packet that has ports. */
void packet_set_source_end(struct packet *p, u128 address, int32_t port);
void packet_set_destination_end(struct packet *p, u128 address, int32_t port);
/* The identifier of an ICMP echo. */
void packet_set_icmp_id(struct packet *p, u16 number);

/* Whether an IP packet is a fragment that others follow, which has offset 0. */
static inline bool packet_leads_fragments(const struct packet *p)
{
    const u8 *l3 = p->at + p->l3;
    if (p->version == 4)
        return !p->later_fragment && l3[6] & 0x20;
    return l3[6] == IPV6_FRAGMENT && (load_be(l3 + 42, 2) & 0xFFF9) == 1;
}

/* Bytes from `at` to where the IP packet ends, of which `l4` is there; what is behind it is padding. */
static inline u32 packet_end(const struct packet *p)
{
    const u8 *l3 = p->at + p->l3;
    u32 end = p->l3 + (u32)(p->version == 4 ? load_be(l3 + 2, 2) : 40 + load_be(l3 + 4, 2));
    end = end > p->size ? p->size : end;
    return end > p->l4 ? end : p->l4;
}

/* The VLAN of the outermost tag. */
#define UNTAGGED 4096u
static inline u32 packet_vlan(const struct packet *p)
{
    return p->l3 == 14 ? UNTAGGED : (u32)load_be(p->at + 14, 2) & 0xFFF;
}

/* IPv4's TTL or IPv6's hop limit of an IP packet; the header's checksum follows. */
static inline u8 packet_ttl(const struct packet *p)
{
    return p->at[p->l3 + (p->version == 4 ? 8 : 7)];
}
void packet_set_ttl(struct packet *p, u8 ttl);

/* Write the DSCP of an IP packet; ECN, the two bits behind it, stays. */
void packet_set_dscp(struct packet *p, u8 dscp);

/* The packet that an ICMP error quotes (RFC 792; RFC 4443, 2.4): where its headers are. */
struct quote {
    u8 *at, *source, *destination, *l4; /* l4 is NULL where that header is not known */
    u8 bytes, protocol; /* bytes of an address */
};
/* False: the packet is no ICMP error. */
bool packet_quote(const struct packet *p, struct quote *q);
/* Ports of TCP or UDP, the identifier of an echo request or reply: NO_PORT where it has none. */
int32_t quote_port(const struct quote *q, bool source);
int32_t quote_echo(const struct quote *q);
/* Whether more fragments follow a quoted IPv4 packet that has ports. */
bool quote_is_fragment(const struct packet *p, const struct quote *q);
/* Write its source or destination and, unless it is NO_PORT, that one's port, or the echo's identifier. Its checksums
 * follow (TCP's is not quoted), and the error's own. */
void packet_translate_quote(struct packet *p, const struct quote *q, bool source, u128 address, int32_t port);

/* Source and destination of the flow that a packet is of: for an ICMP error, that of the packet which it quotes, seen
 * from the other side. Not IP: zeros. */
void packet_flow(const struct packet *p, u128 *source, u128 *destination);

#endif

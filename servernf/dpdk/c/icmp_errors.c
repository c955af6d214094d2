#include "icmp_errors.h"

#include "checksums.h"

#define INTERVAL_US 1000
#define BURST 50
#define MOST_4 576  /* bytes of an error's IP packet (RFC 1812, 4.3.2.3) */
#define MOST_6 1280 /* RFC 4443, 2.4 c */
#define MOST_LINK 22

static bool is_never_told_of(const struct packet *p)
{
    u8 kind = p->at[p->l4];
    if (p->protocol != ICMP && p->protocol != ICMPV6)
        return false;
    if (p->version == 4)
        return kind == 3 || kind == 4 || kind == 5 || kind == 11 || kind == 12;
    return kind < 128 || kind == 137; /* errors and redirects */
}

/* Not of later fragments, and of what has less than eight bytes of L4 to quote. */
static bool is_told(const struct packet *p)
{
    if (p->later_fragment)
        return false;
    return !p->l4 || (!is_never_told_of(p) && packet_end(p) >= p->l4 + 8u);
}

static bool may_tell(const struct teller *t, u64 now_us)
{
    u64 full_us = *t->full_us > now_us ? *t->full_us : now_us;
    if (full_us - now_us > (BURST - 1) * INTERVAL_US)
        return false;
    *t->full_us = full_us + INTERVAL_US;
    return true;
}

/* From the IP header on; its size. */
static u32 write_error(u8 *ip, const struct teller *t, const struct packet *p, enum icmp_error what)
{
    static const u8 four[][2] = {{11, 0}, {3, 0}, {3, 1}, {3, 4}}, six[][2] = {{3, 0}, {1, 0}, {1, 3}, {2, 0}};
    bool is_4 = p->version == 4;
    u32 head = is_4 ? 20 : 40, bytes = is_4 ? 4 : 16, quoted = packet_end(p) - p->l3, most = is_4 ? MOST_4 : MOST_6;
    quoted = quoted > most - head - 8 ? most - head - 8 : quoted;
    u8 *icmp = ip + head, *addresses = ip + (is_4 ? 12 : 8);
    memset(ip, 0, head + 8);
    store_be_long(addresses, t->address[!is_4], bytes);
    memcpy(addresses + bytes, p->at + p->l3 + (is_4 ? 12 : 8), bytes);
    memcpy(icmp, is_4 ? four[what] : six[what], 2);
    if (what == PACKET_TOO_BIG)
        store_be(icmp + 4, t->mtu, 4);
    memcpy(icmp + 8, p->at + p->l3, quoted);
    u64 sum = sum_of_words(icmp, 8 + quoted);
    if (is_4) {
        store_be(ip, 0x45C0, 2); /* precedence 6 (RFC 1812, 4.3.2.5) */
        store_be(ip + 2, head + 8 + quoted, 2);
        store_be(ip + 6, 0x4000, 2);
        store_be(ip + 8, 64 << 8 | ICMP, 2);
        store_be(ip + 10, 0xFFFF - sum_of_words(ip, head), 2);
    } else {
        store_be(ip, (u64)6 << 28, 4);
        store_be(ip + 4, 8 + quoted, 2);
        store_be(ip + 6, ICMPV6 << 8 | 64, 2);
        sum += sum_of_words(addresses, 32) + 8 + quoted + ICMPV6;
    }
    store_be(icmp + 2, 0xFFFF - (sum % 0xFFFF ? sum % 0xFFFF : 0xFFFF), 2);
    return head + 8 + quoted;
}

void icmp_tell(const struct teller *t, const struct packet *p, enum icmp_error what, u64 now_us)
{
    u8 frame[MOST_LINK + MOST_6];
    if (!(t->versions & (p->version == 4 ? TELLS_4 : TELLS_6)) || !is_told(p) || !may_tell(t, now_us))
        return;
    memcpy(frame, p->at + 6, 6);
    memcpy(frame + 6, t->gateway, 6);
    memcpy(frame + 12, p->at + 12, p->l3 - 12u); /* VLAN tags stay */
    packet_emit(p, p->port, frame, p->l3 + write_error(frame + p->l3, t, p, what));
}

/* ICMP errors that a router sends (RFC 1812, 4.3.2; RFC 4443, 2.4): about what, which, how often. */
#ifndef DPDK_ICMP_ERRORS_H
#define DPDK_ICMP_ERRORS_H

#include "nf.h"

enum icmp_error { TIME_EXCEEDED, NET_UNREACHABLE, HOST_UNREACHABLE, PACKET_TOO_BIG };

/* Whom it tells as whom. */
struct teller {
    u8 versions, gateway[6]; /* TELLS_4, TELLS_6; its MAC */
    u32 mtu;                 /* 65535: any length */
    u128 address[2];         /* of IPv4, of IPv6 */
    u64 *full_us;            /* when its token bucket is full again; the parent has it, too */
};
enum { TELLS_4 = 1, TELLS_6 = 2 };

/* Send an error about a packet back by the port that it has entered, unless it may not be (RFC 1812, 4.3.2.7) or the rate
 * does not allow it: 50 at once, then one a millisecond (RFC 4443, 2.4 f). */
void icmp_tell(const struct teller *t, const struct packet *p, enum icmp_error what, u64 now_us);

#endif

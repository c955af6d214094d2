/* Whether the receiver of a TCP segment can take it, as far as a middlebox between the ends can know: what a receiver
 * ignores must change nothing here either (Ptacek and Newsham 1998). RFC 9293, 3.10.7.4 and RFC 5961, lenient where only
 * the ends know; "TCP acceptance" in docs/functions is binding.
 *
 * Sequence numbers are as on the wire and wrap (RFC 9293, 3.4); UNKNOWN is unknown, and of a side of which nothing is
 * known nothing is asked.
 */
#ifndef DPDK_TCP_ACCEPTANCE_H
#define DPDK_TCP_ACCEPTANCE_H

#include "messages.h"
#include "packet.h"

#define UNKNOWN (-1)

enum { FIN = 1, SYN = 2, RST = 4, ACK = 16 };

enum verdict {
    REFUSED,  /* the receiver would ignore it; nothing has changed */
    PASSES,   /* of no account: an end answers it or ignores it */
    ACCEPTED, /* it counts, payload and FIN included */
    BEGINS,   /* as ACCEPTED, and both streams are new */
    RESET,    /* an RST that the receiver may believe: the connection is transitory, but not over */
};

/* What is known of one end as a sender, and (`edge`) how far its receiver lets it go. */
struct side {
    i64 isn;      /* of its SYN */
    i64 next;     /* behind the last byte or flag accepted from it */
    i64 acked;    /* what the other side has acknowledged */
    i64 edge;     /* behind the last byte that the other side's window has had room for */
    i64 fin;      /* where its stream ends */
    i64 syn;      /* of a SYN amid the connection, until the other side answers it */
    u32 largest;  /* of the windows that it has advertised */
    int8_t scale; /* shift of these windows (RFC 7323, 2.2); unknown without its SYN */
    int8_t syn_scale;
    bool was_reset;
};

void side_start(struct side *s);
/* As servernf/wire/state.py has it. */
void side_write(const struct side *s, struct writer *w);
bool side_read(struct side *s, struct reader *r); /* false: it says what cannot be */

static inline bool tcp_is_over(const struct side *one, const struct side *other)
{
    return one->was_reset || other->was_reset || (one->fin >= 0 && other->fin >= 0);
}
/* No SYN waits for its first answer. */
static inline bool tcp_is_open(const struct side *one, const struct side *other)
{
    return !(one->isn >= 0 && other->next < 0) && !(other->isn >= 0 && one->next < 0);
}
/* Both have sent, SYNs of theirs are acknowledged, and it is not over (RFC 5382, 4). */
static inline bool tcp_is_established(const struct side *one, const struct side *other)
{
    return one->next >= 0 && other->next >= 0 && one->acked != one->isn && other->acked != other->isn &&
           !tcp_is_over(one, other);
}
static inline u8 tcp_flags(const struct packet *p)
{
    return p->at[p->l4 + 13];
}

/* Whether a segment is whole and its checksums are right (those of IPv4 and TCP), and its data offset lies in it. */
bool tcp_is_intact(const struct packet *p);
/* Judge a segment that is intact, and learn from it. */
enum verdict tcp_accept(struct side *sender, struct side *receiver, const struct packet *p);

#endif

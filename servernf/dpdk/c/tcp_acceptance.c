#include "tcp_acceptance.h"

#include "checksums.h"
#include "records.h"

#define OLD_BYTES 65535        /* how far behind what is acknowledged a retransmission may still lie */
#define MAX_AHEAD (1 << 30)    /* the largest window there is (RFC 7323, 2.3); asked where none is known */
#define MAX_SCALE 14
#define MAX_LARGEST (0xFFFFu << MAX_SCALE)

struct segment {
    u32 seq, ack, window, length;
    u8 flags;
    const u8 *options;
    u32 option_bytes;
};

/* How far one number lies behind another. */
static i64 ahead_of(i64 one, i64 other)
{
    return (int32_t)((u32)one - (u32)other);
}

/* low < number <= high */
static bool lies_within(i64 low, i64 number, i64 high)
{
    u32 past = (u32)number - (u32)low;
    return low >= 0 && past && past <= (u32)high - (u32)low;
}

static i64 wrapped(i64 number)
{
    return (u32)number;
}

void side_start(struct side *s)
{
    *s = (struct side){UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, 0, UNKNOWN, UNKNOWN, false};
}

static void begin(struct side *s, u32 isn, u32 length, u32 window, int scale)
{
    s->isn = s->acked = isn;
    s->next = wrapped((i64)isn + 1 + length);
    s->edge = s->fin = s->syn = UNKNOWN;
    s->scale = (int8_t)scale;
    s->largest = window;
    s->was_reset = false;
}

static void forget(struct side *s)
{
    int8_t syn_scale = s->syn_scale;
    side_start(s);
    s->syn_scale = syn_scale;
}

/* -- as it is written ------------------------------------------------------------------------------------- */

void side_write(const struct side *s, struct writer *w)
{
    i64 numbers[] = {s->isn, s->next, s->acked, s->edge, s->fin, s->syn, s->scale, s->syn_scale, s->largest};
    for (u32 i = 0; i < sizeof numbers / sizeof *numbers; i++)
        put_be(w, (u64)numbers[i], 8);
    put_be(w, s->was_reset, 1);
}

bool side_read(struct side *s, struct reader *r)
{
    i64 n[9];
    bool good = true;
    for (u32 i = 0; i < 9; i++) {
        n[i] = (i64)get_be(r, 8);
        good = good && n[i] >= (i == 8 ? 0 : UNKNOWN) &&
               n[i] <= (i < 6 ? (i64)0xFFFFFFFF : i < 8 ? MAX_SCALE : (i64)MAX_LARGEST);
    }
    *s = (struct side){n[0], n[1], n[2], n[3], n[4], n[5], (u32)n[8], (int8_t)n[6], (int8_t)n[7], get_be(r, 1)};
    return good && !r->bad;
}

/* -- whether it is whole ------------------------------------------------------------------------------------- */

bool tcp_is_intact(const struct packet *p)
{
    const u8 *l3 = p->at + p->l3, *l4 = p->at + p->l4;
    u32 end = packet_end(p), length = end - p->l4, header = (u32)(l4[12] >> 4) << 2;
    if (header < 20 || header > length)
        return false;
    u64 sum = TCP + length;
    if (p->version == 4) {
        if (p->l3 + (u32)load_be(l3 + 2, 2) != end || sum_of_words(l3, (u32)(l4 - l3)) % 0xFFFF)
            return false;
        sum += sum_of_words(l3 + 12, 8);
    } else {
        if (p->l3 + 40 + (u32)load_be(l3 + 4, 2) != end)
            return false;
        sum += sum_of_words(l3 + 8, 32);
    }
    return !((sum + sum_of_words(l4, length)) % 0xFFFF);
}

/* -- judging ---------------------------------------------------------------------------------------------- */

/* The shift in a SYN's options, at most 14 (RFC 7323, 2.3); UNKNOWN without the option. */
static int window_scale(const u8 *options, u32 size)
{
    for (u32 at = 0; at < size;) {
        u8 kind = options[at];
        if (kind == 0)
            break;
        if (kind == 1) {
            at++;
            continue;
        }
        if (at + 1 >= size || options[at + 1] < 2 || at + options[at + 1] > size)
            break;
        if (kind == 3 && options[at + 1] == 3)
            return options[at + 2] < MAX_SCALE ? options[at + 2] : MAX_SCALE;
        at += options[at + 1];
    }
    return UNKNOWN;
}

static void begin_answering(struct side *sender, const struct side *receiver, const struct segment *s, int scale)
{
    begin(sender, s->seq, s->length, s->window, scale);
    if (receiver->largest)
        sender->edge = wrapped((i64)s->seq + 1 + receiver->largest);
}

/* Windows are scaled only if both SYNs say so (RFC 7323, 1.3). */
static void agree_on_scale(struct side *one, struct side *other)
{
    if (one->scale < 0 || other->scale < 0)
        one->scale = other->scale = 0;
}

static enum verdict syn(struct side *sender, struct side *receiver, const struct segment *s, int scale)
{
    if (sender->isn == s->seq && receiver->next < 0) {
        i64 end = wrapped((i64)s->seq + 1 + s->length);
        if (ahead_of(end, sender->next) > 0)
            sender->next = end;
        return ACCEPTED;
    }
    if (receiver->next < 0 && (sender->next < 0 || sender->isn >= 0)) {
        /* Nobody has answered yet: an opening, or another attempt. */
        forget(receiver);
        begin(sender, s->seq, s->length, s->window, scale);
        return BEGINS;
    }
    if (sender->next < 0 && receiver->isn >= 0) { /* simultaneous open */
        begin_answering(sender, receiver, s, scale);
        return ACCEPTED;
    }
    if (s->length)
        return REFUSED; /* the receiver, if it believes the SYN, would take bytes that nobody has seen */
    if (s->seq != sender->isn) {
        sender->syn = s->seq;
        sender->syn_scale = (int8_t)scale;
    }
    return PASSES;
}

static enum verdict syn_ack(struct side *sender, struct side *receiver, const struct segment *s, int scale)
{
    i64 ack = s->ack;
    if (ack == receiver->isn)
        ack = wrapped(ack + 1); /* test tools often do not count the SYN */
    i64 edge = wrapped(ack + s->window);
    if (sender->next < 0 && receiver->isn >= 0) {
        if (!lies_within(receiver->isn, ack, receiver->next))
            return REFUSED;
        begin_answering(sender, receiver, s, scale);
        agree_on_scale(sender, receiver);
        receiver->acked = ack;
        receiver->edge = edge;
        return ACCEPTED;
    }
    if (receiver->syn >= 0 && ack == wrapped(receiver->syn + 1) && s->seq != sender->isn) {
        begin(receiver, (u32)receiver->syn, 0, 0, receiver->syn_scale);
        forget(sender);
        begin(sender, s->seq, s->length, s->window, scale);
        agree_on_scale(sender, receiver);
        receiver->acked = ack;
        receiver->edge = edge;
        return BEGINS;
    }
    if (sender->next < 0 && receiver->next < 0) { /* its SYN went another way */
        begin(sender, s->seq, s->length, s->window, scale < 0 ? 0 : scale);
        receiver->acked = ack;
        receiver->edge = edge;
        return BEGINS;
    }
    bool known = receiver->isn < 0 || lies_within(receiver->isn, ack, receiver->next);
    if (s->seq == sender->isn && !s->length && known) { /* again, or after a simultaneous open */
        if (receiver->acked < 0 || ahead_of(ack, receiver->acked) > 0)
            receiver->acked = ack;
        if (receiver->edge < 0) {
            agree_on_scale(sender, receiver);
            receiver->edge = edge;
        }
        return PASSES;
    }
    return REFUSED;
}

/* An RST counts at exactly the number that its receiver expects (RFC 5961, 3.2), which is none before what is
 * acknowledged and none behind what was sent. */
static enum verdict reset(struct side *sender, const struct side *receiver, const struct segment *s)
{
    if (sender->next < 0) {
        if (receiver->isn < 0)
            return PASSES;
        if (!(s->flags & ACK) || !lies_within(receiver->isn, s->ack, receiver->next))
            return REFUSED; /* RFC 9293, 3.10.7.3 */
        sender->was_reset = true;
        return RESET;
    }
    if (s->seq - (u32)sender->acked <= (u32)sender->next - (u32)sender->acked) {
        sender->was_reset = true;
        return RESET;
    }
    /* Nobody has answered its SYN: perhaps the end of an earlier connection, challenged by it. */
    return receiver->next < 0 && sender->isn >= 0 ? PASSES : REFUSED;
}

/* A segment without SYN from a side that has sent none. */
static enum verdict first(struct side *sender, struct side *receiver, const struct segment *s)
{
    i64 end = wrapped((i64)s->seq + s->length);
    if (receiver->isn >= 0) /* not the answer to a SYN, but maybe a challenge (RFC 5961, 4): it carries nothing */
        return s->length || s->flags & FIN ? REFUSED : PASSES;
    if (sender->acked >= 0) {
        i64 ahead = ahead_of(end, sender->acked);
        if (ahead < -OLD_BYTES || ahead > MAX_AHEAD)
            return REFUSED;
        if (ahead < 0)
            return PASSES; /* the receiver has it */
    }
    if (receiver->next >= 0 && ahead_of(s->ack, receiver->next) > 0)
        return REFUSED;
    if (sender->acked < 0)
        sender->acked = s->seq;
    sender->next = end;
    if (s->flags & FIN) {
        sender->fin = end;
        sender->next = wrapped(end + 1);
    }
    if (receiver->acked < 0 || ahead_of(s->ack, receiver->acked) > 0)
        receiver->acked = s->ack;
    return ACCEPTED;
}

static enum verdict accept_data(struct side *sender, struct side *receiver, const struct segment *s)
{
    i64 end = wrapped((i64)s->seq + s->length);
    if (sender->next < 0)
        return first(sender, receiver, s);
    /* Where it lies: the last byte not too far back, none beyond the window (but a probe's). Nobody acknowledges what
     * goes one way. */
    i64 ahead = ahead_of(end, receiver->next < 0 ? sender->next : sender->acked);
    if (ahead < -OLD_BYTES || (sender->edge < 0 ? ahead > MAX_AHEAD : ahead_of(end, sender->edge) > 1))
        return REFUSED;
    bool is_new = ahead_of(end, sender->next) > 0;
    if (sender->fin >= 0) {
        i64 beyond = ahead_of(end, sender->fin);
        if (beyond > (s->length ? 0 : 1) || (s->flags & FIN && beyond))
            return REFUSED;
    } else if (s->flags & FIN && !is_new && end != sender->next) {
        return REFUSED; /* it takes back what it has sent */
    }
    /* What it acknowledges: nothing that was never sent, nothing too old (RFC 5961, 5.2). */
    i64 acked = receiver->acked;
    if (receiver->next >= 0 && ahead_of(s->ack, receiver->next) > 0)
        return REFUSED;
    i64 newly = acked >= 0 ? ahead_of(s->ack, acked) : 0;
    if (newly < 0 && newly < (sender->scale >= 0 ? -(i64)sender->largest : -(i64)MAX_AHEAD))
        return REFUSED;
    sender->was_reset = false; /* it goes on: a reset was not its own, or has not arrived */
    if (acked >= 0 && acked == receiver->isn)
        receiver->acked = wrapped(acked + 1); /* who sends without SYN has had the other's */
    if (s->length && is_new)
        sender->next = end;
    if (s->flags & FIN && sender->fin < 0) {
        sender->fin = end;
        sender->next = wrapped(end + 1);
    }
    if (ahead < 0)
        return ACCEPTED; /* of what the receiver takes for old it reads no acknowledgment */
    if (acked < 0 || newly > 0)
        receiver->acked = s->ack;
    if (sender->scale >= 0) {
        u32 window = s->window << sender->scale;
        if (window > sender->largest)
            sender->largest = window;
        i64 edge = wrapped((i64)s->ack + window);
        if (receiver->edge < 0 || ahead_of(edge, receiver->edge) > 0)
            receiver->edge = edge;
    }
    return ACCEPTED;
}

enum verdict tcp_accept(struct side *sender, struct side *receiver, const struct packet *p)
{
    const u8 *l4 = p->at + p->l4;
    u32 header = (u32)(l4[12] >> 4) << 2;
    struct segment s = {
        .seq = (u32)load_be(l4 + 4, 4),
        .ack = (u32)load_be(l4 + 8, 4),
        .flags = l4[13],
        .window = (u32)load_be(l4 + 14, 2),
        .length = packet_end(p) - p->l4 - header,
        .options = l4 + 20,
        .option_bytes = header - 20,
    };
    if (!(s.flags & (SYN | RST)))
        return s.flags & ACK ? accept_data(sender, receiver, &s) : REFUSED;
    if (s.flags & RST)
        return s.flags & SYN ? REFUSED : reset(sender, receiver, &s);
    if (s.flags & FIN)
        return REFUSED;
    int scale = window_scale(s.options, s.option_bytes);
    return s.flags & ACK ? syn_ack(sender, receiver, &s, scale) : syn(sender, receiver, &s, scale);
}

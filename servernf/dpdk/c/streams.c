#include "streams.h"

#define MOST_HELD_BYTES ((i64)64 << 20) /* of all connections */
#define REGION_BYTES ((size_t)256 << 20)
#define IDLE_US 7440000000u    /* RFC 5382, REQ-5: 2 hours and 4 minutes */
#define TRANSITORY_US 300000000u /* half-open, or over; not less than PICK_UP_US */
#define PICK_UP_US 300000000u
#define MOST_MARKS 64
#define URG 32
#define OPENING (FIN | SYN | RST | ACK)

enum { LOW, HIGH };

/* Both directions; a blocked one lets nothing pass, one that is given up everything. */
struct connection {
    struct entry entry;
    u64 last_us;
    u32 seen_by; /* the mark of the configuration that looked it up last */
    bool blocked, given_up, low_is_inside;
    struct side side[2];
    struct direction stream[2]; /* that it sends */
};

/* Beside the connections of a table. */
struct beside {
    struct pieces pieces;
    u32 marks;
    struct {
        u32 mark;
        u8 ports[PORT_BITS]; /* that this configuration and all later ones watched */
    } since[MOST_MARKS];
};

static struct beside *beside_of(const struct table *t)
{
    return t->more;
}
static u64 *held_bytes(const struct table *t)
{
    return &t->counts[WAITING_FRAMES];
}

static void release(struct table *t, struct connection *c)
{
    for (u32 i = 0; i < 2; i++) {
        *held_bytes(t) -= (u64)stream_cost(&c->stream[i]);
        stream_release(&beside_of(t)->pieces, &c->stream[i]);
    }
}

/* -- records ---------------------------------------------------------------------------------------------- */

static bool open_streams(struct table *t, struct reader *config)
{
    (void)config;
    struct beside *b = t->more = calloc(1, sizeof *b);
    return b && pieces_open(&b->pieces, REGION_BYTES);
}

static void close_streams(struct table *t)
{
    if (t->more)
        pieces_close(&beside_of(t)->pieces);
    free(t->more);
}

static void left(struct table *t, struct entry *e)
{
    release(t, (struct connection *)e);
}

static struct flow flow_of(const struct table *t, const struct entry *e)
{
    u8 key[KEY_WORDS * 8];
    u32 half = entry_key(t, e, key) / 2, bytes = half - 2;
    u128 low = load_be_long(key, bytes), high = load_be_long(key + half, bytes);
    return ((const struct connection *)e)->low_is_inside ? (struct flow){low, high} : (struct flow){high, low};
}

/* Write all of a record that has been entered; which of its ends is inside is known by then, and so its group. */
static void fill(struct table *t, struct connection *c, const struct connection *new)
{
    memcpy((u8 *)c + sizeof c->entry, (const u8 *)new + sizeof new->entry, sizeof *new - sizeof new->entry);
    if (unlikely(t->groups != NULL))
        groups_changed(t, &c->entry);
}

static void write_connection(const struct table *t, const struct entry *e, struct writer *w, u64 now_us)
{
    const struct connection *c = (const struct connection *)e;
    write_key(t, e, w);
    put_age(w, now_us, c->last_us);
    put_be(w, c->blocked, 1);
    put_be(w, c->given_up, 1);
    put_be(w, c->low_is_inside, 1);
    side_write(&c->side[LOW], w);
    side_write(&c->side[HIGH], w);
    put_be(w, e->established, 1);
    stream_write(&beside_of(t)->pieces, &c->stream[LOW], w);
    stream_write(&beside_of(t)->pieces, &c->stream[HIGH], w);
    write_source(t, e, w);
}

static const char *read_connection(struct table *t, struct reader *r, u64 now_us, const struct nf *judge)
{
    struct key k;
    const char *wrong;
    struct connection new = {.last_us = 0};
    struct pieces *pieces = &beside_of(t)->pieces;
    read_key(&k, r);
    new.last_us = get_time(r, now_us);
    new.blocked = get_be(r, 1);
    new.given_up = get_be(r, 1);
    new.low_is_inside = get_be(r, 1);
    bool good = side_read(&new.side[LOW], r);
    good = side_read(&new.side[HIGH], r) && good;
    bool established = get_be(r, 1);
    if (r->bad || (((u8 *)k.word)[8 * k.words - 1] != 12 && ((u8 *)k.word)[8 * k.words - 1] != 36))
        return BAD;
    if (!good)
        return "has a number of TCP that is out of range";
    if (!stream_read(pieces, &new.stream[LOW], r))
        return "has a stream that cannot be";
    struct connection *c = NULL;
    wrong = "has a stream that cannot be";
    if (stream_read(pieces, &new.stream[HIGH], r))
        c = (struct connection *)enter_read(t, &k, r, established, &wrong);
    if (!c) {
        stream_release(pieces, &new.stream[LOW]);
        stream_release(pieces, &new.stream[HIGH]);
        return wrong;
    }
    fill(t, c, &new);
    c->seen_by = judge ? ((const struct streams *)(judge + 1))->mark : 0;
    *held_bytes(t) += (u64)(stream_cost(&c->stream[LOW]) + stream_cost(&c->stream[HIGH]));
    return NULL;
}

static struct kind inspected = {.name = "inspected", .size = sizeof(struct connection), .fair = true,
                                .open = open_streams, .close = close_streams, .left = left, .flow = flow_of,
                                .write = write_connection, .read = read_connection};
KIND(inspected)

/* -- configuration ------------------------------------------------------------------------------------------ */

static bool take_ports(struct reader *config, u8 *ports)
{
    const u8 *from = take(config, PORT_BITS);
    if (from)
        memcpy(ports, from, PORT_BITS);
    return from;
}

bool streams_read(struct streams *s, struct reader *config, const struct shared *memory)
{
    s->connections = table_take(config, &inspected);
    s->mark = take_u32(config);
    s->strict = take_u32(config);
    u32 seen = take_u32(config), begun = take_u32(config), given_up = take_u32(config);
    if (!s->connections || seen > memory->count - sizeof *s->seen / 8 || begun > memory->count - sizeof *s->begun / 8 ||
        given_up >= memory->count || s->connections->capacity <= MAX_CONNECTIONS)
        return false;
    s->seen = (struct seen *)(memory->words + seen);
    s->begun = (struct begun *)(memory->words + begun);
    s->given_up = memory->words + given_up;
    if (!take_ports(config, s->watched) || !take_ports(config, s->watched_before))
        return false;
    u32 marks = take_u32(config);
    const u8 *from = marks > MOST_MARKS ? NULL : take(config, marks * sizeof beside_of(s->connections)->since[0]);
    if (!from)
        return false;
    beside_of(s->connections)->marks = marks;
    memcpy(beside_of(s->connections)->since, from, marks * sizeof beside_of(s->connections)->since[0]);
    return true;
}

/* -- connections -------------------------------------------------------------------------------------------- */

static bool drops(struct packet *p, enum stream_drop why)
{
    nf_drop(p, (u8)why);
    return false;
}

static bool is_lasting(const struct connection *c)
{
    return c->blocked || (tcp_is_open(&c->side[LOW], &c->side[HIGH]) && !tcp_is_over(&c->side[LOW], &c->side[HIGH]));
}

/* Whether nothing of a connection that another configuration knew has passed unseen. */
static bool is_whole(const struct streams *s, struct connection *c, const struct packet *p)
{
    const struct beside *b = beside_of(s->connections);
    for (u32 i = 0; i < b->marks; i++)
        if (b->since[i].mark == c->seen_by) {
            if (!port_is_in(b->since[i].ports, p->source_port) && !port_is_in(b->since[i].ports, p->destination_port))
                return false;
            c->seen_by = s->mark;
            return true;
        }
    return false;
}

/* The packet's connection; NULL: there is none that may be gone on with. */
static struct connection *find(const struct streams *s, const struct packet *p, const struct key *k, u32 hash, u8 flags,
                               u64 now_us)
{
    struct connection *c = (struct connection *)table_find(s->connections, k, hash);
    if (!c)
        return NULL;
    table_touch(s->connections, &c->entry);
    bool over = c->last_us + (c->entry.established ? IDLE_US : TRANSITORY_US) <= now_us;
    if (c->seen_by != s->mark && !over)
        over = !is_whole(s, c, p);
    if (c->given_up && !over)
        over = s->strict || (flags & OPENING) == SYN;
    if (!over)
        return c;
    table_remove(s->connections, &c->entry);
    return NULL;
}

/* Whether the other side would have accepted the connection first, for all to see. */
static bool is_unanswered(const struct streams *s, const struct side *sender, u8 flags)
{
    return s->strict && sender->isn >= 0 && !(flags & (SYN | RST)) && s->seen->inside && s->seen->outside;
}

/* Whether a connection may be older than this configuration, and not one that was forgotten. */
static bool picks_up(const struct streams *s, const struct packet *p, u8 flags, u64 now_us)
{
    if (!s->strict || (flags & SYN && !s->seen->has_syn))
        return true;
    if (now_us >= s->begun->at_us + PICK_UP_US || s->seen->evicted != s->begun->evicted)
        return false;
    return !port_is_in(s->watched_before, p->source_port) && !port_is_in(s->watched_before, p->destination_port);
}

enum entering { ENTERED, PASSES_WITHOUT, IS_DROPPED };

/* Hold a connection that was unknown, or say what becomes of its segment without. */
static enum entering enter(struct streams *s, struct packet *p, const struct key *k, u32 hash, u8 flags, bool payload,
                           const struct connection *new, u64 now_us, struct connection **entered)
{
    struct table *t = s->connections;
    struct end source;
    u32 size;
    if ((flags & OPENING) == SYN) {
        s->seen->has_syn = 1;
    } else if (!payload && !(flags & SYN)) {
        return PASSES_WITHOUT;
    } else if (!picks_up(s, p, flags, now_us)) {
        return payload && !drops(p, IS_UNKNOWN) ? IS_DROPPED : PASSES_WITHOUT;
    }
    end_of(p, true, &source);
    u64 host = host_of(source.bytes, source.size - 2, &size);
    t->size = MAX_CONNECTIONS;
    struct connection *c = (struct connection *)table_enter(t, k, hash, host, size, false);
    if (c)
        fill(t, c, new);
    for (struct entry *over; c && (over = table_over(t, &c->entry));) {
        c = over == &c->entry ? NULL : c;
        s->seen->evicted++;
        table_evict(t, over);
    }
    *entered = c;
    if (c)
        return ENTERED;
    if (s->strict) {
        drops(p, FINDS_NO_ROOM);
        return IS_DROPPED;
    }
    (*s->given_up)++;
    return PASSES_WITHOUT;
}

static void give_up(struct streams *s, struct connection *c)
{
    release(s->connections, c);
    (*s->given_up)++;
    c->given_up = true;
}

/* -- segments ---------------------------------------------------------------------------------------------- */

/* Add a segment to its stream and judge what is in order now. */
static bool takes(struct nf *nf, struct streams *s, struct packet *p, struct connection *c, u32 way, u32 seq,
                  const u8 *payload, u32 size)
{
    struct table *t = s->connections;
    struct pieces *pieces = &beside_of(t)->pieces;
    struct direction *d = &c->stream[way];
    const struct side *sender = &c->side[way], *receiver = &c->side[!way];
    if (!d->used) {
        bool is_first = sender->isn >= 0;
        u32 first = is_first ? (u32)sender->isn + 1 : seq, acked = (u32)sender->acked - first;
        if (acked && acked < 1u << 31) { /* what the receiver has is not waited for */
            is_first = false;
            first = (u32)sender->acked;
        }
        stream_start(d, first, is_first);
    }
    struct text text = {.count = 0};
    u32 known = d->tail ? piece_at(pieces, d->tail)->size : 0, label = 0;
    enum added added = LACKS_ROOM;
    i64 cost = stream_cost(d), room = MOST_HELD_BYTES - (i64)*held_bytes(t);
    if (stream_reserve(pieces, d, s->tail_bytes)) {
        if (known) {
            text.part[0] = (const char *)piece_at(pieces, d->tail)->bytes;
            text.size[text.count++] = known;
        }
        added = stream_add(pieces, d, seq, payload, size, room, s->strict, !s->strict || receiver->next < 0, &text);
    }
    if (added == OTHER_COPY)
        return drops(p, IS_OTHER_COPY);
    if (added == LACKS_ROOM) {
        if (s->strict)
            return drops(p, FINDS_NO_ROOM);
        give_up(s, c);
        return true;
    }
    *held_bytes(t) += (u64)(stream_cost(d) - cost);
    if (text.count == !!known)
        return true;
    int why = s->judge(nf, p, &text, known, &label);
    if (why < 0) {
        stream_remember(pieces, d, &text, s->tail_bytes);
        d->label = label ? label : d->label;
        return true;
    }
    release(t, c);
    c->blocked = true;
    table_establish(t, &c->entry, true);
    return drops(p, (enum stream_drop)why);
}

static bool segment_passes(struct nf *nf, struct streams *s, struct packet *p, struct connection *c, const struct key *k,
                           u32 hash, u32 way, u64 now_us, struct connection **found)
{
    struct table *t = s->connections;
    const u8 *l4 = p->at + p->l4;
    u8 flags = tcp_flags(p);
    u32 header = (u32)(l4[12] >> 4) << 2, seq = (u32)load_be(l4 + 4, 4), size = packet_end(p) - p->l4 - header;
    struct connection new, *known = c ? c : &new;
    if (!c) {
        new = (struct connection){.seen_by = s->mark, .low_is_inside = (p->port == INSIDE) == (way == LOW)};
        side_start(&new.side[LOW]);
        side_start(&new.side[HIGH]);
    }
    struct side *sender = &known->side[way], *receiver = &known->side[!way];
    piece_prefetch(&beside_of(t)->pieces, size);
    *(p->port == INSIDE ? &s->seen->inside : &s->seen->outside) = 1;
    if (size && receiver->next < 0 && is_unanswered(s, sender, flags))
        return drops(p, IS_UNANSWERED);
    enum verdict verdict = tcp_accept(sender, receiver, p);
    if (verdict == REFUSED)
        return drops(p, IS_UNACCEPTABLE);
    if (!c) {
        if (verdict == PASSES)
            return true;
        enum entering entering = enter(s, p, k, hash, flags, size, &new, now_us, &c);
        if (entering != ENTERED)
            return entering == PASSES_WITHOUT;
        sender = &c->side[way];
        receiver = &c->side[!way];
    } else if (c->blocked) {
        if (verdict != BEGINS) /* a SYN may be answered by its receiver; only the answer begins anew */
            return (verdict == PASSES && !(flags & ACK)) || drops(p, IS_BLOCKED);
        c->blocked = false;
    } else if (verdict == BEGINS) {
        release(t, c);
    }
    *found = c;
    c->last_us = now_us;
    table_refresh(t, &c->entry);
    if (flags & (FIN | SYN | RST) || !c->entry.established)
        table_establish(t, &c->entry, is_lasting(c));
    if (verdict == PASSES || verdict == RESET)
        return true;
    struct direction *other = &c->stream[!way];
    if (other->used) {
        i64 cost = stream_cost(other);
        stream_acknowledge(&beside_of(t)->pieces, other, (u32)receiver->acked);
        *held_bytes(t) -= (u64)(cost - stream_cost(other));
    }
    return !size || takes(nf, s, p, c, way, seq + !!(flags & SYN), l4 + header, size);
}

void streams_seek(const struct streams *s, const struct packet *p, struct sought *sought)
{
    struct end source, destination;
    struct key *k = &sought->key;
    end_of(p, true, &source);
    end_of(p, false, &destination);
    sought->order = memcmp(source.bytes, destination.bytes, source.size);
    bool rises = sought->order < 0;
    key_start(k);
    memcpy(k->word, rises ? source.bytes : destination.bytes, source.size);
    memcpy((u8 *)k->word + source.size, rises ? destination.bytes : source.bytes, source.size);
    key_end(k, 2 * source.size);
    sought->hash = key_hash(s->connections, k);
    index_prefetch(&s->connections->by_key, sought->hash);
}

void streams_prefetch(const struct streams *s, const struct sought *sought, u32 step)
{
    const struct table *t = s->connections;
    u32 at = index_likely(&t->by_key, sought->hash);
    if (at == NIL)
        return;
    const struct connection *c = (const struct connection *)entry_at(t, at);
    if (step == 0) {
        for (u32 i = 0; i < sizeof *c; i += 64)
            __builtin_prefetch((const u8 *)c + i);
        return;
    }
    const struct direction *d = &c->stream[sought->order < 0 ? LOW : HIGH];
    if (d->tail)
        __builtin_prefetch(piece_at(&beside_of(t)->pieces, d->tail));
    if (c->stream[sought->order < 0 ? HIGH : LOW].held_first)
        __builtin_prefetch(piece_at(&beside_of(t)->pieces, c->stream[sought->order < 0 ? HIGH : LOW].held_first));
}

bool streams_pass(struct nf *nf, struct streams *s, struct packet *p, const struct sought *sought, u64 now_us, u32 *label)
{
    const struct key *k = &sought->key;
    u32 hash = sought->hash, way = sought->order < 0 ? LOW : HIGH;
    *label = 0;
    if (!s->begun->has_begun)
        *s->begun = (struct begun){1, now_us, s->seen->evicted};
    if (!sought->order)
        return drops(p, IS_UNACCEPTABLE);
    u8 flags = tcp_flags(p);
    struct connection *c = find(s, p, k, hash, flags, now_us), *found = c;
    if (c && c->given_up) {
        c->last_us = now_us;
        table_refresh(s->connections, &c->entry);
        return true;
    }
    if (c && c->blocked && !(flags & SYN))
        return drops(p, IS_BLOCKED);
    if (packet_leads_fragments(p)) { /* without it the later ones, which pass, come to nothing */
        if (s->strict)
            return drops(p, IS_FRAGMENT);
        if (c)
            give_up(s, c);
        return true;
    }
    if (!tcp_is_intact(p))
        return drops(p, HAS_WRONG_CHECKSUM);
    if (flags & URG && s->strict)
        return drops(p, IS_URGENT);
    bool passes = segment_passes(nf, s, p, c, k, hash, way, now_us, &found);
    if (found)
        *label = found->stream[way].label;
    return passes;
}

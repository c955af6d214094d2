/* The TCP connections of a NAPT's mappings (RFC 5382, REQ-5); inside addresses share the room. */
#include "mappings.h"

static struct session *session_at(const struct table *t, u32 at)
{
    return (struct session *)entry_at(t, at);
}

/* Of a mapping, and the remote end of a packet. */
static void key_of(struct key *k, const struct mapping *m, const struct packet *p)
{
    u8 *at = (u8 *)k->word;
    const u8 *l3 = p->at + p->l3, *l4 = p->at + p->l4;
    bool inside = p->port == INSIDE;
    key_start(k);
    store_be(at, key_address(m->entry.key[0]), 4);
    store_be(at + 4, key_port(m->entry.key[0]), 2);
    memcpy(at + 6, l3 + (inside ? 16 : 12), 4);
    memcpy(at + 10, l4 + (inside ? 2 : 0), 2);
    key_end(k, 12);
}

struct session *session_judge(struct table *t, const struct mapping *m, const struct packet *p, struct session *fresh,
                              enum verdict *verdict)
{
    struct session *s = NULL;
    struct key k;
    if (m) {
        key_of(&k, m, p);
        s = (struct session *)table_find(t, &k, key_hash(t, &k));
    }
    if (!s) {
        s = fresh;
        side_start(&s->inside);
        side_start(&s->outside);
    }
    *verdict = REFUSED;
    if (tcp_is_intact(p))
        *verdict = p->port == INSIDE ? tcp_accept(&s->inside, &s->outside, p) : tcp_accept(&s->outside, &s->inside, p);
    if (s != fresh)
        table_touch(t, &s->entry);
    return s;
}

static void append(struct table *t, struct mapping *m, struct session *s)
{
    s->mapping = m->entry.number;
    s->before = m->sessions ? m->last_session : NIL;
    s->after = NIL;
    if (m->sessions)
        session_at(t, m->last_session)->after = s->entry.number;
    else
        m->first_session = s->entry.number;
    m->last_session = s->entry.number;
    m->sessions++;
}

/* Its mapping goes on without one that goes. */
static void left(struct table *t, struct entry *e)
{
    struct session *s = (struct session *)e;
    struct mapping *m = (struct mapping *)entry_at(t->other, s->mapping);
    if (s->before == NIL)
        m->first_session = s->after;
    else
        session_at(t, s->before)->after = s->after;
    if (s->after == NIL)
        m->last_session = s->before;
    else
        session_at(t, s->after)->before = s->before;
    m->sessions--;
    if (e->established)
        mapping_established(t->other, m, -1);
}

static void begin(struct table *t, struct mapping *m, const struct session *fresh, const struct packet *p)
{
    if (m->sessions >= MOST_SESSIONS_OF_MAPPING) {
        if (p->port == OUTSIDE)
            return; /* no stranger takes the room of what inside has opened */
        table_remove(t, entry_at(t, m->first_session));
    }
    struct key k;
    u32 source = __builtin_bswap32(key_address(m->entry.key[0]));
    key_of(&k, m, p);
    struct session *s = (struct session *)table_enter(t, &k, key_hash(t, &k), source, 4, false);
    if (!s)
        return;
    s->inside = fresh->inside;
    s->outside = fresh->outside;
    append(t, m, s);
    for (struct entry *over; s && (over = table_over(t, &s->entry));) {
        s = over == &s->entry ? NULL : s;
        table_evict(t, over);
    }
}

void session_settle(struct table *t, struct mapping *m, struct session *s, enum verdict verdict,
                    const struct packet *p, u64 now_us)
{
    (void)now_us;
    if (!s->entry.live) {
        if (verdict == ACCEPTED || verdict == BEGINS)
            begin(t, m, s, p);
        return;
    }
    table_refresh(t, &s->entry);
    if (s->entry.established && (tcp_flags(p) & (FIN | SYN | RST | ACK)) == ACK)
        return;
    bool established = tcp_is_established(&s->inside, &s->outside);
    if (established == s->entry.established)
        return;
    table_establish(t, &s->entry, established);
    mapping_established(t->other, m, established ? 1 : -1);
}

/* -- records ---------------------------------------------------------------------------------------------- */

static struct flow flow_of(const struct table *t, const struct entry *e)
{
    u8 key[KEY_WORDS * 8];
    entry_key(t, e, key);
    return (struct flow){load_be(key, 4), 0};
}

static void write_session(const struct table *t, const struct entry *e, struct writer *w, u64 now_us)
{
    const struct session *s = (const struct session *)e;
    (void)now_us;
    write_key(t, e, w);
    side_write(&s->inside, w);
    side_write(&s->outside, w);
    put_be(w, e->established, 1); /* is_established */
    put_be(w, e->established, 1);
    write_source(t, e, w);
}

static const char *read_session(struct table *t, struct reader *r, u64 now_us, const struct nf *judge)
{
    struct key k;
    struct side inside, outside;
    const char *wrong;
    (void)now_us;
    (void)judge;
    read_key(&k, r);
    bool good = side_read(&inside, r);
    good = side_read(&outside, r) && good;
    get_be(r, 1);
    bool established = get_be(r, 1);
    const u8 *at = (const u8 *)k.word;
    if (r->bad || at[15] != 12 || !t->other)
        return BAD;
    if (!good)
        return "has a number of TCP that is out of range";
    u64 key = mapping_key(TCP, (u32)load_be(at, 4), (u32)load_be(at + 4, 2));
    struct mapping *m = mapping_find(t->other, key, hash_word(key, t->other->seeds), true);
    if (!m)
        return "comes without its mapping";
    struct session *s = (struct session *)enter_read(t, &k, r, established, &wrong);
    if (!s)
        return wrong;
    s->inside = inside;
    s->outside = outside;
    append(t, m, s);
    if (established)
        mapping_established(t->other, m, 1);
    return NULL;
}

struct kind session_kind = {.name = "sessions", .size = sizeof(struct session), .fair = true, .left = left,
                                  .flow = flow_of, .write = write_session, .read = read_session};
KIND(session_kind)

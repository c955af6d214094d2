#include "datagrams.h"

#define REMEMBERED_US 30000000
#define WAITS_US 5000000
#define MAX_TIDIED 8 /* at once */
#define FRAMES (MAX_WAITING * MAX_WAITING_FRAGMENTS)

struct first {
    struct entry entry;
    u64 expires_us;
    u128 address;
};

struct waiting {
    struct entry entry;
    u64 expires_us;
    u32 first, last, count; /* frames */
};

/* Of a table of what waits. */
struct frames {
    u32 free;
    struct frame {
        u32 next, size;
        u8 bytes[MAX_WAITING_FRAME + SLACK];
    } frame[FRAMES];
};

/* -- what became of first fragments ------------------------------------------------------------------------- */

static struct flow flow_of_first(const struct table *t, const struct entry *e)
{
    u8 key[KEY_WORDS * 8];
    u32 size = entry_key(t, e, key);
    return flow_of_fragment(key, size);
}

/* A NAPT's: what enters outside is for whom its first was translated to. */
static struct flow flow_of_napt(const struct table *t, const struct entry *e)
{
    u8 key[KEY_WORDS * 8];
    u32 size = entry_key(t, e, key);
    return (struct flow){key[0] ? flow_of_fragment(key, size).inside : ((const struct first *)e)->address, 0};
}

static void write_first(const struct table *t, const struct entry *e, struct writer *w, u64 now_us)
{
    u8 address[16];
    store_be_long(address, ((const struct first *)e)->address, 16);
    write_key(t, e, w);
    put_age(w, now_us, ((const struct first *)e)->expires_us);
    put_be(w, e->established, 1);
    put_bytes(w, address, 16);
    write_source(t, e, w);
}

static const char *read_first(struct table *t, struct reader *r, u64 now_us, const struct nf *judge)
{
    struct key k;
    const char *wrong;
    u32 size;
    (void)judge;
    read_key(&k, r);
    u64 expires_us = get_time(r, now_us);
    bool established = get_be(r, 1);
    const u8 *address = get_bytes(r, &size, 16);
    if (r->bad || size != 16)
        return BAD;
    struct first *f = (struct first *)enter_read(t, &k, r, established, &wrong);
    if (!f)
        return wrong;
    f->expires_us = expires_us;
    f->address = load_be_long(address, 16);
    if (t->groups)
        groups_changed(t, &f->entry);
    return NULL;
}

/* -- fragments whose first has not come ---------------------------------------------------------------------- */

static bool open_waiting(struct table *t, struct reader *config)
{
    (void)config;
    struct frames *frames = t->more = region_open(sizeof *frames);
    for (u32 i = 0; frames && i < FRAMES; i++)
        frames->frame[i].next = i + 1 < FRAMES ? i + 1 : NIL;
    return frames;
}

static void close_waiting(struct table *t)
{
    region_close(t->more, sizeof(struct frames));
}

static void give_frame(struct frames *frames, u32 at)
{
    frames->frame[at].next = frames->free;
    frames->free = at;
}

static void give_frames(struct table *t, struct entry *e)
{
    struct waiting *w = (struct waiting *)e;
    struct frames *frames = t->more;
    for (u32 at = w->first, next; w->count; at = next, w->count--) {
        next = frames->frame[at].next;
        give_frame(frames, at);
        t->counts[WAITING_FRAMES]--;
    }
}

/* Room for one more frame; NULL: there is none. */
static struct frame *add_frame(struct table *t, struct waiting *w, u32 size)
{
    struct frames *frames = t->more;
    u32 at = frames->free;
    if (w->count >= MAX_WAITING_FRAGMENTS || at == NIL || size > MAX_WAITING_FRAME)
        return NULL;
    frames->free = frames->frame[at].next;
    if (w->count)
        frames->frame[w->last].next = at;
    else
        w->first = at;
    w->last = at;
    w->count++;
    t->counts[WAITING_FRAMES]++;
    frames->frame[at].size = size;
    frames->frame[at].next = NIL;
    return &frames->frame[at];
}

static void write_waiting(const struct table *t, const struct entry *e, struct writer *w, u64 now_us)
{
    const struct waiting *waits = (const struct waiting *)e;
    const struct frames *frames = t->more;
    write_key(t, e, w);
    put_age(w, now_us, waits->expires_us);
    put_be(w, e->established, 1);
    put_be(w, waits->count, 4);
    for (u32 at = waits->first, i = 0; i < waits->count; i++, at = frames->frame[at].next)
        put_bytes(w, frames->frame[at].bytes, frames->frame[at].size);
    write_source(t, e, w);
}

static const char *read_waiting(struct table *t, struct reader *r, u64 now_us, const struct nf *judge)
{
    struct key k;
    const char *wrong;
    (void)judge;
    read_key(&k, r);
    u64 expires_us = get_time(r, now_us);
    bool established = get_be(r, 1);
    u32 count = (u32)get_be(r, 4);
    struct reader at_frames = *r;
    for (u32 i = 0, size; i < count && !r->bad; i++)
        get_bytes(r, &size, MAX_MESSAGE);
    struct waiting *w = r->bad ? NULL : (struct waiting *)enter_read(t, &k, r, established, &wrong);
    if (!w)
        return r->bad ? BAD : wrong;
    w->expires_us = expires_us;
    for (u32 i = 0, size; i < count; i++) {
        const u8 *from = get_bytes(&at_frames, &size, MAX_MESSAGE);
        struct frame *f = add_frame(t, w, size);
        if (!f) {
            table_remove(t, &w->entry);
            return "has fragments that there is no room for";
        }
        memcpy(f->bytes, from, size);
    }
    return NULL;
}

static struct kind firsts = {.name = "fragments", .size = sizeof(struct first), .fair = true, .flow = flow_of_first,
                             .write = write_first, .read = read_first};
static struct kind napt_firsts = {.name = "napt_fragments", .size = sizeof(struct first), .fair = true,
                                  .flow = flow_of_napt, .write = write_first, .read = read_first};
static struct kind waiting = {.name = "waiting_fragments", .size = sizeof(struct waiting), .fair = true,
                              .open = open_waiting, .close = close_waiting, .left = give_frames,
                              .flow = flow_of_first, .write = write_waiting, .read = read_waiting};
KIND(firsts)
KIND(napt_firsts)
KIND(waiting)

/* -- packets ---------------------------------------------------------------------------------------------- */

bool datagrams_read(struct datagrams *d, struct reader *config, bool of_napt)
{
    d->firsts = table_take(config, of_napt ? &napt_firsts : &firsts);
    d->waiting = table_take(config, &waiting);
    return d->firsts && d->waiting;
}

static void rewrite(const struct datagrams *d, struct packet *p, u128 address)
{
    if (d->sources[p->port])
        packet_set_source(p, address);
    else
        packet_set_destination(p, address);
}

static void lost(struct datagrams *d, struct nf *nf, struct waiting *w)
{
    nf->counters[1 + d->reason] += w->count;
    table_remove(d->waiting, &w->entry);
}

/* Frames that have waited leave behind the packet. */
static void let_go(struct datagrams *d, struct packet *leads, struct waiting *w, const struct key *key, u128 address)
{
    struct frames *frames = d->waiting->more;
    for (u32 at = w->first, i = 0; i < w->count; i++, at = frames->frame[at].next) {
        struct frame *f = &frames->frame[at];
        struct packet p = {.at = f->bytes, .size = f->size, .port = leads->port};
        struct key own;
        if (!packet_parse(&p) || !p.later_fragment)
            continue;
        key_of_fragment(&own, &p);
        if (memcmp(own.word, key->word, sizeof own.word))
            continue;
        rewrite(d, &p, address);
        packet_emit(leads, other(leads->port), p.at, p.size);
    }
    table_remove(d->waiting, &w->entry);
}

void datagrams_lead(struct datagrams *d, struct nf *nf, struct packet *p, const struct key *key, u128 address,
                    u64 source, u32 source_bytes, u64 now_us)
{
    struct table *t = d->firsts;
    u32 hash = key_hash(t, key);
    struct first *f = (struct first *)table_find(t, key, hash);
    if (f) {
        table_refresh(t, &f->entry);
    } else {
        f = (struct first *)table_enter(t, key, hash, source, source_bytes, false);
        for (struct entry *over; f && (over = table_over(t, &f->entry));) {
            f = over == &f->entry ? NULL : f;
            table_evict(t, over);
        }
    }
    if (f) {
        f->address = address;
        f->expires_us = now_us + REMEMBERED_US;
        if (unlikely(t->groups != NULL))
            groups_changed(t, &f->entry);
    }
    struct waiting *w = (struct waiting *)table_find(d->waiting, key, key_hash(d->waiting, key));
    if (w && w->expires_us <= now_us)
        lost(d, nf, w);
    else if (w)
        let_go(d, p, w, key, address);
}

void datagrams_follow(struct datagrams *d, struct nf *nf, struct packet *p, u64 now_us)
{
    struct table *t = d->waiting;
    struct key key;
    key_of_fragment(&key, p);
    struct first *f = (struct first *)table_find(d->firsts, &key, key_hash(d->firsts, &key));
    if (f && now_us < f->expires_us) {
        table_touch(d->firsts, &f->entry);
        rewrite(d, p, f->address);
        p->left = other(p->port);
        return;
    }
    nf_drop(p, d->reason);
    u32 hash = key_hash(t, &key), bytes;
    struct waiting *w = (struct waiting *)table_find(t, &key, hash);
    if (w && w->expires_us <= now_us) {
        lost(d, nf, w);
        w = NULL;
    }
    if (!w) {
        const u8 *sender = p->at + p->l3 + (p->version == 4 ? 12 : 8);
        u64 source = host_of(sender, p->version == 4 ? 4 : 16, &bytes);
        w = (struct waiting *)table_enter(t, &key, hash, source, bytes, false);
        for (struct entry *over; w && (over = table_over(t, &w->entry));) {
            if (over == &w->entry)
                w = NULL;
            else
                nf->counters[1 + d->reason] += ((struct waiting *)over)->count;
            table_evict(t, over);
        }
        if (!w)
            return;
        w->expires_us = now_us + WAITS_US;
    }
    struct frame *frame = add_frame(t, w, p->size);
    if (!frame)
        return;
    memcpy(frame->bytes, p->at, p->size);
    table_touch(t, &w->entry);
    nf_hold(p);
}

void datagrams_tidy(struct datagrams *d, struct nf *nf, u64 now_us)
{
    struct table *t = d->waiting;
    u32 tidied = 0;
    for (u32 at = 0; at < t->high && tidied < MAX_TIDIED; at++) {
        struct waiting *w = (struct waiting *)entry_at(t, at);
        if (w->entry.live && w->expires_us <= now_us) {
            lost(d, nf, w);
            tidied++;
        }
    }
}

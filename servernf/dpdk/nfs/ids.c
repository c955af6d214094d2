/* Intrusion detection: content signatures over reassembled TCP streams (`streams.h`) and over UDP payloads.
 *
 * Hyperscan looks for all signatures at once in what is in order now, and across its beginning: in the last bytes that were
 * looked at, one less than the longest signature has, and as many of the next. So a signature split over segments is found,
 * another configuration goes on with the streams there are, and what is kept of a stream is the same bytes whatever looks at
 * them. Databases are compiled by a process beside this one (`signatures.c`):
 * compiling takes longer than packets can wait.
 *
 * The packet that completes a signature is dropped and blocks its connection, or is counted only. From a signature with a
 * label on, packets of its direction have it as NF context label.
 */
#if __has_include(<hs/hs.h>)

#include "events.h"
#include "streams.h"

#include <hs/hs.h>

#define MOST_MATCHES 65536 /* that a packet completes; more are not counted */
#define CONTEXT 8          /* of the tag's words: the NF context label (RFC 8300's third) */
#define MOST_HEADERS 16    /* of IPv6 that are followed */

enum { SIGNATURE = STREAM_DROPS, HIDDEN, UDP_LENGTH };
enum { TO_ANY, TO_SERVER, TO_CLIENT };
enum { OF_TCP, OF_UDP, PROTOCOLS };

struct signature {
    u32 counter, label, size, first_range, ranges;
    u8 to, nocase, drops, unused;
};
_Static_assert(sizeof(struct signature) == 24, "a signature is 24 bytes");

struct range {
    u16 low, high;
};

struct ids {
    struct nf nf;
    struct streams streams; /* directly behind `nf`: streams.c asks for it */
    u8 watched_udp[PORT_BITS];
    bool watches[PROTOCOLS], has_labels;
    hs_database_t *database[PROTOCOLS];
    hs_scratch_t *scratch;
    struct signature *signatures;
    struct range *ranges;
    u32 signature_count, dropped_by; /* the signature for which a packet was dropped last */
    u64 *words;
};

/* -- configuration ------------------------------------------------------------------------------------------ */

static void fini(struct nf *nf)
{
    struct ids *ids = (struct ids *)nf;
    for (u32 i = 0; i < PROTOCOLS; i++)
        hs_free_database(ids->database[i]);
    hs_free_scratch(ids->scratch);
    free(ids->signatures);
    free(ids->ranges);
    free(ids);
}

static void *copied(struct reader *config, u32 count, size_t element)
{
    const u8 *from = count > MAX_MESSAGE / element ? NULL : take(config, count * element);
    void *to = from ? malloc(count * element + 1) : NULL;
    if (to)
        memcpy(to, from, count * element);
    return to;
}

static bool read_signatures(struct ids *ids, struct reader *config, const struct shared *memory)
{
    ids->signature_count = take_u32(config);
    u32 ranges = take_u32(config);
    ids->signatures = copied(config, ids->signature_count, sizeof *ids->signatures);
    ids->ranges = copied(config, ranges, sizeof *ids->ranges);
    if (!ids->signatures || !ids->ranges)
        return false;
    for (u32 i = 0; i < ids->signature_count; i++) {
        const struct signature *s = &ids->signatures[i];
        if (s->counter >= memory->count || s->ranges > ranges || s->first_range > ranges - s->ranges)
            return false;
        ids->has_labels |= s->label != 0;
    }
    return true;
}

static bool read_databases(struct ids *ids, struct reader *config)
{
    for (u32 i = 0; i < PROTOCOLS; i++) {
        u32 size = take_u32(config);
        const char *from = (const char *)take(config, size);
        if (!from)
            return false;
        if (size && (hs_deserialize_database(from, size, &ids->database[i]) != HS_SUCCESS ||
                     hs_alloc_scratch(ids->database[i], &ids->scratch) != HS_SUCCESS))
            return false;
        ids->watches[i] = size;
    }
    const u8 *ports = take(config, PORT_BITS);
    if (ports)
        memcpy(ids->watched_udp, ports, PORT_BITS);
    return ports;
}

static int judge(struct nf *nf, const struct packet *p, const struct text *text, u32 known, u32 *label);

static struct nf *init(struct reader *config, const struct shared *memory)
{
    struct ids *ids = nf_make(sizeof *ids, 0, 0);
    if (!ids)
        return NULL;
    ids->words = memory->words;
    ids->streams.tail_bytes = take_u32(config);
    if (ids->streams.tail_bytes < 1 << 16 && read_signatures(ids, config, memory) && read_databases(ids, config) &&
        streams_read(&ids->streams, config, memory)) {
        ids->streams.judge = judge;
        return &ids->nf;
    }
    fini(&ids->nf);
    return NULL;
}

/* -- signatures ---------------------------------------------------------------------------------------------- */

struct match {
    u32 signature, end;
};

static struct matches {
    const struct ids *ids;
    u32 count, known;
    bool across; /* only those count that begin before `known` and end behind it */
    struct match found[MOST_MATCHES];
} matches;

static int on_match(unsigned number, unsigned long long from, unsigned long long to, unsigned flags, void *context)
{
    struct matches *m = context;
    (void)from;
    (void)flags;
    if (number >= m->ids->signature_count || m->count == MOST_MATCHES)
        return 0;
    if (m->across && (to <= m->known || to - m->ids->signatures[number].size >= m->known))
        return 0;
    m->found[m->count++] = (struct match){number, (u32)to + (m->across ? 0 : m->known)};
    return 0;
}

/* In what order they count: those that differ by case first; by their end; the longest first. */
static bool is_before(const struct ids *ids, const struct match *one, const struct match *other)
{
    const struct signature *a = &ids->signatures[one->signature], *b = &ids->signatures[other->signature];
    if (a->nocase != b->nocase)
        return b->nocase;
    if (one->end != other->end)
        return one->end < other->end;
    return a->size != b->size ? a->size > b->size : one->signature < other->signature;
}

/* Shellsort: they come nearly in order. */
static void sort(struct matches *m)
{
    static const u32 gaps[] = {4193, 1073, 281, 77, 23, 8, 1};
    for (u32 g = 0; g < sizeof gaps / sizeof *gaps; g++)
        for (u32 i = gaps[g]; i < m->count; i++) {
            struct match one = m->found[i];
            u32 at = i;
            for (; at >= gaps[g] && is_before(m->ids, &one, &m->found[at - gaps[g]]); at -= gaps[g])
                m->found[at] = m->found[at - gaps[g]];
            m->found[at] = one;
        }
}

static bool concerns(const struct ids *ids, const struct signature *s, const struct packet *p)
{
    for (u32 i = s->first_range; i < s->first_range + s->ranges; i++) {
        const struct range *r = &ids->ranges[i];
        if ((r->low <= p->source_port && p->source_port <= r->high && s->to != TO_SERVER) ||
            (r->low <= p->destination_port && p->destination_port <= r->high && s->to != TO_CLIENT))
            return true;
    }
    return false;
}

/* Scan across what was looked at, the first part of the text if there are two, and the rest of it. */
static void scan(struct ids *ids, hs_database_t *database, const struct text *text, u32 known)
{
    static char seam[2 << 16];
    u32 last = text->count - 1, next = text->size[last];
    matches.ids = ids;
    matches.count = 0;
    matches.known = known;
    if (known) {
        next = next > ids->streams.tail_bytes ? ids->streams.tail_bytes : next;
        memcpy(seam, text->part[0], known);
        memcpy(seam + known, text->part[1], next);
        matches.across = true;
        hs_scan(database, seam, known + next, 0, ids->scratch, on_match, &matches);
    }
    matches.across = false;
    hs_scan(database, text->part[last], text->size[last], 0, ids->scratch, on_match, &matches);
}

/* Whether the packet must be dropped. `label`: the least of the signatures that it has completed. */
static bool matches_of(struct ids *ids, u32 protocol, const struct packet *p, const struct text *text, u32 known,
                       u32 *label)
{
    if (!ids->database[protocol])
        return false;
    scan(ids, ids->database[protocol], text, known);
    if (likely(!matches.count))
        return false;
    sort(&matches);
    for (u32 i = 0; i < matches.count; i++) {
        const struct signature *s = &ids->signatures[matches.found[i].signature];
        if (!concerns(ids, s, p))
            continue;
        u32 number = matches.found[i].signature;
        ids->words[s->counter]++;
        events_alert(p, number);
        if (s->label && (!*label || s->label < *label))
            *label = s->label;
        if (s->drops) {
            ids->dropped_by = number;
            return true;
        }
    }
    return false;
}

static int judge(struct nf *nf, const struct packet *p, const struct text *text, u32 known, u32 *label)
{
    return matches_of((struct ids *)nf, OF_TCP, p, text, known, label) ? SIGNATURE : -1;
}

/* -- packets ---------------------------------------------------------------------------------------------- */

static bool is_extension(u8 protocol)
{
    return protocol == 0 || protocol == 43 || protocol == IPV6_FRAGMENT || protocol == 60;
}

static bool is_watched(const struct ids *ids, u8 protocol)
{
    return (protocol == TCP && ids->watches[OF_TCP]) || (protocol == UDP && ids->watches[OF_UDP]);
}

/* Whether a packet without ports may carry what is watched, behind IPv6 extension headers (RFC 8200, 4) or a third tag:
 * hosts read on there. What cannot be followed may. */
static bool hides(const struct ids *ids, const struct packet *p)
{
    if (p->ether_type == 0x8100 || p->ether_type == 0x88A8)
        return true;
    if (p->version != 6 || p->later_fragment || !is_extension((u8)p->protocol))
        return false;
    u8 protocol = (u8)p->protocol;
    u32 at = p->l3 + (p->at[p->l3 + 6] == IPV6_FRAGMENT ? 48 : 40), end = p->l3 + 40 + (u32)load_be(p->at + p->l3 + 4, 2);
    end = end > p->size ? p->size : end;
    end = end < at ? at : end;
    for (u32 i = 0; i < MOST_HEADERS; i++) {
        const u8 *header = p->at + at;
        if (is_watched(ids, protocol)) {
            if (at + 4 > end)
                return true;
            const u8 *ports = protocol == TCP ? ids->streams.watched : ids->watched_udp;
            return port_is_in(ports, (u32)load_be(header, 2)) || port_is_in(ports, (u32)load_be(header + 2, 2));
        }
        if (!is_extension(protocol))
            return false;
        if (at + 8 > end)
            return true;
        u32 size = (header[1] + 1u) << 3;
        if (protocol == IPV6_FRAGMENT) {
            if (header[2] || header[3] & 0xF8)
                return false;
            size = 8;
        }
        protocol = header[0];
        at += size;
    }
    return true;
}

static bool drops(struct packet *p, u8 why)
{
    nf_drop(p, why);
    return false;
}

static bool datagram_passes(struct ids *ids, struct packet *p, u32 *label)
{
    const u8 *l4 = p->at + p->l4;
    u32 size = packet_end(p) - p->l4, length = (u32)load_be(l4 + 4, 2);
    if (packet_leads_fragments(p)) {
        if (ids->streams.strict)
            return drops(p, IS_FRAGMENT);
    } else if (length || p->version == 4) { /* of IPv6 0 is a jumbogram's, and Linux takes it anywhere (RFC 2675, 4) */
        if (length < 8 || length > size)
            return drops(p, UDP_LENGTH);
        size = length;
    }
    if (size <= 8)
        return true;
    struct text text = {{(const char *)l4 + 8}, {size - 8}, 1};
    return !matches_of(ids, OF_UDP, p, &text, 0, label) || drops(p, SIGNATURE);
}

static bool is_inspected(const struct ids *ids, const struct packet *p)
{
    const u8 *watched = p->protocol == UDP ? ids->watched_udp : ids->streams.watched;
    return p->has_ports && (port_is_in(watched, p->source_port) || port_is_in(watched, p->destination_port));
}

static void process_burst(struct nf *nf, struct packet *const *packets, u32 count, u64 now_us)
{
    struct ids *ids = (struct ids *)nf;
    struct sought sought[MOST_FRAMES];
    bool inspected[MOST_FRAMES], segment[MOST_FRAMES];
    for (u32 i = 0; i < count; i++) {
        inspected[i] = is_inspected(ids, packets[i]);
        segment[i] = inspected[i] && packets[i]->protocol == TCP;
        if (segment[i])
            streams_seek(&ids->streams, packets[i], &sought[i]);
    }
    for (u32 step = 0; step < 2; step++)
        for (u32 i = 0; i < count; i++)
            if (segment[i])
                streams_prefetch(&ids->streams, &sought[i], step);
    for (u32 i = 0; i < count; i++) {
        struct packet *p = packets[i];
        u32 label = 0;
        p->left = other(p->port);
        if (!p->has_ports) { /* another protocol or a later fragment */
            if (ids->streams.strict && hides(ids, p))
                nf_drop(p, HIDDEN);
            continue;
        }
        if (!inspected[i])
            continue;
        bool passes = segment[i] ? streams_pass(nf, &ids->streams, p, &sought[i], now_us, &label)
                                 : datagram_passes(ids, p, &label);
        if (passes && label)
            store_be(p->words + CONTEXT, label, 4);
        else if (!passes && p->reason == SIGNATURE)
            p->rule = ids->dropped_by;
    }
}

static const char *const reasons[] = {STREAM_REASONS, "signature", "hidden", "udp_length", NULL};
static struct nf_ops ops = {.name = "ids", .reasons = reasons, .init = init, .process_burst = process_burst,
                            .fini = fini};
NF(ops)

#else

typedef int ids_is_not_here; /* Hyperscan is not installed */

#endif

#include "rules.h"
#include "classifier.h"
#include "works.h"

/* They stay until what is built of them has been. */
struct conditions {
    struct work freeing;
    struct condition of[];
};

static bool in_range(u32 chosen, u32 choices)
{
    return chosen < choices || chosen == NOTHING;
}

bool rules_read(struct rules *r, struct reader *config, u32 choices)
{
    *r = (struct rules){0};
    for (u32 way = 0; way < 2; way++) {
        r->count[way] = take_u32(config);
        r->otherwise[way] = take_u32(config);
        config->bad |= !in_range(r->otherwise[way], choices);
    }
    size_t all = (size_t)r->count[0] + r->count[1], size = all * sizeof(struct condition);
    const u8 *from = size > MAX_MESSAGE ? NULL : take(config, size);
    if (config->bad || !from)
        return false;
    r->conditions = malloc(sizeof *r->conditions + size);
    if (!r->conditions)
        return false;
    memcpy(r->conditions->of, from, size);
    r->first[INSIDE] = r->conditions->of;
    r->first[OUTSIDE] = r->conditions->of + r->count[INSIDE];
    for (size_t i = 0; i < all; i++)
        if (!in_range(r->conditions->of[i].chosen, choices)) {
            rules_free(r);
            return false;
        }
    const char *wrong = NULL;
    for (u32 way = 0; way < 2; way++)
        for (u32 six = 0; six < 2; six++)
            r->has_many |= (r->many[way][six] =
                                classifier_make(r->first[way], r->count[way], six ? 6 : 4, &wrong)) != NULL;
    if (wrong)
        rules_free(r);
    return !wrong;
}

static bool free_conditions(struct work *work)
{
    free(container_of(work, struct conditions, freeing));
    return true;
}

void rules_free(struct rules *r)
{
    for (u32 i = 0; i < 4; i++)
        classifier_free(r->many[i / 2][i % 2]);
    if (r->has_many) {
        r->conditions->freeing.run = free_conditions;
        work_begin(&r->conditions->freeing);
    } else {
        free(r->conditions);
    }
    *r = (struct rules){0};
}

/* What conditions ask of a packet, gathered once. */
struct headers {
    u64 source[2], destination[2];
    const u8 *l4;
    int32_t tcp_flags; /* -1: it is no TCP segment */
    bool icmp;
};

static void split(u128 address, u64 *words)
{
    words[0] = (u64)address;
    words[1] = (u64)(address >> 64);
}

static void gather(struct headers *h, const struct packet *p)
{
    *h = (struct headers){.tcp_flags = -1, .l4 = p->at + p->l4};
    if (p->version) {
        split(packet_source(p), h->source);
        split(packet_destination(p), h->destination);
    }
    if (p->has_ports && p->protocol == TCP)
        h->tcp_flags = h->l4[13];
    h->icmp = p->l4 && p->protocol == (p->version == 4 ? ICMP : ICMPV6);
}

static bool within(const u64 *address, const u64 *value, const u64 *mask)
{
    return !(((address[0] & mask[0]) ^ value[0]) | ((address[1] & mask[1]) ^ value[1]));
}

static bool between(u32 value, u32 low, u32 high)
{
    return value >= low && value <= high;
}

static bool holds(const struct condition *c, const struct packet *p, const struct headers *h)
{
    u32 asks = c->asks;
    if (asks & ASKS_DESTINATION && (p->version != c->destination_version ||
                                    !within(h->destination, c->destination, c->destination_mask)))
        return false;
    if (asks & ASKS_SOURCE &&
        (p->version != c->source_version || !within(h->source, c->source, c->source_mask)))
        return false;
    if (asks & ASKS_PROTOCOL && p->protocol != c->protocol)
        return false;
    if (asks & ASKS_PORTS && !(p->has_ports && between(p->source_port, c->source_low, c->source_high) &&
                               between(p->destination_port, c->destination_low, c->destination_high)))
        return false;
    if (likely(!(asks & ~(u32)(ASKS_SOURCE | ASKS_DESTINATION | ASKS_PROTOCOL | ASKS_PORTS))))
        return true;
    return (!(asks & ASKS_ICMP_TYPE) || (h->icmp && h->l4[0] == c->icmp_type)) &&
           (!(asks & ASKS_ICMP_CODE) || (h->icmp && h->l4[1] == c->icmp_code)) &&
           (!(asks & ASKS_FLAGS) || (h->tcp_flags >= 0 && (h->tcp_flags & c->flags_mask) == c->flags)) &&
           (!(asks & ASKS_ETHER_TYPE) || p->ether_type == c->ether_type) &&
           (!(asks & ASKS_VERSION) || p->version == c->version) &&
           (!(asks & ASKS_LATER_FRAGMENT) || p->later_fragment == c->later_fragment) &&
           (!(asks & ASKS_VLAN) || packet_vlan(p) == c->vlan);
}

static u32 read_in_order(const struct rules *r, const struct packet *p)
{
    u32 way = p->port, count = r->count[way];
    const struct condition *c = r->first[way];
    struct headers h;
    if (count)
        gather(&h, p);
    for (const struct condition *end = c + count; c < end; c++)
        if (holds(c, p, &h))
            return c->chosen;
    return r->otherwise[way];
}

static const struct classifier *many_of(const struct rules *r, const struct packet *p)
{
    return p->version ? r->many[p->port][p->version == 6] : NULL;
}

static u32 chosen_by(const struct rules *r, u32 way, u32 found)
{
    return found == NOTHING ? r->otherwise[way] : r->first[way][found].chosen;
}

u32 rules_choose(const struct rules *r, const struct packet *p)
{
    const struct classifier *many = many_of(r, p);
    struct packet *one = (struct packet *)(uintptr_t)p;
    u32 found;
    if (likely(!many))
        return read_in_order(r, p);
    classifier_look(many, &one, 1, &found);
    return chosen_by(r, p->port, found);
}

void rules_choose_all(const struct rules *r, struct packet *const *packets, u32 count, u32 *chosen)
{
    struct packet *some[MOST_RULED];
    u32 place[MOST_RULED], found[MOST_RULED], todo = count;
    bool done[MOST_RULED] = {false};
    if (likely(!r->has_many)) {
        for (u32 i = 0; i < count; i++)
            chosen[i] = read_in_order(r, packets[i]);
        return;
    }
    for (u32 first = 0; todo; first++) { /* those of one direction and version together: most bursts are one */
        const struct packet *p = packets[first];
        const struct classifier *many = many_of(r, p);
        u32 n = 0;
        if (done[first])
            continue;
        if (!many) {
            chosen[first] = read_in_order(r, p);
            todo--;
            continue;
        }
        for (u32 i = first; i < count; i++)
            if (packets[i]->port == p->port && packets[i]->version == p->version) {
                done[i] = true;
                place[n] = i;
                some[n++] = packets[i];
            }
        classifier_look(many, some, n, found);
        for (u32 i = 0; i < n; i++)
            chosen[place[i]] = chosen_by(r, p->port, found[i]);
        todo -= n;
    }
}

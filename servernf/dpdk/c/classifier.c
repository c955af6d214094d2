/* Packets become keys in which all that rules ask for has its place, so that one lookup is an answer:
 *
 *   1 byte    HAS_PORTS, LATER_FRAGMENT, IS_ICMP; above them which of the protocols that rules name it is, 0: none
 *   4 or 16   source address; and so the destination
 *   4         source port, destination port
 *   4         TCP flags, ICMP type, ICMP code, 0
 *   4         VLAN, EtherType
 *
 * What no rule asks for is left out: every byte is a step of the lookup.
 */
#include "classifier.h"

#include "works.h"

#if __has_include(<rte_acl.h>)

#include <rte_acl.h>
#include <stdio.h>

#define FEWEST 12 /* conditions: fewer are read as fast as a key is made */
#define MOST_MEMORY (64u << 20) /* bytes of one's tables */
#define KEY_BYTES 48
#define MOST_FIELDS 17
#define PROTOCOL_SHIFT 3
#define MOST_PROTOCOLS 31

enum { HAS_PORTS = 1, LATER_FRAGMENT = 2, IS_ICMP = 4, CLASSES = 7 };

RTE_ACL_RULE_DEF(one_rule, MOST_FIELDS);

struct classifier {
    struct work building, freeing;
    const struct condition *first;
    u32 count;
    struct rte_acl_ctx *context;
    u32 asks; /* of all conditions */
    u8 version;
    u8 codes[256]; /* of protocols, shifted; what no rule names has none */
};

/* -- building ------------------------------------------------------------------------------------------------ */

#define ASKS_SPECIALS (ASKS_FLAGS | ASKS_ICMP_TYPE | ASKS_ICMP_CODE)
#define ASKS_LINK (ASKS_VLAN | ASKS_ETHER_TYPE)

/* Columns of the key, and a rule's words for each as they are gone through. */
struct columns {
    struct rte_acl_config config;
    u32 offset; /* words are looked at one after the other, the first byte before them */
    struct rte_acl_field *field; /* of the rule that is being made; NULL: columns are counted */
};

static void column(struct columns *t, u8 type, u8 size, u64 value, u64 mask)
{
    struct rte_acl_field_def *def = &t->config.defs[t->config.num_fields];
    if (t->field) {
        *t->field++ = (struct rte_acl_field){.value.u64 = value, .mask_range.u64 = mask};
        return;
    }
    *def = (struct rte_acl_field_def){type, size, (u8)t->config.num_fields++, (u8)(t->offset / 4), t->offset};
    t->offset += size;
}

static void bits(struct columns *t, u8 size, u64 value, u64 mask)
{
    column(t, RTE_ACL_FIELD_TYPE_BITMASK, size, value & mask, mask);
}

static void address(struct columns *t, u8 version, const u64 *value, const u64 *mask)
{
    for (u32 words = version == 4 ? 1 : 4; words-- > 0;)
        bits(t, 4, (u32)(value[words / 2] >> 32 * (words % 2)), (u32)(mask[words / 2] >> 32 * (words % 2)));
}

/* All columns of a condition. */
static void write_columns(struct columns *t, const struct classifier *k, const struct condition *c)
{
    static const u64 any[2];
    u32 asks = c->asks;
    u8 class = 0, mask = 0;
    if (asks & (ASKS_PORTS | ASKS_FLAGS))
        class |= HAS_PORTS;
    if (asks & (ASKS_ICMP_TYPE | ASKS_ICMP_CODE))
        class |= IS_ICMP;
    mask = class;
    if (asks & ASKS_LATER_FRAGMENT) {
        mask |= LATER_FRAGMENT;
        class |= c->later_fragment ? LATER_FRAGMENT : 0;
    }
    if (asks & (ASKS_PROTOCOL | ASKS_FLAGS)) {
        mask |= (u8)~CLASSES;
        class |= k->codes[asks & ASKS_PROTOCOL ? c->protocol : TCP];
    }
    bits(t, 1, class, mask);
    t->offset = 4;
    if (k->asks & ASKS_SOURCE)
        address(t, k->version, c->source, asks & ASKS_SOURCE ? c->source_mask : any);
    if (k->asks & ASKS_DESTINATION)
        address(t, k->version, c->destination, asks & ASKS_DESTINATION ? c->destination_mask : any);
    if (k->asks & ASKS_PORTS) {
        bool asked = asks & ASKS_PORTS;
        column(t, RTE_ACL_FIELD_TYPE_RANGE, 2, asked ? c->source_low : 0, asked ? c->source_high : 0xFFFF);
        column(t, RTE_ACL_FIELD_TYPE_RANGE, 2, asked ? c->destination_low : 0, asked ? c->destination_high : 0xFFFF);
    }
    if (k->asks & ASKS_SPECIALS) {
        bits(t, 1, c->flags, asks & ASKS_FLAGS ? c->flags_mask : 0);
        bits(t, 1, c->icmp_type, asks & ASKS_ICMP_TYPE ? 0xFF : 0);
        bits(t, 1, c->icmp_code, asks & ASKS_ICMP_CODE ? 0xFF : 0);
        bits(t, 1, 0, 0);
    }
    if (k->asks & ASKS_LINK) {
        bits(t, 2, c->vlan, asks & ASKS_VLAN ? 0xFFFF : 0);
        bits(t, 2, c->ether_type, asks & ASKS_ETHER_TYPE ? 0xFFFF : 0);
    }
}

static bool is_masked(const u64 *value, const u64 *mask)
{
    return !((value[0] & ~mask[0]) | (value[1] & ~mask[1]));
}

/* Whether a packet of this version may meet it at all. */
static bool can_hold(const struct condition *c, u8 version)
{
    u32 asks = c->asks;
    if (asks & ASKS_FLAGS && ((asks & ASKS_PROTOCOL && c->protocol != TCP) || c->flags & ~c->flags_mask))
        return false;
    return !(asks & ASKS_SOURCE && (c->source_version != version || !is_masked(c->source, c->source_mask))) &&
           !(asks & ASKS_DESTINATION &&
             (c->destination_version != version || !is_masked(c->destination, c->destination_mask))) &&
           !(asks & ASKS_PORTS &&
             (c->source_low > c->source_high || c->destination_low > c->destination_high)) &&
           !(asks & ASKS_VERSION && c->version != version) && !(asks & ASKS_LATER_FRAGMENT && c->later_fragment > 1);
}

/* Which columns there are, and what codes protocols have; false: there are too many. */
static bool survey(struct classifier *k, const struct condition *first, u32 count)
{
    u32 codes = 0;
    for (u32 i = 0; i < count; i++) {
        const struct condition *c = &first[i];
        if (!can_hold(c, k->version))
            continue;
        k->asks |= c->asks;
        u8 *code = &k->codes[c->asks & ASKS_PROTOCOL ? c->protocol : TCP];
        if (c->asks & (ASKS_PROTOCOL | ASKS_FLAGS) && !*code) {
            if (++codes > MOST_PROTOCOLS)
                return false;
            *code = (u8)(codes << PROTOCOL_SHIFT);
        }
    }
    return true;
}

static bool build(struct work *work)
{
    struct classifier *k = container_of(work, struct classifier, building);
    const struct condition *first = k->first;
    u32 count = k->count;
    static u32 made; /* one is built at a time */
    static const struct condition nothing;
    char name[RTE_ACL_NAMESIZE];
    struct columns t = {.config = {.num_categories = 1, .max_size = MOST_MEMORY}};
    write_columns(&t, k, &nothing);
    snprintf(name, sizeof name, "rules%u", made++);
    struct rte_acl_param param = {name, SOCKET_ID_ANY, RTE_ACL_RULE_SZ(t.config.num_fields), count};
    k->context = rte_acl_create(&param);
    for (u32 i = 0; k->context && i < count; i++) {
        struct one_rule rule = {.data = {1, (int32_t)(RTE_ACL_MAX_PRIORITY - i), i + 1}};
        if (!can_hold(&first[i], k->version))
            continue;
        t.field = rule.field;
        write_columns(&t, k, &first[i]);
        if (rte_acl_add_rules(k->context, (struct rte_acl_rule *)&rule, 1))
            return false;
    }
    return k->context && !rte_acl_build(k->context, &t.config);
}

struct classifier *classifier_make(const struct condition *first, u32 count, u8 version, const char **wrong)
{
    u32 able = 0;
    for (u32 i = 0; i < count; i++)
        able += can_hold(&first[i], version);
    if (able < FEWEST)
        return NULL;
    struct classifier *k = calloc(1, sizeof *k);
    if (!k) {
        *wrong = NO_MEMORY;
        return NULL;
    }
    k->version = version;
    if (!survey(k, first, count)) {
        free(k);
        return NULL;
    }
    k->first = first;
    k->count = count;
    k->building.run = build;
    work_begin(&k->building);
    return k;
}

static bool give_back(struct work *work)
{
    struct classifier *k = container_of(work, struct classifier, freeing);
    rte_acl_free(k->context);
    free(k);
    return true;
}

void classifier_free(struct classifier *k)
{
    if (!k)
        return;
    k->freeing.run = give_back; /* DPDK writes all of the memory that it gets back */
    work_begin(&k->freeing);
}

/* -- looking up ---------------------------------------------------------------------------------------------- */

static inline void write_key(const struct classifier *k, const struct packet *p, u8 *to)
{
    const u8 *l3 = p->at + p->l3, *l4 = p->at + p->l4;
    bool icmp = p->l4 && p->protocol == (p->version == 4 ? ICMP : ICMPV6);
    *to = (u8)(k->codes[(u8)p->protocol] | (p->has_ports ? HAS_PORTS : 0) | (p->later_fragment ? LATER_FRAGMENT : 0) |
               (icmp ? IS_ICMP : 0));
    to += 4;
    if (p->version == 4) {
        if (k->asks & ASKS_SOURCE) {
            memcpy(to, l3 + 12, 4);
            to += 4;
        }
        if (k->asks & ASKS_DESTINATION) {
            memcpy(to, l3 + 16, 4);
            to += 4;
        }
    } else {
        if (k->asks & ASKS_SOURCE) {
            memcpy(to, l3 + 8, 16);
            to += 16;
        }
        if (k->asks & ASKS_DESTINATION) {
            memcpy(to, l3 + 24, 16);
            to += 16;
        }
    }
    if (k->asks & ASKS_PORTS) {
        store_be(to, (u32)p->source_port << 16 | p->destination_port, 4);
        to += 4;
    }
    if (k->asks & ASKS_SPECIALS) {
        to[0] = p->has_ports && p->protocol == TCP ? l4[13] : 0;
        to[1] = icmp ? l4[0] : 0;
        to[2] = icmp ? l4[1] : 0;
        to[3] = 0;
        to += 4;
    }
    if (k->asks & ASKS_LINK)
        store_be(to, packet_vlan(p) << 16 | p->ether_type, 4);
}

void classifier_look(const struct classifier *k, struct packet *const *packets, u32 count, u32 *found)
{
    u8 keys[MOST_RULED][KEY_BYTES];
    const u8 *at[MOST_RULED];
    for (u32 i = 0; i < count; i++) {
        at[i] = keys[i];
        write_key(k, packets[i], keys[i]);
    }
    rte_acl_classify(k->context, at, found, count, 1);
    for (u32 i = 0; i < count; i++)
        found[i]--; /* NOTHING, where it was 0 */
}

#else

struct classifier *classifier_make(const struct condition *first, u32 count, u8 version, const char **wrong)
{
    (void)first;
    (void)count;
    (void)version;
    (void)wrong;
    return NULL;
}

void classifier_free(struct classifier *c)
{
    (void)c;
}

void classifier_look(const struct classifier *c, struct packet *const *packets, u32 count, u32 *found)
{
    (void)c;
    (void)packets;
    for (u32 i = 0; i < count; i++)
        found[i] = NOTHING;
}

#endif

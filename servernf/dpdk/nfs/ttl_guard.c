/* TTL guard (RFC 5082, 3): TTL or hop limit within bounds, else the packet is dropped or gets the bound that is
 * next. What is no IP packet passes. */
#include "rules.h"

enum { TTL };

struct bounds {
    u8 low, high, clamp, unused;
};

struct ttl_guard {
    struct nf nf;
    struct rules rules; /* they choose one of `bounds` */
    struct bounds bounds[];
};

static struct nf *init(struct reader *config, const struct shared *memory)
{
    (void)memory;
    u32 count = take_u32(config);
    struct ttl_guard *guard = nf_make(sizeof *guard, sizeof *guard->bounds, count);
    const u8 *from = guard ? take(config, count * sizeof *guard->bounds) : NULL;
    if (from)
        memcpy(guard->bounds, from, count * sizeof *guard->bounds);
    for (u32 i = 0; from && i < count; i++)
        config->bad |= guard->bounds[i].low > guard->bounds[i].high;
    if (from && rules_read(&guard->rules, config, count))
        return &guard->nf;
    free(guard);
    return NULL;
}

static void process_burst(struct nf *nf, struct packet *const *packets, u32 count, u64 now_us)
{
    const struct ttl_guard *guard = (const struct ttl_guard *)nf;
    u32 chosen[MOST_RULED];
    (void)now_us;
    rules_choose_all(&guard->rules, packets, count, chosen);
    for (u32 i = 0; i < count; i++) {
        struct packet *p = packets[i];
        p->left = other(p->port);
        if (!p->version || chosen[i] == NOTHING)
            continue;
        const struct bounds *b = &guard->bounds[chosen[i]];
        u8 ttl = packet_ttl(p);
        if (ttl >= b->low && ttl <= b->high)
            continue;
        if (b->clamp)
            packet_set_ttl(p, ttl < b->low ? b->low : b->high);
        else
            nf_drop(p, TTL);
    }
}

static void fini(struct nf *nf)
{
    rules_free(&((struct ttl_guard *)nf)->rules);
    free(nf);
}

static const char *const reasons[] = {"ttl", NULL};
static struct nf_ops ops = {.name = "ttl_guard", .reasons = reasons, .init = init, .process_burst = process_burst,
                            .fini = fini};
NF(ops)

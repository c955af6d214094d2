/* DSCP marker (RFC 2474, 3): the first rule that holds gives an IP packet its DSCP; the two bits of ECN (RFC 3168, 5)
 * stay. Drops nothing. */
#include "rules.h"

struct dscp_marker {
    struct nf nf;
    struct rules rules; /* they choose the DSCP */
};

static struct nf *init(struct reader *config, const struct shared *memory)
{
    (void)memory;
    struct dscp_marker *marker = nf_make(sizeof *marker, 0, 0);
    if (marker && rules_read(&marker->rules, config, 64))
        return &marker->nf;
    free(marker);
    return NULL;
}

static void process_burst(struct nf *nf, struct packet *const *packets, u32 count, u64 now_us)
{
    const struct dscp_marker *marker = (const struct dscp_marker *)nf;
    u32 chosen[MOST_RULED];
    (void)now_us;
    rules_choose_all(&marker->rules, packets, count, chosen);
    for (u32 i = 0; i < count; i++) {
        struct packet *p = packets[i];
        u32 dscp = chosen[i];
        if (dscp != NOTHING)
            packet_set_dscp(p, (u8)dscp);
        p->left = other(p->port);
    }
}

static void fini(struct nf *nf)
{
    rules_free(&((struct dscp_marker *)nf)->rules);
    free(nf);
}

static const char *const reasons[] = {NULL};
static struct nf_ops ops = {.name = "dscp_marker", .reasons = reasons, .init = init, .process_burst = process_burst,
                            .fini = fini};
NF(ops)

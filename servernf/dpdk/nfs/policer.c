/* Policer: token buckets by rule and direction, RFC 2698 (two rates) or RFC 2697 (excess burst).
 *
 * Colour-blind (RFC 2698, 3; RFC 2697, 3); sizes are those of whole frames. The bytes of a rate are counted with
 * millionths, so that none is lost between packets. Not rte_meter, whose tokens come by periods of the time stamp
 * counter: two packets of one microsecond would differ from the documented ones.
 *
 * Levels lie in the memory that is shared with the parent, who fills new ones: they outlive an instance, whose
 * successor goes on with those of the same rules, and this process.
 */
#include "rules.h"

#define MICRO 1000000u

enum { RATE };
enum { PASS = 64, DROP = 65 }; /* verdicts; those below are DSCPs */
enum { SINGLE, TWO_RATES, EXCESS };

/* As in the shared memory. */
struct level {
    u64 committed, peak, excess, last_us, part, peak_part, colours[3];
};
#define LEVEL_WORDS (sizeof(struct level) / 8)

struct meter {
    u64 rate, peak_rate; /* bytes a second */
    u64 burst, peak_burst, excess_burst;
    u32 kind, yellow, red, level[2]; /* verdicts; where its levels are, by the port entered */
    u32 unused;
};
_Static_assert(sizeof(struct meter) == 64, "a meter is 64 bytes");

struct policer {
    struct nf nf;
    struct rules rules; /* they choose a meter */
    u64 *words;
    struct meter meters[];
};

static bool is_good(const struct meter *m, const struct shared *memory)
{
    for (u32 port = 0; port < 2; port++)
        if (m->level[port] > memory->count || memory->count - m->level[port] < LEVEL_WORDS)
            return false;
    return m->kind <= EXCESS && m->yellow <= DROP && m->red <= DROP;
}

static struct nf *init(struct reader *config, const struct shared *memory)
{
    u32 count = take_u32(config);
    struct policer *policer = nf_make(sizeof *policer, sizeof *policer->meters, count);
    const u8 *from = policer ? take(config, count * sizeof *policer->meters) : NULL;
    if (from)
        memcpy(policer->meters, from, count * sizeof *policer->meters);
    for (u32 i = 0; from && i < count; i++)
        config->bad |= !is_good(&policer->meters[i], memory);
    if (from && rules_read(&policer->rules, config, count)) {
        policer->words = memory->words;
        return &policer->nf;
    }
    free(policer);
    return NULL;
}

/* What a rate gives in some time: whole bytes; `part` keeps the rest, in millionths. */
static u64 given(u64 rate, u64 past_us, u64 *part)
{
    u64 small;
    if (likely(!__builtin_mul_overflow(rate, past_us, &small) && !__builtin_add_overflow(small, *part, &small))) {
        *part = small % MICRO;
        return small / MICRO;
    }
    u128 all = (u128)rate * past_us + *part;
    *part = (u64)(all % MICRO);
    all /= MICRO;
    return all >> 62 ? (u64)1 << 62 : (u64)all; /* above all bursts, which end it */
}

static u64 at_most(u64 value, u64 most)
{
    return value < most ? value : most;
}

static u32 verdict(const struct meter *m, struct level *l, u32 size, u64 now_us)
{
    u64 past_us = now_us - l->last_us, all = l->committed + given(m->rate, past_us, &l->part);
    u64 committed = at_most(all, m->burst);
    u32 colour = committed >= size ? 0 : 2;
    l->last_us = now_us;
    if (m->kind == TWO_RATES) {
        l->peak = at_most(l->peak + given(m->peak_rate, past_us, &l->peak_part), m->peak_burst);
        if (l->peak < size) {
            colour = 2;
        } else {
            l->peak -= size;
            colour = committed >= size ? 0 : 1;
        }
    } else if (m->kind == EXCESS) {
        l->excess = at_most(l->excess + (all - committed), m->excess_burst);
        if (colour && l->excess >= size) {
            colour = 1;
            l->excess -= size;
        }
    }
    l->committed = colour ? committed : committed - size;
    l->colours[colour]++;
    return colour == 0 ? PASS : colour == 1 ? m->yellow : m->red;
}

static void process_burst(struct nf *nf, struct packet *const *packets, u32 count, u64 now_us)
{
    struct policer *policer = (struct policer *)nf;
    u32 chosen[MOST_RULED];
    rules_choose_all(&policer->rules, packets, count, chosen);
    for (u32 i = 0; i < count; i++) {
        struct packet *p = packets[i];
        p->left = other(p->port);
        if (chosen[i] == NOTHING)
            continue;
        const struct meter *m = &policer->meters[chosen[i]];
        u32 said = verdict(m, (struct level *)(policer->words + m->level[p->port]), p->size, now_us);
        if (said == DROP)
            nf_drop(p, RATE);
        else if (said < PASS)
            packet_set_dscp(p, (u8)said);
    }
}

static void fini(struct nf *nf)
{
    rules_free(&((struct policer *)nf)->rules);
    free(nf);
}

static const char *const reasons[] = {"rate", NULL};
static struct nf_ops ops = {.name = "policer", .reasons = reasons, .init = init, .process_burst = process_burst,
                            .fini = fini};
NF(ops)

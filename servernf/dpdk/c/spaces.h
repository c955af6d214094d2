/* Flow spaces: of some buckets the flows of a prefix inside and one outside, or all but those of some
 * (servernf/python/scope.py, Buckets). */
#ifndef DPDK_SPACES_H
#define DPDK_SPACES_H

#include "table.h"

#define MOST_SPACES 64

struct prefix {
    u128 bits; /* of an address, without its last `shift` ones */
    u32 shift;
};

struct space {
    struct prefix inside, outside;
};

struct spaces {
    bool narrow; /* else all flows are meant */
    struct space of, without[MOST_SPACES];
    u32 count;
};

/* How many there are (0: all flows are meant), that which is meant, those that are left out; of each prefix its shift
 * and two words, the higher one first. */
static inline struct prefix take_prefix(struct reader *r)
{
    u32 shift = take_u32(r);
    u64 high = take_u64(r), low = take_u64(r);
    r->bad |= shift > 128;
    return (struct prefix){(u128)high << 64 | low, shift};
}

static inline struct space take_space(struct reader *r)
{
    struct prefix inside = take_prefix(r), outside = take_prefix(r);
    return (struct space){inside, outside};
}

static inline bool take_spaces(struct reader *r, struct spaces *s)
{
    u32 count = take_u32(r);
    *s = (struct spaces){.narrow = count};
    if (count > MOST_SPACES + 1)
        return false;
    if (count)
        s->of = take_space(r);
    for (; s->count + 1 < count; s->count++)
        s->without[s->count] = take_space(r);
    return !r->bad;
}

static inline bool space_has(const struct space *s, struct flow f)
{
    return shr_long(f.inside, s->inside.shift) == s->inside.bits && shr_long(f.outside, s->outside.shift) == s->outside.bits;
}

static inline bool spaces_have(const struct spaces *s, struct flow f)
{
    bool has = !s->narrow || space_has(&s->of, f);
    for (u32 i = 0; has && i < s->count; i++)
        has = !space_has(&s->without[i], f);
    return has;
}

#endif

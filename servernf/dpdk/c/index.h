/* Where records are, by a keyed hash: linear hashing (Litwin 1980) in lines of the cache.
 *
 * It grows by one line with every fourth record, within memory that is reserved from the beginning: no packet waits for
 * a table to be copied, none allocates, and few records touch little memory. A slot has all 32 bits of a hash, so that
 * what is split need not be read, and a record is looked at only if it is (almost certainly) the one.
 */
#ifndef DPDK_INDEX_H
#define DPDK_INDEX_H

#include "messages.h"

#define NIL 0xFFFFFFFFu
#define LINE_SLOTS 7
#define SEED_WORDS 11 /* 64 bits each */

struct line {
    u32 tag[LINE_SLOTS], used; /* hashes */
    u32 at[LINE_SLOTS], more;  /* records; another line of the same, or NIL */
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct line) == 64, "a line is one of the cache");

struct index {
    struct line *lines;
    u32 most, used, mask; /* lines; 2^n - 1 not below `used` - 1 */
    u32 count, spare, spilled, spills;
    size_t bytes;
};

/* For so many records; false: no memory. */
bool index_open(struct index *ix, u32 records);
void index_close(struct index *ix);
/* False: there is no room (never while there are no more records than it was opened for). */
bool index_enter(struct index *ix, u32 hash, u32 at);
void index_leave(struct index *ix, u32 hash, u32 at);

/* Memory that is there when it is first touched, filled with 0; NULL: none. */
void *region_open(size_t bytes);
void region_close(void *region, size_t bytes);

static inline struct line *index_line(const struct index *ix, u32 hash)
{
    u32 at = hash & ix->mask;
    return &ix->lines[at < ix->used ? at : at & ix->mask >> 1];
}

static inline void index_prefetch(const struct index *ix, u32 hash)
{
    __builtin_prefetch(index_line(ix, hash));
}

/* The first record that has a hash, without a look at it: to prefetch. */
static inline u32 index_likely(const struct index *ix, u32 hash)
{
    const struct line *line = index_line(ix, hash);
    u32 found = NIL;
    for (u32 i = LINE_SLOTS; i-- > 0;)
        found = line->tag[i] == hash && i < line->used ? line->at[i] : found;
    return found;
}

typedef bool same_fn(const void *of, u32 at, const void *key);

/* The record that has a hash and is the `same` as a key; NIL: none. */
static inline __attribute__((always_inline)) u32 index_find(const struct index *ix, u32 hash, same_fn *same,
                                                            const void *of, const void *key)
{
    const struct line *line = index_line(ix, hash);
    for (;;) {
        for (u32 i = 0; i < line->used; i++)
            if (line->tag[i] == hash && same(of, line->at[i], key))
                return line->at[i];
        if (likely(line->more == NIL))
            return NIL;
        line = &ix->lines[line->more];
    }
}

/* NH (RFC 4418, 5.2) with keys of the table, then a multiplication of which the high bits are taken: whoever sends
 * packets cannot choose keys that collide. */
static inline u64 nh(u64 word, u64 seed)
{
    return (u64)((u32)word + (u32)seed) * (u32)((u32)(word >> 32) + (u32)(seed >> 32));
}

static inline u32 hash_end(u64 sum, const u64 *seeds)
{
    return (u32)((sum * (seeds[SEED_WORDS - 1] | 1)) >> 32);
}

static inline u32 hash_word(u64 word, const u64 *seeds)
{
    return hash_end(nh(word, seeds[0]), seeds);
}

static inline u32 hash_words(const u64 *words, u32 count, const u64 *seeds)
{
    u64 sum = 0;
    for (u32 i = 0; i < count; i++)
        sum += nh(words[i], seeds[i]);
    return hash_end(sum, seeds);
}

#endif

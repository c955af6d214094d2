/* Match tables: what a packet looks up, and what the control side changes between bursts.
 *
 * A lookup never scans entries. Exact tables are one hash map. LPM tables are one map of (prefix, length),
 * asked longest first for the lengths that its exact fields have. Tables with a ternary, range or optional
 * key are tuple spaces (Srinivasan et al., SIGCOMM 1999): entries of one mask share a map, and groups
 * are asked by descending best priority until none can win. In front of the last two stands a memo of
 * keys and results in sets of a few, the newest first; a change of the table forgets the keys that it concerns.
 *
 * Keys are the fields packed into words, the first field highest. Hashes are keyed with random numbers of
 * the process (NH, as in UMAC, RFC 4418, 5.2), so nobody who sends packets can choose keys that collide.
 */
#ifndef FAST_TABLES_H
#define FAST_TABLES_H

#include "base.h"
#include "meters.h"

#define MAX_KEY_WORDS 64
#define MEMO_SETS 2048
#define MEMO_WAYS 4
#define NO_ACTION 0xFFFFFFFFu

struct range {
    u32 shift; /* of the field in the key */
    u32 width;
    u64 low, high;
};

struct group;

struct entry {
    u32 action; /* its number among the table's */
    u32 priority;
    u64 packets, bytes;
    u64 used_us; /* by the device's clock: hit or written last */
    struct meter *meter;
    struct entry *next; /* of the same mask and masked value, by descending priority */
    struct group *group;
    struct range *ranges;
    u64 *key;
    u32 range_count;
    u32 length; /* of the prefix */
    u32 handle;
    u32 arg_words;
    u64 sequence;
    u64 args[];
};

/* Open addressing, a slot is a tagged pointer and the key: no other line is read to compare. */
struct map {
    u64 *slots;
    u32 words; /* of a key */
    u32 mask;
    u32 count;
};

enum kind { KEYLESS, EXACT, LPM, TERNARY };

struct lengths {
    u64 bits[3]; /* bit n: a prefix of length n is there (0 to 128, or fewer) */
    u32 counts[];
};

struct group {
    struct map chains;
    u64 *mask;
    u32 best, count;
};

struct table {
    enum kind kind;
    u32 words;
    struct entry *miss;
    struct map map; /* EXACT: entries; LPM: entries by prefix and length */
    u32 lpm_shift, lpm_width;
    struct map roots;  /* LPM: lengths by the other fields */
    u64 *masks;        /* LPM: of each length */
    u64 *others;       /* LPM: mask of the other fields */
    struct group **groups; /* TERNARY, by descending best priority */
    u32 group_count;
    bool unsorted;
    u64 *memo;
    u32 generation;
    bool changed;  /* the memo is to be forgotten as a whole */
    u32 swept;     /* changes of this batch whose keys it has forgotten */
    u64 sequence;
};

extern u64 hash_keys[2 * MAX_KEY_WORDS + 4];

static inline u64 hash_of(const u64 *key, u32 words)
{
    u64 sum = 0;
    for (u32 i = 0; i < words; i++)
        sum += (u64)(u32)((u32)key[i] + (u32)hash_keys[2 * i]) *
               (u32)((u32)(key[i] >> 32) + (u32)hash_keys[2 * i + 1]);
    sum = (sum ^ sum >> 32) * (hash_keys[2 * MAX_KEY_WORDS] | 1);
    return sum ^ sum >> 29;
}

#define TAG_SHIFT 48
#define POINTER_MASK (((u64)1 << TAG_SHIFT) - 1)

static inline void *pointer_in(u64 slot)
{
    return (void *)(uintptr_t)(slot & POINTER_MASK);
}

static inline bool same_words(const u64 *a, const u64 *b, u32 words)
{
    u64 differs = 0;
    for (u32 i = 0; i < words; i++)
        differs |= a[i] ^ b[i];
    return !differs;
}

/* What a map has for a key of a constant number of words; NULL: nothing. */
static inline __attribute__((always_inline)) void *map_find(const struct map *m, const u64 *key, u32 words)
{
    if (!m->count)
        return NULL;
    u64 hash = hash_of(key, words);
    for (u32 at = (u32)hash & m->mask;; at = (at + 1) & m->mask) {
        const u64 *slot = m->slots + (size_t)at * (words + 1);
        if (!slot[0])
            return NULL;
        if (slot[0] >> TAG_SHIFT == hash >> TAG_SHIFT && same_words(slot + 1, key, words))
            return pointer_in(slot[0]);
    }
}

struct entry *lpm_search(const struct table *t, const u64 *key);
struct entry *ternary_search(const struct table *t, const u64 *key);

static inline __attribute__((always_inline)) struct entry *exact_find(const struct table *t, const u64 *key,
                                                                      u32 words)
{
    struct entry *found = map_find(&t->map, key, words);
    return found ? found : t->miss;
}

/* LPM and ternary tables: the memo first. */
static inline __attribute__((always_inline)) struct entry *memo_find(const struct table *t, const u64 *key,
                                                                     u32 words)
{
    if (!t->map.count && !t->group_count)
        return t->miss;
    u64 *set = t->memo + ((u32)hash_of(key, words) & (MEMO_SETS - 1)) * (size_t)(MEMO_WAYS * (words + 1));
    for (u32 way = 0; way < MEMO_WAYS; way++) {
        const u64 *slot = set + way * (words + 1);
        if (slot[0] >> TAG_SHIFT == t->generation && same_words(slot + 1, key, words))
            return pointer_in(slot[0]);
    }
    struct entry *found = t->kind == LPM ? lpm_search(t, key) : ternary_search(t, key);
    memmove(set + words + 1, set, (MEMO_WAYS - 1) * (words + 1) * sizeof *set);
    memcpy(set + 1, key, words * sizeof *key);
    set[0] = (u64)(uintptr_t)found | (u64)t->generation << TAG_SHIFT;
    return found;
}

/* The control side. All of it may be refused (NULL, false) for want of memory only. */
bool table_init(struct table *t, enum kind kind, u32 width, u32 lpm_shift, u32 lpm_width);
void table_free(struct table *t);
struct entry *entry_new(u32 words, u32 range_count, u32 arg_words);
void entry_free(struct entry *e);
bool table_add(struct table *t, struct entry *e, const u64 *mask);
void table_remove(struct table *t, struct entry *e);
void table_expect_many(struct table *t); /* until the commit: the first change forgets all keys */
void table_commit(struct table *t);
void draw_hash_keys(void);

#endif

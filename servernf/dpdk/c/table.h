/* Tables of state: what a runtime owns of an NF (decision 0080), as servernf/python/tables.py and fair_table.py.
 *
 * A table outlives the instances that use it: configurations that follow each other share it. Its records have numbers
 * and stay where they are. It is bounded, and each source has room in it ("Shares of tables" in docs/architecture.md).
 * While state moves it knows its records by group, the hash of their flow (servernf/wire/buckets.py), and which groups
 * have been touched since that was last asked.
 */
#ifndef DPDK_TABLE_H
#define DPDK_TABLE_H

#include "index.h"
#include "nf.h"

#define MOST_TABLES 16384
#define MOST_TABLES_OF_NF 8
#define KEY_WORDS 5
#define GROUPS 65536
#define MOST_WATCHES 72 /* flow spaces among them */

/* Bytes that name a record, filled with zeros; the last byte of its words is how many they are. */
struct key {
    u64 word[KEY_WORDS];
    u32 words; /* 2, or 5 for what is longer than 15 bytes */
};

/* Every record begins with this; the words of a long key that it has no room for are its last ones. */
struct entry {
    u64 key[2];
    u32 before, after; /* in its queue */
    u32 share, hash;
    u64 turn; /* rises with each use in the table */
    u8 established, live, is_long, kind; /* `kind` is the table's to use */
    u32 number; /* its own */
};
#define ENTRY_REST 3 /* words */

struct queue {
    u32 first, last, count;
};

struct share {
    u64 source;
    struct queue queues[2]; /* transitory, established */
    u32 before[2], after[2]; /* among shares with as many */
    u32 bytes, hash, next_free;
};

struct ranking {
    struct {
        u32 first, last;
    } *by_count;
    u32 highest;
};

/* Whom it is told which groups are touched: one transfer or replication. */
struct watch {
    bool used, opened; /* `opened`: a record has come or gone */
    u64 scope[GROUPS / 64]; /* a bit a group */
    u64 touched[GROUPS / 64];
};

struct link {
    u32 before, after, group;
};

enum group_key { BY_INSIDE, BY_OUTSIDE, BY_PAIR, GROUP_KEYS };

struct groups {
    enum group_key by;
    u32 users, watched, built; /* watches from `watched` on were never used; records from `built` on are not in their group yet */
    u32 first[GROUPS], count[GROUPS];
    struct watch watches[MOST_WATCHES];
    struct link *links; /* by record */
    size_t bytes;
};

/* Addresses of the flow that a record is of, as the inside has them. */
struct flow {
    u128 inside, outside;
};

struct table;

/* What the records of a table are made of. */
struct kind {
    const char *name;
    size_t size;     /* of a record, without the words of a long key */
    bool fair; /* whether sources share it */
    bool (*open)(struct table *t, struct reader *config); /* these three may be NULL */
    void (*close)(struct table *t);
    void (*left)(struct table *t, struct entry *e); /* called when one goes */
    void (*remove)(struct table *t, struct entry *e); /* NULL: `table_remove` does */
    struct flow (*flow)(const struct table *t, const struct entry *e);
    /* As servernf/wire/state.py has it: the key's fields, then all others. */
    void (*write)(const struct table *t, const struct entry *e, struct writer *w, u64 now_us);
    /* Enter a record that is written so; what is wrong with it, or NULL. `judge`: the NF's, of its configuration. */
    const char *(*read)(struct table *t, struct reader *r, u64 now_us, const struct nf *judge);
    struct kind *next;
};

/* Of a table's words in the shared memory. */
enum counted { COUNTED, EVICTED, WAITING_FRAMES, TABLE_WORDS };

struct table {
    const struct kind *kind;
    u32 number;
    u32 last_entered; /* the number of the record that was entered last */
    u32 size, capacity, high, free; /* records: the bound; room; numbers ever used; the first free one */
    u64 *counts, turn;
    u8 *entries;
    u32 entry_size, share_high, share_free;
    struct index by_key, by_source;
    struct share *shares;
    struct ranking rankings[2];
    struct groups *groups;
    struct table *other; /* that its records refer to, or that refers to it */
    void *more;          /* the kind's own */
    u64 seeds[SEED_WORDS];
};

void kind_register(struct kind *kind);
#define KIND(kind)                                                                                              \
    __attribute__((constructor)) static void enter_##kind(void)                                                \
    {                                                                                                           \
        kind_register(&kind);                                                                                   \
    }

struct table *table_of(u32 number); /* NULL: there is none */
/* The table whose number a configuration says next; NULL: there is none of this kind. */
struct table *table_take(struct reader *config, const struct kind *kind);
/* Those that have been taken since this was last asked: by the configuration that has been read. */
u32 tables_taken(u32 *numbers);

static inline struct entry *entry_at(const struct table *t, u32 at)
{
    return (struct entry *)(t->entries + (size_t)at * t->entry_size);
}

static inline u64 *entry_rest(const struct table *t, const struct entry *e)
{
    return (u64 *)((u8 *)(uintptr_t)e + t->entry_size) - ENTRY_REST;
}

/* -- keys ------------------------------------------------------------------------------------------------- */

static inline void key_start(struct key *k)
{
    memset(k, 0, sizeof *k);
}
/* `bytes` in all have been written at `k->word`. */
static inline void key_end(struct key *k, u32 bytes)
{
    k->words = bytes > 15 ? KEY_WORDS : 2;
    ((u8 *)k->word)[8 * k->words - 1] = (u8)bytes;
}
static inline u32 key_hash(const struct table *t, const struct key *k)
{
    return likely(k->words == 2) ? hash_words(k->word, 2, t->seeds) : hash_words(k->word, KEY_WORDS, t->seeds);
}
/* The bytes of a record's key; how many. `to` has room for all words. */
u32 entry_key(const struct table *t, const struct entry *e, u8 *to);

/* -- records of tables that are fair ------------------------------------------------------------------------ */

struct entry *table_find(const struct table *t, const struct key *k, u32 hash);
/* A new record of a key that none has, filled with 0 behind its `struct entry`, the last to go of its source; NULL: no
 * room at all. The table may have more than its bound then: `table_over`. */
struct entry *table_enter(struct table *t, const struct key *k, u32 hash, u64 source, u32 source_bytes,
                          bool established);
/* Who has to go, perhaps the new one itself; NULL: nobody. */
struct entry *table_over(struct table *t, const struct entry *new);
void table_evict(struct table *t, struct entry *e);
void table_refresh(struct table *t, struct entry *e);
void table_establish(struct table *t, struct entry *e, bool established);
void table_remove(struct table *t, struct entry *e);

static inline void table_prefetch(const struct table *t, u32 hash)
{
    u32 at = index_likely(&t->by_key, hash);
    if (at != NIL)
        __builtin_prefetch(entry_at(t, at));
}

/* -- for kinds with structures of their own ------------------------------------------------------------------ */

/* A record that has a number and is filled with 0; NULL: no room. */
struct entry *table_slot(struct table *t);
void table_free_slot(struct table *t, struct entry *e);
/* Of a record that is in the kind's structures, or is about to go from them. */
void table_entered(struct table *t, struct entry *e);
void table_leaves(struct table *t, struct entry *e);
void queue_append(struct table *t, struct queue *q, struct entry *e);
void queue_remove(struct table *t, struct queue *q, struct entry *e);

/* -- groups ------------------------------------------------------------------------------------------------ */

void table_touched(struct table *t, const struct entry *e);
extern bool groups_opened; /* of what is watched, records have come or gone; whoever asks makes it false */
void groups_entered(struct table *t, const struct entry *e);
void groups_leaves(struct table *t, const struct entry *e);
void groups_changed(struct table *t, const struct entry *e); /* another flow is its own now */
/* To be called when a record is read that decides, or changes. */
static inline void table_touch(struct table *t, const struct entry *e)
{
    if (unlikely(t->groups))
        table_touched(t, e);
}
/* CRC-16/ARC of an address, or of two exclusively or-ed, in 16 bytes. */
u16 group_of(u128 chosen);
u32 group_of_flow(struct flow f, enum group_key by);

static inline bool is_set(const u64 *bits, u32 at)
{
    return bits[at / 64] >> at % 64 & 1;
}
static inline void set_bit(u64 *bits, u32 at)
{
    bits[at / 64] |= (u64)1 << at % 64;
}

/* Have records known by group; false: no memory, or they are by another key. */
bool groups_open(struct table *t, enum group_key by);
void groups_close(struct table *t);
/* Look at so many more records; whether all are known by group now. */
bool groups_build(struct table *t, u32 records);

void tables_open(struct shared memory);
void tables_close(void);
struct table *table_make(u32 number, struct reader *r, const char **wrong);
void table_end(struct table *t);

#endif

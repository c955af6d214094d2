#include "tables.h"

#include <stdlib.h>
#include <sys/random.h>

#define MOST_SWEPT 8

u64 hash_keys[2 * MAX_KEY_WORDS + 4];

void draw_hash_keys(void)
{
    static bool drawn; /* devices of one object share them */
    if (drawn)
        return;
    drawn = true;
    u8 *at = (u8 *)hash_keys;
    for (size_t left = sizeof hash_keys; left;) {
        ssize_t got = getrandom(at, left < 256 ? left : 256, 0);
        if (got > 0) {
            at += got;
            left -= (size_t)got;
        }
    }
}

/* -- maps ------------------------------------------------------------------------------------------ */

static bool map_init(struct map *m, u32 words)
{
    m->words = words;
    m->mask = 7;
    m->count = 0;
    m->slots = calloc(8 * (size_t)(words + 1), sizeof *m->slots);
    return m->slots != NULL;
}

static u64 *slot_of(const struct map *m, const u64 *key, u64 hash)
{
    for (u32 at = (u32)hash & m->mask;; at = (at + 1) & m->mask) {
        u64 *slot = m->slots + (size_t)at * (m->words + 1);
        if (!slot[0] || same_words(slot + 1, key, m->words))
            return slot;
    }
}

static void *map_get(const struct map *m, const u64 *key)
{
    u64 *slot = slot_of(m, key, hash_of(key, m->words));
    return slot[0] ? pointer_in(slot[0]) : NULL;
}

static bool map_put(struct map *m, const u64 *key, void *value)
{
    if (2 * (m->count + 1) > m->mask + 1) {
        struct map more = {.words = m->words, .mask = 2 * m->mask + 1};
        more.slots = calloc((size_t)(more.mask + 1) * (m->words + 1), sizeof *more.slots);
        if (!more.slots)
            return false;
        for (u32 at = 0; at <= m->mask; at++) {
            u64 *slot = m->slots + (size_t)at * (m->words + 1);
            if (slot[0])
                memcpy(slot_of(&more, slot + 1, hash_of(slot + 1, m->words)), slot,
                       (m->words + 1) * sizeof *slot);
        }
        more.count = m->count;
        free(m->slots);
        *m = more;
    }
    u64 hash = hash_of(key, m->words);
    u64 *slot = slot_of(m, key, hash);
    m->count += !slot[0];
    slot[0] = (u64)(uintptr_t)value | hash >> TAG_SHIFT << TAG_SHIFT;
    memcpy(slot + 1, key, m->words * sizeof *key);
    return true;
}

static void map_drop(struct map *m, const u64 *key)
{
    size_t stride = m->words + 1;
    u64 *slot = slot_of(m, key, hash_of(key, m->words));
    if (!slot[0])
        return;
    m->count--;
    u32 hole = (u32)((size_t)(slot - m->slots) / stride);
    /* What stands behind and would no longer be found moves up. */
    for (u32 at = (hole + 1) & m->mask;; at = (at + 1) & m->mask) {
        u64 *next = m->slots + at * stride;
        if (!next[0])
            break;
        u32 home = (u32)hash_of(next + 1, m->words) & m->mask;
        if (((at - home) & m->mask) >= ((at - hole) & m->mask)) {
            memcpy(m->slots + hole * stride, next, stride * sizeof *next);
            hole = at;
        }
    }
    m->slots[hole * stride] = 0;
}

/* -- entries --------------------------------------------------------------------------------------- */

struct entry *entry_new(u32 words, u32 range_count, u32 arg_words)
{
    size_t size = sizeof(struct entry) + (arg_words + words) * sizeof(u64) + range_count * sizeof(struct range);
    struct entry *e = calloc(1, size);
    if (!e)
        return NULL;
    e->arg_words = arg_words;
    e->key = e->args + arg_words;
    e->ranges = (struct range *)(e->key + words);
    e->range_count = range_count;
    return e;
}

void entry_free(struct entry *e)
{
    if (e)
        free(e->meter);
    free(e);
}

/* -- LPM ------------------------------------------------------------------------------------------- */

static void masked(u64 *out, const u64 *key, const u64 *mask, u32 words)
{
    for (u32 i = 0; i < words; i++)
        out[i] = key[i] & mask[i];
}

static const u64 *mask_of(const struct table *t, u32 length)
{
    return t->masks + (size_t)length * t->words;
}

struct entry *lpm_search(const struct table *t, const u64 *key)
{
    u64 at[MAX_KEY_WORDS + 1];
    masked(at, key, t->others, t->words);
    const struct lengths *there = map_get(&t->roots, at);
    if (!there)
        return t->miss;
    for (unsigned word = 3; word-- > 0;)
        for (u64 bits = there->bits[word]; bits;) {
            u32 length = 63 - (u32)__builtin_clzll(bits);
            bits ^= (u64)1 << length;
            length += 64 * word;
            masked(at, key, mask_of(t, length), t->words);
            at[t->words] = length;
            struct entry *found = map_get(&t->map, at);
            if (found)
                return found;
        }
    return t->miss;
}

static bool lpm_add(struct table *t, struct entry *e)
{
    u64 at[MAX_KEY_WORDS + 1];
    masked(at, e->key, t->others, t->words);
    struct lengths *there = map_get(&t->roots, at);
    if (!there) {
        there = calloc(1, sizeof *there + (t->lpm_width + 1) * sizeof(u32));
        if (!there)
            return false;
        if (!map_put(&t->roots, at, there)) {
            free(there);
            return false;
        }
    }
    memcpy(at, e->key, t->words * sizeof *at);
    at[t->words] = e->length;
    if (!map_put(&t->map, at, e))
        return false;
    there->counts[e->length]++;
    there->bits[e->length / 64] |= (u64)1 << e->length % 64;
    return true;
}

static void lpm_remove(struct table *t, struct entry *e)
{
    u64 at[MAX_KEY_WORDS + 1];
    memcpy(at, e->key, t->words * sizeof *at);
    at[t->words] = e->length;
    map_drop(&t->map, at);
    masked(at, e->key, t->others, t->words);
    struct lengths *there = map_get(&t->roots, at);
    if (!--there->counts[e->length])
        there->bits[e->length / 64] &= ~((u64)1 << e->length % 64);
    if (!(there->bits[0] | there->bits[1] | there->bits[2])) {
        map_drop(&t->roots, at);
        free(there);
    }
}

/* -- tuple space ----------------------------------------------------------------------------------- */

static u64 field_of(const u64 *key, u32 shift, u32 width)
{
    u32 word = shift / 64, bit = shift % 64;
    u64 value = key[word] >> bit;
    if (bit && bit + width > 64)
        value |= key[word + 1] << (64 - bit);
    return value & ones(width);
}

static bool in_ranges(const struct entry *e, const u64 *key)
{
    for (u32 i = 0; i < e->range_count; i++) {
        u64 value = field_of(key, e->ranges[i].shift, e->ranges[i].width);
        if (value < e->ranges[i].low || value > e->ranges[i].high)
            return false;
    }
    return true;
}

struct entry *ternary_search(const struct table *t, const u64 *key)
{
    struct entry *found = NULL;
    u64 at[MAX_KEY_WORDS];
    for (u32 n = 0; n < t->group_count; n++) {
        const struct group *g = t->groups[n];
        if (found && g->best < found->priority)
            break;
        masked(at, key, g->mask, t->words);
        for (struct entry *e = map_get(&g->chains, at); e; e = e->next) {
            if (found && (e->priority < found->priority ||
                          (e->priority == found->priority && e->sequence > found->sequence)))
                break;
            if (in_ranges(e, key)) {
                found = e;
                break;
            }
        }
    }
    return found ? found : t->miss;
}

static struct group *group_of(struct table *t, const u64 *mask)
{
    for (u32 i = 0; i < t->group_count; i++)
        if (same_words(t->groups[i]->mask, mask, t->words))
            return t->groups[i];
    struct group **more = realloc(t->groups, (t->group_count + 1) * sizeof *more);
    if (!more)
        return NULL;
    t->groups = more;
    struct group *g = calloc(1, sizeof *g);
    u64 *copy = malloc(t->words * sizeof *copy);
    if (!g || !copy || !map_init(&g->chains, t->words)) {
        free(copy);
        free(g);
        return NULL;
    }
    memcpy(copy, mask, t->words * sizeof *copy);
    g->mask = copy;
    t->groups[t->group_count++] = g;
    t->unsorted = true;
    return g;
}

static bool ternary_add(struct table *t, struct entry *e, const u64 *mask)
{
    struct group *g = group_of(t, mask);
    if (!g)
        return false;
    e->group = g;
    e->sequence = t->sequence++;
    struct entry *head = map_get(&g->chains, e->key);
    if (!head || head->priority < e->priority) {
        if (!map_put(&g->chains, e->key, e))
            return false;
        e->next = head;
    } else {
        while (head->next && head->next->priority >= e->priority)
            head = head->next;
        e->next = head->next;
        head->next = e;
    }
    g->count++;
    if (e->priority > g->best) {
        g->best = e->priority;
        t->unsorted = true;
    }
    return true;
}

static void ternary_remove(struct table *t, struct entry *e)
{
    struct group *g = e->group;
    struct entry *head = map_get(&g->chains, e->key);
    if (head == e) {
        if (e->next)
            map_put(&g->chains, e->key, e->next); /* in place: nothing grows */
        else
            map_drop(&g->chains, e->key);
    } else {
        while (head->next != e)
            head = head->next;
        head->next = e->next;
    }
    if (--g->count)
        return; /* `best` stays an upper bound: to find it anew at each removal would be quadratic */
    for (u32 i = 0; i < t->group_count; i++)
        if (t->groups[i] == g) {
            t->groups[i] = t->groups[--t->group_count];
            t->unsorted = true;
            break;
        }
    free(g->chains.slots);
    free(g->mask);
    free(g);
}

static int by_best(const void *a, const void *b)
{
    u32 one = (*(struct group *const *)a)->best, other = (*(struct group *const *)b)->best;
    return one < other ? 1 : one > other ? -1 : 0;
}

/* -- tables ---------------------------------------------------------------------------------------- */

static void set_bits(u64 *words, u32 from, u32 count)
{
    for (u32 bit = from; bit < from + count; bit++)
        words[bit / 64] |= (u64)1 << bit % 64;
}

bool table_init(struct table *t, enum kind kind, u32 width, u32 lpm_shift, u32 lpm_width)
{
    memset(t, 0, sizeof *t);
    t->kind = kind;
    t->words = (width + 63) / 64;
    t->lpm_shift = lpm_shift;
    t->lpm_width = lpm_width;
    t->generation = 1;
    t->miss = entry_new(t->words, 0, 0);
    if (!t->miss)
        return false;
    t->miss->action = NO_ACTION;
    if (kind == EXACT)
        return map_init(&t->map, t->words);
    if (kind == KEYLESS)
        return true;
    t->memo = calloc(MEMO_SETS * MEMO_WAYS * (size_t)(t->words + 1), sizeof *t->memo);
    if (kind == TERNARY)
        return t->memo != NULL;
    t->masks = calloc((lpm_width + 1) * (size_t)t->words, sizeof *t->masks);
    t->others = calloc(t->words, sizeof *t->others);
    if (!t->memo || !t->masks || !t->others || !map_init(&t->map, t->words + 1) ||
        !map_init(&t->roots, t->words))
        return false;
    set_bits(t->others, 0, lpm_shift);
    set_bits(t->others, lpm_shift + lpm_width, width - lpm_shift - lpm_width);
    for (u32 length = 0; length <= lpm_width; length++) {
        u64 *mask = t->masks + (size_t)length * t->words;
        memcpy(mask, t->others, t->words * sizeof *mask);
        set_bits(mask, lpm_shift + lpm_width - length, length);
    }
    return true;
}

static void free_values(struct map *m)
{
    for (u32 at = 0; m->slots && at <= m->mask; at++)
        free(pointer_in(m->slots[(size_t)at * (m->words + 1)]));
}

void table_free(struct table *t)
{
    entry_free(t->miss);
    free(t->map.slots);
    free_values(&t->roots);
    free(t->roots.slots);
    free(t->masks);
    free(t->others);
    for (u32 i = 0; i < t->group_count; i++) {
        free(t->groups[i]->chains.slots);
        free(t->groups[i]->mask);
        free(t->groups[i]);
    }
    free(t->groups);
    free(t->memo);
    memset(t, 0, sizeof *t);
}

/* Forget the keys that an entry matches: what others find is as it was. Many changes forget all at once. */
static void forget(struct table *t, const u64 *value, const u64 *mask)
{
    size_t stride = t->words + 1;
    if (t->changed || t->swept == MOST_SWEPT) {
        t->changed = true;
        return;
    }
    t->swept++;
    for (u64 *slot = t->memo; slot < t->memo + MEMO_SETS * MEMO_WAYS * stride; slot += stride) {
        u64 differs = slot[0] >> TAG_SHIFT ^ t->generation;
        for (u32 i = 0; !differs && i < t->words; i++)
            differs = (slot[i + 1] & mask[i]) ^ value[i];
        if (!differs)
            slot[0] = 0;
    }
}

void table_expect_many(struct table *t)
{
    t->swept = MOST_SWEPT;
}

bool table_add(struct table *t, struct entry *e, const u64 *mask)
{
    if (t->kind == EXACT)
        return map_put(&t->map, e->key, e);
    forget(t, e->key, t->kind == LPM ? mask_of(t, e->length) : mask);
    return t->kind == LPM ? lpm_add(t, e) : ternary_add(t, e, mask);
}

void table_remove(struct table *t, struct entry *e)
{
    if (t->kind == EXACT) {
        map_drop(&t->map, e->key);
        return;
    }
    forget(t, e->key, t->kind == LPM ? mask_of(t, e->length) : e->group->mask);
    if (t->kind == LPM)
        lpm_remove(t, e);
    else
        ternary_remove(t, e);
}

void table_commit(struct table *t)
{
    if (t->kind == EXACT || t->kind == KEYLESS)
        return;
    if (t->kind == TERNARY && t->unsorted)
        qsort(t->groups, t->group_count, sizeof *t->groups, by_best);
    t->unsorted = false;
    t->swept = 0;
    if (!t->changed)
        return;
    t->changed = false;
    if (++t->generation > 0xFFFF) {
        t->generation = 1;
        memset(t->memo, 0, MEMO_SETS * MEMO_WAYS * (size_t)(t->words + 1) * sizeof *t->memo);
    }
}

#include "fib.h"

#include "works.h"

struct prefix {
    u64 address[2];
    u32 length, number;
};

static bool prefixes_are_good(const struct prefix *all, u32 count, u8 version, u32 numbers)
{
    for (u32 i = 0; i < count; i++) {
        const struct prefix *p = &all[i];
        bool fits = version == 6 || !(p->address[0] >> 32 | p->address[1]);
        if (!fits || p->length > (version == 4 ? 32 : 128) || p->number >= numbers)
            return false;
    }
    return true;
}

/* The prefixes of a configuration; NULL: there are none, or they are wrong. */
static struct prefix *read_prefixes(struct reader *config, u8 version, u32 numbers, u32 *count)
{
    *count = take_u32(config);
    config->bad |= *count > MAX_MESSAGE / sizeof(struct prefix);
    const u8 *from = config->bad || !*count ? NULL : take(config, *count * (u32)sizeof(struct prefix));
    struct prefix *all = from ? malloc(*count * sizeof *all) : NULL;
    if (!all)
        return NULL;
    memcpy(all, from, *count * sizeof *all);
    if (prefixes_are_good(all, *count, version, numbers))
        return all;
    config->bad = true;
    free(all);
    return NULL;
}

#if __has_include(<rte_fib.h>)

#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_memory.h>
#include <stdio.h>

struct fib {
    struct work building, freeing;
    struct prefix *prefixes; /* until it is built */
    u32 count, numbers;
    u8 version;
    struct rte_fib *ipv4; /* of its version, if it could be built */
    struct rte_fib6 *ipv6;
};

/* How many parts of 256 entries prefixes take at most that are longer than the table's first 24 bits. */
static u32 parts_of(const struct fib *fib)
{
    u32 parts = 1;
    u64 before = UINT64_MAX;
    for (u32 i = 0; i < fib->count; i++) {
        const struct prefix *p = &fib->prefixes[i];
        if (p->length <= 24)
            continue;
        if (fib->version == 6)
            parts += (p->length + 7) / 8 - 3;
        else if (p->address[0] >> 8 != before) /* a /24 has one; they come in the order of addresses */
            parts++;
        before = p->address[0] >> 8;
    }
    return parts;
}

/* The least entries, of 1 << `size` bytes, that say each number, NONE, and each part; a bit of them says which of these. */
static u32 size_of_entries(u32 most)
{
    u32 size = 0;
    while (size < 2 && most >= 1u << ((8u << size) - 1))
        size++;
    return size;
}

static bool add(const struct fib *fib, const struct prefix *p)
{
    u8 address[16];
    if (fib->version == 4)
        return !rte_fib_add(fib->ipv4, (u32)p->address[0], (u8)p->length, p->number);
    store_be(address, p->address[1], 8);
    store_be(address + 8, p->address[0], 8);
    return !rte_fib6_add(fib->ipv6, address, (u8)p->length, p->number);
}

static void forget_tables(struct fib *fib)
{
    rte_fib_free(fib->ipv4);
    rte_fib6_free(fib->ipv6);
    fib->ipv4 = NULL;
    fib->ipv6 = NULL;
}

static bool build(struct work *work)
{
    static u32 made; /* one is built at a time */
    struct fib *fib = container_of(work, struct fib, building);
    u32 parts = parts_of(fib), size = size_of_entries(parts > fib->numbers ? parts : fib->numbers);
    char name[32];
    snprintf(name, sizeof name, "routes%u", made++);
    if (fib->version == 4) {
        struct rte_fib_conf conf = {.type = RTE_FIB_DIR24_8, .default_nh = fib->numbers, .max_routes = (int)fib->count};
        conf.dir24_8.nh_sz = (enum rte_fib_dir24_8_nh_sz)size;
        conf.dir24_8.num_tbl8 = parts;
        fib->ipv4 = rte_fib_create(name, SOCKET_ID_ANY, &conf);
    } else {
        struct rte_fib6_conf conf = {.type = RTE_FIB6_TRIE, .default_nh = fib->numbers, .max_routes = (int)fib->count};
        conf.trie.nh_sz = (enum rte_fib_trie_nh_sz)(size ? size : 1);
        conf.trie.num_tbl8 = parts;
        fib->ipv6 = rte_fib6_create(name, SOCKET_ID_ANY, &conf);
    }
    bool built = fib->ipv4 || fib->ipv6;
    for (u32 i = 0; built && i < fib->count; i++)
        built = add(fib, &fib->prefixes[i]);
    if (!built)
        forget_tables(fib);
    free(fib->prefixes);
    fib->prefixes = NULL;
    return true; /* ranges are as true */
}

struct fib *fib_make(struct reader *config, u8 version, u32 numbers)
{
    u32 count;
    struct prefix *prefixes = read_prefixes(config, version, numbers, &count);
    struct fib *fib = prefixes ? calloc(1, sizeof *fib) : NULL;
    if (!fib) {
        free(prefixes);
        return NULL;
    }
    *fib = (struct fib){.prefixes = prefixes, .count = count, .numbers = numbers, .version = version};
    fib->building.run = build;
    work_begin(&fib->building);
    return fib;
}

static bool give_back(struct work *work)
{
    struct fib *fib = container_of(work, struct fib, freeing);
    forget_tables(fib);
    free(fib);
    return true;
}

void fib_free(struct fib *fib)
{
    if (!fib)
        return;
    fib->freeing.run = give_back;
    work_begin(&fib->freeing);
}

const struct fib *fib_built(const struct fib *fib)
{
    return fib && (fib->ipv4 || fib->ipv6) ? fib : NULL;
}

u32 fib_count(const struct fib *fib)
{
    return fib_built(fib) ? fib->count : 0;
}

void fib_look(const struct fib *fib, const u128 *addresses, u32 count, u32 *found)
{
    u64 numbers[MOST_FRAMES];
    if (fib->ipv4) {
        u32 short_ones[MOST_FRAMES];
        for (u32 i = 0; i < count; i++)
            short_ones[i] = (u32)addresses[i];
        rte_fib_lookup_bulk(fib->ipv4, short_ones, numbers, (int)count);
    } else {
        u8 long_ones[MOST_FRAMES][16];
        for (u32 i = 0; i < count; i++) {
            store_be(long_ones[i], (u64)(addresses[i] >> 64), 8);
            store_be(long_ones[i] + 8, (u64)addresses[i], 8);
        }
        rte_fib6_lookup_bulk(fib->ipv6, long_ones, numbers, (int)count);
    }
    for (u32 i = 0; i < count; i++)
        found[i] = (u32)numbers[i];
}

#else

struct fib *fib_make(struct reader *config, u8 version, u32 numbers)
{
    u32 count;
    free(read_prefixes(config, version, numbers, &count)); /* they are checked all the same */
    return NULL;
}

void fib_free(struct fib *fib)
{
    (void)fib;
}

const struct fib *fib_built(const struct fib *fib)
{
    (void)fib;
    return NULL;
}

u32 fib_count(const struct fib *fib)
{
    (void)fib;
    return 0;
}

void fib_look(const struct fib *fib, const u128 *addresses, u32 count, u32 *found)
{
    (void)fib;
    (void)addresses;
    for (u32 i = 0; i < count; i++)
        found[i] = UINT32_MAX;
}

#endif

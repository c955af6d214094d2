#include "signatures.h"

#include "messages.h"

#include <stdio.h>
#include <stdlib.h>

#if __has_include(<hs/hs.h>)

#include <hs/hs.h>

struct list {
    u32 count;
    const char **content;
    unsigned *flags, *number;
    size_t *size;
};

static bool read_list(struct list *all, struct reader *r)
{
    all->count = take_u32(r);
    if (r->bad || !all->count || all->count > MAX_MESSAGE / 16)
        return false;
    all->content = calloc(all->count, sizeof *all->content);
    all->flags = calloc(all->count, sizeof *all->flags);
    all->number = calloc(all->count, sizeof *all->number);
    all->size = calloc(all->count, sizeof *all->size);
    if (!all->content || !all->flags || !all->number || !all->size)
        return false;
    for (u32 i = 0; i < all->count; i++) {
        all->number[i] = take_u32(r);
        all->flags[i] = take_u32(r) ? HS_FLAG_CASELESS : 0;
        all->size[i] = take_u32(r);
        all->content[i] = (const char *)take(r, all->size[i]);
        if (!all->content[i] || !all->size[i])
            return false;
    }
    return r->at == r->end;
}

static int says(const char *what)
{
    fprintf(stderr, "signatures: %s\n", what);
    return 1;
}

static int compile(const struct list *all)
{
    hs_database_t *database;
    hs_compile_error_t *wrong;
    char *written = NULL;
    size_t size;
    if (hs_compile_lit_multi(all->content, all->flags, all->number, all->size, all->count, HS_MODE_BLOCK, NULL,
                             &database, &wrong) != HS_SUCCESS) {
        says(wrong->message);
        hs_free_compile_error(wrong);
        return 1;
    }
    bool done = hs_serialize_database(database, &written, &size) == HS_SUCCESS &&
                fwrite(written, 1, size, stdout) == size && !fflush(stdout);
    hs_free_database(database);
    free(written);
    return done ? 0 : says("the database cannot be written");
}

int signatures_compile(void)
{
    u8 *bytes = malloc(MAX_MESSAGE);
    size_t size = bytes ? fread(bytes, 1, MAX_MESSAGE, stdin) : 0;
    struct reader r = {bytes, bytes + size, false};
    struct list all = {0};
    int code = read_list(&all, &r) ? compile(&all) : says("they are not written as they should be");
    free(all.content);
    free(all.flags);
    free(all.number);
    free(all.size);
    free(bytes);
    return code;
}

#else

int signatures_compile(void)
{
    fputs("signatures: Hyperscan is not installed\n", stderr);
    return 1;
}

#endif

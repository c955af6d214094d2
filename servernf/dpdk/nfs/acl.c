/* Access control list: the first rule that holds permits or denies; no state.
 *
 * Few rules are read in order, many are looked up at once (c/classifier.c). No rule's condition on ports is met by a later fragment, which has none (RFC 1858, 2.1:
 * what would need them is denied by rules on `later_fragment`).
 */
#include "rules.h"

#define PERMITS NOTHING /* instead of the number of the rule that denies */

enum { DENIED };

struct acl {
    struct nf nf;
    struct rules rules;
};

static struct nf *init(struct reader *config, const struct shared *memory)
{
    (void)memory;
    struct acl *acl = nf_make(sizeof *acl, 0, 0);
    if (acl && rules_read(&acl->rules, config, PERMITS))
        return &acl->nf;
    free(acl);
    return NULL;
}

static void process_burst(struct nf *nf, struct packet *const *packets, u32 count, u64 now_us)
{
    const struct acl *acl = (const struct acl *)nf;
    u32 chosen[MOST_RULED];
    (void)now_us;
    rules_choose_all(&acl->rules, packets, count, chosen);
    for (u32 i = 0; i < count; i++) {
        struct packet *p = packets[i];
        if (chosen[i] == PERMITS)
            p->left = other(p->port);
        else
            nf_drop_by(p, DENIED, chosen[i]);
    }
}

static void fini(struct nf *nf)
{
    rules_free(&((struct acl *)nf)->rules);
    free(nf);
}

static const char *const reasons[] = {"denied", NULL};
static struct nf_ops ops = {.name = "acl", .reasons = reasons, .init = init, .process_burst = process_burst,
                            .fini = fini};
NF(ops)

/* Action profiles: what a table's entries refer to instead of having an action.
 *
 * A choice is a member, an action with its arguments, or a group: as many of them as its weights say, of which a
 * hash picks one. Who changes a member writes the groups anew that it is in.
 */
#ifndef FAST_PROFILES_H
#define FAST_PROFILES_H

#include "device.h"

struct choice {
    u32 profile;
    bool is_group;
    u32 count, stride;
    u64 calls[]; /* each `stride` words: the number of an action of the profile, its arguments */
};

static const u64 no_call[1] = {NO_ACTION};

/* What an entry refers to; NULL: nothing, as a miss does. */
static inline const struct choice *choice_of(const struct device *d, const struct entry *e, u32 profile)
{
    if (e->action == NO_ACTION || e->args[0] >= d->choices.room)
        return NULL;
    const struct choice *found = d->choices.of[e->args[0]];
    return found && found->profile == profile ? found : NULL;
}

static inline const u64 *call_of(const struct choice *choice, u64 hash)
{
    return choice->count ? choice->calls + hash % choice->count * choice->stride : no_call;
}

/* A record of a choice (boundary.h); what is wrong with it, or NULL. */
const char *choice_change(struct device *d, struct reader *r);
void choices_free(struct choices *c);

#endif

#include "profiles.h"
#include "boundary.h"

#include <stdlib.h>

static bool room_for(struct choices *c, u32 number)
{
    if (number < c->room)
        return true;
    if (number >= MAX_CHOICES)
        return false;
    u32 room = c->room ? c->room : 64;
    while (room <= number)
        room *= 2;
    struct choice **more = realloc(c->of, room * sizeof *more);
    if (!more)
        return false;
    memset(more + c->room, 0, (room - c->room) * sizeof *more);
    c->of = more;
    c->room = room;
    return true;
}

static bool take_call(const struct profile_form *form, struct reader *r, u64 *call)
{
    u32 action = take_u32(r);
    if (r->bad || action >= form->action_count)
        return false;
    call[0] = action;
    return take_words(r, call + 1, form->arg_words[action]);
}

const char *choice_change(struct device *d, struct reader *r)
{
    u32 number = take_u32(r), profile = take_u32(r), is_group = take_u32(r), exists = take_u32(r);
    u32 count = take_u32(r);
    if (r->bad || profile >= program.profile_count || count > (size_t)(r->end - r->at) / sizeof(u32))
        return BAD;
    const struct profile_form *form = &program.profiles[profile];
    struct choice *made = NULL;
    if (!room_for(&d->choices, number))
        return NO_MEMORY;
    if (exists) {
        u32 stride = 1;
        for (u32 i = 0; i < form->action_count; i++)
            if (form->arg_words[i] >= stride)
                stride = form->arg_words[i] + 1;
        made = calloc(1, sizeof *made + (size_t)count * stride * sizeof(u64));
        if (!made)
            return NO_MEMORY;
        *made = (struct choice){profile, is_group, count, stride};
        for (u32 i = 0; i < count; i++)
            if (!take_call(form, r, made->calls + (size_t)i * stride)) {
                free(made);
                return BAD;
            }
    }
    free(d->choices.of[number]);
    d->choices.of[number] = made;
    return NULL;
}

void choices_free(struct choices *c)
{
    for (u32 i = 0; i < c->room; i++)
        free(c->of[i]);
    free(c->of);
}

#include "gates.h"

#include "boundary.h"
#include "spaces.h"
#include "steps.h"
#include "table.h"

#define MOST_KEPT 65536
#define MOST_BYTES (48u << 20)
#define MOST_REACHED 64

struct gate {
    bool all; /* all flows of its NFs */
    enum group_key by;
    u64 hashes[GROUPS / 64];      /* that are its own */
    struct spaces spaces;         /* of these flows */
    u64 nfs[MOST_INSTANCES / 64]; /* instances */
    u32 count, bytes;
    u64 lost;
    u32 at[MOST_KEPT], size[MOST_KEPT];
    u8 frame[MOST_BYTES]; /* each behind room for what is written in front of it */
};

static struct gate *gates[MOST_GATES];
static struct mark {
    u32 number, path;
} marks[MOST_MARKS];
static u32 mark_count, known[MOST_GATES], known_count; /* numbers of transfers */
u32 gates_open;

const char *gate_open(u32 number, struct reader *r)
{
    u32 count = take_u32(r);
    if (number >= MOST_GATES || gates[number] || count > MOST_INSTANCES)
        return BAD;
    struct gate *g = region_open(sizeof *g);
    if (!g)
        return NO_MEMORY;
    for (u32 i = 0; i < count; i++) {
        u32 instance = take_u32(r);
        if (instance < MOST_INSTANCES)
            set_bit(g->nfs, instance);
        else
            r->bad = true;
    }
    g->all = take_u32(r);
    u32 by = take_u32(r);
    if (r->bad || by >= GROUP_KEYS || !take_words(r, g->hashes, GROUPS / 64) ||
        !take_spaces(r, &g->spaces)) {
        region_close(g, sizeof *g);
        return BAD;
    }
    g->by = by;
    gates[number] = g;
    gates_open++;
    return NULL;
}

void gate_close(u32 number)
{
    if (number >= MOST_GATES || !gates[number])
        return;
    region_close(gates[number], sizeof **gates);
    gates[number] = NULL;
    gates_open--;
}

void gates_end(void)
{
    for (u32 i = 0; i < MOST_GATES; i++)
        gate_close(i);
}

/* -- which frames ----------------------------------------------------------------------------------------------- */

/* A step and all that follow, the nearest first; how many. */
static u32 steps_behind(const struct step *first, const struct step **found)
{
    u32 count = 1;
    found[0] = first;
    for (u32 i = 0; i < count; i++)
        for (u32 port = 0; port < found[i]->ports; port++) {
            const struct step *next = found[i]->next[port].step;
            bool is_new = next && count < MOST_REACHED;
            for (u32 k = 0; k < count && is_new; k++)
                is_new = found[k] != next;
            if (is_new)
                found[count++] = next;
        }
    return count;
}

/* As the switches dispatch: by the addresses of the packet's flow, and by a pool's where it still shows that. */
static bool is_of(const struct gate *g, const struct packet *p, const struct step *const *steps, u32 count)
{
    u128 source, destination;
    packet_flow(p, &source, &destination);
    bool inside = p->port == INSIDE;
    for (u32 i = 0; g->by == BY_INSIDE && !inside && i < count; i++) {
        const struct nf *nf = steps[i]->nf;
        struct packet there = *p;
        there.port = (u8)steps[i]->port;
        int32_t answer = nf->ops->answer_hash ? nf->ops->answer_hash(nf, &there) : -1;
        if (answer >= 0)
            return is_set(g->hashes, (u32)answer);
    }
    struct flow f = inside ? (struct flow){source, destination} : (struct flow){destination, source};
    return is_set(g->hashes, group_of_flow(f, g->by)) && spaces_have(&g->spaces, f);
}

static void keep(struct gate *g, const struct received *f)
{
    if (g->count == MOST_KEPT || f->size + HEADROOM + SLACK > MOST_BYTES - g->bytes) {
        g->lost++;
        return;
    }
    g->at[g->count] = g->bytes + HEADROOM;
    g->size[g->count] = f->size;
    memcpy(g->frame + g->at[g->count++], f->bytes, f->size);
    g->bytes += f->size + HEADROOM + SLACK;
}

bool gates_keep(const struct packet *p, const struct received *f)
{
    const struct step *steps[MOST_REACHED];
    u32 count = steps_behind(p->step, steps);
    for (u32 i = 0; i < MOST_GATES; i++) {
        struct gate *g = gates[i];
        bool mine = false;
        for (u32 k = 0; g && k < count; k++)
            mine |= is_set(g->nfs, steps[k]->nf->number);
        if (mine && (g->all || is_of(g, p, steps, count))) {
            keep(g, f);
            return true;
        }
    }
    return false;
}

bool gates_mark(const u8 *frame, u32 size)
{
    /* NSH's EtherType, version 0, O bit, MD type 1, length 6, Ethernet. */
    if (size < TAG_BYTES || (load_be(frame + 12, 8) & 0xFFFFE03F0FFF0000u) != 0x894F200601030000u)
        return false;
    struct mark m = {(u32)load_be(frame + 22, 4), (u32)load_be(frame + 26, 4)};
    u32 at = 0;
    while (at < known_count && known[at] != m.number)
        at++;
    if (at == known_count)
        return false;
    for (u32 i = 0; i < mark_count; i++)
        if (marks[i].number == m.number && marks[i].path == m.path)
            return true;
    if (mark_count < MOST_MARKS)
        marks[mark_count++] = m;
    return true;
}

/* -- messages ------------------------------------------------------------------------------------------------- */

const char *gate_kept(u32 number, struct writer *w)
{
    struct gate *g = number < MOST_GATES ? gates[number] : NULL;
    if (!g)
        return "no gate has this number";
    write_u64(w, g->lost);
    for (u32 i = 0; i < g->count; i++) {
        write_u32(w, 0);
        write_u32(w, g->size[i]);
        write_bytes(w, g->frame + g->at[i], g->size[i]);
    }
    g->count = g->bytes = 0;
    g->lost = 0;
    return NULL;
}

u32 gate_frames(u32 number, u32 first, struct received *frames, u32 most)
{
    struct gate *g = number < MOST_GATES ? gates[number] : NULL;
    u32 count = 0;
    for (; g && count < most && first + count < g->count; count++)
        frames[count] = (struct received){0, g->size[first + count], g->frame + g->at[first + count]};
    return count;
}

void gates_marks(struct reader *r, struct writer *w)
{
    write_bytes(w, marks, mark_count * sizeof *marks);
    mark_count = known_count = 0;
    while (r->at < r->end && known_count < MOST_GATES && !r->bad)
        known[known_count++] = take_u32(r);
}

/* The ways of a packet that come back: what waits for egress, what enters ingress once more.
 *
 * The generated program has `struct kept` (values of its field lists) and `struct saved` (all that a
 * copy begins egress with) and includes this between them and its `pass`.
 */
struct arrival {
    u32 list; /* of fields, whose values are kept; 0: none */
    const struct copies *copies; /* of a clone made in ingress */
    struct kept kept;
};

struct again {
    u32 port, mode, size;
    u8 *data;
    struct arrival arrival;
};

static struct again again[MAX_PASSES];
static u32 again_count;

/* A packet passes ingress once more; of more than can be served nothing is kept. */
static inline void pass_again(u32 port, u32 mode, const u8 *data, u32 size, const struct arrival *arrival)
{
    if (again_count == MAX_PASSES)
        return;
    struct again *a = &again[again_count];
    a->data = malloc(size + SLACK);
    if (!a->data)
        return;
    memcpy(a->data, data, size);
    memset(a->data + size, 0, SLACK);
    a->port = port;
    a->mode = mode;
    a->size = size;
    a->arrival = *arrival;
    again_count++;
}

static bool pass(struct device *d, u32 port, const u8 *data, u32 size, u32 mode, const struct arrival *arrival);

static void serve_again(struct device *d)
{
    for (u32 served = 0; served < again_count; served++) {
        if (served == MAX_PASSES - 1) {
            d->loops_cut++;
            break;
        }
        struct again *a = &again[served];
        if (!pass(d, a->port, a->data, a->size, a->mode, &a->arrival)) {
            d->faults++;
            break;
        }
    }
    for (u32 i = 0; i < again_count; i++)
        free(again[i].data);
    again_count = 0;
}

void device_process(struct device *d, u32 port, const u8 *data, u32 size)
{
    d->received++;
    if (unlikely(!pass(d, port, data, size, FROM_PORT, NULL))) {
        d->faults++;
        for (u32 i = 0; i < again_count; i++)
            free(again[i].data);
        again_count = 0;
    }
    if (unlikely(again_count))
        serve_again(d);
}

/* Copies that wait for egress, oldest first, and the states that they share. */
struct waiting {
    u32 next, count, state_count;
    struct {
        struct copy copy;
        u32 state;
    } *of;
    struct saved *states;
};

/* Room for the state of copies that wait now; NULL: there is none. */
static inline struct saved *wait_for_egress(struct waiting *w, const struct copies *copies)
{
    if (w->count + copies->count > MAX_COPIES)
        return NULL;
    void *of = realloc(w->of, (w->count + copies->count) * sizeof *w->of);
    if (!of)
        return NULL;
    w->of = of;
    struct saved *states = realloc(w->states, (w->state_count + 1) * sizeof *states);
    if (!states)
        return NULL;
    w->states = states;
    for (u32 i = 0; i < copies->count; i++) {
        w->of[w->count].copy = copies->of[i];
        w->of[w->count++].state = w->state_count;
    }
    return &w->states[w->state_count++];
}

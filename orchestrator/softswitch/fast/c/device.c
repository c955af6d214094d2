#include "device.h"
#include "profiles.h"

#include <stdlib.h>
#include <sys/random.h>

static bool arrays_init(struct device *d)
{
    const struct program *p = &program;
    d->counters = calloc(p->counter_count + 1, sizeof *d->counters);
    d->registers = calloc(p->register_count + 1, sizeof *d->registers);
    d->meters = calloc(p->meter_count + 1, sizeof *d->meters);
    if (!d->counters || !d->registers || !d->meters)
        return false;
    for (u32 i = 0; i < p->counter_count; i++)
        if (!(d->counters[i] = calloc(p->counter_sizes[i] + 1, 2 * sizeof(u64))))
            return false;
    for (u32 i = 0; i < p->register_count; i++)
        if (!(d->registers[i] = calloc(p->register_sizes[i] + 1, p->register_words[i] * sizeof(u64))))
            return false;
    for (u32 i = 0; i < p->meter_count; i++) {
        if (!(d->meters[i] = calloc(p->meter_sizes[i] + 1, sizeof(struct meter))))
            return false;
        for (u32 n = 0; n < p->meter_sizes[i]; n++)
            d->meters[i][n].packets = p->meter_packets[i];
    }
    return true;
}

static bool device_init(struct device *d)
{
    while (!d->random)
        if (getrandom(&d->random, sizeof d->random, 0) < 0)
            return false;
    d->tables = calloc(program.table_count + 1, sizeof *d->tables);
    if (!d->tables || !arrays_init(d))
        return false;
    for (u32 i = 0; i < program.table_count; i++) {
        const struct table_form *form = &program.tables[i];
        if (!table_init(&d->tables[i], form->kind, form->width, form->lpm_shift, form->lpm_width))
            return false;
    }
    return true;
}

void device_end(struct device *d)
{
    for (u32 i = 0; i < d->handles.room; i++)
        entry_free(d->handles.of[i]);
    choices_free(&d->choices);
    free(d->handles.of);
    free(d->handles.tables);
    for (u32 i = 0; d->tables && i < program.table_count; i++)
        table_free(&d->tables[i]);
    for (u32 i = 0; d->counters && i < program.counter_count; i++)
        free(d->counters[i]);
    for (u32 i = 0; d->registers && i < program.register_count; i++)
        free(d->registers[i]);
    for (u32 i = 0; d->meters && i < program.meter_count; i++)
        free(d->meters[i]);
    for (u32 i = 0; i < GROUPS; i++)
        free(d->groups[i]);
    for (u32 i = 0; i < SESSIONS; i++)
        free(d->sessions[i]);
    free(d->tables);
    free(d->counters);
    free(d->registers);
    free(d->meters);
    free(d);
}

struct device *device_make(const struct services *services)
{
    draw_hash_keys();
    struct device *d = calloc(1, sizeof *d);
    if (!d)
        return NULL;
    d->services = services;
    if (device_init(d))
        return d;
    device_end(d);
    return NULL;
}

static void burst(struct device *d, u64 now_us, const struct received *frames, u32 count)
{
    d->now_us = now_us;
    for (u32 i = 0; i < count; i++) {
        if (i + 1 < count)
            __builtin_prefetch(frames[i + 1].bytes);
        device_process(d, frames[i].port, frames[i].bytes, frames[i].size);
    }
}

__attribute__((visibility("default"))) const struct engine engine = {
    ENGINE_VERSION, device_make, device_end, burst, device_serve,
};

/* The process of one device: its parent's messages, its ports, and the programs that are loaded.
 *
 * usage: process ASKED TOLD CPU_PORT USER [PORT@INTERFACE ...]
 * ASKED and TOLD are the descriptors of the parent's sockets, USER is a number, or 0: stay what one is.
 * It ends when the parent does.
 */
#include "boundary.h"
#include "channel.h"
#include "engine.h"
#include "ports.h"
#include "privileges.h"
#include "ticking.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define IDLE_TURNS 64 /* without a frame, before it sleeps */
#define BUSY_TURNS 16 /* with frames, before it looks for messages */

static struct slot {
    void *object;
    const struct engine *engine;
    struct device *device;
} slots[SLOTS];
static u32 running = SLOTS, current;
static u64 start_ns, lost_events;
static u32 cpu_port;

/* Frames that leave as messages instead of by ports. */
static struct {
    bool on;
    struct writer frames;
    u64 count;
} memory;

/* -- services -------------------------------------------------------------------------------------- */

static u8 *event_room(u32 kind, u32 size)
{
    u8 *at = channel_room(kind, current, size);
    lost_events += !at;
    return at;
}

static u8 *frame_out(u32 port, u32 size)
{
    if (!memory.on)
        return port == cpu_port ? event_room(TELL_PACKET_IN, size) : ports_room(port, size);
    u8 *at = write_room(&memory.frames, size + 8);
    if (!at)
        return NULL;
    memcpy(at, &port, 4);
    memcpy(at + 4, &size, 4);
    memory.count++;
    return at + 8;
}

static void digest_out(u32 list, const u64 *words, u32 count)
{
    u8 *at = event_room(TELL_DIGEST, 4 + count * (u32)sizeof *words);
    if (!at)
        return;
    memcpy(at, &list, 4);
    memcpy(at + 4, words, count * sizeof *words);
}

static const struct services services = {frame_out, digest_out};

/* -- time ------------------------------------------------------------------------------------------ */

static u64 nanoseconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (u64)now.tv_sec * 1000000000 + (u64)now.tv_nsec;
}

static u64 now_us(void)
{
    return (nanoseconds(CLOCK_MONOTONIC) - start_ns) / 1000;
}

/* -- programs -------------------------------------------------------------------------------------- */

static void unload(struct slot *s)
{
    if (s->device)
        s->engine->end(s->device);
    if (s->object)
        dlclose(s->object);
    *s = (struct slot){0};
}

static const char *load(struct reader *r, struct writer *w)
{
    char path[4096];
    size_t size = (size_t)(r->end - r->at);
    if (!size || size >= sizeof path)
        return BAD;
    memcpy(path, r->at, size);
    path[size] = 0;
    for (u32 n = 0; n < SLOTS; n++) {
        struct slot *s = &slots[n];
        if (s->object)
            continue;
        s->object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!s->object)
            return dlerror();
        s->engine = dlsym(s->object, "engine");
        if (s->engine && s->engine->version == ENGINE_VERSION)
            s->device = s->engine->make(&services);
        if (!s->device) {
            unload(s);
            return "no engine of this version, or no memory for its tables";
        }
        write_u32(w, n);
        return NULL;
    }
    return "as many programs as there can be are loaded";
}

static void pass(u32 slot, u64 now, const struct received *frames, u32 count)
{
    current = slot;
    slots[slot].engine->burst(slots[slot].device, now, frames, count);
}

/* -- frames in messages ---------------------------------------------------------------------------- */

static void frames_free(struct received *frames, u32 count)
{
    for (u32 i = 0; i < count; i++)
        free(frames[i].bytes);
    free(frames);
}

/* Frames to be received, each with the slack that a program may read. */
static struct received *take_frames(struct reader *r, u32 *count)
{
    struct received *frames = NULL;
    u32 room = 0;
    *count = 0;
    while (!r->bad && r->at < r->end) {
        if (*count == room) {
            room = room ? 2 * room : 64;
            struct received *more = realloc(frames, room * sizeof *more);
            if (!more)
                break;
            frames = more;
        }
        struct received f = {0};
        f.port = take_u32(r);
        f.size = take_u32(r);
        const u8 *bytes = f.size > MAX_FRAME ? NULL : take(r, f.size);
        f.bytes = bytes ? calloc(1, f.size + SLACK) : NULL;
        if (!f.bytes) {
            r->bad = true;
            break;
        }
        memcpy(f.bytes, bytes, f.size);
        frames[(*count)++] = f;
    }
    if (!r->bad && r->at == r->end)
        return frames ? frames : calloc(1, sizeof *frames);
    frames_free(frames, *count);
    return NULL;
}

static const char *packets(u32 slot, u32 kind, struct reader *r, struct writer *w)
{
    u64 first = kind == ASK_INJECT ? 0 : take_u64(r);
    u32 count;
    struct received *frames = take_frames(r, &count);
    if (!frames)
        return BAD;
    memory.on = kind != ASK_INJECT;
    memory.frames.size = memory.count = 0;
    if (kind == ASK_PACKETS) {
        pass(slot, first, frames, count);
        write_bytes(w, memory.frames.bytes, memory.frames.size);
    } else if (kind == ASK_INJECT) {
        pass(slot, now_us(), frames, count);
        ports_flush();
    } else {
        u64 before = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
        for (u64 n = 0; n < first; n++) {
            pass(slot, 0, frames, count);
            memory.frames.size = 0;
        }
        write_u64(w, nanoseconds(CLOCK_THREAD_CPUTIME_ID) - before);
        write_u64(w, memory.count);
    }
    memory.on = false;
    memory.frames.full = false;
    frames_free(frames, count);
    return NULL;
}

/* -- messages -------------------------------------------------------------------------------------- */

static const char *serve_slot(struct question *q, struct writer *w)
{
    if (q->slot >= SLOTS || !slots[q->slot].device)
        return "no program is in that slot";
    struct slot *s = &slots[q->slot];
    switch (q->kind) {
    case ASK_UNLOAD:
        if (running == q->slot)
            running = SLOTS;
        unload(s);
        return NULL;
    case ASK_RUN:
        running = q->slot;
        return NULL;
    case ASK_PACKETS:
    case ASK_MEASURE:
    case ASK_INJECT:
        return packets(q->slot, q->kind, &q->payload, w);
    default:
        return s->engine->serve(s->device, q->kind, &q->payload, w);
    }
}

static const char *serve(struct question *q, struct writer *w)
{
    u64 drops[DROPS] = {0};
    switch (q->kind) {
    case ASK_HELLO:
        start_ns = take_u64(&q->payload);
        write_u32(w, BOUNDARY_VERSION);
        return q->payload.bad ? BAD : NULL;
    case ASK_LOAD:
        return load(&q->payload, w);
    case ASK_DROPS:
        ports_drops(drops);
        drops[DROP_EVENT_QUEUE_FULL] += lost_events;
        write_bytes(w, drops, sizeof drops);
        return NULL;
    default:
        return serve_slot(q, w);
    }
}

/* One message, if there is one; false: the parent is gone. */
static bool listen_to_parent(void)
{
    struct question q;
    bool there;
    if (!channel_send() || !channel_ask(&q, &there))
        return false;
    if (!there)
        return true;
    struct writer *w = channel_writer();
    const char *wrong = serve(&q, w);
    if (!wrong && w->full)
        wrong = NO_MEMORY;
    if (wrong) {
        w = channel_writer();
        write_bytes(w, wrong, strlen(wrong));
    }
    channel_tell(); /* what was told before the answer is there before it */
    channel_answer(wrong ? ANSWER_ERROR : ANSWER);
    return channel_send();
}

/* -- the loop -------------------------------------------------------------------------------------- */

/* A burst of each port; how many frames there were. */
static u32 forward(void)
{
    struct received frames[BURST];
    u32 all = 0;
    for (u32 i = 0; i < ports_count(); i++) {
        u32 count = ports_receive(i, frames);
        if (!count)
            continue;
        all += count;
        if (running < SLOTS)
            pass(running, now_us(), frames, count);
    }
    if (all)
        ports_flush();
    return all;
}

static void wait_for_something(void)
{
    struct pollfd polled[2 + MAX_PORTS] = {
        {.fd = channel_asked(), .events = channel_asked_events()},
        {.fd = channel_told(), .events = channel_told_events()},
    };
    ports_wait(polled, 2);
}

static void run(void)
{
    u32 idle = 0, turns = 0;
    if (ports_count())
        start_ticking();
    for (;;) {
        u32 frames = forward();
        idle = frames ? 0 : idle + 1;
        channel_tell();
        if (has_ticked())
            ports_tick();
        if (idle >= IDLE_TURNS || !ports_count())
            wait_for_something();
        if ((idle || ++turns % BUSY_TURNS == 0) && !listen_to_parent())
            return;
    }
}

int main(int count, char **words)
{
    if (count < 5 || !channel_open(atoi(words[1]), atoi(words[2]))) {
        fputs("usage: process ASKED TOLD CPU_PORT USER [PORT@INTERFACE ...]\n", stderr);
        return 2;
    }
    cpu_port = (u32)strtoul(words[3], NULL, 10);
    u32 user = (u32)strtoul(words[4], NULL, 10);
    signal(SIGINT, SIG_IGN); /* the parent ends it */
    if ((user && !confine()) || !ports_open(words + 5, (u32)count - 5) || (user && !become(user)))
        return 1;
    run();
    for (u32 n = 0; n < SLOTS; n++)
        unload(&slots[n]);
    ports_close();
    channel_close();
    free(memory.frames.bytes);
    return 0;
}

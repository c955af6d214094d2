/* The process of one core: its parent's messages, its port, and the loop between.
 *
 * usage: process ASKED TOLD MEMORY MAC USER [0@INTERFACE | always|wakes DEVICE EAL...]
 *        process signatures
 * ASKED and TOLD are the descriptors of the parent's sockets (notes are told), MEMORY that of the counters. MAC is
 * the core's, a number. USER is one to become once the port is open, or 0: stay what one is. A device is polled always,
 * or wakes who waits (servernf/dpdk/devices.py). It ends when the parent does.
 */
#include "channel.h"
#include "engine.h"
#include "gates.h"
#include "holding.h"
#include "noting.h"
#include "ports.h"
#include "privileges.h"
#include "signatures.h"
#include "ticking.h"
#include "works.h"

#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#define IDLE_TURNS 64 /* without a frame, before it sleeps */
#define BUSY_TURNS 16 /* with frames, before it looks for messages */

_Static_assert(BURST <= MOST_FRAMES, "a burst of a port is one of the engine");

static struct shared memory;
static bool polls_always;

static u64 now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (u64)now.tv_sec * 1000000000 + (u64)now.tv_nsec;
}

/* -- frames in messages ---------------------------------------------------------------------------------- */

static bool take_frame(struct reader *r, struct received *f, u8 *room)
{
    f->port = take_u32(r);
    f->size = take_u32(r);
    const u8 *bytes = f->size > MAX_FRAME ? NULL : take(r, f->size);
    if (!bytes)
        return false;
    f->bytes = room + HEADROOM;
    memcpy(f->bytes, bytes, f->size);
    return true;
}

typedef u32 burst_fn(const struct received *frames, u32 count, u64 now_us, struct sent *sent);

/* A frame goes out by the port or, without one, is written. */
static void leave(const u8 *bytes, u32 size, struct writer *w)
{
    u8 *at = NULL;
    if (ports_count()) {
        at = ports_room(0, size);
    } else {
        write_u32(w, 0);
        write_u32(w, size);
        at = write_room(w, size);
    }
    if (at)
        memcpy(at, bytes, size);
}

/* Those that wait for nothing any more. */
static void leave_held(u64 now_us, struct writer *w)
{
    holding_release(now_us, leave, w);
    if (ports_count())
        ports_flush();
}

/* Run a burst, and have leave what does. */
static void run_burst(burst_fn *burst, const struct received *frames, u32 count, u64 now_us, struct writer *w)
{
    struct sent sent[MOST_SENT];
    u32 out = burst(frames, count, now_us, sent);
    if (unlikely(holding)) {
        holding_burst(sent, out, count, now_us);
        leave_held(now_us, w);
        return;
    }
    for (u32 i = 0; i < out; i++)
        leave(sent[i].bytes, sent[i].size, w);
    if (ports_count())
        ports_flush();
}

static const char *packets(struct reader *r, struct writer *w, u64 now, burst_fn *burst)
{
    static u8 room[MOST_FRAMES][HEADROOM + MAX_FRAME + SLACK];
    struct reader checked = *r;
    struct received frames[MOST_FRAMES];
    while (checked.at < checked.end) /* all of them before any: a message that is refused has changed nothing */
        if (!take_frame(&checked, frames, room[0]))
            return BAD;
    while (r->at < r->end) {
        u32 count = 0;
        while (count < MOST_FRAMES && r->at < r->end) {
            take_frame(r, &frames[count], room[count]);
            count++;
        }
        run_burst(burst, frames, count, now, w);
        channel_tell();
    }
    return checked.bad ? BAD : NULL;
}

enum { DISCARD, GO_ON, HAND_OVER }; /* the frames of a gate that is closed */

/* Close a gate, once the frames of the message are treated. */
static const char *ungate(u32 number, struct reader *r, struct writer *w)
{
    u64 now = take_u64(r);
    u32 how = take_u32(r), count;
    const char *wrong = r->bad ? BAD : packets(r, w, now, engine_give);
    if (wrong)
        return wrong;
    if (how == HAND_OVER) {
        struct writer kept = {0};
        wrong = gate_kept(number, &kept);
        if (!wrong)
            write_bytes(w, kept.bytes + 8, kept.size - 8);
        free(kept.bytes);
    }
    struct received frames[MOST_FRAMES];
    for (u32 first = 0; how == GO_ON && (count = gate_frames(number, first, frames, MOST_FRAMES)); first += count)
        run_burst(engine_give, frames, count, now, w);
    gate_close(number);
    return wrong;
}

/* Frames that leave behind all others. */
static const char *send_behind(struct reader *r, struct writer *w)
{
    static u8 room[HEADROOM + MAX_FRAME + SLACK];
    struct reader checked = *r;
    struct received f;
    while (checked.at < checked.end)
        if (!take_frame(&checked, &f, room))
            return BAD;
    while (r->at < r->end) {
        take_frame(r, &f, room);
        if (holding)
            holding_frame(f.bytes, f.size);
        else
            leave(f.bytes, f.size, w);
    }
    return NULL;
}

/* What has frames leave that have waited. */
static const char *let(struct question *q, struct writer *w)
{
    struct reader *r = &q->payload;
    u64 now = take_u64(r);
    const char *wrong = q->kind == ASK_ACKED    ? hold_acked(q->slot, r)
                        : q->kind == ASK_UNHOLD ? hold_close(q->slot, r, w)
                                                : send_behind(r, w);
    if (!wrong)
        leave_held(now, w);
    return wrong;
}

/* -- messages -------------------------------------------------------------------------------------------- */

static const char *serve(struct question *q, struct writer *w)
{
    u64 drops[DROPS] = {0};
    switch (q->kind) {
    case ASK_PACKETS:
        return packets(&q->payload, w, take_u64(&q->payload), engine_burst);
    case ASK_GIVE:
        return packets(&q->payload, w, take_u64(&q->payload), engine_give);
    case ASK_UNGATE:
        return ungate(q->slot, &q->payload, w);
    case ASK_ACKED:
    case ASK_UNHOLD:
    case ASK_SEND:
        return let(q, w);
    case ASK_DROPS:
        ports_drops(drops);
        write_bytes(w, drops, sizeof drops);
        return NULL;
    default:
        return engine_serve(q->kind, q->slot, &q->payload, w);
    }
}

static bool working; /* so the parent waits for its answer, and asks nothing */

/* One message, if there is one; false: the parent is gone. */
static bool listen_to_parent(void)
{
    struct question q;
    bool there;
    if (working && !works_done())
        return true;
    if (!channel_send() || (!working && !channel_ask(&q, &there)))
        return false;
    if (!working && !there)
        return true;
    struct writer *w = channel_writer();
    const char *wrong = working ? engine_made() : serve(&q, w);
    working = wrong == LATER;
    if (working)
        return true;
    if (!wrong && w->full)
        wrong = NO_MEMORY;
    if (wrong) {
        w = channel_writer();
        write_bytes(w, wrong, strlen(wrong));
    }
    channel_answer(wrong ? ANSWER_ERROR : ANSWER);
    return channel_send();
}

/* -- the loop -------------------------------------------------------------------------------------------- */

static u32 forward(void)
{
    struct received frames[BURST];
    struct sent sent[MOST_SENT];
    u64 began = now_ns();
    u32 count = ports_count() ? ports_receive(0, frames) : 0;
    if (!count)
        return 0;
    u32 out = engine_burst(frames, count, began / 1000, sent);
    if (unlikely(holding)) {
        holding_burst(sent, out, count, began / 1000);
        leave_held(began / 1000, NULL);
        out = 0;
    }
    if (unlikely(channel_told_events()))
        channel_tell();
    for (u32 i = 0; i < out; i++) {
        u8 *at = ports_room(0, sent[i].size);
        if (at)
            memcpy(at, sent[i].bytes, sent[i].size);
    }
    ports_flush();
    memory.words[BATCHES]++;
    memory.words[FULL_BATCHES] += count == BURST;
    memory.words[BUSY_NS] += now_ns() - began;
    return count;
}

static void wait_for_something(void)
{
    struct pollfd polled[3 + MAX_PORTS] = {{.fd = channel_asked(), .events = channel_asked_events()},
                                           {.fd = channel_told(), .events = channel_told_events()},
                                           {.fd = works_fd(), .events = POLLIN}};
    if (working)
        polled[0].fd = -1;
    ports_wait(polled, 3);
    if (polled[1].revents & POLLOUT)
        channel_tell();
    if (polled[2].revents)
        works_heard();
}

static void run(void)
{
    u32 idle = 0, turns = 0;
    if (ports_count())
        start_ticking();
    for (;;) {
        idle = forward() ? 0 : idle + 1;
        if (has_ticked())
            ports_tick();
        if ((idle >= IDLE_TURNS && !polls_always) || !ports_count())
            wait_for_something();
        else if (idle && unlikely(channel_told_events()))
            channel_tell();
        if ((idle || ++turns % BUSY_TURNS == 0) && !listen_to_parent())
            return;
    }
}

/* The counters' memory, which stays as large as it is: the parent has sealed it. */
static bool map_memory(int fd)
{
    struct stat found;
    if (fstat(fd, &found) || found.st_size <= 0)
        return false;
    void *at = mmap(NULL, (size_t)found.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    memory = (struct shared){at, (u32)(found.st_size / 8)};
    return at != MAP_FAILED;
}

static bool open_port(char **words, u32 count, u64 mac)
{
    if (count < 2)
        return ports_open(words, count);
    struct device device = {.name = words[1],
                            .eal = words + 2,
                            .eal_count = count - 2,
                            .mac = mac,
                            .mac_mask = 0xFF00FFFFFFFF, /* another tree's octet is as good */
                            .polled = polls_always = !strcmp(words[0], "always")};
    return ports_open_device(&device);
}

int main(int count, char **words)
{
    if (count == 2 && !strcmp(words[1], "signatures"))
        return signatures_compile();
    if (count < 6 || !channel_open(atoi(words[1]), atoi(words[2])) ||
        !map_memory(atoi(words[3])) || !engine_start(strtoull(words[4], NULL, 10), memory)) {
        fputs("usage: process ASKED TOLD MEMORY MAC USER [0@INTERFACE | always|wakes DEVICE EAL...]\n", stderr);
        return 2;
    }
    noting_tells(channel_room, &memory.words[UNTOLD]);
    u32 user = (u32)strtoul(words[5], NULL, 10);
    signal(SIGINT, SIG_IGN); /* the parent ends it */
    if ((user && !confine()) || !open_port(words + 6, (u32)count - 6, strtoull(words[4], NULL, 10)) || (user && !become(user)))
        return 1;
    if (!works_open())
        return 1;
    run();
    engine_end();
    works_close();
    ports_close();
    channel_close();
    return 0;
}

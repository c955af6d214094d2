#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>

#define MAX_TOLD (4u << 20) /* bytes that wait to be told */

static int asked, told;
static struct writer answer;
static size_t answered; /* bytes of `answer` that are sent */
static bool answering;
static u32 head[3]; /* size, kind, slot of the message that comes */
static u8 *body;
static size_t got, body_room;
static struct writer waiting; /* to be told: size and bytes of each */
static size_t waiting_from;

bool channel_open(int asked_at, int told_at)
{
    asked = asked_at;
    told = told_at;
    return !fcntl(asked, F_SETFL, O_NONBLOCK) && !fcntl(told, F_SETFL, O_NONBLOCK);
}

void channel_close(void)
{
    free(answer.bytes);
    free(waiting.bytes);
    free(body);
}

/* Bytes that are there now: 0 if none, -1 if there will be none. */
static ssize_t come(u8 *to, size_t size)
{
    ssize_t n = recv(asked, to, size, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    return n <= 0 ? -1 : n;
}

bool channel_ask(struct question *q, bool *there)
{
    *there = false;
    if (answering)
        return true;
    while (got < sizeof head) {
        ssize_t n = come((u8 *)head + got, sizeof head - got);
        if (n <= 0)
            return n == 0;
        got += (size_t)n;
    }
    if (head[0] < sizeof head || head[0] > MAX_MESSAGE)
        return false;
    size_t size = head[0] - sizeof head;
    if (size > body_room) {
        u8 *more = realloc(body, size);
        if (!more)
            return false;
        body = more;
        body_room = size;
    }
    while (got < head[0]) {
        ssize_t n = come(body + got - sizeof head, head[0] - got);
        if (n <= 0)
            return n == 0;
        got += (size_t)n;
    }
    got = 0;
    *q = (struct question){head[1], head[2], {body, body + size, false}};
    *there = true;
    return true;
}

struct writer *channel_writer(void)
{
    u32 place[2] = {0};
    answer.size = 0;
    answer.full = false;
    write_bytes(&answer, place, sizeof place);
    return &answer;
}

void channel_answer(u32 kind)
{
    u32 place[2] = {(u32)answer.size, kind};
    memcpy(answer.bytes, place, sizeof place);
    answered = 0;
    answering = true;
}

bool channel_send(void)
{
    while (answering) {
        ssize_t n = send(asked, answer.bytes + answered, answer.size - answered, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        answered += (size_t)n;
        answering = answered < answer.size;
    }
    return true;
}

int channel_asked(void)
{
    return asked;
}

int channel_told(void)
{
    return told;
}

short channel_asked_events(void)
{
    return answering ? POLLOUT : POLLIN;
}

short channel_told_events(void)
{
    return waiting.size ? POLLOUT : 0;
}

u8 *channel_room(u32 kind, u32 slot, u32 size)
{
    if (waiting.size > MAX_TOLD)
        return NULL;
    u32 place[3] = {(u32)sizeof place - 4 + size, kind, slot};
    u8 *at = write_room(&waiting, sizeof place + size);
    if (!at)
        return NULL;
    memcpy(at, place, sizeof place);
    return at + sizeof place;
}

void channel_tell(void)
{
    while (waiting_from < waiting.size) {
        u32 size;
        memcpy(&size, waiting.bytes + waiting_from, sizeof size);
        ssize_t n = send(told, waiting.bytes + waiting_from + sizeof size, size, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOBUFS))
            return;
        waiting_from += sizeof size + size; /* what is too long is not told */
    }
    waiting.size = waiting_from = 0;
    waiting.full = false;
}

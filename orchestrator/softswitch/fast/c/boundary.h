/* What the Python side asks of a device, as messages on a stream socket.
 *
 * Both sides are of one version (the first message says it). A message is its size, its kind and its
 * payload, in the machine's byte order: both ends are on one machine. What is too short, too long or out of
 * range is answered with ERROR and changes nothing but what came before it in the same message.
 */
#ifndef FAST_BOUNDARY_H
#define FAST_BOUNDARY_H

#include "device.h"

#define BOUNDARY_VERSION 1
#define MAX_MESSAGE (64u << 20)

enum ask {
    ASK_HELLO = 1,   /* -> version */
    ASK_CHANGES,     /* records -> nothing; no packet sees half of them */
    ASK_ENTRIES,     /* handles -> packets, bytes, used_us of each */
    ASK_COUNTERS,    /* array -> packets, bytes of each cell */
    ASK_REGISTERS,   /* array -> words of each cell */
    ASK_PACKETS,     /* now_us, then frames (port, size, bytes) -> frames that left */
    ASK_MEASURE,     /* rounds, then frames -> nanoseconds, frames out: frames pass again and again */
    ASK_STATE,       /* -> received, loops_cut, faults, no_room, too_long */
    ANSWER = 64,     /* payload as said above */
    ANSWER_ERROR,    /* a text */
    TELL_DIGEST = 96, /* list, words */
};

enum change {
    CHANGE_ADD = 1, /* table, handle, action, priority, length, ranges, args; key, mask, ranges, args */
    CHANGE_REMOVE,  /* handle */
    CHANGE_SET,     /* handle, action, args, counted; packets, bytes; args */
    CHANGE_DEFAULT, /* table, action, args, counted; packets, bytes; args */
    CHANGE_METER,   /* handle, configured; cir, cburst, pir, pburst */
    CHANGE_METER_CELL, /* array, cell, configured; the same */
    CHANGE_COUNTER, /* array, cell; packets, bytes */
    CHANGE_REGISTER, /* array, cell; words */
    CHANGE_GROUP,   /* id, count, exists; (port, rid)s */
    CHANGE_SESSION, /* the same */
};

#define DEFAULT_OF 0x80000000u /* a handle that means a table's default entry */

struct reader {
    const u8 *at, *end;
    bool bad;
};

struct writer {
    u8 *bytes;
    size_t size, room;
    bool full;
};

void write_bytes(struct writer *w, const void *bytes, size_t size);
static inline void write_u32(struct writer *w, u32 value)
{
    write_bytes(w, &value, sizeof value);
}
static inline void write_u64(struct writer *w, u64 value)
{
    write_bytes(w, &value, sizeof value);
}

struct handles {
    struct entry **of;
    u32 *tables;
    u32 room;
};

/* Apply one message; the answer's kind, its payload in `answer`. */
enum ask serve(struct device *d, struct handles *h, u32 kind, const u8 *bytes, size_t size,
               struct writer *answer);
void handles_free(struct handles *h);

/* The host's: frames that have left since the last call go to `answer`. */
void frames_to(struct device *d, struct writer *answer);
void frames_forget(struct device *d, u64 *count);

#endif

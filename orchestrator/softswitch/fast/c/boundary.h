/* What the Python side asks of the process, as messages on a stream socket.
 *
 * Both sides are of one version (the first message says it). A message is its size, its kind, a slot and its
 * payload, an answer the same without slot, in the machine's byte order: both ends are on one machine. What is too short, too long or out of
 * range is answered with ERROR and changes nothing but what came before it in the same message.
 */
#ifndef FAST_BOUNDARY_H
#define FAST_BOUNDARY_H

#include "messages.h"

#define BOUNDARY_VERSION 3
#define SLOTS 8 /* programs that are loaded at the same time */
#define MAX_ENTRIES (1u << 24) /* of one program */
#define MAX_CHOICES (1u << 24)

enum ask {
    /* The process answers these. */
    ASK_HELLO = 1, /* time 0 in nanoseconds of the monotonic clock -> version */
    ASK_LOAD,      /* the path of an engine -> its slot */
    ASK_UNLOAD,    /* -> nothing */
    ASK_RUN,       /* packets of ports pass this slot from now on -> nothing */
    ASK_PACKETS,   /* now_us, then frames (port, size, bytes) -> frames that left */
    ASK_MEASURE,   /* rounds, then frames -> nanoseconds, frames out: frames pass again and again */
    ASK_INJECT,    /* frames, which pass what runs; what leaves goes to ports -> nothing */
    ASK_DROPS,     /* -> frames dropped beside the program, in the order of `enum drop` */
    /* The engine of the slot answers these. */
    ASK_CHANGES = 32, /* records -> nothing; no packet sees half of them */
    ASK_ENTRIES,      /* handles -> packets, bytes, used_us of each */
    ASK_COUNTERS,     /* array -> packets, bytes of each cell */
    ASK_REGISTERS,    /* array -> words of each cell */
    ASK_STATE,        /* -> received, loops_cut, faults, no_room */
    ANSWER = 64,      /* payload as said above */
    ANSWER_ERROR,     /* a text */
};

/* What the process says unasked, on a socket of its own, each a packet; it never waits for a reader. */
enum tell {
    TELL_DIGEST = 1, /* slot, list, words */
    TELL_PACKET_IN,  /* slot, a frame that left by the CPU port */
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
    CHANGE_CHOICE,  /* number, profile, is_group, exists, count; (action, args)s */
};

#define DEFAULT_OF 0x80000000u /* a handle that means a table's default entry */

#endif

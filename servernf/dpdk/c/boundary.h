/* What the worker's Python side asks of its process, as messages on a stream socket (`channel.h`).
 *
 * Both sides are of one version, which the first message says. A message is its size, its kind, an instance's number
 * and its payload, an answer the same without number, in the machine's byte order. What is too short, too long or out
 * of range is answered with ERROR, and changes nothing. Counters are words of memory that both sides have.
 */
#ifndef DPDK_BOUNDARY_H
#define DPDK_BOUNDARY_H

#include "messages.h"

#define BOUNDARY_VERSION 2
#define MOST_INSTANCES 4096
#define MOST_STEPS (1u << 20)

enum ask {
    ASK_HELLO = 1, /* -> version, then of each NF its name and its reasons, a text each; "" ends them */
    ASK_MAKE,      /* an instance: where its counters are, an NF's name, its configuration -> nothing */
    ASK_FORGET,    /* an instance that no step names -> nothing */
    ASK_TABLES,    /* steps, exits, paths -> nothing; packets see all of it or nothing */
    ASK_PACKETS,   /* now_us, then frames (port, size, bytes) -> frames that leave */
    ASK_DROPS,     /* -> frames dropped by who moves them, in the order of `enum drop` */
    ASK_STATE,     /* a table of state: its bound, where its counts are, its kind, words of randomness, what the kind asks for */
    ASK_END_STATE, /* a table that no instance uses -> nothing */
    ASK_STATS,     /* of an instance, what its NF's file in Python asks -> what that reads */
    ANSWER = 64,   /* payload as said above */
    ANSWER_ERROR,  /* a text */
};

/* The worker's own counters, the first words of the shared memory. */
enum count {
    FRAMES_IN,
    FRAMES_OUT,
    BUSY_NS, /* from a burst's arrival until it is sent */
    BATCHES, /* bursts that were not empty */
    FULL_BATCHES,
    LOST, /* the first of `enum lost` */
};

/* Of an instance: packets, a word for each reason to drop, then these. */
enum time {
    TIMED,      /* bursts of which the time was taken */
    TIMED_PACKETS,
    TIMED_NS,
    RECENT,     /* the first of the last RECENT_TIMES, ns; a burst's packets wait for each other */
    RECENT_TIMES = 64,
    TIMES = RECENT + RECENT_TIMES
};

/* Why the worker itself drops a frame. */
enum lost {
    BAD_TAG,
    NOT_MINE,
    NSH_TTL,
    UNKNOWN_PATH,
    MALFORMED,
    NO_NEXT_HOP,
    LOOP,
    LOST_REASONS
};

/* How a step goes on from a port, as ASK_TABLES says it. */
enum following {
    FOLLOWS_NOTHING,
    FOLLOWS_STEP,
    FOLLOWS_EXIT,
};

#endif

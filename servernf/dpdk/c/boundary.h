/* What the worker's Python side asks of its process, as messages on a stream socket (`channel.h`).
 *
 * Both sides are of one version, which the first message says. A message is its size, its kind, an instance's number
 * and its payload, an answer the same without number, in the machine's byte order. What is too short, too long or out
 * of range is answered with ERROR, and changes nothing. Counters are words of memory that both sides have.
 */
#ifndef DPDK_BOUNDARY_H
#define DPDK_BOUNDARY_H

#include "messages.h"

#define BOUNDARY_VERSION 6
#define MOST_INSTANCES 4096
#define MOST_STEPS (1u << 20)

enum ask {
    ASK_HELLO = 1, /* -> version, then of each NF its name and its reasons, a text each; "" ends them */
    ASK_MAKE,      /* an instance: what it tells as, where its counters and `event` budgets are, an NF's name, its configuration -> nothing */
    ASK_FORGET,    /* an instance that no step names -> nothing */
    ASK_TABLES,    /* their number, steps, exits, paths -> nothing; packets see all of it or nothing */
    ASK_PACKETS,   /* now_us, then frames (port, size, bytes) -> frames that leave */
    ASK_DROPS,     /* -> frames dropped by who moves them, in the order of `enum drop` */
    ASK_STATE,     /* a table of state: its bound, where its counts are, its kind, words of randomness, what the kind asks for */
    ASK_END_STATE, /* a table that no instance uses -> nothing */
    ASK_STATS,     /* of an instance, what its NF's file in Python asks -> what that reads */
    ASK_WATCH,     /* keys by which packets are watched, PRF and bound each (noting.c) -> nothing */
    /* State that moves (moving.c). The number is a table's, of ASK_ENTER an instance's. */
    ASK_GROUP,     /* by which address: have records known by group; once more for each who needs it -> nothing */
    ASK_BUILD,     /* how many records to look at -> whether all are known by group now */
    ASK_UNGROUP,   /* -> nothing */
    ASK_FOLLOW,     /* a bit a group -> a watch */
    ASK_UNFOLLOW,   /* a watch -> nothing */
    ASK_TOUCHED,   /* a watch, whether all are asked for -> whether records came or went, groups and their records */
    ASK_WRITE,     /* now_us, tables, groups, `spaces` -> of each table how many records, bytes, and these */
    ASK_DISCARD,   /* tables, groups, `spaces` -> how many records went */
    ASK_ENTER,     /* groups, `spaces`, and records of tables -> how many */
    ASK_SCAN,      /* now_us, a number, how many -> the next number, records with their turns */
    ASK_CLEAR,     /* -> nothing */
    /* Frames while state moves (gates.c). The number is a gate's. */
    ASK_GATE,      /* instances, whether all flows, by which address, a bit a group, `spaces` -> nothing */
    ASK_UNGATE,    /* now_us, what becomes of kept frames, frames to treat before -> frames that leave, without a port */
    ASK_KEPT,      /* -> how many did not fit, frames */
    ASK_GIVE,      /* now_us, frames that go by gates -> frames that leave, without a port */
    ASK_MARKS,     /* numbers of transfers whose markers may come -> markers that have come: a transfer's number, a path's */
    /* What leaves while a standby follows (holding.c). The number is a replication's. */
    ASK_HOLD,      /* a `hold_for`, how many packets, when the standby was asked last -> packets so far */
    ASK_ACKED,     /* now_us, packets whose updates the standby has, when it was asked -> frames that leave, without a port */
    ASK_UNHOLD,    /* now_us, whether what waits is dropped -> how many were, then frames that leave, without a port */
    ASK_COUNTED,   /* -> packets so far, frames that wait, whether the standby is to be told at once */
    ASK_SEND,      /* now_us, frames that leave behind all others -> frames that leave, without a port */
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
    UNTOLD, /* notes that found no room */
    LOST, /* the first of `enum lost` */
};

/* What the parent is told without having asked; the slot is the number of the tables that are meant, of an event who tells. */
enum told {
    TOLD_CALL = 1, /* a `note_call`, the frame given, the frame left; of what was sent beside port, size and frame each */
    TOLD_LOST,     /* a `note_lost`, the frame */
    TOLD_EVENT,    /* a `note_event` */
    TOLD_WAITS,    /* a standby is to be told what has changed; until ASK_COUNTED it is not told again */
};

struct note_call {
    u64 now_us, entered_ns, left_ns, cpu_ns; /* `cpu_ns`: of all `calls` of the NF in the burst */
    u32 step, port, reason, branch, given, left, emitted, calls; /* `given`, `left`: bytes */
    u8 words[16], words_after[16];
};

struct note_lost {
    u64 now_us, at_ns;
    u32 step, why, branch, path, size, unused;
    u8 words[16];
};

enum event { EVENT_DROP, EVENT_ALERT, EVENT_NAT, EVENTS };

/* An NF's words for a kind of event: how many a second and at once it may tell, how many it has not told; what is spent
 * of the budget (millionths), and when that was. */
enum budget { RATE, MOST, SUPPRESSED, SPENT, AT_US, BUDGET };

/* Of a drop the packet, the reason as `number`, and the rule; of an alert the packet and the signature; of a mapping what
 * has become of it (natEvent), its protocol, inside as source (4 bytes) and outside as destination. */
struct note_event {
    u64 now_us;
    u32 kind, number, rule, length;
    u8 source[16], destination[16];
    u16 ether_type, source_port, destination_port;
    int16_t protocol;
    u8 version, has_ports, is_icmp, type_and_code[2], ttl, unused[2];
};
_Static_assert(sizeof(struct note_event) == 72, "an event is 72 bytes");

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
    STANDBY_BEHIND,
    LOST_REASONS
};

/* How a step goes on from a port, as ASK_TABLES says it. */
enum following {
    FOLLOWS_NOTHING,
    FOLLOWS_STEP,
    FOLLOWS_EXIT,
};

#endif

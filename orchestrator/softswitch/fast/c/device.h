/* One device: what a program has at run time, and what a packet's way through it needs.
 *
 * One thread does everything: bursts of packets, and between them what the control side asks for.
 */
#ifndef FAST_DEVICE_H
#define FAST_DEVICE_H

#include "engine.h"
#include "hashes.h"
#include "tables.h"

#define MAX_PASSES 64 /* through ingress that one received packet may cause */
#define MAX_COPIES 4096 /* of one packet that wait for egress */
#define GROUPS 65536
#define SESSIONS 32768

struct copy {
    u32 port, rid;
};

/* Where the copies of a packet go, by multicast group or clone session. */
struct copies {
    u32 count;
    struct copy of[];
};

/* Whether a table's entries have meters, and of what. */
enum meter_of { NO_METER, METER_BYTES, METER_PACKETS };

/* What the generated program says of itself. */
struct table_form {
    enum kind kind;
    u32 width, lpm_shift, lpm_width;
    u32 action_count;
    const u32 *arg_words; /* of each action */
    enum meter_of meter;
};

/* An action profile: the actions of all tables that share it. */
struct profile_form {
    u32 action_count;
    const u32 *arg_words;
};

struct program {
    u32 table_count, counter_count, register_count, meter_count, digest_count, profile_count;
    const struct table_form *tables; /* behind those of the program its value sets, which have no actions */
    const u32 *counter_sizes;
    const u32 *register_sizes, *register_words;
    const u32 *meter_sizes;
    const bool *meter_packets;
    const u32 *digest_words;
    const struct profile_form *profiles;
};

extern const struct program program;

/* Entries by the numbers that the control side gives them. */
struct handles {
    struct entry **of;
    u32 *tables;
    u32 room;
};

/* What entries of tables with action profiles refer to, by number (profiles.h). */
struct choices {
    struct choice **of;
    u32 room;
};

struct device {
    u64 now_us;
    struct table *tables;
    u64 **counters; /* of each array: packets and bytes of cell n at 2 n */
    u64 **registers;
    struct meter **meters;
    struct copies *groups[GROUPS];
    struct copies *sessions[SESSIONS];
    u64 random;
    u64 received, loops_cut, faults, no_room;
    struct handles handles;
    struct choices choices;
    const struct services *services;
};

struct device *device_make(const struct services *services);
void device_end(struct device *d);
const char *device_serve(struct device *d, u32 kind, struct reader *r, struct writer *answer);

/* One received frame, `SLACK` more bytes behind it readable; what leaves goes to `frame_out`. The program's. */
void device_process(struct device *d, u32 port, const u8 *data, u32 size);

/* Room for a frame that leaves by `port`; NULL: there is none. */
static inline u8 *frame_out(struct device *d, u32 port, u32 size)
{
    u8 *at = d->services->frame_out(port, size);
    d->no_room += !at;
    return at;
}

/* A digest of list `list`, its number in the program. */
static inline void digest_out(struct device *d, u32 list, const u64 *words, u32 count)
{
    d->services->digest_out(list, words, count);
}

static inline u64 random_of(struct device *d, u64 low, u64 high)
{
    d->random ^= d->random << 13;
    d->random ^= d->random >> 7;
    d->random ^= d->random << 17;
    u64 span = high - low + 1;
    return span ? low + d->random % span : d->random;
}

#endif

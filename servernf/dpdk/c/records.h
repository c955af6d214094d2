/* Bytes of records as servernf/wire/state.py has them: big-endian, what has a variable size behind its size. */
#ifndef DPDK_RECORDS_H
#define DPDK_RECORDS_H

#include "messages.h"

#define AGE_NEVER INT64_MAX

static inline void put_be(struct writer *w, u64 value, u32 size)
{
    u8 *at = write_room(w, size);
    if (at)
        store_be(at, value, size);
}

static inline u64 get_be(struct reader *r, u32 size)
{
    const u8 *at = take(r, size);
    return at ? load_be(at, size) : 0;
}

static inline void put_age(struct writer *w, u64 now_us, u64 at_us)
{
    put_be(w, now_us - at_us, 8);
}

static inline u64 get_time(struct reader *r, u64 now_us)
{
    return now_us - get_be(r, 8);
}

static inline void put_bytes(struct writer *w, const void *bytes, u32 size)
{
    put_be(w, size, 4);
    write_bytes(w, bytes, size);
}

static inline const u8 *get_bytes(struct reader *r, u32 *size, u32 most)
{
    *size = (u32)get_be(r, 4);
    r->bad |= *size > most;
    return take(r, *size);
}

#endif

/* Meters: two rates, three colors, as BMv2 computes them (RFC 2698, color-blind; meters.cpp, by behaviour).
 *
 * The tokens of a rate since time 0 are `(integer)(microseconds * rate)`, so no fraction is lost between
 * packets; the peak rate is tried first, and a packet that it refuses takes no committed tokens.
 */
#ifndef FAST_METERS_H
#define FAST_METERS_H

#include "base.h"

enum color { GREEN, YELLOW, RED };

struct meter {
    bool configured, packets;
    u64 cir, cburst, pir, pburst; /* rates a second and bursts, in the meter's unit */
    i64 peak, peak_seen, committed, committed_seen;
};

static inline void meter_configure(struct meter *m, u64 cir, u64 cburst, u64 pir, u64 pburst)
{
    m->configured = true;
    m->cir = cir;
    m->cburst = cburst;
    m->pir = pir;
    m->pburst = pburst;
    m->peak = (i64)pburst;
    m->committed = (i64)cburst;
    m->peak_seen = m->committed_seen = 0;
}

static inline enum color meter_execute(struct meter *m, u64 now_us, u64 length)
{
    if (!m || !m->configured)
        return GREEN;
    i64 size = m->packets ? 1 : (i64)length;
    i64 total = (i64)((double)now_us * ((double)m->pir / 1e6));
    i64 peak = m->peak + total - m->peak_seen;
    if (peak > (i64)m->pburst)
        peak = (i64)m->pburst;
    m->peak_seen = total;
    m->peak = peak;
    if (peak < size)
        return RED;
    m->peak = peak - size;
    total = (i64)((double)now_us * ((double)m->cir / 1e6));
    i64 committed = m->committed + total - m->committed_seen;
    if (committed > (i64)m->cburst)
        committed = (i64)m->cburst;
    m->committed_seen = total;
    m->committed = committed;
    if (committed < size)
        return YELLOW;
    m->committed = committed - size;
    return GREEN;
}

#endif

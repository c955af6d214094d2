/* HalfSipHash-2-4 (Aumasson and Bernstein), the keyed PRF that decides which packets are watched.
 *
 * One source for every runtime: Python loads it (native.py), workers in C link it. The vectors are in
 * servernf/conformance/prf.py. SPDX-License-Identifier: Apache-2.0 */
#ifndef SERVERNF_WIRE_PRF_H
#define SERVERNF_WIRE_PRF_H

#include <stddef.h>
#include <stdint.h>

/* Of `count` words as one message, each word least significant byte first. */
uint32_t prf_words(uint32_t key0, uint32_t key1, const uint32_t *words, uint32_t count);

uint32_t prf_of_one(uint32_t key0, uint32_t key1, uint32_t word);
uint32_t prf_of_two(uint32_t key0, uint32_t key1, uint32_t word, uint32_t next);

/* What a decision is over. */
enum { PRF_LABEL, PRF_PACKET, PRF_FLOW };

/* Of `count` packets, by the context words of their tags (16 bytes each, as on the wire): answers[i] is 1
 * where the PRF over label, label and time of ingress, or flow (`of`) is below `below` (the rate times
 * 2^32; 2^32 is everything), else 0. */
void prf_below(uint32_t key0, uint32_t key1, uint64_t below, int of, const uint8_t *contexts,
               uint32_t count, uint8_t *answers);

/* The same as places: those of packets whose answer is 1, in order (room for `count`); how many. */
uint32_t prf_places(uint32_t key0, uint32_t key1, uint64_t below, int of, const uint8_t *contexts,
                    uint32_t count, uint32_t *places);

#endif

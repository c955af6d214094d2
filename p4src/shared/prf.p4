// HalfSipHash-2-4 (Aumasson and Bernstein), the keyed PRF of sampling and of records' MACs: one word after
// the other (`start`, `take` each, `finish`), each four bytes, least significant first, and last the length
// of all in its highest byte. servernf/wire/prf.py says the same, and has the authors' vectors.
// SPDX-License-Identifier: Apache-2.0
#ifndef SHARED_PRF_P4
#define SHARED_PRF_P4

struct prf_t {
    bit<32> v0;
    bit<32> v1;
    bit<32> v2;
    bit<32> v3;
}

control prf_start(out prf_t v, in bit<32> key0, in bit<32> key1) {
    apply {
        v.v0 = key0;
        v.v1 = key1;
        v.v2 = key0 ^ 0x6c796765;
        v.v3 = key1 ^ 0x74656462;
    }
}

// A round is an action, since p4c's copy propagation would otherwise grow the expressions of several rounds
// exponentially.
#define PRF_ROUND(v) \
    v.v0 = v.v0 + v.v1; \
    v.v1 = v.v1[26:0] ++ v.v1[31:27]; \
    v.v1 = v.v1 ^ v.v0; \
    v.v0 = v.v0[15:0] ++ v.v0[31:16]; \
    v.v2 = v.v2 + v.v3; \
    v.v3 = v.v3[23:0] ++ v.v3[31:24]; \
    v.v3 = v.v3 ^ v.v2; \
    v.v0 = v.v0 + v.v3; \
    v.v3 = v.v3[24:0] ++ v.v3[31:25]; \
    v.v3 = v.v3 ^ v.v0; \
    v.v2 = v.v2 + v.v1; \
    v.v1 = v.v1[18:0] ++ v.v1[31:19]; \
    v.v1 = v.v1 ^ v.v2; \
    v.v2 = v.v2[15:0] ++ v.v2[31:16];

control prf_take(inout prf_t v, in bit<32> word) {
    action sip_round() {
        PRF_ROUND(v)
    }

    apply {
        v.v3 = v.v3 ^ word;
        sip_round();
        sip_round();
        v.v0 = v.v0 ^ word;
    }
}

control prf_finish(inout prf_t v, out bit<32> result) {
    action sip_round() {
        PRF_ROUND(v)
    }

    apply {
        v.v2 = v.v2 ^ 0xff;
        sip_round();
        sip_round();
        sip_round();
        sip_round();
        result = v.v1 ^ v.v3;
    }
}

#endif

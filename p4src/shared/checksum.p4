// RFC 1624, equation 3: HC' = ~(~HC + ~m + m'). A block adds ~m + m' of the words
// that it changes to one 32-bit sum and folds it once, so that every implementation
// of a rewrite arrives at the same of the two representations of zero.
// SPDX-License-Identifier: Apache-2.0
#ifndef SHARED_CHECKSUM_P4
#define SHARED_CHECKSUM_P4

#define SUM_2(a) ((bit<32>)(a)[31:16] + (bit<32>)(a)[15:0])
#define SUM_8(a) ((bit<32>)(a)[127:112] + (bit<32>)(a)[111:96] + (bit<32>)(a)[95:80] \
                  + (bit<32>)(a)[79:64] + (bit<32>)(a)[63:48] + (bit<32>)(a)[47:32] \
                  + (bit<32>)(a)[31:16] + (bit<32>)(a)[15:0])

control checksum_update(inout bit<16> checksum, in bit<32> delta) {
    apply {
        bit<32> sum = (bit<32>)(~checksum) + delta;
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        checksum = ~sum[15:0];
    }
}

#endif

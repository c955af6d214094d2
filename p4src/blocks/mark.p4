// mark: what a segment does with two fields of the IP header: the DSCP (RFC 2474) and the TTL or hop limit
// (RFC 5082 asks that it be high).
// Reads: meta.segment, DSCP, TTL. Writes: DSCP, TTL, IPv4 checksum, meta.drop.
// Effect on the packet: the DSCP or the TTL; out of the bounds of require_ttl: dropped. ECN stays, and
// packets that are not IP pass.
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_MARK_P4
#define BLOCKS_MARK_P4

control mark_block(inout headers_t hdr, inout metadata_t meta) {
    DIRECT_COUNTER(segments_counter);
    dscp_update() update_dscp;
    checksum_update() update_ip;
    bit<1> marks = 0;
    bit<6> new_dscp = 0;
    bit<8> lowest = 0;
    bit<8> highest = 255;
    bit<1> drops = 0;

    action set_dscp(bit<6> dscp) {
        COUNT(segments_counter);
        marks = 1;
        new_dscp = dscp;
    }

    action require_ttl(bit<8> low, bit<8> high) {
        COUNT(segments_counter);
        lowest = low;
        highest = high;
        drops = 1;
    }

    action limit_ttl(bit<8> low, bit<8> high) {
        COUNT(segments_counter);
        lowest = low;
        highest = high;
    }

    table segments {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
        }
        actions = {
            set_dscp;
            require_ttl;
            limit_ttl;
            @defaultonly NoAction;
        }
        size = 1024;
        const default_action = NoAction();
        counters = segments_counter;
    }

    apply {
        if (segments.apply().hit) {
            bit<8> ttl = hdr.ipv6.hop_limit;
            if (hdr.ipv4.isValid()) {
                ttl = hdr.ipv4.ttl;
            }
            if (marks == 1) {
                update_dscp.apply(hdr, new_dscp);
            } else if ((hdr.ipv4.isValid() || hdr.ipv6.isValid()) && (ttl < lowest || ttl > highest)) {
                bit<8> bound = highest;
                if (ttl < lowest) {
                    bound = lowest;
                }
                if (drops == 1) {
                    meta.drop = DROP_RULE;
                } else if (hdr.ipv4.isValid()) {
                    bit<16> old_word = hdr.ipv4.ttl ++ hdr.ipv4.protocol;
                    bit<16> new_word = bound ++ hdr.ipv4.protocol;
                    hdr.ipv4.ttl = bound;
                    update_ip.apply(hdr.ipv4.hdr_checksum, (bit<32>)(~old_word) + (bit<32>)new_word);
                } else {
                    hdr.ipv6.hop_limit = bound;
                }
            }
        }
    }
}

#endif

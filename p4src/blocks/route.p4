// route: longest-prefix match on the destination (RFC 1812, 5.2): next hop's MAC, TTL, next segment.
// Reads: meta.segment, destination address. Writes: MACs, TTL or hop limit, IPv4 checksum,
// meta.segment, meta.drop.
// Effect on the packet: as a router's; no route or TTL used up: dropped (no ICMP error is sent).
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_ROUTE_P4
#define BLOCKS_ROUTE_P4

control route_block(inout headers_t hdr, inout metadata_t meta)
                   (bit<32> ipv4_entries, bit<32> ipv6_entries, bit<32> segments) {
    DIRECT_COUNTER(segments_counter);
    DIRECT_COUNTER(ipv4_counter);
    DIRECT_COUNTER(ipv6_counter);
    checksum_update() update_ip;
    bit<1> routed = 0;

    action route_here() {
        routed = 1;
    }

    action next_hop(@refers_to("host") mac_addr_t mac, @refers_to("gateway") mac_addr_t gateway_mac,
                    @refers_to("segment") segment_id_t segment) {
        hdr.ethernet.dst_addr = mac;
        hdr.ethernet.src_addr = gateway_mac;
        meta.segment = segment;
    }

    action connected(@refers_to("segment") segment_id_t segment) {
        meta.segment = segment;
    }

    action unreachable() {
        meta.drop = 1;
    }

    // Which segments route at all: the others pass this block by.
    table segments_routed {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
        }
        actions = {
            route_here;
            @defaultonly NoAction;
        }
        size = segments;
        const default_action = NoAction();
        counters = segments_counter;
    }

    table ipv4 {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
            hdr.ipv4.dst_addr : lpm @name("dst");
        }
        actions = {
            next_hop;
            connected;
            unreachable;
        }
        size = ipv4_entries;
        const default_action = unreachable();
        counters = ipv4_counter;
    }

    table ipv6 {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
            hdr.ipv6.dst_addr : lpm @name("dst");
        }
        actions = {
            next_hop;
            connected;
            unreachable;
        }
        size = ipv6_entries;
        const default_action = unreachable();
        counters = ipv6_counter;
    }

    apply {
        segments_routed.apply();
        if (routed == 1) {
            if (hdr.ipv4.isValid()) {
                if (hdr.ipv4.ttl <= 1) {
                    meta.drop = 1;
                } else {
                    // The TTL is the high byte of its 16-bit word: ~m + m'.
                    bit<16> old_word = hdr.ipv4.ttl ++ hdr.ipv4.protocol;
                    hdr.ipv4.ttl = hdr.ipv4.ttl - 1;
                    bit<16> new_word = hdr.ipv4.ttl ++ hdr.ipv4.protocol;
                    update_ip.apply(hdr.ipv4.hdr_checksum,
                                    (bit<32>)(~old_word) + (bit<32>)new_word);
                    ipv4.apply();
                }
            } else if (hdr.ipv6.isValid()) {
                if (hdr.ipv6.hop_limit <= 1) {
                    meta.drop = 1;
                } else {
                    hdr.ipv6.hop_limit = hdr.ipv6.hop_limit - 1;
                    ipv6.apply();
                }
            } else {
                meta.drop = 1;
            }
        }
    }
}

#endif

// route: longest-prefix match on the destination (RFC 1812, 5.2): next hop's MAC, TTL, next segment.
// Before it looks up: frames that are not for the gateway, nor from it (another router of the graph), and
// martian addresses are dropped (RFC 1812, 5.3; RFC 3927, 7; RFC 4291, 2.5).
// Reads: meta.segment, MACs, addresses. Writes: MACs, TTL or hop limit, IPv4 checksum, meta.segment,
// meta.drop.
// Effect on the packet: as a router's. TTL used up, no route, longer than the MTU: dropped, or as it is to
// the segment of those who are told of it (a server core sends the ICMP error).
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_ROUTE_P4
#define BLOCKS_ROUTE_P4

// Loopback, link-local, multicast, reserved and unspecified: nobody forwards from or to these.
#define MARTIAN_IPV4(a) (a[31:24] == 0 || a[31:24] == 127 || a[31:29] == 7 || a[31:16] == 0xa9fe)
#define MARTIAN_IPV6(a) (a[127:120] == 0xff || a[127:118] == 0x3fa || a[127:1] == 0)

control route_block(inout headers_t hdr, inout metadata_t meta)
                   (bit<32> ipv4_entries, bit<32> ipv6_entries, bit<32> segments) {
    DIRECT_COUNTER(segments_counter);
    DIRECT_COUNTER(ipv4_counter);
    DIRECT_COUNTER(ipv6_counter);
    checksum_update() update_ip;
    bit<1> routed = 0;
    bit<1> refused = 0;
    mac_addr_t own_mac = 0;
    bit<16> longest = 0xffff;
    segment_id_t told = 0;      // where what is refused goes; 0: nowhere

    action route_here(@refers_to("gateway") mac_addr_t gateway_mac) {
        COUNT(segments_counter);
        routed = 1;
        own_mac = gateway_mac;
    }

    // `mtu`: bytes of an IP packet.
    action route_and_tell(@refers_to("gateway") mac_addr_t gateway_mac, bit<16> mtu,
                          @refers_to("segment") segment_id_t segment) {
        COUNT(segments_counter);
        routed = 1;
        own_mac = gateway_mac;
        longest = mtu;
        told = segment;
    }

#define ROUTE(table)                                                                                \
    ACTION_OF(table, next_hop)(@refers_to("host") mac_addr_t mac, @refers_to("gateway") mac_addr_t gateway_mac, \
                               @refers_to("segment") segment_id_t segment) {                        \
        COUNT(table##_counter);                                                                     \
        hdr.ethernet.dst_addr = mac;                                                                \
        hdr.ethernet.src_addr = gateway_mac;                                                        \
        meta.segment = segment;                                                                     \
    }                                                                                               \
    ACTION_OF(table, connected)(@refers_to("segment") segment_id_t segment) {                       \
        COUNT(table##_counter);                                                                     \
        meta.segment = segment;                                                                     \
    }                                                                                               \
    ACTION_OF(table, unreachable)() {                                                               \
        COUNT(table##_counter);                                                                     \
        refused = 1;                                                                                \
    }

    ROUTE(ipv4)
    ROUTE(ipv6)

    // Which segments route at all: the others pass this block by.
    table segments_routed {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
        }
        actions = {
            route_here;
            route_and_tell;
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
            ipv4_next_hop;
            ipv4_connected;
            ipv4_unreachable;
        }
        size = ipv4_entries;
        const default_action = ipv4_unreachable();
        counters = ipv4_counter;
    }

    table ipv6 {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
            hdr.ipv6.dst_addr : lpm @name("dst");
        }
        actions = {
            ipv6_next_hop;
            ipv6_connected;
            ipv6_unreachable;
        }
        size = ipv6_entries;
        const default_action = ipv6_unreachable();
        counters = ipv6_counter;
    }

    apply {
        segments_routed.apply();
        if (routed == 1) {
            if (hdr.ethernet.dst_addr != own_mac && hdr.ethernet.src_addr != own_mac) {
                meta.drop = DROP_ROUTE;
            } else if (hdr.ipv4.isValid()) {
                if (MARTIAN_IPV4(hdr.ipv4.src_addr) || MARTIAN_IPV4(hdr.ipv4.dst_addr)) {
                    meta.drop = DROP_ROUTE;
                } else if (hdr.ipv4.ttl <= 1 || hdr.ipv4.total_len > longest) {
                    refused = 1;
                } else {
                    ipv4.apply();
                    if (refused == 0) {
                        // The TTL is the high byte of its 16-bit word: ~m + m'.
                        bit<16> old_word = hdr.ipv4.ttl ++ hdr.ipv4.protocol;
                        hdr.ipv4.ttl = hdr.ipv4.ttl - 1;
                        bit<16> new_word = hdr.ipv4.ttl ++ hdr.ipv4.protocol;
                        update_ip.apply(hdr.ipv4.hdr_checksum,
                                        (bit<32>)(~old_word) + (bit<32>)new_word);
                    }
                }
            } else if (hdr.ipv6.isValid()) {
                if (MARTIAN_IPV6(hdr.ipv6.src_addr) || MARTIAN_IPV6(hdr.ipv6.dst_addr)) {
                    meta.drop = DROP_ROUTE;
                } else if (hdr.ipv6.hop_limit <= 1
                           || (longest != 0xffff && hdr.ipv6.payload_len > longest - 40)) {
                    refused = 1;
                } else {
                    ipv6.apply();
                    if (refused == 0) {
                        hdr.ipv6.hop_limit = hdr.ipv6.hop_limit - 1;
                    }
                }
            } else {
                meta.drop = DROP_ROUTE;
            }
            if (refused == 1 && told == 0) {
                meta.drop = DROP_ROUTE;
            } else if (refused == 1) {
                meta.segment = told;
            }
        }
    }
}

#undef ROUTE
#endif

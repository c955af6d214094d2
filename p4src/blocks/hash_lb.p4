// hash_lb: spreads flows over backends by a hash (ECMP, RFC 2992): 251 buckets, each an address.
// Reads: meta.segment, flow_*, l4*. Writes: destination address, checksums, meta.flow_dst.
// Effect on the packet: the destination address and the checksums that cover it. An ICMP error about what the
// virtual address had sent goes where that came from, quote and all (RFC 5508, 4).
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_HASH_LB_P4
#define BLOCKS_HASH_LB_P4

control hash_lb_block(inout headers_t hdr, inout metadata_t meta) {
    DIRECT_COUNTER(segments_counter);
    DIRECT_COUNTER(buckets_ipv4_counter);
    DIRECT_COUNTER(buckets_ipv6_counter);
    CRC32_UNIT(of_ports)
    CRC32_UNIT(of_addresses)
    address_checksums() update;
    quote_checksums() update_quote;
    bit<8> bucket = 0;
    bit<1> fragment = 0;
    bit<1> with_ports = 0;
    bit<1> has_ports = 0;
    bit<16> src_port = meta.l4_src;
    bit<16> dst_port = meta.l4_dst;
    bit<8> protocol = meta.protocol;
    bit<32> delta = 0;
    bit<32> quoted_delta = 0;

    action by_addresses() {
        COUNT(segments_counter);
    }

    action by_ports() {
        COUNT(segments_counter);
        with_ports = 1;
    }

    action set_dst_ipv4(ipv4_addr_t address) {
        COUNT(buckets_ipv4_counter);
        delta = SUM_2(~hdr.ipv4.dst_addr) + SUM_2(address);
        hdr.ipv4.dst_addr = address;
    }

    action set_dst_ipv6(ipv6_addr_t address) {
        COUNT(buckets_ipv6_counter);
        delta = SUM_8(~hdr.ipv6.dst_addr) + SUM_8(address);
        hdr.ipv6.dst_addr = address;
    }

    table segments {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
        }
        actions = {
            by_addresses;
            by_ports;
            @defaultonly NoAction;
        }
        size = 256;
        const default_action = NoAction();
        counters = segments_counter;
    }

    table buckets_ipv4 {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
            bucket : exact @name("bucket");
        }
        actions = {
            set_dst_ipv4;
            @defaultonly NoAction;
        }
        size = 16384;
        const default_action = NoAction();
        counters = buckets_ipv4_counter;
    }

    table buckets_ipv6 {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
            bucket : exact @name("bucket");
        }
        actions = {
            set_dst_ipv6;
            @defaultonly NoAction;
        }
        size = 16384;
        const default_action = NoAction();
        counters = buckets_ipv6_counter;
    }

    apply {
        if (segments.apply().hit) {
            // All fragments of a datagram go one way, so none of them is asked for ports.
            if (hdr.quoted_ipv4.isValid()) {
                fragment = hdr.quoted_ipv4.more_fragments;
            } else if (hdr.ipv4.isValid()) {
                fragment = hdr.ipv4.more_fragments;
            } else if (hdr.ipv6_fragment.isValid()) {
                fragment = hdr.ipv6_fragment.more_fragments;
            }
            if (hdr.tcp.isValid() || hdr.udp.isValid()) {
                has_ports = 1;
            } else if (hdr.quoted_l4.isValid()) {
                protocol = hdr.quoted_ipv6.next_hdr;
                if (hdr.quoted_ipv4.isValid()) {
                    protocol = hdr.quoted_ipv4.protocol;
                }
                if (protocol == PROTO_TCP || protocol == PROTO_UDP) {
                    has_ports = 1;
                    src_port = hdr.quoted_l4.dst_port;
                    dst_port = hdr.quoted_l4.src_port;
                }
            }
            if (with_ports == 1 && fragment == 0 && has_ports == 1) {
                HASH_CRC32_MOD(of_ports, bucket, 251, { meta.flow_src, meta.flow_dst, src_port, dst_port, protocol });
            } else {
                HASH_CRC32_MOD(of_addresses, bucket, 251, { meta.flow_src, meta.flow_dst });
            }
            if (hdr.ipv4.isValid()) {
                ipv4_addr_t asked = hdr.ipv4.dst_addr;
                buckets_ipv4.apply();
                if (!hdr.quoted_ipv4.isValid()) {
                    meta.flow_dst = (bit<128>)hdr.ipv4.dst_addr;
                } else if (hdr.quoted_ipv4.src_addr == asked) {
                    quoted_delta = delta;
                    hdr.quoted_ipv4.src_addr = hdr.ipv4.dst_addr;
                    meta.flow_dst = (bit<128>)hdr.ipv4.dst_addr;
                }
            } else if (hdr.ipv6.isValid()) {
                ipv6_addr_t asked6 = hdr.ipv6.dst_addr;
                buckets_ipv6.apply();
                if (!hdr.quoted_ipv6.isValid()) {
                    meta.flow_dst = hdr.ipv6.dst_addr;
                } else if (hdr.quoted_ipv6.src_addr == asked6) {
                    quoted_delta = delta;
                    hdr.quoted_ipv6.src_addr = hdr.ipv6.dst_addr;
                    meta.flow_dst = hdr.ipv6.dst_addr;
                }
            }
            if (delta != 0) {
                update.apply(hdr, delta);
            }
            if (quoted_delta != 0) {
                update_quote.apply(hdr, quoted_delta);
            }
        }
    }
}

#endif

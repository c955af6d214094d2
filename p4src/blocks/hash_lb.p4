// hash_lb: spreads flows over backends by a hash (ECMP, RFC 2992): 251 buckets, each an address.
// Reads: meta.segment, flow_*, l4*. Writes: destination address, checksums, meta.flow_dst.
// Effect on the packet: the destination address and the checksums that cover it.
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_HASH_LB_P4
#define BLOCKS_HASH_LB_P4

control hash_lb_block(inout headers_t hdr, inout metadata_t meta) {
    DIRECT_COUNTER(segments_counter);
    DIRECT_COUNTER(buckets_ipv4_counter);
    DIRECT_COUNTER(buckets_ipv6_counter);
    address_checksums() update;
    bit<8> bucket = 0;
    bit<1> fragment = 0;
    bit<1> with_ports = 0;
    bit<32> delta = 0;

    action by_addresses() {
    }

    action by_ports() {
        with_ports = 1;
    }

    action set_dst_ipv4(ipv4_addr_t address) {
        delta = SUM_2(~hdr.ipv4.dst_addr) + SUM_2(address);
        hdr.ipv4.dst_addr = address;
        meta.flow_dst = (bit<128>)address;
    }

    action set_dst_ipv6(ipv6_addr_t address) {
        delta = SUM_8(~hdr.ipv6.dst_addr) + SUM_8(address);
        hdr.ipv6.dst_addr = address;
        meta.flow_dst = address;
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
            if (hdr.ipv4.isValid()) {
                fragment = hdr.ipv4.more_fragments;
            } else if (hdr.ipv6_fragment.isValid()) {
                fragment = hdr.ipv6_fragment.more_fragments;
            }
            if (with_ports == 1 && fragment == 0 && (hdr.tcp.isValid() || hdr.udp.isValid())) {
                HASH_CRC32_MOD(bucket, 251, { meta.flow_src, meta.flow_dst, meta.l4_src, meta.l4_dst,
                                              meta.protocol });
            } else {
                HASH_CRC32_MOD(bucket, 251, { meta.flow_src, meta.flow_dst });
            }
            if (hdr.ipv4.isValid()) {
                buckets_ipv4.apply();
            } else if (hdr.ipv6.isValid()) {
                buckets_ipv6.apply();
            }
            if (delta != 0) {
                update.apply(hdr, delta);
            }
        }
    }
}

#endif

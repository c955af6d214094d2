// rewrite: replaces a source or destination address one to one (static NAT). Of what an ICMP error quotes,
// which went the other way, the other address (RFC 5508, 4).
// Reads: meta.segment, IP addresses. Writes: IP addresses, IPv4 and L4 checksums, meta.flow_*.
// Effect on the packet: the address and the checksums that cover it; a miss changes nothing.
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_REWRITE_P4
#define BLOCKS_REWRITE_P4

control rewrite_block(inout headers_t hdr, inout metadata_t meta) {
    DIRECT_COUNTER(src_ipv4_counter);
    DIRECT_COUNTER(dst_ipv4_counter);
    DIRECT_COUNTER(src_ipv6_counter);
    DIRECT_COUNTER(dst_ipv6_counter);
    DIRECT_COUNTER(quoted_src_ipv4_counter);
    DIRECT_COUNTER(quoted_dst_ipv4_counter);
    DIRECT_COUNTER(quoted_src_ipv6_counter);
    DIRECT_COUNTER(quoted_dst_ipv6_counter);
    address_checksums() update;
    quote_checksums() update_quote;
    bit<32> delta = 0;
    bit<32> quoted_delta = 0;

    action set_src_ipv4(ipv4_addr_t address) {
        COUNT(src_ipv4_counter);
        delta = delta + SUM_2(~hdr.ipv4.src_addr) + SUM_2(address);
        hdr.ipv4.src_addr = address;
        meta.flow_src = (bit<128>)address;
    }

    action set_dst_ipv4(ipv4_addr_t address) {
        COUNT(dst_ipv4_counter);
        delta = delta + SUM_2(~hdr.ipv4.dst_addr) + SUM_2(address);
        hdr.ipv4.dst_addr = address;
        meta.flow_dst = (bit<128>)address;
    }

    action set_src_ipv6(ipv6_addr_t address) {
        COUNT(src_ipv6_counter);
        delta = delta + SUM_8(~hdr.ipv6.src_addr) + SUM_8(address);
        hdr.ipv6.src_addr = address;
        meta.flow_src = address;
    }

    action set_dst_ipv6(ipv6_addr_t address) {
        COUNT(dst_ipv6_counter);
        delta = delta + SUM_8(~hdr.ipv6.dst_addr) + SUM_8(address);
        hdr.ipv6.dst_addr = address;
        meta.flow_dst = address;
    }

    action set_quoted_src_ipv4(ipv4_addr_t address) {
        COUNT(quoted_src_ipv4_counter);
        quoted_delta = quoted_delta + SUM_2(~hdr.quoted_ipv4.src_addr) + SUM_2(address);
        hdr.quoted_ipv4.src_addr = address;
    }

    action set_quoted_src_ipv6(ipv6_addr_t address) {
        COUNT(quoted_src_ipv6_counter);
        quoted_delta = quoted_delta + SUM_8(~hdr.quoted_ipv6.src_addr) + SUM_8(address);
        hdr.quoted_ipv6.src_addr = address;
    }

    action set_quoted_dst_ipv4(ipv4_addr_t address) {
        COUNT(quoted_dst_ipv4_counter);
        quoted_delta = quoted_delta + SUM_2(~hdr.quoted_ipv4.dst_addr) + SUM_2(address);
        hdr.quoted_ipv4.dst_addr = address;
    }

    action set_quoted_dst_ipv6(ipv6_addr_t address) {
        COUNT(quoted_dst_ipv6_counter);
        quoted_delta = quoted_delta + SUM_8(~hdr.quoted_ipv6.dst_addr) + SUM_8(address);
        hdr.quoted_ipv6.dst_addr = address;
    }

    table src_ipv4 {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
            hdr.ipv4.src_addr : exact @name("src");
        }
        actions = {
            set_src_ipv4;
            @defaultonly NoAction;
        }
        size = 4096;
        const default_action = NoAction();
        counters = src_ipv4_counter;
    }

    table dst_ipv4 {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
            hdr.ipv4.dst_addr : exact @name("dst");
        }
        actions = {
            set_dst_ipv4;
            @defaultonly NoAction;
        }
        size = 4096;
        const default_action = NoAction();
        counters = dst_ipv4_counter;
    }

    table src_ipv6 {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
            hdr.ipv6.src_addr : exact @name("src");
        }
        actions = {
            set_src_ipv6;
            @defaultonly NoAction;
        }
        size = 4096;
        const default_action = NoAction();
        counters = src_ipv6_counter;
    }

    table dst_ipv6 {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
            hdr.ipv6.dst_addr : exact @name("dst");
        }
        actions = {
            set_dst_ipv6;
            @defaultonly NoAction;
        }
        size = 4096;
        const default_action = NoAction();
        counters = dst_ipv6_counter;
    }

    table quoted_src_ipv4 {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
            hdr.quoted_ipv4.src_addr : exact @name("src");
        }
        actions = {
            set_quoted_src_ipv4;
            @defaultonly NoAction;
        }
        size = 4096;
        const default_action = NoAction();
        counters = quoted_src_ipv4_counter;
    }

    table quoted_src_ipv6 {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
            hdr.quoted_ipv6.src_addr : exact @name("src");
        }
        actions = {
            set_quoted_src_ipv6;
            @defaultonly NoAction;
        }
        size = 4096;
        const default_action = NoAction();
        counters = quoted_src_ipv6_counter;
    }

    table quoted_dst_ipv4 {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
            hdr.quoted_ipv4.dst_addr : exact @name("dst");
        }
        actions = {
            set_quoted_dst_ipv4;
            @defaultonly NoAction;
        }
        size = 4096;
        const default_action = NoAction();
        counters = quoted_dst_ipv4_counter;
    }

    table quoted_dst_ipv6 {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
            hdr.quoted_ipv6.dst_addr : exact @name("dst");
        }
        actions = {
            set_quoted_dst_ipv6;
            @defaultonly NoAction;
        }
        size = 4096;
        const default_action = NoAction();
        counters = quoted_dst_ipv6_counter;
    }

    apply {
        if (hdr.ipv4.isValid()) {
            src_ipv4.apply();
            dst_ipv4.apply();
        } else if (hdr.ipv6.isValid()) {
            src_ipv6.apply();
            dst_ipv6.apply();
        }
        if (delta != 0) {
            update.apply(hdr, delta);
        }
        if (hdr.quoted_ipv4.isValid()) {
            quoted_src_ipv4.apply();
            quoted_dst_ipv4.apply();
            meta.flow_src = (bit<128>)hdr.quoted_ipv4.dst_addr;
            meta.flow_dst = (bit<128>)hdr.quoted_ipv4.src_addr;
        } else if (hdr.quoted_ipv6.isValid()) {
            quoted_src_ipv6.apply();
            quoted_dst_ipv6.apply();
            meta.flow_src = hdr.quoted_ipv6.dst_addr;
            meta.flow_dst = hdr.quoted_ipv6.src_addr;
        }
        if (quoted_delta != 0) {
            update_quote.apply(hdr, quoted_delta);
        }
    }
}

#endif

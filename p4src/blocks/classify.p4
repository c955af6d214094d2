// classify: at a host-facing port, which graph and which of its first segments a frame enters.
// Reads: meta.arrival_port and the fields of a match. Writes: meta.segment, meta.graph, meta.spi, meta.drop.
// Effect on the packet: none; a frame that no graph asked for is dropped.
// In four steps, so that a graph is updated by ONE entry: `ipv4`, `ipv6` and `other` say which graph asks
// for the frame, in its old version or its new one; `epoch` which version of the graph is in force at this
// switch; `sources_*` whether the port's host may use the source address (RFC 2827; the longest prefix says
// it, so that what is refused has an entry and is counted); and `first_*` by what segment that version
// begins for the frame (none: it does not ask for it).
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_CLASSIFY_P4
#define BLOCKS_CLASSIFY_P4

control classify_block(inout headers_t hdr, inout metadata_t meta) {
    DIRECT_COUNTER(ipv4_counter);
    DIRECT_COUNTER(ipv6_counter);
    DIRECT_COUNTER(other_counter);
    DIRECT_COUNTER(epoch_counter);
    DIRECT_COUNTER(sources_ipv4_counter);
    DIRECT_COUNTER(sources_ipv6_counter);
    DIRECT_COUNTER(first_ipv4_counter);
    DIRECT_COUNTER(first_ipv6_counter);
    DIRECT_COUNTER(first_other_counter);

    bit<2> version = 0;

#define ADMIT(table)                                                                                \
    ACTION_OF(table, admit)(@refers_to("graph") graph_id_t graph) {                                 \
        COUNT(table##_counter);                                                                     \
        meta.graph = graph;                                                                         \
        meta.spi = graph ++ (bit<14>)0;                                                             \
    }

#define GUARD(table)                                                                                \
    ACTION_OF(table, allow)() {                                                                     \
        COUNT(table##_counter);                                                                     \
    }                                                                                               \
    ACTION_OF(table, refuse)() {                                                                    \
        COUNT(table##_counter);                                                                     \
        meta.drop = DROP_REFUSED;                                                                   \
    }

#define ENTER(table)                                                                                \
    ACTION_OF(table, enter)(@refers_to("segment") segment_id_t segment) {                           \
        COUNT(table##_counter);                                                                     \
        meta.segment = segment;                                                                     \
    }

    ADMIT(ipv4)
    ADMIT(ipv6)
    ADMIT(other)
    GUARD(sources_ipv4)
    GUARD(sources_ipv6)
    ENTER(first_ipv4)
    ENTER(first_ipv6)
    ENTER(first_other)

    action run(@refers_to("epoch") bit<2> epoch) {
        COUNT(epoch_counter);
        version = epoch;
    }

    action refuse() {
        meta.drop = DROP_REFUSED;
    }

    table ipv4 {
        key = {
            meta.arrival_port : exact @name("ingress_port") @refers_to("host_port");
            hdr.ipv4.src_addr : ternary @name("src");
            hdr.ipv4.dst_addr : ternary @name("dst");
            meta.protocol : ternary @name("protocol");
            meta.l4 : ternary @name("l4");
            meta.l4_src : RANGE @name("src_port");
            meta.l4_dst : RANGE @name("dst_port");
            meta.tcp_flags : ternary @name("tcp_flags");
            meta.vlan : ternary @name("vlan");
        }
        actions = {
            ipv4_admit;
            @defaultonly refuse;
        }
        size = 1024;
        const default_action = refuse();
        counters = ipv4_counter;
    }

    table ipv6 {
        key = {
            meta.arrival_port : exact @name("ingress_port") @refers_to("host_port");
            hdr.ipv6.src_addr : ternary @name("src");
            hdr.ipv6.dst_addr : ternary @name("dst");
            meta.protocol : ternary @name("protocol");
            meta.l4 : ternary @name("l4");
            meta.l4_src : RANGE @name("src_port");
            meta.l4_dst : RANGE @name("dst_port");
            meta.tcp_flags : ternary @name("tcp_flags");
            meta.vlan : ternary @name("vlan");
        }
        actions = {
            ipv6_admit;
            @defaultonly refuse;
        }
        size = 1024;
        const default_action = refuse();
        counters = ipv6_counter;
    }

    table other {
        key = {
            meta.arrival_port : exact @name("ingress_port") @refers_to("host_port");
            meta.ether_type : ternary @name("ether_type");
            meta.vlan : ternary @name("vlan");
        }
        actions = {
            other_admit;
            @defaultonly refuse;
        }
        size = 512;
        const default_action = refuse();
        counters = other_counter;
    }

    table epoch {
        key = {
            meta.graph : exact @name("graph") @refers_to("graph");
        }
        actions = {
            run;
            @defaultonly refuse;
        }
        size = 1024;
        const default_action = refuse();
        counters = epoch_counter;
    }

    table sources_ipv4 {
        key = {
            meta.graph : exact @name("graph") @refers_to("graph");
            version : exact @name("epoch") @belongs_to("epoch");
            meta.arrival_port : exact @name("ingress_port") @refers_to("host_port");
            hdr.ipv4.src_addr : lpm @name("src");
        }
        actions = {
            sources_ipv4_allow;
            sources_ipv4_refuse;
        }
        size = 1024;
        const default_action = sources_ipv4_refuse();
        counters = sources_ipv4_counter;
    }

    table sources_ipv6 {
        key = {
            meta.graph : exact @name("graph") @refers_to("graph");
            version : exact @name("epoch") @belongs_to("epoch");
            meta.arrival_port : exact @name("ingress_port") @refers_to("host_port");
            hdr.ipv6.src_addr : lpm @name("src");
        }
        actions = {
            sources_ipv6_allow;
            sources_ipv6_refuse;
        }
        size = 1024;
        const default_action = sources_ipv6_refuse();
        counters = sources_ipv6_counter;
    }

    table first_ipv4 {
        key = {
            meta.graph : exact @name("graph") @refers_to("graph");
            version : exact @name("epoch") @belongs_to("epoch");
            meta.arrival_port : exact @name("ingress_port") @refers_to("host_port");
            hdr.ipv4.src_addr : ternary @name("src");
            hdr.ipv4.dst_addr : ternary @name("dst");
            meta.protocol : ternary @name("protocol");
            meta.l4 : ternary @name("l4");
            meta.l4_src : RANGE @name("src_port");
            meta.l4_dst : RANGE @name("dst_port");
            meta.tcp_flags : ternary @name("tcp_flags");
            meta.vlan : ternary @name("vlan");
        }
        actions = {
            first_ipv4_enter;
            @defaultonly refuse;
        }
        size = 1024;
        const default_action = refuse();
        counters = first_ipv4_counter;
    }

    table first_ipv6 {
        key = {
            meta.graph : exact @name("graph") @refers_to("graph");
            version : exact @name("epoch") @belongs_to("epoch");
            meta.arrival_port : exact @name("ingress_port") @refers_to("host_port");
            hdr.ipv6.src_addr : ternary @name("src");
            hdr.ipv6.dst_addr : ternary @name("dst");
            meta.protocol : ternary @name("protocol");
            meta.l4 : ternary @name("l4");
            meta.l4_src : RANGE @name("src_port");
            meta.l4_dst : RANGE @name("dst_port");
            meta.tcp_flags : ternary @name("tcp_flags");
            meta.vlan : ternary @name("vlan");
        }
        actions = {
            first_ipv6_enter;
            @defaultonly refuse;
        }
        size = 1024;
        const default_action = refuse();
        counters = first_ipv6_counter;
    }

    table first_other {
        key = {
            meta.graph : exact @name("graph") @refers_to("graph");
            version : exact @name("epoch") @belongs_to("epoch");
            meta.arrival_port : exact @name("ingress_port") @refers_to("host_port");
            meta.ether_type : ternary @name("ether_type");
            meta.vlan : ternary @name("vlan");
        }
        actions = {
            first_other_enter;
            @defaultonly refuse;
        }
        size = 512;
        const default_action = refuse();
        counters = first_other_counter;
    }

    apply {
        if (hdr.ipv4.isValid()) {
            ipv4.apply();
        } else if (hdr.ipv6.isValid()) {
            ipv6.apply();
        } else {
            other.apply();
        }
        if (meta.drop == 0) {
            epoch.apply();
        }
        if (meta.drop == 0) {
            if (hdr.ipv4.isValid()) {
                sources_ipv4.apply();
            } else if (hdr.ipv6.isValid()) {
                sources_ipv6.apply();
            }
        }
        if (meta.drop == 0) {
            if (hdr.ipv4.isValid()) {
                first_ipv4.apply();
            } else if (hdr.ipv6.isValid()) {
                first_ipv6.apply();
            } else {
                first_other.apply();
            }
        }
    }
}

#undef ADMIT
#undef GUARD
#undef ENTER
#endif

// acl: ordered rules over a packet's headers: permit, deny, or go to another segment.
// It serves access lists and every branch that is a pure match (an IDS's port prefilter,
// a virtual address, NAPT's return classification).
// Where a tree block follows, `decide` leaves the packet to it, and `weigh` does with a verdict of its own:
// that of the weighed rule number `rank` (from 1), which holds unless the tree knows an earlier rule.
// Reads: meta.segment and the fields of a match. Writes: meta.segment, meta.drop, meta.tree*.
// Effect on the packet: none but the drop. A miss permits: the compiler emits the default rule.
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_ACL_P4
#define BLOCKS_ACL_P4

control acl_block(inout headers_t hdr, inout metadata_t meta)
                 (bit<32> ipv4_entries, bit<32> ipv6_entries, bit<32> other_entries) {
    DIRECT_COUNTER(ipv4_counter);
    DIRECT_COUNTER(ipv6_counter);
    DIRECT_COUNTER(other_counter);

#define VERDICTS(table)                                                                             \
    ACTION_OF(table, permit)() {                                                                    \
        COUNT(table##_counter);                                                                     \
    }                                                                                               \
    ACTION_OF(table, deny)() {                                                                      \
        COUNT(table##_counter);                                                                     \
        meta.drop = DROP_RULE;                                                                      \
    }                                                                                               \
    ACTION_OF(table, go_to)(@refers_to("segment") segment_id_t segment) {                           \
        COUNT(table##_counter);                                                                     \
        meta.segment = segment;                                                                     \
    }

    VERDICTS(ipv4)
    VERDICTS(ipv6)
    VERDICTS(other)

    action decide() {
        COUNT(ipv4_counter);
        meta.tree = 1;
        meta.tree_weighed = 0xffff;
    }

    action weigh(bit<16> rank, bit<1> deny, @refers_to("segment") segment_id_t segment) {
        COUNT(ipv4_counter);
        meta.tree = 1;
        meta.tree_weighed = rank;
        meta.tree_drop = deny;
        meta.tree_segment = segment;
    }

    table ipv4 {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
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
            ipv4_permit;
            ipv4_deny;
            ipv4_go_to;
            decide;
            weigh;
        }
        size = ipv4_entries;
        const default_action = ipv4_permit();
        counters = ipv4_counter;
    }

    table ipv6 {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
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
            ipv6_permit;
            ipv6_deny;
            ipv6_go_to;
        }
        size = ipv6_entries;
        const default_action = ipv6_permit();
        counters = ipv6_counter;
    }

    table other {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
            meta.ether_type : ternary @name("ether_type");
            meta.vlan : ternary @name("vlan");
        }
        actions = {
            other_permit;
            other_deny;
            other_go_to;
        }
        size = other_entries;
        const default_action = other_permit();
        counters = other_counter;
    }

    apply {
        if (hdr.ipv4.isValid()) {
            ipv4.apply();
        } else if (hdr.ipv6.isValid()) {
            ipv6.apply();
        } else {
            other.apply();
        }
    }
}

#undef VERDICTS
#endif

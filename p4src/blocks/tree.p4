// tree: a long access list as a decision diagram, for the packets that an acl block hands over.
// A node looks at one 32-bit word of the packet (an address; protocol and destination port; the source
// port; TCP flags) and by its longest prefix goes on to a node of a later level, or to a verdict.
// A packet whose node is of a later level finds nothing in this one and passes on.
// Reads: meta.segment and the fields of a match, meta.tree_*. Writes: meta.segment, meta.drop, meta.tree.
// Effect on the packet: none but the drop. A packet that comes to no verdict is dropped.
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_TREE_P4
#define BLOCKS_TREE_P4

control tree_block(inout headers_t hdr, inout metadata_t meta)
                  (bit<32> level_1_entries, bit<32> level_2_entries, bit<32> level_3_entries,
                   bit<32> level_4_entries, bit<32> level_5_entries) {
    DIRECT_COUNTER(roots_counter);
    DIRECT_COUNTER(level_1_counter);
    DIRECT_COUNTER(level_2_counter);
    DIRECT_COUNTER(level_3_counter);
    DIRECT_COUNTER(level_4_counter);
    DIRECT_COUNTER(level_5_counter);

    bit<32> node = 0;
    bit<32> word = 0;
    bit<16> earlier = 0;            // how many weighed rules of the acl block come before the verdict's
    bit<1> denied = 1;
    segment_id_t segment = meta.segment;

    action by_src(@refers_to("tree_node") bit<32> to) {
        node = to;
        word = hdr.ipv4.src_addr;
    }

    action by_dst(@refers_to("tree_node") bit<32> to) {
        node = to;
        word = hdr.ipv4.dst_addr;
    }

    action by_service(@refers_to("tree_node") bit<32> to) {
        node = to;
        word = meta.protocol ++ (bit<8>)meta.l4 ++ meta.l4_dst;
    }

    action by_src_port(@refers_to("tree_node") bit<32> to) {
        node = to;
        word = meta.l4_src ++ 16w0;
    }

    // The flags that rules ask for most come first: SYN, ACK, RST, FIN, then CWR, ECE, URG, PSH.
    action by_flags(@refers_to("tree_node") bit<32> to) {
        node = to;
        word = meta.tcp_flags[1:1] ++ meta.tcp_flags[4:4] ++ meta.tcp_flags[2:2] ++ meta.tcp_flags[0:0]
               ++ meta.tcp_flags[7:5] ++ meta.tcp_flags[3:3] ++ 24w0;
    }

    action permit(bit<16> weighed) {
        denied = 0;
        earlier = weighed;
    }

    action deny(bit<16> weighed) {
        earlier = weighed;
    }

    action go_to(bit<16> weighed, @refers_to("segment") segment_id_t target) {
        denied = 0;
        earlier = weighed;
        segment = target;
    }

    table roots {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
        }
        actions = {
            by_src;
            by_dst;
            by_service;
            by_src_port;
            by_flags;
            @defaultonly NoAction;
        }
        size = 1024;
        const default_action = NoAction();
        counters = roots_counter;
    }

#define TREE_LEVEL(level)                                                                               \
    table level {                                                                                       \
        key = {                                                                                         \
            meta.segment : exact @name("segment") @belongs_to("segment");                               \
            node : exact @name("node") @belongs_to("tree_node");                                        \
            word : lpm @name("word");                                                                   \
        }                                                                                               \
        actions = {                                                                                     \
            by_src;                                                                                     \
            by_dst;                                                                                     \
            by_service;                                                                                 \
            by_src_port;                                                                                \
            by_flags;                                                                                   \
            permit;                                                                                     \
            deny;                                                                                       \
            go_to;                                                                                      \
            @defaultonly NoAction;                                                                      \
        }                                                                                               \
        size = level##_entries;                                                                         \
        const default_action = NoAction();                                                              \
        counters = level##_counter;                                                                     \
    }

    TREE_LEVEL(level_1)
    TREE_LEVEL(level_2)
    TREE_LEVEL(level_3)
    TREE_LEVEL(level_4)
    TREE_LEVEL(level_5)

    apply {
        meta.tree = 0;
        roots.apply();
        switch (level_1.apply().action_run) {
            permit: {}
            deny: {}
            go_to: {}
            default: {
                switch (level_2.apply().action_run) {
                    permit: {}
                    deny: {}
                    go_to: {}
                    default: {
                        switch (level_3.apply().action_run) {
                            permit: {}
                            deny: {}
                            go_to: {}
                            default: {
                                switch (level_4.apply().action_run) {
                                    permit: {}
                                    deny: {}
                                    go_to: {}
                                    default: {
                                        level_5.apply();
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        if (earlier < meta.tree_weighed) {
            meta.drop = denied;
            meta.segment = segment;
        } else {
            meta.drop = meta.tree_drop;
            meta.segment = meta.tree_segment;
        }
    }
}

#endif

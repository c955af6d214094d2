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

    // The flags that rules ask for most come first: SYN, ACK, RST, FIN, then CWR, ECE, URG, PSH.
#define ON_TO(table)                                                                                \
    ACTION_OF(table, by_src)(@refers_to("tree_node") bit<32> to) {                                  \
        COUNT(table##_counter);                                                                     \
        node = to;                                                                                  \
        word = hdr.ipv4.src_addr;                                                                   \
    }                                                                                               \
    ACTION_OF(table, by_dst)(@refers_to("tree_node") bit<32> to) {                                  \
        COUNT(table##_counter);                                                                     \
        node = to;                                                                                  \
        word = hdr.ipv4.dst_addr;                                                                   \
    }                                                                                               \
    ACTION_OF(table, by_service)(@refers_to("tree_node") bit<32> to) {                              \
        COUNT(table##_counter);                                                                     \
        node = to;                                                                                  \
        word = meta.protocol ++ (bit<8>)meta.l4 ++ meta.l4_dst;                                     \
    }                                                                                               \
    ACTION_OF(table, by_src_port)(@refers_to("tree_node") bit<32> to) {                             \
        COUNT(table##_counter);                                                                     \
        node = to;                                                                                  \
        word = meta.l4_src ++ 16w0;                                                                 \
    }                                                                                               \
    ACTION_OF(table, by_flags)(@refers_to("tree_node") bit<32> to) {                                \
        COUNT(table##_counter);                                                                     \
        node = to;                                                                                  \
        word = meta.tcp_flags[1:1] ++ meta.tcp_flags[4:4] ++ meta.tcp_flags[2:2] ++ meta.tcp_flags[0:0] \
               ++ meta.tcp_flags[7:5] ++ meta.tcp_flags[3:3] ++ 24w0;                               \
    }

    ON_TO(roots)

    table roots {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
        }
        actions = {
            roots_by_src;
            roots_by_dst;
            roots_by_service;
            roots_by_src_port;
            roots_by_flags;
            @defaultonly NoAction;
        }
        size = 1024;
        const default_action = NoAction();
        counters = roots_counter;
    }

#define TREE_LEVEL(level)                                                                           \
    ON_TO(level)                                                                                    \
    ACTION_OF(level, permit)(bit<16> weighed) {                                                     \
        COUNT(level##_counter);                                                                     \
        denied = 0;                                                                                 \
        earlier = weighed;                                                                          \
    }                                                                                               \
    ACTION_OF(level, deny)(bit<16> weighed) {                                                       \
        COUNT(level##_counter);                                                                     \
        earlier = weighed;                                                                          \
    }                                                                                               \
    ACTION_OF(level, go_to)(bit<16> weighed, @refers_to("segment") segment_id_t target) {           \
        COUNT(level##_counter);                                                                     \
        denied = 0;                                                                                 \
        earlier = weighed;                                                                          \
        segment = target;                                                                           \
    }                                                                                               \
    table level {                                                                                   \
        key = {                                                                                     \
            meta.segment : exact @name("segment") @belongs_to("segment");                           \
            node : exact @name("node") @belongs_to("tree_node");                                    \
            word : lpm @name("word");                                                               \
        }                                                                                           \
        actions = {                                                                                 \
            level##_by_src;                                                                         \
            level##_by_dst;                                                                         \
            level##_by_service;                                                                     \
            level##_by_src_port;                                                                    \
            level##_by_flags;                                                                       \
            level##_permit;                                                                         \
            level##_deny;                                                                           \
            level##_go_to;                                                                          \
            @defaultonly NoAction;                                                                  \
        }                                                                                           \
        size = level##_entries;                                                                     \
        const default_action = NoAction();                                                          \
        counters = level##_counter;                                                                 \
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
            level_1_permit: {}
            level_1_deny: {}
            level_1_go_to: {}
            default: {
                switch (level_2.apply().action_run) {
                    level_2_permit: {}
                    level_2_deny: {}
                    level_2_go_to: {}
                    default: {
                        switch (level_3.apply().action_run) {
                            level_3_permit: {}
                            level_3_deny: {}
                            level_3_go_to: {}
                            default: {
                                switch (level_4.apply().action_run) {
                                    level_4_permit: {}
                                    level_4_deny: {}
                                    level_4_go_to: {}
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
            meta.drop = (bit<8>)denied;
            meta.segment = segment;
        } else {
            meta.drop = (bit<8>)meta.tree_drop;
            meta.segment = meta.tree_segment;
        }
    }
}

#undef ON_TO
#undef TREE_LEVEL
#endif

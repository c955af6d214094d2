// dispatch: after the last block of a segment, the device that executes the next one. For a server
// it is the core that owns the packet's traffic class, named by its MAC (no software queue: Metron).
// A class is a region of the flow's addresses, subdivided by their hash; most segments have one class.
// Reads: meta.segment, flow_*. Writes: meta.next*.
// Effect on the packet: none; writing the tag is flowtag's work.
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_DISPATCH_P4
#define BLOCKS_DISPATCH_P4

control dispatch_block(inout metadata_t meta) {
    DIRECT_COUNTER(spread_counter);
    DIRECT_COUNTER(owner_counter);
    DIRECT_COUNTER(classes_counter);
    DIRECT_COUNTER(next_counter);
    CRC16_UNIT(hash_of)
    bit<1> owned = 0;
    bit<1> classed = 0;
    bit<128> chosen = 0;
    segment_id_t class_segment = meta.segment; // whose slices of the hash count

    action by_source() {
        COUNT(spread_counter);
        chosen = meta.flow_src;
    }

    action by_destination() {
        COUNT(spread_counter);
        chosen = meta.flow_dst;
    }

    // Symmetric: both directions of a connection go to the same core.
    action by_pair() {
        COUNT(spread_counter);
        chosen = meta.flow_src ^ meta.flow_dst;
    }

    // A pool address's owner; other destinations (IPv6 beside NAPT44) by their hash.
    action by_owner() {
        COUNT(spread_counter);
        owned = 1;
        chosen = meta.flow_dst;
    }

    // Several classes: each has slices of its own.
    action by_class() {
        COUNT(spread_counter);
        classed = 1;
    }

    action by_owner_or_class() {
        COUNT(spread_counter);
        owned = 1;
        classed = 1;
    }

    action class_by_source(@refers_to("segment") segment_id_t segment) {
        COUNT(classes_counter);
        class_segment = segment;
        chosen = meta.flow_src;
    }

    action class_by_destination(@refers_to("segment") segment_id_t segment) {
        COUNT(classes_counter);
        class_segment = segment;
        chosen = meta.flow_dst;
    }

    action class_by_pair(@refers_to("segment") segment_id_t segment) {
        COUNT(classes_counter);
        class_segment = segment;
        chosen = meta.flow_src ^ meta.flow_dst;
    }

#define TO_DEVICE(table)                                                                            \
    ACTION_OF(table, to_device)(@refers_to("device") mac_addr_t mac, @refers_to("path") bit<24> spi, \
                                @refers_to("position") bit<8> si,                                   \
                                @refers_to("traffic_class") bit<16> traffic_class) {                \
        COUNT(table##_counter);                                                                     \
        meta.next_mac = mac;                                                                        \
        meta.next_spi = spi;                                                                        \
        meta.next_si = si;                                                                          \
        meta.next_class = traffic_class;                                                            \
        meta.next = NEXT_TAGGED;                                                                    \
    }

    TO_DEVICE(owner)
    TO_DEVICE(next)

    table spread {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
        }
        actions = {
            by_source;
            by_destination;
            by_pair;
            by_owner;
            by_class;
            by_owner_or_class;
            @defaultonly NoAction;
        }
        size = 4096;
        const default_action = NoAction();
        counters = spread_counter;
    }

    // Ranges of a public address's ports and ICMP identifiers, each owned by one core.
    table owner {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
            meta.flow_dst : exact @name("address");
            meta.flow_has_port : ternary @name("has_port");
            meta.flow_dst_port : RANGE @name("port");
        }
        actions = {
            owner_to_device;
            @defaultonly NoAction;
        }
        size = 4096;
        const default_action = NoAction();
        counters = owner_counter;
    }

    // Classes by the addresses of the flow; the one of all others asks for none.
    table classes {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
            meta.flow_src : ternary @name("src");
            meta.flow_dst : ternary @name("dst");
        }
        actions = {
            class_by_source;
            class_by_destination;
            class_by_pair;
            @defaultonly NoAction;
        }
        size = 1024;
        const default_action = NoAction();
        counters = classes_counter;
    }

    // A slice of a class is made of prefixes of the hash: splitting one in half is one bit more.
    table next {
        key = {
            class_segment : exact @name("segment") @belongs_to("segment");
            meta.flow_hash : lpm @name("hash");
        }
        actions = {
            next_to_device;
            @defaultonly NoAction;
        }
        size = 16384;
        const default_action = NoAction();
        counters = next_counter;
    }

    apply {
        spread.apply();
        if (owned == 1) {
            owner.apply();
        }
        if (meta.next == NEXT_NONE) {
            if (classed == 1) {
                classes.apply();
            }
            HASH_CRC16(hash_of, meta.flow_hash, { chosen });
            next.apply();
        }
    }
}

#undef TO_DEVICE
#endif

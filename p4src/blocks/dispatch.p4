// dispatch: after the last block of a segment, the device that executes the next one. For a server
// it is the core that owns the packet's traffic class, named by its MAC (no software queue: Metron).
// Reads: meta.segment, flow_*. Writes: meta.next*.
// Effect on the packet: none; writing the tag is flowtag's work.
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_DISPATCH_P4
#define BLOCKS_DISPATCH_P4

control dispatch_block(inout metadata_t meta) {
    DIRECT_COUNTER(spread_counter);
    DIRECT_COUNTER(owner_counter);
    DIRECT_COUNTER(next_counter);
    bit<1> owned = 0;
    bit<128> chosen = 0;

    action by_source() {
        chosen = meta.flow_src;
    }

    action by_destination() {
        chosen = meta.flow_dst;
    }

    // Symmetric: both directions of a connection go to the same core.
    action by_pair() {
        chosen = meta.flow_src ^ meta.flow_dst;
    }

    // A pool address's owner; other destinations (IPv6 beside NAPT44) by their hash.
    action by_owner() {
        owned = 1;
        chosen = meta.flow_dst;
    }

    action to_device(mac_addr_t mac, bit<24> spi, bit<8> si, bit<16> traffic_class) {
        meta.next_mac = mac;
        meta.next_spi = spi;
        meta.next_si = si;
        meta.next_class = traffic_class;
        meta.next = NEXT_TAGGED;
    }

    table spread {
        key = {
            meta.segment : exact @name("segment");
        }
        actions = {
            by_source;
            by_destination;
            by_pair;
            by_owner;
            @defaultonly NoAction;
        }
        size = 4096;
        const default_action = NoAction();
        counters = spread_counter;
    }

    // Ranges of a public address's ports and ICMP identifiers, each owned by one core.
    table owner {
        key = {
            meta.segment : exact @name("segment");
            meta.flow_dst : exact @name("address");
            meta.flow_has_port : ternary @name("has_port");
            meta.flow_dst_port : range @name("port");
        }
        actions = {
            to_device;
            @defaultonly NoAction;
        }
        size = 4096;
        const default_action = NoAction();
        counters = owner_counter;
    }

    // A traffic class is a prefix of the hash: splitting it in half is one bit more.
    table next {
        key = {
            meta.segment : exact @name("segment");
            meta.flow_hash : lpm @name("hash");
        }
        actions = {
            to_device;
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
            HASH_CRC16(meta.flow_hash, { chosen });
            next.apply();
        }
    }
}

#endif

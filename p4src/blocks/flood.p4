// flood: what becomes of each copy of a broadcast or multicast frame, behind the replication engine.
// A copy for a host loses the tag; one for another switch of the endpoint is addressed to it.
// Reads: meta.flood_group, replica id. Writes: hdr.outer, hdr.nsh.
// Effect on the packet: the tag of this copy.
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_FLOOD_P4
#define BLOCKS_FLOOD_P4

control flood_block(inout headers_t hdr, inout metadata_t meta, in bit<16> replica) {
    DIRECT_COUNTER(copies_counter);

    action to_switch(@refers_to("device") mac_addr_t mac, @refers_to("path") bit<24> spi,
                     @refers_to("position") bit<8> si) {
        COUNT(copies_counter);
        hdr.outer.dst_addr = mac;
        hdr.outer.src_addr = 16w0x0200 ++ meta.switch_id ++ 16w0;
        hdr.nsh.spi = spi;
        hdr.nsh.si = si;
    }

    action to_host() {
        hdr.outer.setInvalid();
        hdr.nsh.setInvalid();
    }

    table copies {
        key = {
            meta.flood_group : exact @name("group") @belongs_to("group");
            replica : exact @name("replica");
        }
        actions = {
            to_switch;
            @defaultonly to_host;
        }
        size = 4096;
        const default_action = to_host();
        counters = copies_counter;
    }

    apply {
        copies.apply();
    }
}

#endif

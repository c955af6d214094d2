// vlan: pushes an outermost VLAN tag (802.1Q) or takes one off, as a segment says.
// Reads: meta.segment, VLAN tags. Writes: VLAN tags, meta.vlan, meta.grown, meta.drop.
// Effect on the packet: one tag more or less. Two tags are parsed at most, so a push onto two and a pop of
// more than two are drops: what is behind them would be read otherwise than at the next device.
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_VLAN_P4
#define BLOCKS_VLAN_P4

control vlan_block(inout headers_t hdr, inout metadata_t meta) {
    DIRECT_COUNTER(segments_counter);
    bit<1> pushes = 0;
    bit<1> pops = 0;
    bit<1> asks_vid = 0;
    bit<1> drops_others = 0;
    bit<16> new_type = 0;
    bit<3> new_pcp = 0;
    bit<12> the_vid = 0;

    action push(bit<16> ether_type, bit<3> pcp, bit<12> vid) {
        COUNT(segments_counter);
        pushes = 1;
        new_type = ether_type;
        new_pcp = pcp;
        the_vid = vid;
    }

    action pop_any(bit<1> strict) {
        COUNT(segments_counter);
        pops = 1;
        drops_others = strict;
    }

    action pop(bit<12> vid, bit<1> strict) {
        COUNT(segments_counter);
        pops = 1;
        asks_vid = 1;
        the_vid = vid;
        drops_others = strict;
    }

    table segments {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
        }
        actions = {
            push;
            pop;
            pop_any;
            @defaultonly NoAction;
        }
        size = 1024;
        const default_action = NoAction();
        counters = segments_counter;
    }

    apply {
        segments.apply();
        if (pushes == 1) {
            if (hdr.vlan_inner.isValid()) {
                meta.drop = DROP_VLAN;
            } else {
                if (hdr.vlan_outer.isValid()) {
                    hdr.vlan_inner.setValid();
                    hdr.vlan_inner = hdr.vlan_outer;
                }
                hdr.vlan_outer.setValid();
                hdr.vlan_outer.pcp = new_pcp;
                hdr.vlan_outer.dei = 0;
                hdr.vlan_outer.vid = the_vid;
                hdr.vlan_outer.ether_type = hdr.ethernet.ether_type;
                hdr.ethernet.ether_type = new_type;
                meta.vlan = 1w1 ++ the_vid;
                meta.grown = meta.grown + 4;
            }
        } else if (pops == 1) {
            if (!hdr.vlan_outer.isValid() || (asks_vid == 1 && hdr.vlan_outer.vid != the_vid)) {
                meta.drop = (bit<8>)drops_others;
            } else if (meta.ether_type == ETHERTYPE_VLAN || meta.ether_type == ETHERTYPE_QINQ) {
                meta.drop = DROP_VLAN;      // more than two tags
            } else {
                hdr.ethernet.ether_type = hdr.vlan_outer.ether_type;
                if (hdr.vlan_inner.isValid()) {
                    hdr.vlan_outer = hdr.vlan_inner;
                    hdr.vlan_inner.setInvalid();
                    meta.vlan = 1w1 ++ hdr.vlan_outer.vid;
                } else {
                    hdr.vlan_outer.setInvalid();
                    meta.vlan = 0;
                }
                meta.grown = meta.grown - 4;
            }
        }
    }
}

#endif

// policer: two rates, three colours (RFC 2698), colour-blind, one meter a segment; bytes are those of the
// frame as it arrived, with its tag. A colour that no entry is for passes; each entry counts its colour.
// Reads: meta.segment. Writes: DSCP, IPv4 checksum, meta.drop.
// Effect on the packet: yellow and red ones pass, are dropped or get a DSCP, as the segment says.
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_POLICER_P4
#define BLOCKS_POLICER_P4

control policer_block(inout headers_t hdr, inout metadata_t meta) {
    DIRECT_COUNTER(segments_counter);
    DIRECT_COUNTER(colours_counter);
    DIRECT_METER(meter, bit<2>);
    dscp_update() update_dscp;
    bit<2> colour = 0;      // green; 1 is yellow, 2 red
    bit<1> marks = 0;
    bit<6> new_dscp = 0;

    action police() {
        COUNT(segments_counter);
        METER_READ(meter, colour);
    }

    action permit() {
        COUNT(colours_counter);
    }

    action deny() {
        COUNT(colours_counter);
        meta.drop = DROP_RULE;
    }

    action set_dscp(bit<6> dscp) {
        COUNT(colours_counter);
        marks = 1;
        new_dscp = dscp;
    }

    table segments {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
        }
        actions = {
            police;
            @defaultonly NoAction;
        }
        size = 1024;
        const default_action = NoAction();
        counters = segments_counter;
        meters = meter;
    }

    table colours {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
            colour : exact @name("colour");
        }
        actions = {
            permit;
            deny;
            set_dscp;
        }
        size = 2048;
        const default_action = permit();
        counters = colours_counter;
    }

    apply {
        if (segments.apply().hit) {
            METER_COLOUR(colour)
            colours.apply();
            if (marks == 1) {
                update_dscp.apply(hdr, new_dscp);
            }
        }
    }
}

#endif

// policer: two rates, three colours (RFC 2698), colour-blind, one meter a segment; bytes are those of the
// frame as it arrived, with its tag.
// Reads: meta.segment. Writes: DSCP, IPv4 checksum, meta.drop.
// Effect on the packet: yellow and red ones pass, are dropped or get a DSCP, as the segment says.
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_POLICER_P4
#define BLOCKS_POLICER_P4

const bit<2> COLOUR_GREEN = 0;
const bit<2> COLOUR_YELLOW = 1;
const bit<2> VERDICT_PASS = 0;
const bit<2> VERDICT_DROP = 1;
const bit<2> VERDICT_SET_DSCP = 2;

control policer_block(inout headers_t hdr, inout metadata_t meta) {
    DIRECT_COUNTER(segments_counter);
    DIRECT_METER(meter, bit<2>);
    dscp_update() update_dscp;
    bit<2> colour = COLOUR_GREEN;
    bit<2> if_yellow = VERDICT_PASS;
    bit<6> dscp_if_yellow = 0;
    bit<2> if_red = VERDICT_PASS;
    bit<6> dscp_if_red = 0;

    action police(bit<2> yellow, bit<6> yellow_dscp, bit<2> red, bit<6> red_dscp) {
        meter.read(colour);
        if_yellow = yellow;
        dscp_if_yellow = yellow_dscp;
        if_red = red;
        dscp_if_red = red_dscp;
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

    apply {
        segments.apply();
        bit<2> verdict = VERDICT_PASS;
        bit<6> new_dscp = 0;
        if (colour == COLOUR_YELLOW) {
            verdict = if_yellow;
            new_dscp = dscp_if_yellow;
        } else if (colour != COLOUR_GREEN) {
            verdict = if_red;
            new_dscp = dscp_if_red;
        }
        if (verdict == VERDICT_DROP) {
            meta.drop = 1;
        } else if (verdict == VERDICT_SET_DSCP) {
            update_dscp.apply(hdr, new_dscp);
        }
    }
}

#endif

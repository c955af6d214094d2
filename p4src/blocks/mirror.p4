// mirror: a copy of the packet enters another segment, in a pass of its own.
// Reads: meta.segment. Writes: meta.copy_to.
// Effect on the packet: none. The copy is what arrived, so no block that changes packets may be before.
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_MIRROR_P4
#define BLOCKS_MIRROR_P4

control mirror_block(inout metadata_t meta) {
    DIRECT_COUNTER(segments_counter);

    action copy_to(@refers_to("segment") segment_id_t segment) {
        COUNT(segments_counter);
        meta.copy_to = segment;
    }

    table segments {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
        }
        actions = {
            copy_to;
            @defaultonly NoAction;
        }
        size = 1024;
        const default_action = NoAction();
        counters = segments_counter;
    }

    apply {
        segments.apply();
    }
}

#endif

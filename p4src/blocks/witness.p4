// witness: which packets a witness watches, by the keys of its epochs (docs/decisions/0089, 0128): those with
// HalfSipHash-2-4(key, label, time of ingress) below the one threshold, and all of a flow with
// HalfSipHash-2-4(key, flow) below the other. While one epoch follows another, either one's.
// Reads: meta.graph, label, flow, arrival_us, host_facing; hdr.nsh. Writes: meta.ingress_us, meta.flow, meta.watched,
// meta.came.
// Effect on the packet: none; the entries are the CLE's, and no controller of the network's has them.
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_WITNESS_P4
#define BLOCKS_WITNESS_P4

// Whether an epoch's keys watch a packet. Thresholds are the rate times 2^32, which is one bit more.
control witness_epoch(in metadata_t meta, in bit<32> key0, in bit<32> key1, in bit<33> packets, in bit<33> flows,
                      out bit<1> watches) {
    prf_t v;
    bit<32> answer;
    prf_start() start;
    prf_take() take;
    prf_finish() finish;

    apply {
        watches = 0;
        if (packets != 0) {
            start.apply(v, key0, key1);
            take.apply(v, meta.label);
            take.apply(v, meta.ingress_us);
            take.apply(v, 0x08000000);
            finish.apply(v, answer);
            if ((bit<33>)answer < packets) {
                watches = 1;
            }
        }
        if (watches == 0 && flows != 0) {
            start.apply(v, key0, key1);
            take.apply(v, (bit<32>)meta.flow);
            take.apply(v, 0x04000000);
            finish.apply(v, answer);
            if ((bit<33>)answer < flows) {
                watches = 1;
            }
        }
    }
}

control witness_block(inout headers_t hdr, inout metadata_t meta) {
    DIRECT_COUNTER(epochs_counter);
    bit<32> first = 0;
    bit<32> k0 = 0;
    bit<32> k1 = 0;
    bit<33> packets_below = 0;
    bit<33> flows_below = 0;
    bit<32> second = 0;
    bit<32> second_k0 = 0;
    bit<32> second_k1 = 0;
    bit<33> second_packets = 0;
    bit<33> second_flows = 0;
    bit<1> watches = 0;
    witness_epoch() epoch;

    @write_only
    action watch(bit<32> number, bit<32> key0, bit<32> key1, bit<33> packets, bit<33> flows) {
        COUNT(epochs_counter);
        first = number;
        k0 = key0;
        k1 = key1;
        packets_below = packets;
        flows_below = flows;
    }

    @write_only
    action watch_both(bit<32> number, bit<32> key0, bit<32> key1, bit<33> packets, bit<33> flows,
                      bit<32> next_number, bit<32> next_key0, bit<32> next_key1, bit<33> next_packets,
                      bit<33> next_flows) {
        COUNT(epochs_counter);
        first = number;
        k0 = key0;
        k1 = key1;
        packets_below = packets;
        flows_below = flows;
        second = next_number;
        second_k0 = next_key0;
        second_k1 = next_key1;
        second_packets = next_packets;
        second_flows = next_flows;
    }

    table epochs {
        key = {
            meta.graph : exact @name("graph");
        }
        actions = {
            watch;
            watch_both;
            @defaultonly NoAction;
        }
        size = 1024;
        const default_action = NoAction();
        counters = epochs_counter;
    }

    apply {
        if (epochs.apply().hit) {
            if (meta.host_facing == 1) {
                meta.ingress_us = meta.arrival_us[31:0];
            } else {
                meta.ingress_us = hdr.nsh.ingress_us;
                meta.flow = hdr.nsh.flow;
            }
            epoch.apply(meta, k0, k1, packets_below, flows_below, watches);
            if (watches == 1) {
                meta.watched = first;
                meta.came = 1;
            } else if (second != 0) {
                epoch.apply(meta, second_k0, second_k1, second_packets, second_flows, watches);
                if (watches == 1) {
                    meta.watched = second;
                    meta.came = 1;
                }
            }
        }
    }
}

#endif

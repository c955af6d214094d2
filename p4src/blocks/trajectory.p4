// trajectory: trajectory sampling (Duffield and Grossglauser 2001) as vNFO asks (section 4.2).
// The ingress switch computes the label over the fields that no device changes before it, and a hash of
// the flow, by which a witness watches whole flows;
// every trusted point then decides for itself: HalfSipHash-2-4(key, label) < threshold is an operator's sample;
// what a witness watches is witness.p4's.
// Reads: invariant fields, meta.graph. Writes: meta.label, meta.flow, meta.sampled.
// Effect on the packet: none; nothing on the wire tells whether a packet is watched.
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_TRAJECTORY_P4
#define BLOCKS_TRAJECTORY_P4

control trajectory_label_block(inout headers_t hdr, inout metadata_t meta) {
    CRC16_UNIT(of_flow)
    CRC32_UNIT(of_packet)

    apply {
        bit<32> length_and_id = 0;
        bit<64> position = 0;
        if (hdr.ipv4.isValid()) {
            length_and_id = hdr.ipv4.total_len ++ hdr.ipv4.identification;
        } else if (hdr.ipv6.isValid()) {
            length_and_id = hdr.ipv6.payload_len ++ 16w0;
            if (hdr.ipv6_fragment.isValid()) {
                length_and_id = length_and_id ^ hdr.ipv6_fragment.identification;
            }
        } else {
            length_and_id = hdr.ethernet.dst_addr[31:0] ^ hdr.ethernet.src_addr[31:0];
        }
        if (hdr.tcp.isValid()) {
            position = hdr.tcp.seq_no ++ hdr.tcp.ack_no;
        } else if (hdr.payload.isValid()) {
            position = hdr.payload.bytes;
        } else if (hdr.icmp.isValid()) {
            position = 32w0 ++ hdr.icmp.identifier ++ hdr.icmp.sequence;
        }
        HASH_CRC16(of_flow, meta.flow, { meta.flow_src, meta.flow_dst, meta.protocol, meta.l4_src, meta.l4_dst });
        HASH_CRC32(of_packet, meta.label, { meta.flow_src, meta.flow_dst, meta.ether_type, meta.protocol,
                                 meta.l4_src, meta.l4_dst, length_and_id, position });
    }
}

control trajectory_sample_block(inout metadata_t meta) {
    DIRECT_COUNTER(manifests_counter);
    bit<32> k0 = 0;
    bit<32> k1 = 0;
    bit<32> threshold = 0;
    bit<32> answer;
    prf_t v;
    prf_start() start;
    prf_take() take;
    prf_finish() finish;

    action watch(bit<32> key0, bit<32> key1, bit<32> below) {
        COUNT(manifests_counter);
        k0 = key0;
        k1 = key1;
        threshold = below;
    }

    // One operator's manifest a graph.
    table manifests {
        key = {
            meta.graph : exact @name("graph");
        }
        actions = {
            watch;
            @defaultonly NoAction;
        }
        size = 1024;
        const default_action = NoAction();
        counters = manifests_counter;
    }

    apply {
        if (manifests.apply().hit) {
            start.apply(v, k0, k1);
            take.apply(v, meta.label);
            take.apply(v, 0x04000000);
            finish.apply(v, answer);
            if (answer < threshold) {
                meta.sampled = 1;
            }
        }
    }
}

#endif

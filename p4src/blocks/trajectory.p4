// trajectory: trajectory sampling (Duffield and Grossglauser 2001) as vNFO asks (section 4.2).
// The ingress switch computes the label over the fields that no device changes before it, and a hash of
// the flow, by which a witness watches whole flows;
// every trusted point then decides for itself: HalfSipHash-2-4(key, label) < threshold.
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
    bit<32> v0 = 0;
    bit<32> v1 = 0;
    bit<32> v2 = 0;
    bit<32> v3 = 0;

    action watch(bit<32> key0, bit<32> key1, bit<32> below) {
        COUNT(manifests_counter);
        k0 = key0;
        k1 = key1;
        threshold = below;
    }

    // One round of HalfSipHash (32-bit words). An action, since p4c's copy propagation
    // would otherwise grow the expressions of eight rounds exponentially.
    action sip_round() {
        v0 = v0 + v1;
        v1 = v1[26:0] ++ v1[31:27];
        v1 = v1 ^ v0;
        v0 = v0[15:0] ++ v0[31:16];
        v2 = v2 + v3;
        v3 = v3[23:0] ++ v3[31:24];
        v3 = v3 ^ v2;
        v0 = v0 + v3;
        v3 = v3[24:0] ++ v3[31:25];
        v3 = v3 ^ v0;
        v2 = v2 + v1;
        v1 = v1[18:0] ++ v1[31:19];
        v1 = v1 ^ v2;
        v2 = v2[15:0] ++ v2[31:16];
    }

    // One verification manifest a graph.
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
            v0 = k0;
            v1 = k1;
            v2 = k0 ^ 0x6c796765;
            v3 = k1 ^ 0x74656462;
            // The message is the label's four bytes, least significant first, then the length byte.
            v3 = v3 ^ meta.label;
            sip_round();
            sip_round();
            v0 = v0 ^ meta.label;
            v3 = v3 ^ 0x04000000;
            sip_round();
            sip_round();
            v0 = v0 ^ 0x04000000;
            v2 = v2 ^ 0xff;
            sip_round();
            sip_round();
            sip_round();
            sip_round();
            if ((v1 ^ v3) < threshold) {
                meta.sampled = 1;
            }
        }
    }
}

#endif

// tunnel: puts a frame into VXLAN (RFC 7348) or takes one out; what follows sees it in a pass of its own.
// Reads: meta.segment, flow_*, l4*, meta.grown; outer addresses and VNI. Writes: headers, meta.resume, meta.drop.
// Effect on the packet: Ethernet, IPv4, UDP and VXLAN headers in front of the frame, or without them;
// what is not VXLAN of the asked VNI and address is dropped.
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_TUNNEL_P4
#define BLOCKS_TUNNEL_P4

control tunnel_block(inout headers_t hdr, inout metadata_t meta, in bit<16> arrived_length) {
    DIRECT_COUNTER(segments_counter);
    CRC32_UNIT(hash_of)
    checksum_update() update_ip;
    bit<1> wraps = 0;
    bit<1> unwraps = 0;
    ipv4_addr_t address = 0;
    bit<24> the_vni = 0;
    bit<16> hash_value = 0;

    action encap(@refers_to("gateway") mac_addr_t mac, ipv4_addr_t src, ipv4_addr_t dst, bit<16> checksum, bit<24> vni,
                 @refers_to("segment") segment_id_t segment) {
        COUNT(segments_counter);
        wraps = 1;
        hdr.tunnel.setValid();
        // IPv4 (RFC 791): version 4, IHL 5; DF; TTL 64, UDP. No UDP checksum: RFC 7348, 5.
        hdr.tunnel = { mac, mac, ETHERTYPE_IPV4, 0x45000000, 0x4000, 16w64 << 8 | 17, checksum, src, dst,
                       0, PORT_VXLAN, 0, 0, VXLAN_HAS_VNI, vni, 0 };
        meta.resume = segment;
    }

    action decap(ipv4_addr_t dst, bit<24> vni, @refers_to("segment") segment_id_t segment) {
        COUNT(segments_counter);
        unwraps = 1;
        address = dst;
        the_vni = vni;
        meta.resume = segment;
    }

    action refuse() {
        COUNT(segments_counter);
        meta.drop = DROP_TUNNEL;
    }

    table segments {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
        }
        actions = {
            encap;
            decap;
            refuse;
            @defaultonly NoAction;
        }
        size = 1024;
        const default_action = NoAction();
        counters = segments_counter;
    }

    apply {
        segments.apply();
        if (wraps == 1) {
            bit<16> length = arrived_length + meta.grown + 36;      // IPv4, UDP and VXLAN headers
            if (hdr.nsh.isValid()) {
                length = length - 38;
            }
            hdr.tunnel.ip_version_to_length = 16w0x4500 ++ length;
            hdr.tunnel.udp_length = length - 20;
            update_ip.apply(hdr.tunnel.ip_checksum, (bit<32>)length);
            // The flow's hash, in the dynamic range: RFC 7348, 5.
            HASH_CRC32_MOD(hash_of, hash_value, 16384, { meta.flow_src, meta.flow_dst });
            hdr.tunnel.udp_src = 2w3 ++ hash_value[13:0];
        } else if (unwraps == 1) {
            if (hdr.ipv4.isValid() && hdr.payload.isValid() && hdr.ipv4.dst_addr == address
                && hdr.ipv4.more_fragments == 0 && hdr.udp.dst_port == PORT_VXLAN
                && hdr.payload.bytes[59:59] == 1 && hdr.payload.bytes[31:8] == the_vni) {
                hdr.ethernet.setInvalid();
                hdr.vlan_outer.setInvalid();
                hdr.vlan_inner.setInvalid();
                hdr.ipv4.setInvalid();
                hdr.ipv4_options.setInvalid();
                hdr.udp.setInvalid();
                hdr.payload.setInvalid();
            } else {
                meta.drop = DROP_TUNNEL;
            }
        }
    }
}

#endif

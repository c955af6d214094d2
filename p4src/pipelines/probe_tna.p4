// One block by itself on a chip, behind a small parser: what its tables take there, where a compiler says it of
// no pipeline as a whole (orchestrator/targets/probes.py). Who includes this says BLOCK_FILE, BLOCK and APPLY.
// SPDX-License-Identifier: Apache-2.0
#include "../arch/tna.p4"
#include "../shared/headers.p4"
#include "../shared/metadata.p4"
#include "../shared/actions.p4"
#include "../shared/checksum.p4"
#include "../blocks/port.p4"
#include BLOCK_FILE

parser ingress_parser(packet_in packet, out headers_t hdr, out metadata_t meta,
                      out ingress_intrinsic_metadata_t arrived) {
    state start {
        packet.extract(arrived);
        packet.advance(PORT_METADATA_SIZE);
        packet.extract(hdr.outer);
        packet.extract(hdr.nsh);
        packet.extract(hdr.ethernet);
        meta.arrival_port = arrived.ingress_port;
        meta.segment = hdr.nsh.spi;
        meta.flow_hash = hdr.nsh.flow;
        meta.ether_type = hdr.ethernet.ether_type;
        transition select(hdr.ethernet.ether_type) {
            ETHERTYPE_VLAN: parse_vlan;
            ETHERTYPE_IPV4: parse_ipv4;
            ETHERTYPE_IPV6: parse_ipv6;
            default: accept;
        }
    }

    state parse_vlan {
        packet.extract(hdr.vlan_outer);
        meta.vlan = 1w1 ++ hdr.vlan_outer.vid;
        meta.ether_type = hdr.vlan_outer.ether_type;
        transition select(hdr.vlan_outer.ether_type) {
            ETHERTYPE_IPV4: parse_ipv4;
            ETHERTYPE_IPV6: parse_ipv6;
            default: accept;
        }
    }

    state parse_ipv4 {
        packet.extract(hdr.ipv4);
        meta.protocol = hdr.ipv4.protocol;
        transition select(hdr.ipv4.protocol) {
            PROTO_TCP: parse_tcp;
            default: accept;
        }
    }

    state parse_ipv6 {
        packet.extract(hdr.ipv6);
        meta.protocol = hdr.ipv6.next_hdr;
        meta.flow_src = hdr.ipv6.src_addr;
        meta.flow_dst = hdr.ipv6.dst_addr;
        transition select(hdr.ipv6.next_hdr) {
            PROTO_TCP: parse_tcp;
            default: accept;
        }
    }

    state parse_tcp {
        packet.extract(hdr.tcp);
        meta.l4 = L4_PORTS;
        meta.l4_src = hdr.tcp.src_port;
        meta.l4_dst = hdr.tcp.dst_port;
        meta.tcp_flags = hdr.tcp.flags;
        meta.flow_dst_port = hdr.tcp.dst_port;
        meta.flow_has_port = 1;
        transition accept;
    }
}

control ingress(inout headers_t hdr, inout metadata_t meta, INGRESS_PARAMETERS) {
    port_block() port;
    BLOCK

    apply {
        port.apply(meta);
        if (meta.drop == 0) {
            APPLY
        }
        if (meta.drop != 0) {
            leaving.drop_ctl = 1;
        }
        hdr.nsh.spi = meta.segment;
        hdr.nsh.si = meta.next_si;
        hdr.nsh.traffic_class = meta.next_class;
        hdr.outer.dst_addr = meta.next_mac;
        hdr.outer.ether_type = meta.flood_group;
        SEND_TO(meta.egress_port);
    }
}

control ingress_deparser(packet_out packet, inout headers_t hdr, in metadata_t meta,
                       in ingress_intrinsic_metadata_for_deparser_t leaving) {
    apply {
        packet.emit(hdr);
    }
}

parser egress_parser(packet_in packet, out headers_t hdr, out metadata_t meta,
                     out egress_intrinsic_metadata_t replica) {
    state start {
        packet.extract(replica);
        transition accept;
    }
}

control egress(inout headers_t hdr, inout metadata_t meta, in egress_intrinsic_metadata_t replica,
               in egress_intrinsic_metadata_from_parser_t parsed,
               inout egress_intrinsic_metadata_for_deparser_t leaving,
               inout egress_intrinsic_metadata_for_output_port_t port) {
    apply {
    }
}

control egress_deparser(packet_out packet, inout headers_t hdr, in metadata_t meta,
                        in egress_intrinsic_metadata_for_deparser_t leaving) {
    apply {
    }
}

Pipeline(ingress_parser(), ingress(), ingress_deparser(), egress_parser(), egress(), egress_deparser()) pipe;

Switch(pipe) main;

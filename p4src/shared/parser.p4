// The parser and deparser of every pipeline. The original frame is always in
// hdr.ethernet and below; hdr.outer and hdr.nsh are the tag around it.
// SPDX-License-Identifier: Apache-2.0
#ifndef SHARED_PARSER_P4
#define SHARED_PARSER_P4

error {
    BadNsh,
    BadIpv4,
    BadIpv6
}

// Reads: ingress port. Writes: hdr, meta.ether_type, vlan, protocol, l4*, tcp_flags, flow_*.
// A frame that ends inside a header that it announces is malformed (parser error).
parser frame_parser(packet_in packet, inout headers_t hdr, inout metadata_t meta) {
    ARCH_PARSER_SUMS

    state start {
        bit<112> peek = packet.lookahead<bit<112>>();
        transition select(peek[15:0]) {
            ETHERTYPE_NSH: parse_tag;
            default: parse_ethernet;
        }
    }

    state parse_tag {
        packet.extract(hdr.outer);
        packet.extract(hdr.nsh);
        transition select(hdr.nsh.version, hdr.nsh.length, hdr.nsh.md_type, hdr.nsh.next_protocol) {
            (0, 6, 1, 3): parse_ethernet;
            default: bad_nsh;
        }
    }

    state bad_nsh {
        REFUSE(error.BadNsh)
    }

    state parse_ethernet {
        packet.extract(hdr.ethernet);
        meta.ether_type = hdr.ethernet.ether_type;
        transition select(hdr.ethernet.ether_type) {
            ETHERTYPE_VLAN: parse_vlan_outer;
            ETHERTYPE_QINQ: parse_vlan_outer;
            ETHERTYPE_ARP: parse_arp;
            ETHERTYPE_IPV4: parse_ipv4;
            ETHERTYPE_IPV6: parse_ipv6;
            default: accept;
        }
    }

    state parse_vlan_outer {
        packet.extract(hdr.vlan_outer);
        meta.ether_type = hdr.vlan_outer.ether_type;
        meta.vlan = 1w1 ++ hdr.vlan_outer.vid;
        transition select(hdr.vlan_outer.ether_type) {
            ETHERTYPE_VLAN: parse_vlan_inner;
            ETHERTYPE_QINQ: parse_vlan_inner;
            ETHERTYPE_ARP: parse_arp;
            ETHERTYPE_IPV4: parse_ipv4;
            ETHERTYPE_IPV6: parse_ipv6;
            default: accept;
        }
    }

    state parse_vlan_inner {
        packet.extract(hdr.vlan_inner);
        meta.ether_type = hdr.vlan_inner.ether_type;
        transition select(hdr.vlan_inner.ether_type) {
            ETHERTYPE_ARP: parse_arp;
            ETHERTYPE_IPV4: parse_ipv4;
            ETHERTYPE_IPV6: parse_ipv6;
            default: accept;
        }
    }

    state parse_arp {
        packet.extract(hdr.arp);
        transition accept;
    }

    state parse_ipv4 {
        packet.extract(hdr.ipv4);
        PARSED_IPV4
        meta.protocol = hdr.ipv4.protocol;
        meta.flow_src = (bit<128>)hdr.ipv4.src_addr;
        meta.flow_dst = (bit<128>)hdr.ipv4.dst_addr;
        transition select(hdr.ipv4.version, hdr.ipv4.ihl) {
            (4, 5): parse_ipv4_payload;
            (4, 6 .. 15): parse_ipv4_options;
            default: bad_ipv4;
        }
    }

    state bad_ipv4 {
        REFUSE(error.BadIpv4)
    }

    state parse_ipv4_options {
        packet.extract(hdr.ipv4_options, (bit<32>)(((bit<16>)hdr.ipv4.ihl - 5) << 5));
        transition parse_ipv4_payload;
    }

    state parse_ipv4_payload {
        transition select(hdr.ipv4.frag_offset, hdr.ipv4.protocol) {
            (0, PROTO_TCP): parse_tcp;
            (0, PROTO_UDP): parse_udp;
            (0, PROTO_ICMP): parse_icmp;
            (0, _): accept;
            default: parse_later_fragment;
        }
    }

    state parse_ipv6 {
        packet.extract(hdr.ipv6);
        PARSED_IPV6
        meta.protocol = hdr.ipv6.next_hdr;
        meta.flow_src = hdr.ipv6.src_addr;
        meta.flow_dst = hdr.ipv6.dst_addr;
        transition select(hdr.ipv6.version, hdr.ipv6.next_hdr) {
            (6, PROTO_IPV6_FRAGMENT): parse_ipv6_fragment;
            (6, PROTO_TCP): parse_tcp;
            (6, PROTO_UDP): parse_udp;
            (6, PROTO_ICMPV6): parse_icmpv6;
            (6, _): accept;
            default: bad_ipv6;
        }
    }

    state bad_ipv6 {
        REFUSE(error.BadIpv6)
    }

    state parse_ipv6_fragment {
        packet.extract(hdr.ipv6_fragment);
        meta.protocol = hdr.ipv6_fragment.next_hdr;
        transition select(hdr.ipv6_fragment.frag_offset, hdr.ipv6_fragment.next_hdr) {
            (0, PROTO_TCP): parse_tcp;
            (0, PROTO_UDP): parse_udp;
            (0, PROTO_ICMPV6): parse_icmpv6;
            (0, _): accept;
            default: parse_later_fragment;
        }
    }

    state parse_later_fragment {
        meta.l4 = L4_LATER_FRAGMENT;
        transition accept;
    }

    state parse_tcp {
        packet.extract(hdr.tcp);
        PARSED_TCP
        meta.l4 = L4_PORTS;
        meta.l4_src = hdr.tcp.src_port;
        meta.l4_dst = hdr.tcp.dst_port;
        meta.tcp_flags = hdr.tcp.flags;
        meta.flow_dst_port = hdr.tcp.dst_port;
        meta.flow_has_port = 1;
        transition accept;
    }

    state parse_udp {
        packet.extract(hdr.udp);
        PARSED_UDP
        meta.l4 = L4_PORTS;
        meta.l4_src = hdr.udp.src_port;
        meta.l4_dst = hdr.udp.dst_port;
        meta.flow_dst_port = hdr.udp.dst_port;
        meta.flow_has_port = 1;
        transition select(hdr.udp.length) {
            0 .. 15: accept;
            default: parse_payload;
        }
    }

    state parse_payload {
        packet.extract(hdr.payload);
        transition accept;
    }

    state parse_icmp {
        packet.extract(hdr.icmp);
        PARSED_ICMP
        meta.l4 = L4_ICMP;
        meta.l4_src = (bit<16>)hdr.icmp.type;
        meta.l4_dst = (bit<16>)hdr.icmp.code;
        meta.flow_dst_port = hdr.icmp.identifier;
        transition select(hdr.icmp.type) {
            0: parse_icmp_echo;
            8: parse_icmp_echo;
            3: parse_quoted_ipv4;
            11: parse_quoted_ipv4;
            12: parse_quoted_ipv4;
            default: accept;
        }
    }

    state parse_icmp_echo {
        meta.flow_has_port = 1;
        transition accept;
    }

    // An ICMP error must quote the IP header and eight bytes (RFC 792; RFC 4443, 2.4).
    state parse_quoted_ipv4 {
        packet.extract(hdr.quoted_ipv4);
        PARSED_QUOTED_IPV4
        meta.flow_src = (bit<128>)hdr.quoted_ipv4.dst_addr;
        meta.flow_dst = (bit<128>)hdr.quoted_ipv4.src_addr;
        transition select(hdr.quoted_ipv4.ihl, hdr.quoted_ipv4.frag_offset, hdr.quoted_ipv4.protocol) {
            (5, 0, PROTO_TCP): parse_quoted_ports;
            (5, 0, PROTO_UDP): parse_quoted_ports;
            (5, 0, PROTO_ICMP): parse_quoted_echo;
            default: accept;
        }
    }

    state parse_quoted_ports {
        packet.extract(hdr.quoted_l4);
        meta.flow_dst_port = hdr.quoted_l4.src_port;
        meta.flow_has_port = 1;
        transition accept;
    }

    state parse_quoted_echo {
        packet.extract(hdr.quoted_l4);
        meta.flow_dst_port = hdr.quoted_l4.identifier;
        meta.flow_has_port = 1;
        transition accept;
    }

    state parse_icmpv6 {
        packet.extract(hdr.icmp);
        PARSED_ICMPV6
        meta.l4 = L4_ICMP;
        meta.l4_src = (bit<16>)hdr.icmp.type;
        meta.l4_dst = (bit<16>)hdr.icmp.code;
        transition select(hdr.icmp.type) {
            1 .. 4: parse_quoted_ipv6;
            128: parse_icmp_echo6;
            129: parse_icmp_echo6;
            135: parse_solicitation;
            default: OTHER_ICMPV6;
        }
    }

    state parse_icmp_echo6 {
        PARSED_ECHO6
        meta.flow_dst_port = hdr.icmp.identifier;
        meta.flow_has_port = 1;
        transition accept;
    }

    state parse_quoted_ipv6 {
        packet.extract(hdr.quoted_ipv6);
        PARSED_QUOTED_IPV6
        meta.flow_src = hdr.quoted_ipv6.dst_addr;
        meta.flow_dst = hdr.quoted_ipv6.src_addr;
        transition select(hdr.quoted_ipv6.next_hdr) {
            PROTO_TCP: parse_quoted_ports;
            PROTO_UDP: parse_quoted_ports;
            PROTO_ICMPV6: parse_quoted_echo;
            default: accept;
        }
    }

    // Only a solicitation that carries the source's link-layer address (32 bytes) is parsed on:
    // the others (duplicate address detection) are nobody's business but their link's.
    state parse_solicitation {
        transition select(hdr.ipv6.payload_len) {
            32: parse_nd;
            default: OTHER_ICMPV6;
        }
    }

    state parse_nd {
        packet.extract(hdr.nd);
        PARSED_ND
        transition accept;
    }

    ARCH_PARSER_STATES
}

control frame_deparser(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}

#endif

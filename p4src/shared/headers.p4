// Headers of the neutral vocabulary: what every pipeline parses and emits.
// SPDX-License-Identifier: Apache-2.0
#ifndef SHARED_HEADERS_P4
#define SHARED_HEADERS_P4

typedef bit<48> mac_addr_t;
typedef bit<32> ipv4_addr_t;
typedef bit<128> ipv6_addr_t;
typedef bit<9> port_id_t;

const bit<16> ETHERTYPE_IPV4 = 0x0800;
const bit<16> ETHERTYPE_ARP = 0x0806;
const bit<16> ETHERTYPE_VLAN = 0x8100;
const bit<16> ETHERTYPE_IPV6 = 0x86dd;
const bit<16> ETHERTYPE_QINQ = 0x88a8;
const bit<16> ETHERTYPE_NSH = 0x894f;   // RFC 8300, 2.6 and 11.2

const bit<8> PROTO_ICMP = 1;
const bit<8> PROTO_TCP = 6;
const bit<8> PROTO_UDP = 17;
const bit<8> PROTO_IPV6_FRAGMENT = 44;
const bit<8> PROTO_ICMPV6 = 58;

const bit<16> PORT_VXLAN = 4789;
const bit<32> VXLAN_HAS_VNI = 0x08000000;

// Sent to the controller in front of a sampled packet.
@controller_header("packet_in")
header packet_in_t {
    port_id_t ingress_port;
    bit<7> _pad;
    bit<8> reason;          // 1: trajectory sample
    bit<32> label;
    bit<24> spi;
    bit<8> si;
    bit<48> timestamp_us;   // of this switch's own clock, at arrival
}

@controller_header("packet_out")
header packet_out_t {
    port_id_t egress_port;
    bit<7> _pad;
}

header ethernet_t {
    mac_addr_t dst_addr;
    mac_addr_t src_addr;
    bit<16> ether_type;
}

// RFC 8300, MD type 1: base header, service path header, four context words.
header nsh_t {
    bit<2> version;
    bit<1> oam;
    bit<1> unassigned1;
    bit<6> ttl;
    bit<6> length;          // in 4-byte words; 6 for MD type 1
    bit<4> unassigned2;
    bit<4> md_type;
    bit<8> next_protocol;   // 3: Ethernet
    bit<24> spi;
    bit<8> si;
    bit<16> traffic_class;  // context word 0, the FlowTag
    bit<16> flow;           // hash of the flow, as it was at the ingress
    bit<32> label;          // context word 1, trajectory label
    bit<32> nf_labels;      // context word 2, NF context labels
    bit<32> ingress_us;     // context word 3, ingress switch's clock
}

header vlan_t {
    bit<3> pcp;
    bit<1> dei;
    bit<12> vid;
    bit<16> ether_type;
}

// RFC 826 for Ethernet and IPv4.
header arp_t {
    bit<16> htype;
    bit<16> ptype;
    bit<8> hlen;
    bit<8> plen;
    bit<16> oper;
    mac_addr_t sha;
    ipv4_addr_t spa;
    mac_addr_t tha;
    ipv4_addr_t tpa;
}

header ipv4_t {
    bit<4> version;
    bit<4> ihl;
    bit<8> diffserv;
    bit<16> total_len;
    bit<16> identification;
    bit<1> reserved;
    bit<1> dont_fragment;
    bit<1> more_fragments;
    bit<13> frag_offset;
    bit<8> ttl;
    bit<8> protocol;
    bit<16> hdr_checksum;
    ipv4_addr_t src_addr;
    ipv4_addr_t dst_addr;
}

header ipv4_options_t {
    varbit<320> options;
}

header ipv6_t {
    bit<4> version;
    bit<8> traffic_class;
    bit<20> flow_label;
    bit<16> payload_len;
    bit<8> next_hdr;
    bit<8> hop_limit;
    ipv6_addr_t src_addr;
    ipv6_addr_t dst_addr;
}

header ipv6_fragment_t {
    bit<8> next_hdr;
    bit<8> reserved1;
    bit<13> frag_offset;
    bit<2> reserved2;
    bit<1> more_fragments;
    bit<32> identification;
}

header tcp_t {
    bit<16> src_port;
    bit<16> dst_port;
    bit<32> seq_no;
    bit<32> ack_no;
    bit<4> data_offset;
    bit<4> reserved;
    bit<8> flags;
    bit<16> window;
    bit<16> checksum;
    bit<16> urgent_ptr;
}

header udp_t {
    bit<16> src_port;
    bit<16> dst_port;
    bit<16> length;
    bit<16> checksum;
}

// ICMP and ICMPv6 share their first eight bytes.
header icmp_t {
    bit<8> type;
    bit<8> code;
    bit<16> checksum;
    bit<16> identifier;     // echo only
    bit<16> sequence;       // echo only
}

// The first eight bytes of L4 of the packet that an ICMP error quotes.
header quoted_l4_t {
    bit<16> src_port;       // of ICMP: type and code
    bit<16> dst_port;       // of ICMP: checksum
    bit<16> identifier;     // of an ICMP echo; of UDP the length
    bit<16> sequence;       // of an ICMP echo; of UDP the checksum
}

// Neighbour solicitation or advertisement with one link-layer address option (RFC 4861, 4.3, 4.4).
header nd_t {
    ipv6_addr_t target;
    bit<8> option_type;
    bit<8> option_len;
    mac_addr_t link_addr;
}

// First payload bytes of a UDP datagram: they tell apart the packets of one flow.
header payload_t {
    bit<64> bytes;
}

// What VXLAN puts in front of a frame (RFC 7348, 5), as one header: it is only ever pushed. What arrives in a
// tunnel is parsed as ethernet, ipv4, udp and payload.
header tunnel_t {
    mac_addr_t dst_addr;
    mac_addr_t src_addr;
    bit<16> ether_type;
    bit<32> ip_version_to_length;
    bit<32> ip_fragment;
    bit<16> ip_ttl_protocol;
    bit<16> ip_checksum;
    ipv4_addr_t ip_src;
    ipv4_addr_t ip_dst;
    bit<16> udp_src;
    bit<16> udp_dst;
    bit<16> udp_length;
    bit<16> udp_checksum;
    bit<32> vxlan_flags;
    bit<24> vni;
    bit<8> reserved;
}

// What a switch tells a witness of a watched packet, between a tag of its own and the packet's frame
// (servernf/wire/reports.py). Its first 14 bytes are an Ethernet header to who parses the tag, of a kind for
// experiments (IEEE 802, 9.2.3).
header record_t {
    bit<32> boot;
    bit<32> number;
    bit<32> mac;            // over all other words of this header
    bit<16> ether_type;
    bit<8> version;
    bit<8> kind;
    bit<16> switch_id;
    bit<16> graph;
    bit<32> label;
    bit<32> ingress_us;
    bit<32> path;           // SPI and SI of the tag that came; 0: none did
    bit<32> epoch;
    bit<16> flow;
    bit<8> reason;          // DROP_*
    bit<8> reserved;
    bit<16> port;           // it came by
    bit<48> arrival_us;     // of this switch's own clock
    bit<48> next_mac;       // of the tag that it leaves with
    bit<16> reserved2;
    bit<32> next_path;
    bit<32> nf_labels;
}

struct headers_t {
    ARCH_HEADERS
    packet_in_t packet_in;
    packet_out_t packet_out;
    ethernet_t outer;
    nsh_t nsh;
    record_t record;
    tunnel_t tunnel;
    ethernet_t ethernet;
    vlan_t vlan_outer;
    vlan_t vlan_inner;
    arp_t arp;
    ipv4_t ipv4;
    ipv4_options_t ipv4_options;
    ipv6_t ipv6;
    ipv6_fragment_t ipv6_fragment;
    tcp_t tcp;
    udp_t udp;
    icmp_t icmp;
    ipv4_t quoted_ipv4;
    ipv6_t quoted_ipv6;
    quoted_l4_t quoted_l4;
    nd_t nd;
    payload_t payload;
}

#endif

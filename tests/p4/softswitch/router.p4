// A small router: VLAN, IPv4 with options, IPv6, TCP/UDP/ICMP, an ACL of every
// match kind, LPM, counters, registers, CPU port, cloning and multicast.
#include <core.p4>
#include <v1model.p4>

typedef bit<48> mac_t;

@controller_header("packet_in")
header packet_in_t { bit<9> ingress_port; bit<7> reason; }
@controller_header("packet_out")
header packet_out_t { bit<9> egress_port; bit<7> padding; }

header ethernet_t { mac_t dst; mac_t src; bit<16> ether_type; }
header vlan_t { bit<3> pcp; bit<1> dei; bit<12> vid; bit<16> ether_type; }
header ipv4_t {
    bit<4> version; bit<4> ihl; bit<8> tos; bit<16> total_len;
    bit<16> id; bit<3> flags; bit<13> frag; bit<8> ttl; bit<8> proto;
    bit<16> checksum; bit<32> src; bit<32> dst;
}
header ipv4_options_t { varbit<320> options; }
header ipv6_t {
    bit<4> version; bit<8> tc; bit<20> flow; bit<16> len; bit<8> next;
    bit<8> hop; bit<128> src; bit<128> dst;
}
header tcp_t {
    bit<16> sport; bit<16> dport; bit<32> seq; bit<32> ack; bit<4> off;
    bit<4> res; bit<8> flags; bit<16> win; bit<16> checksum; bit<16> urg;
}
header udp_t { bit<16> sport; bit<16> dport; bit<16> len; bit<16> checksum; }

struct headers_t {
    packet_out_t packet_out;
    packet_in_t packet_in;
    ethernet_t eth;
    vlan_t vlan;
    ipv4_t ipv4;
    ipv4_options_t options;
    ipv6_t ipv6;
    tcp_t tcp;
    udp_t udp;
}

struct meta_t {
    @field_list(1) bit<16> mark;
    bit<16> sport;
    bit<16> dport;
    bit<1> checksum_bad;
    bit<32> hash;
}

error { BadVersion }

parser p(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start {
        transition select(sm.ingress_port) { 510: from_cpu; default: eth; }
    }
    state from_cpu { pkt.extract(hdr.packet_out); transition eth; }
    state eth {
        pkt.extract(hdr.eth);
        transition select(hdr.eth.ether_type) {
            0x8100: vlan; 0x0800: ipv4; 0x86dd: ipv6; default: accept;
        }
    }
    state vlan {
        pkt.extract(hdr.vlan);
        transition select(hdr.vlan.ether_type) { 0x0800: ipv4; 0x86dd: ipv6; default: accept; }
    }
    state ipv4 {
        verify(pkt.lookahead<bit<4>>() == 4, error.BadVersion);
        pkt.extract(hdr.ipv4);
        transition select(hdr.ipv4.ihl) { 5: l4; 0 &&& 0xc: reject; 4: reject; default: options; }
    }
    state options {
        pkt.extract(hdr.options, (bit<32>)(((bit<16>)hdr.ipv4.ihl - 5) * 32));
        transition l4;
    }
    state l4 {
        transition select(hdr.ipv4.frag, hdr.ipv4.proto) {
            (0, 6): tcp; (0, 17): udp; default: accept;
        }
    }
    state ipv6 {
        pkt.extract(hdr.ipv6);
        transition select(hdr.ipv6.next) { 6: tcp; 17: udp; default: accept; }
    }
    state tcp {
        pkt.extract(hdr.tcp);
        meta.sport = hdr.tcp.sport; meta.dport = hdr.tcp.dport;
        transition accept;
    }
    state udp {
        pkt.extract(hdr.udp);
        meta.sport = hdr.udp.sport; meta.dport = hdr.udp.dport;
        transition accept;
    }
}

control vc(inout headers_t hdr, inout meta_t meta) {
    apply {
        verify_checksum(hdr.ipv4.isValid() && hdr.ipv4.ihl == 5,
            { hdr.ipv4.version, hdr.ipv4.ihl, hdr.ipv4.tos, hdr.ipv4.total_len,
              hdr.ipv4.id, hdr.ipv4.flags, hdr.ipv4.frag, hdr.ipv4.ttl,
              hdr.ipv4.proto, hdr.ipv4.src, hdr.ipv4.dst },
            hdr.ipv4.checksum, HashAlgorithm.csum16);
    }
}

control ig(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    direct_counter(CounterType.packets_and_bytes) acl_counter;
    counter(512, CounterType.packets_and_bytes) port_counter;
    register<bit<32>>(1024) last_seen;

    action drop() { mark_to_drop(sm); }
    action deny() { acl_counter.count(); mark_to_drop(sm); exit; }
    action permit() { acl_counter.count(); }
    action mark(bit<16> value) { acl_counter.count(); meta.mark = value; }
    action to_cpu() { acl_counter.count(); sm.egress_spec = 510; exit; }
    action mirror(bit<32> session) {
        acl_counter.count();
        meta.mark = 7;
        clone_preserving_field_list(CloneType.I2E, session, 1);
    }

    table acl {
        key = {
            hdr.ipv4.src : ternary @name("src");
            hdr.ipv4.dst : lpm @name("dst");
            hdr.ipv4.proto : optional @name("proto");
            meta.dport : range @name("dport");
            sm.ingress_port : exact @name("port");
        }
        actions = { deny; permit; mark; to_cpu; mirror; }
        const default_action = permit();
        size = 2048;
        counters = acl_counter;
    }

    action route(bit<9> port, mac_t dst) {
        sm.egress_spec = port;
        hdr.eth.src = hdr.eth.dst;
        hdr.eth.dst = dst;
        hdr.ipv4.ttl = hdr.ipv4.ttl - 1;
    }
    action flood(bit<16> group) { sm.mcast_grp = group; }
    table ipv4_lpm {
        key = { hdr.ipv4.dst : lpm @name("dst"); }
        actions = { route; flood; drop; @defaultonly NoAction; }
        default_action = drop();
        size = 600000;
    }
    action forward(bit<9> port) { sm.egress_spec = port; }
    table l2 {
        key = { hdr.eth.dst : exact @name("dst"); hdr.vlan.vid : exact @name("vid"); }
        actions = { forward; flood; drop; }
        default_action = drop();
        size = 1024;
    }
    action pop_vlan() { hdr.eth.ether_type = hdr.vlan.ether_type; hdr.vlan.setInvalid(); }
    action push_vlan(bit<12> vid) {
        hdr.vlan.setValid();
        hdr.vlan.vid = vid;
        hdr.vlan.ether_type = hdr.eth.ether_type;
        hdr.eth.ether_type = 0x8100;
    }
    table vlan_edit {
        key = { sm.ingress_port : ternary @name("port"); hdr.vlan.isValid() : exact @name("tagged"); }
        actions = { pop_vlan; push_vlan; NoAction; }
        size = 64;
        const default_action = NoAction();
    }
    action mark_class(bit<32> class) { meta.hash = meta.hash | (class << 24); }
    table proto_class {
        key = { hdr.ipv4.proto : ternary @name("proto"); }
        actions = { mark_class; NoAction; }
        const entries = {
            6 : mark_class(1);
            17 : mark_class(2);
            0x80 &&& 0xf0 : mark_class(3);
            _ : mark_class(4);
        }
        const default_action = NoAction();
    }
    apply {
        port_counter.count((bit<32>)sm.ingress_port);
        if (hdr.packet_out.isValid()) {
            sm.egress_spec = hdr.packet_out.egress_port;
            hdr.packet_out.setInvalid();
            exit;
        }
        if (sm.checksum_error == 1 || sm.parser_error != error.NoError) {
            mark_to_drop(sm);
            exit;
        }
        vlan_edit.apply();
        if (hdr.ipv4.isValid()) {
            hash(meta.hash, HashAlgorithm.crc32, (bit<32>)0,
                { hdr.ipv4.src, hdr.ipv4.dst, hdr.ipv4.proto, meta.sport, meta.dport },
                (bit<32>)0x10000);
            last_seen.write(meta.hash & 0x3ff, hdr.ipv4.src);
            proto_class.apply();
            acl.apply();
            if (hdr.ipv4.ttl > 1) {
                switch (ipv4_lpm.apply().action_run) {
                    drop: { port_counter.count(511); }
                    default: { }
                }
            } else {
                mark_to_drop(sm);
            }
        } else if (!l2.apply().hit) {
            port_counter.count(500);
        }
    }
}

control eg(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    action rewrite(mac_t src) { hdr.eth.src = src; }
    table port_mac {
        key = { sm.egress_port : exact @name("port"); sm.egress_rid : exact @name("rid"); }
        actions = { rewrite; NoAction; }
        default_action = NoAction();
        size = 512;
    }
    apply {
        port_mac.apply();
        if (sm.egress_port == 510) {
            hdr.packet_in.setValid();
            hdr.packet_in.ingress_port = sm.ingress_port;
            hdr.packet_in.reason = (bit<7>)sm.instance_type;
        }
        if (sm.instance_type == 1 && hdr.ipv4.isValid()) {
            hdr.ipv4.id = meta.mark;
        }
    }
}

control cc(inout headers_t hdr, inout meta_t meta) {
    apply {
        update_checksum(hdr.ipv4.isValid(),
            { hdr.ipv4.version, hdr.ipv4.ihl, hdr.ipv4.tos, hdr.ipv4.total_len,
              hdr.ipv4.id, hdr.ipv4.flags, hdr.ipv4.frag, hdr.ipv4.ttl,
              hdr.ipv4.proto, hdr.ipv4.src, hdr.ipv4.dst, hdr.options.options },
            hdr.ipv4.checksum, HashAlgorithm.csum16);
        update_checksum_with_payload(hdr.udp.isValid() && hdr.ipv4.isValid() && hdr.udp.checksum != 0,
            { hdr.ipv4.src, hdr.ipv4.dst, 8w0, hdr.ipv4.proto, hdr.udp.len,
              hdr.udp.sport, hdr.udp.dport, hdr.udp.len },
            hdr.udp.checksum, HashAlgorithm.csum16);
    }
}

control dp(packet_out pkt, in headers_t hdr) {
    apply {
        pkt.emit(hdr.packet_in);
        pkt.emit(hdr.eth);
        pkt.emit(hdr.vlan);
        pkt.emit(hdr.ipv4);
        pkt.emit(hdr.options);
        pkt.emit(hdr.ipv6);
        pkt.emit(hdr.tcp);
        pkt.emit(hdr.udp);
    }
}

V1Switch(p(), vc(), ig(), eg(), cc(), dp()) main;

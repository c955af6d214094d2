// One table with an LPM and a ternary key, multicast, and what a miss does.
#include <core.p4>
#include <v1model.p4>

header data_t {
    bit<32> dst;
    bit<8> mark;
}
struct headers_t { data_t data; }
struct meta_t {}

parser p(packet_in packet, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.data);
        transition accept;
    }
}
control vc(inout headers_t hdr, inout meta_t meta) { apply {} }
control ig(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    action drop() { mark_to_drop(sm); }
    action forward(bit<9> port) { sm.egress_spec = port; }
    action flood(bit<16> group) { sm.mcast_grp = group; }
    table route {
        key = {
            hdr.data.dst: lpm;
            hdr.data.mark: ternary;
        }
        actions = { drop; forward; flood; }
        default_action = drop();
    }
    apply { route.apply(); }
}
control eg(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    apply { hdr.data.mark = (bit<8>)sm.egress_rid; }
}
control cc(inout headers_t hdr, inout meta_t meta) { apply {} }
control dp(packet_out packet, in headers_t hdr) { apply { packet.emit(hdr); } }
V1Switch(p(), vc(), ig(), eg(), cc(), dp()) main;

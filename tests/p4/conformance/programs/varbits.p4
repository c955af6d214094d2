// Headers with fields of no fixed size are compared, and such fields copied through a variable.
#include <core.p4>
#include <v1model.p4>

header item_t {
    bit<8> size;
    varbit<64> bytes;
}
struct headers_t {
    item_t a;
    item_t b;
}
struct meta_t {}

parser p(packet_in packet, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start {
        bit<8> size = packet.lookahead<bit<8>>();
        packet.extract(hdr.a, (bit<32>)size << 3);
        size = packet.lookahead<bit<8>>();
        packet.extract(hdr.b, (bit<32>)size << 3);
        transition accept;
    }
}
control vc(inout headers_t hdr, inout meta_t meta) {
    apply {}
}
control ig(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    apply {
        varbit<64> kept;
        sm.egress_spec = 2;
        if (hdr.a == hdr.b) {
            sm.egress_spec = 3;
        } else if (hdr.a.bytes == hdr.b.bytes) {
            sm.egress_spec = 4;
        } else {
            kept = hdr.a.bytes;
            hdr.a.bytes = hdr.b.bytes;
            hdr.b.bytes = kept;
        }
    }
}
control eg(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    apply {}
}
control update(inout headers_t hdr, inout meta_t meta) {
    apply {}
}
control dp(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr);
    }
}
V1Switch(p(), vc(), ig(), eg(), update(), dp()) main;

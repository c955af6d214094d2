// A tag that is one of two headers, parsed, swapped and written back.
#include <core.p4>
#include <v1model.p4>

header kind_t { bit<8> kind; }
header short_t { bit<8> value; }
header long_t { bit<32> value; }
header_union tag_t {
    short_t short;
    long_t long;
}
struct headers_t {
    kind_t kind;
    tag_t tag;
}
struct meta_t {}

parser p(packet_in packet, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start {
        packet.extract(hdr.kind);
        transition select(hdr.kind.kind) {
            1: short;
            2: long;
            default: accept;
        }
    }
    state short {
        packet.extract(hdr.tag.short);
        transition accept;
    }
    state long {
        packet.extract(hdr.tag.long);
        transition accept;
    }
}
control vc(inout headers_t hdr, inout meta_t meta) { apply {} }
control ig(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    apply {
        sm.egress_spec = 1;
        if (hdr.tag.short.isValid()) {
            hdr.tag.long.setValid();
            hdr.tag.long.value = 0xaabbccdd;
        } else if (hdr.tag.isValid()) {
            hdr.tag.long.setInvalid();
        } else {
            mark_to_drop(sm);
        }
    }
}
control eg(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) { apply {} }
control cc(inout headers_t hdr, inout meta_t meta) { apply {} }
control dp(packet_out packet, in headers_t hdr) { apply { packet.emit(hdr); } }
V1Switch(p(), vc(), ig(), eg(), cc(), dp()) main;

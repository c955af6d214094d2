// One feature an opcode: replication, loops through the switch, header stacks, arithmetic,
// hashes, registers. The header `op` says what to do, `result` carries what came out.
#include <core.p4>
#include <v1model.p4>

header op_t { bit<8> op; bit<8> a; bit<16> b; bit<32> result; bit<32> extra; }
header label_t { bit<7> value; bit<1> last; }
header signed_t { int<8> x; int<8> y; int<16> z; }
header var_t { bit<8> length; varbit<64> bytes; bit<8> tail; }

struct headers_t { op_t op; label_t[3] labels; signed_t s; var_t v; }
struct meta_t {
    @field_list(1, 2) bit<32> kept;
    @field_list(2) bit<8> rounds;
    bit<32> lost;
    bit<32> h;
    bit<16> h16;
    bit<8> ahead;
}
error { TooManyLabels, OddOp }

const bit<8> CLONE_I2E = 1;
const bit<8> CLONE_E2E = 2;
const bit<8> RESUBMIT = 3;
const bit<8> RECIRCULATE = 4;
const bit<8> MULTICAST = 5;
const bit<8> LABELS = 6;
const bit<8> SIGNED = 7;
const bit<8> VARBIT = 8;
const bit<8> HASHES = 9;
const bit<8> REGISTER = 10;
const bit<8> TRUNCATE = 11;
const bit<8> LOOKAHEAD = 12;
const bit<8> VERIFY = 13;
const bit<8> ADVANCE = 14;
const bit<8> LENGTH = 15;
const bit<8> FOREVER = 16;
const bit<8> EGRESS_DROP = 17;
const bit<8> DIVIDE = 18;

parser p(packet_in pkt, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    state start {
        pkt.extract(hdr.op);
        transition select(hdr.op.op) {
            LABELS: labels;
            SIGNED: signed_numbers;
            VARBIT: varbits;
            LOOKAHEAD: ahead;
            VERIFY: check;
            ADVANCE: skip;
            default: accept;
        }
    }
    state labels {
        pkt.extract(hdr.labels.next);
        transition select(hdr.labels.last.last) { 0: labels; default: accept; }
    }
    state signed_numbers { pkt.extract(hdr.s); transition accept; }
    state varbits {
        bit<8> n = pkt.lookahead<bit<8>>();
        pkt.extract(hdr.v, (bit<32>)n * 8);
        transition accept;
    }
    state ahead {
        meta.ahead = pkt.lookahead<bit<8>>();
        transition select(pkt.lookahead<bit<16>>()) { 0x0100 &&& 0xff00: labels; default: accept; }
    }
    state check {
        verify(hdr.op.a < 10, error.OddOp);
        transition accept;
    }
    state skip {
        pkt.advance((bit<32>)hdr.op.a * 8);
        transition accept;
    }
}

control vc(inout headers_t hdr, inout meta_t meta) { apply { } }

control ig(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    register<bit<16>>(4) cells;
    action send(bit<9> port) { sm.egress_spec = port; }
    action lookup_done(bit<32> value) { hdr.op.extra = value; }
    table ranks {
        key = { hdr.op.a : ternary @name("a"); hdr.op.b : range @name("b"); }
        actions = { lookup_done; NoAction; }
        const default_action = NoAction();
        size = 64;
    }
    apply {
        send(2);
        meta.lost = 99;
        if (sm.parser_error != error.NoError) {
            hdr.op.setValid();
            if (sm.parser_error == error.PacketTooShort) { hdr.op.result = 1; }
            else if (sm.parser_error == error.OddOp) { hdr.op.result = 2; }
            else if (sm.parser_error == error.StackOutOfBounds) { hdr.op.result = 3; }
            else if (sm.parser_error == error.HeaderTooShort) { hdr.op.result = 4; }
            else { hdr.op.result = 5; }
        } else if (hdr.op.op == CLONE_I2E) {
            meta.kept = 0x1234;
            hdr.op.result = 77;
            clone_preserving_field_list(CloneType.I2E, 9, 1);
        } else if (hdr.op.op == CLONE_E2E) {
            meta.kept = 0x5678;
        } else if (hdr.op.op == RESUBMIT) {
            if (sm.instance_type == 6) {
                hdr.op.result = meta.kept;
                hdr.op.extra = meta.lost;
                hdr.op.b = (bit<16>)sm.ingress_port;
            } else {
                meta.kept = 0xabcd;
                hdr.op.a = 42;
                resubmit_preserving_field_list(1);
            }
        } else if (hdr.op.op == MULTICAST) {
            sm.mcast_grp = hdr.op.b;
        } else if (hdr.op.op == LABELS) {
            if (hdr.op.a == 1) { hdr.labels.push_front(1); hdr.labels[0].setValid(); hdr.labels[0] = { 5, 0 }; }
            if (hdr.op.a == 2) { hdr.labels.pop_front(1); }
            if (hdr.op.a == 3) { hdr.labels[hdr.op.b[1:0]].value = 9; }
            // Reading an invalid header is undefined: BMv2 gives what an earlier packet left.
            if (hdr.labels[0].isValid()) { hdr.op.result = (bit<32>)hdr.labels[0].value; }
        } else if (hdr.op.op == SIGNED) {
            hdr.s.z = (int<16>)hdr.s.x + (int<16>)hdr.s.y;
            hdr.op.result = (bit<32>)(int<32>)(hdr.s.x >> 1);
            hdr.op.extra = (hdr.s.x < hdr.s.y) ? 32w1 : 32w0;
            hdr.s.x = hdr.s.x |+| hdr.s.y;
        } else if (hdr.op.op == HASHES) {
            hash(meta.h, HashAlgorithm.crc32, 32w0, { hdr.op.b, hdr.op.a }, 32w0xffffffff);
            hdr.op.result = meta.h;
            hash(meta.h16, HashAlgorithm.crc16, 16w0, { hdr.op.b, hdr.op.a, 4w3 }, 32w0x10000);
            hdr.op.extra[31:16] = meta.h16;
            hash(meta.h16, HashAlgorithm.xor16, 16w10, { hdr.op.b, hdr.op.a }, 16w1000);
            hdr.op.extra[15:0] = meta.h16;
        } else if (hdr.op.op == REGISTER) {
            bit<16> old;
            cells.read(old, (bit<32>)hdr.op.a);
            cells.write((bit<32>)hdr.op.a, old + hdr.op.b);
            hdr.op.result = (bit<32>)old;
        } else if (hdr.op.op == TRUNCATE) {
            truncate((bit<32>)hdr.op.b);
        } else if (hdr.op.op == LOOKAHEAD) {
            hdr.op.result = (bit<32>)meta.ahead;
            hdr.op.extra = hdr.labels[0].isValid() ? 32w1 : 32w0;
        } else if (hdr.op.op == LENGTH) {
            hdr.op.result = sm.packet_length;
            hdr.labels[0].setValid();
        } else if (hdr.op.op == DIVIDE) {
            hdr.op.result = (bit<32>)hdr.op.b << hdr.op.a;
            hdr.op.extra = ((bit<32>)hdr.op.b |-| 32w100) - 1;
        }
        ranks.apply();
    }
}

control eg(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    apply {
        if (hdr.op.op == CLONE_I2E && sm.instance_type == 1) {
            hdr.op.result = meta.kept;
            hdr.op.extra = meta.lost;
            hdr.op.b = sm.egress_rid;
        } else if (hdr.op.op == CLONE_E2E) {
            if (sm.instance_type == 2) {
                hdr.op.result = meta.kept;
                hdr.op.extra = meta.lost;
            } else {
                hdr.op.b = 0xbeef;
                clone_preserving_field_list(CloneType.E2E, 9, 1);
            }
        } else if (hdr.op.op == RECIRCULATE && meta.rounds < hdr.op.a) {
            meta.rounds = meta.rounds + 1;
            meta.kept = meta.kept + 10;
            hdr.op.result = meta.kept;
            hdr.op.extra = sm.instance_type;
            recirculate_preserving_field_list(2);
        } else if (hdr.op.op == FOREVER) {
            recirculate_preserving_field_list(0);
        } else if (hdr.op.op == MULTICAST) {
            hdr.op.result = (bit<32>)sm.egress_port;
            hdr.op.extra = (bit<32>)sm.egress_rid;
            hdr.op.a = (bit<8>)sm.instance_type;
        } else if (hdr.op.op == LENGTH) {
            hdr.op.extra = sm.packet_length;
        } else if (hdr.op.op == EGRESS_DROP) {
            mark_to_drop(sm);
        }
    }
}

control cc(inout headers_t hdr, inout meta_t meta) { apply { } }

control dp(packet_out pkt, in headers_t hdr) {
    apply {
        pkt.emit(hdr.op);
        pkt.emit(hdr.labels);
        pkt.emit(hdr.s);
        pkt.emit(hdr.v);
    }
}

V1Switch(p(), vc(), ig(), eg(), cc(), dp()) main;

// Everything of v1model that features.p4 and router.p4 leave out: header unions and their stacks,
// value sets, action profiles and selectors, meters, digests, idle timeouts, run-time stack indices.
// A frame is op_t and, by `op`, what follows it.
#include <core.p4>
#include <v1model.p4>

header op_t {
    bit<8> op;
    bit<8> a;
    bit<16> b;
    bit<32> c;
    bit<64> d;
}
header byte_t { bit<8> k; }
header word_t { bit<8> k; bit<16> v; }
header_union option_t {
    byte_t byte;
    word_t word;
}
struct headers_t {
    op_t op;
    option_t[3] options;
    option_t single;
    word_t[4] stack;
}
struct sample_t {
    bit<8> a;
    bit<16> b;
}
struct pair_t {
    @match(exact) bit<8> a;
    @match(exact) bit<16> b;
}
struct meta_t {
    bit<2> color;
    bit<2> direct_color;
    bit<16> hash16;
    bit<32> hash32;
    bit<64> hash64;
    bit<8> hash8;
    bit<32> index;
}

parser p(packet_in packet, out headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    value_set<bit<8>>(4) bytes;
    value_set<pair_t>(4) pairs;
    state start {
        packet.extract(hdr.op);
        transition select(hdr.op.op) {
            1: unions;
            2: sets;
            3: single;
            4: words;
            default: accept;
        }
    }
    state unions {
        transition select(packet.lookahead<bit<8>>()) {
            0x0b: byte_option;
            0x0c: word_option;
            default: accept;
        }
    }
    state byte_option {
        packet.extract(hdr.options.next.byte);
        transition unions;
    }
    state word_option {
        packet.extract(hdr.options.next.word);
        transition unions;
    }
    state single {
        transition select(hdr.op.a) {
            1: single_byte;
            2: single_word;
            default: accept;
        }
    }
    state single_byte {
        packet.extract(hdr.single.byte);
        transition accept;
    }
    state single_word {
        packet.extract(hdr.single.word);
        transition accept;
    }
    state words {
        packet.extract(hdr.stack.next);
        transition select(hdr.stack.last.k) {
            0: accept;
            default: words;
        }
    }
    state sets {
        transition select(hdr.op.a) {
            bytes: in_bytes;
            default: try_pairs;
        }
    }
    state in_bytes {
        meta.index = 1;
        transition accept;
    }
    state try_pairs {
        transition select(hdr.op.a, hdr.op.b) {
            pairs: in_pairs;
            default: accept;
        }
    }
    state in_pairs {
        meta.index = 2;
        transition accept;
    }
}

control vc(inout headers_t hdr, inout meta_t meta) {
    apply {}
}

control ig(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t sm) {
    meter(4, MeterType.packets) packet_meter;
    meter(2, MeterType.bytes) byte_meter;
    direct_meter<bit<2>>(MeterType.packets) flow_meter;
    direct_counter(CounterType.packets_and_bytes) flow_counter;

    action forward(bit<9> port) {
        sm.egress_spec = port;
    }
    action tag(bit<32> value) {
        hdr.op.c = value;
    }
    action drop() {
        mark_to_drop(sm);
    }
    action metered() {
        flow_meter.read(meta.direct_color);
    }
    @name("nexthops") action_profile(8) nexthops;
    @name("ecmp") action_selector(HashAlgorithm.crc16, 16, 14) ecmp;

    table profiled {
        key = { hdr.op.a: exact; }
        actions = { forward; tag; drop; }
        implementation = nexthops;
        size = 16;
    }
    table balanced {
        key = {
            hdr.op.a: exact;
            hdr.op.b: selector;
            hdr.op.c: selector;
        }
        actions = { forward; tag; drop; }
        implementation = ecmp;
        size = 16;
    }
    table flows {
        key = { hdr.op.a: exact; }
        actions = { metered; NoAction; }
        meters = flow_meter;
        counters = flow_counter;
        size = 16;
    }
    table aging {
        key = { hdr.op.a: exact; }
        actions = { tag; NoAction; }
        support_timeout = true;
        size = 16;
    }
    table mixed {
        key = {
            hdr.op.a: optional;
            hdr.op.b: range;
            hdr.op.c: lpm;
            hdr.op.d: ternary;
        }
        actions = { tag; NoAction; }
        size = 64;
    }

    apply {
        sm.egress_spec = 2;
        if (hdr.op.op == 1) {
            if (hdr.op.a == 1) {
                hdr.options.push_front(1);
            } else if (hdr.op.a == 2) {
                hdr.options.pop_front(1);
            } else if (hdr.op.a == 3) {
                hdr.options[1] = hdr.options[0];
            } else if (hdr.op.a == 4) {
                hdr.options[0].word.setValid();
                hdr.options[0].word.v = 0x1234;
            } else if (hdr.op.a == 5) {
                hdr.options[0].byte.setInvalid();
                hdr.op.b = 0x5555;
            } else if (hdr.op.a == 6 && hdr.options[0].word.isValid()) {
                hdr.op.b = hdr.options[0].word.v;
            }
        } else if (hdr.op.op == 2) {
            hdr.op.c = meta.index;
        } else if (hdr.op.op == 3) {
            if (hdr.single.isValid()) {
                hdr.op.c = 7;
            }
            if (hdr.op.b == 1) {
                hdr.single.byte = { 9 };
            } else if (hdr.op.b == 2) {
                hdr.single.word = { 9, 99 };
            } else if (hdr.op.b == 3) {
                hdr.single.byte.setInvalid();
                hdr.single.word.setInvalid();
            }
            if (hdr.single.isValid()) {
                hdr.op.c = hdr.op.c + 16;
            }
        } else if (hdr.op.op == 4) {
            bit<32> i = (bit<32>)hdr.op.a;
            if (hdr.op.b == 1) {
                hdr.stack[i].setInvalid();
            } else if (hdr.op.b == 2) {
                hdr.stack[i].setValid();
                hdr.stack[i].k = 5;
                hdr.stack[i].v = 6;
            } else if (hdr.op.b == 3) {
                hdr.stack[i].v = 0xbeef;
            } else if (hdr.op.b == 4) {
                hdr.stack[0] = hdr.stack[i];
            } else if (hdr.op.b == 6) {
                hdr.op.c = (bit<32>)hdr.stack[i].v;
            }
        } else if (hdr.op.op == 5) {
            profiled.apply();
        } else if (hdr.op.op == 6) {
            if (balanced.apply().hit) {
                hdr.op.d = 1;
            }
        } else if (hdr.op.op == 7) {
            flows.apply();
            hdr.op.c = (bit<32>)meta.direct_color;
        } else if (hdr.op.op == 8) {
            packet_meter.execute_meter((bit<32>)hdr.op.a, meta.color);
            hdr.op.c = (bit<32>)meta.color;
        } else if (hdr.op.op == 9) {
            byte_meter.execute_meter((bit<32>)hdr.op.a, meta.color);
            hdr.op.c = (bit<32>)meta.color;
        } else if (hdr.op.op == 10) {
            digest<sample_t>(1, { hdr.op.a, hdr.op.b });
        } else if (hdr.op.op == 11) {
            aging.apply();
        } else if (hdr.op.op == 12) {
            mixed.apply();
        } else if (hdr.op.op == 13) {
            hash(meta.hash32, HashAlgorithm.crc32, 32w0, { hdr.op.a, hdr.op.b, hdr.op.d }, 32w0xffffffff);
            hash(meta.hash16, HashAlgorithm.crc16, 16w0, { hdr.op.a, hdr.op.b, hdr.op.d }, 16w0xffff);
            hdr.op.c = meta.hash32;
            hdr.op.b = meta.hash16;
        } else if (hdr.op.op == 14) {
            hash(meta.hash32, HashAlgorithm.crc32_custom, 32w0, { hdr.op.a, hdr.op.b, hdr.op.d }, 32w0xffffffff);
            hash(meta.hash16, HashAlgorithm.crc16_custom, 16w0, { hdr.op.a, hdr.op.b, hdr.op.d }, 16w0xffff);
            hdr.op.c = meta.hash32;
            hdr.op.b = meta.hash16;
        } else if (hdr.op.op == 15) {
            hash(meta.hash32, HashAlgorithm.identity, 32w0, { hdr.op.a, hdr.op.b, hdr.op.d }, 32w0xffffffff);
            hash(meta.hash16, HashAlgorithm.xor16, 16w0, { hdr.op.a, hdr.op.b, hdr.op.d }, 16w0xffff);
            hdr.op.c = meta.hash32;
            hdr.op.b = meta.hash16;
        } else if (hdr.op.op == 16) {
            hash(meta.hash16, HashAlgorithm.csum16, 16w3, { hdr.op.a, hdr.op.b, hdr.op.d }, 16w1000);
            hdr.op.b = meta.hash16;
        } else if (hdr.op.op == 17) {
            hdr.op.a = hdr.op.a |+| 100;
            hdr.op.b = hdr.op.b |-| 100;
            hdr.op.c = (bit<32>)((int<32>)hdr.op.c |+| 32s0x7ffffff0);
        } else if (hdr.op.op == 18) {
            random(hdr.op.b, 10, 20);
            log_msg("a is {} and b {}", { hdr.op.a, hdr.op.b });
            assert(hdr.op.b >= 10);
            assume(hdr.op.b <= 20);
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

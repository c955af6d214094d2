// What differs between architectures, for TNA (Tofino) and T2NA (Tofino 2).
// SPDX-License-Identifier: Apache-2.0
#ifndef ARCH_TNA_P4
#define ARCH_TNA_P4

#include <core.p4>
#if __TARGET_TOFINO__ == 2
#include <t2na.p4>
#define CPU_PORT_NUMBER 0           // PCIe
#define RECIRCULATE_PORT_NUMBER 6   // of pipe 0
#else
#include <tna.p4>
#define CPU_PORT_NUMBER 64          // of pipe 0
#define RECIRCULATE_PORT_NUMBER 68
#endif

#define DIRECT_COUNTER(name) DirectCounter<bit<64>>(CounterType_t.PACKETS_AND_BYTES) name
#define COUNT(name) name.count()
#define DIRECT_METER(name, colour_t) DirectMeter(MeterType_t.BYTES) name
// TCAM has no ranges of its own; they are written as prefixes (TofinoCosts.ranges).
#define RANGE ternary
#define METER_READ(meter, colour) colour = (bit<2>)meter.execute()
// Red is 3 here.
#define METER_COLOUR(colour) if (colour == 3) { colour = 2; }
#define CRC16_UNIT(name) Hash<bit<16>>(HashAlgorithm_t.CRC16) name;
#define CRC32_UNIT(name) Hash<bit<32>>(HashAlgorithm_t.CRC32) name;
#define HASH_CRC16(unit, result, ...) result = unit.get(__VA_ARGS__)
#define HASH_CRC32(unit, result, ...) result = unit.get(__VA_ARGS__)
// Of 2^32 modulo a power of two: there is no unit for another divisor.
#define HASH_CRC32_MOD(unit, result, bits, ...) result = unit.get(__VA_ARGS__)[bits - 1:0]

// The deparser makes what a block that changes headers makes elsewhere: the parser takes a header's own words
// off the sum (what remains is the payload's), the deparser adds what they are then (tna_main.p4).
#define DEPARSER_SUMS
// HalfSipHash's eight rounds are some fifty stages.
#define NO_SAMPLES

// What pipelines/edge.p4 asks of an architecture, beside the controls arch_arrival and arch_departure.
#define ARCH_MAIN "../arch/tna_main.p4"
#define INGRESS_PARAMETERS in ingress_intrinsic_metadata_t arrived, \
                           in ingress_intrinsic_metadata_from_parser_t parsed, \
                           inout ingress_intrinsic_metadata_for_deparser_t leaving, \
                           inout ingress_intrinsic_metadata_for_tm_t sending
#define INGRESS_ARGUMENTS arrived, parsed, leaving, sending
#define RECIRCULATED (hdr.pass.isValid())
#define SEND_TO(port) sending.ucast_egress_port = port; sending.bypass_egress = 1
// Known behind the replication engine only; a block that needs it is none of this architecture's.
#define FRAME_BYTES 0

// No ALU counts in six bits that share their bytes with others; asked for as a whole, they stay in one piece.
#define AT_MOST_ONE(field) (field == 0 || field == 1)
#define ONE_LESS_6(field) bit<8> one_less = (bit<8>)field; one_less = one_less - 1; field = one_less[5:0]
// In units of 2^10 ns, modulo 2^30: no stage divides by 1000. Of the frame's first pass.
#define MICROSECONDS(time) meta.first_us

const bit<9> CPU_PORT = CPU_PORT_NUMBER;
const bit<9> RECIRCULATE_PORT = RECIRCULATE_PORT_NUMBER;
const MirrorType_t COPY_MIRROR = 1;
const MirrorId_t CLONE_SESSION = 100;   // its port: RECIRCULATE_PORT

// Kinds of passes, by their bits.
const bit<8> PASS_FLOOD = 1;    // about to be replicated
const bit<8> PASS_HOST = 2;     // the frame came from a host: it has no tag yet
const bit<8> PASS_COPIED = 4;   // what was copied had come by a pass: that one stands behind this

// In front of a frame that is not done: it enters its next segment (or this switch once more), is a mirror's
// copy on its way there, or is about to be replicated. What metadata keeps where v1model has field lists. All of
// whole bytes, and only what a later pass reads: a graph, a path and the port are asked for on the first only.
header pass_t {
    bit<8> kind;
    bit<24> resume;
    bit<16> switch_id;
    bit<16> flow;           // of a frame that is replicated: the group
    bit<32> label;
    bit<32> first_us;
}

const bit<32> PASS_BITS = 128;

#define ARCH_HEADERS pass_t pass;
// A mirror's session and its copy's kind are fields: its unit takes no constant but 0.
#define ARCH_METADATA bit<16> ipv4_rest; bit<16> l4_rest; bit<16> quoted_rest; bit<1> udp_summed; \
                      MirrorId_t copy_session; bit<8> copy_kind; bit<32> first_us;

#define ARCH_PARSER_SUMS Checksum() ipv4_sum; Checksum() l4_sum; Checksum() icmp_sum; \
                         Checksum() quoted_sum;
#define WORDS_IPV4(h) h.version, h.ihl, h.diffserv, h.total_len, h.identification, h.reserved, \
                      h.dont_fragment, h.more_fragments, h.frag_offset, h.ttl, h.protocol, h.src_addr, h.dst_addr
#define WORDS_ICMP hdr.icmp.type, hdr.icmp.code, hdr.icmp.identifier, hdr.icmp.sequence
#define WORDS_ND hdr.nd.target, hdr.nd.option_type, hdr.nd.option_len, hdr.nd.link_addr
#define PARSED_IPV4 ipv4_sum.subtract({ WORDS_IPV4(hdr.ipv4), hdr.ipv4.hdr_checksum }); \
                    meta.ipv4_rest = ipv4_sum.get(); \
                    l4_sum.subtract({ hdr.ipv4.src_addr, hdr.ipv4.dst_addr });
#define PARSED_IPV6 l4_sum.subtract({ hdr.ipv6.src_addr, hdr.ipv6.dst_addr });
#define PARSED_TCP l4_sum.subtract({ hdr.tcp.checksum }); meta.l4_rest = l4_sum.get();
#define PARSED_UDP l4_sum.subtract({ hdr.udp.checksum }); meta.l4_rest = l4_sum.get();
#define PARSED_ICMP icmp_sum.subtract({ WORDS_ICMP, hdr.icmp.checksum }); meta.l4_rest = icmp_sum.get();
#define PARSED_ICMPV6 l4_sum.subtract({ WORDS_ICMP, hdr.icmp.checksum });
#define PARSED_ND l4_sum.subtract({ WORDS_ND }); meta.l4_rest = l4_sum.get();
#define PARSED_QUOTED_IPV4 quoted_sum.subtract({ WORDS_IPV4(hdr.quoted_ipv4), hdr.quoted_ipv4.hdr_checksum }); \
                           meta.quoted_rest = quoted_sum.get();
#define PARSED_QUOTED_IPV6 l4_sum.subtract({ hdr.quoted_ipv6.src_addr, hdr.quoted_ipv6.dst_addr }); \
                           meta.l4_rest = l4_sum.get();
// What is left of a sum is taken once on a way through the parser: of ICMPv6 in the state where the way ends.
#define PARSED_ECHO6 meta.l4_rest = l4_sum.get();
#define OTHER_ICMPV6 parse_other_icmpv6
#define ARCH_PARSER_STATES \
    state parse_other_icmpv6 { \
        meta.l4_rest = l4_sum.get(); \
        transition accept; \
    }
// What is malformed is dropped where it is parsed.
#define REFUSE(why) transition reject;

#endif

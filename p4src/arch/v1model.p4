// What differs between architectures, for v1model (BMv2 and the softswitch).
// SPDX-License-Identifier: Apache-2.0
#ifndef ARCH_V1MODEL_P4
#define ARCH_V1MODEL_P4

#include <core.p4>
#include <v1model.p4>

#define DIRECT_COUNTER(name) direct_counter(CounterType.packets_and_bytes) name
#define COUNT(name)     // BMv2 counts every packet that an entry is for.
#define DIRECT_METER(name, colour_t) direct_meter<colour_t>(MeterType.bytes) name
#define RANGE range
#define METER_READ(meter, colour) meter.read(colour)
#define METER_COLOUR(colour)
// A hash is a function here, elsewhere a unit that a control declares.
#define CRC16_UNIT(name)
#define CRC32_UNIT(name)
// Numbers from 0 on, of each index its own.
#define SEQUENCES(name, size) register<bit<32>>(size) name
#define NEXT_NUMBER(name, index, result) \
    name.read(result, (bit<32>)(index)); \
    name.write((bit<32>)(index), result + 1)
// The fields are a list expression, whose commas the preprocessor would take for its own.
#define HASH_CRC16(unit, result, ...) hash(result, HashAlgorithm.crc16, (bit<32>)0, __VA_ARGS__, (bit<32>)65536)
#define HASH_CRC32(unit, result, ...) hash(result, HashAlgorithm.crc32, (bit<64>)0, __VA_ARGS__, (bit<64>)4294967296)
#define HASH_CRC32_MOD(unit, result, modulus, ...) hash(result, HashAlgorithm.crc32, (bit<32>)0, __VA_ARGS__, (bit<32>)modulus)

// What pipelines/edge.p4 asks of an architecture, beside the controls arch_arrival and arch_departure.
#define ARCH_MAIN "../arch/v1model_main.p4"
#define INGRESS_PARAMETERS inout standard_metadata_t standard_metadata
#define INGRESS_ARGUMENTS standard_metadata
#define RECIRCULATED (standard_metadata.instance_type == INSTANCE_RECIRCULATED)
#define AT_MOST_ONE(field) (field <= 1)
#define ONE_LESS_6(field) field = field - 1
#define FRAME_BYTES (bit<16>)standard_metadata.packet_length
#define MICROSECONDS(time) time[31:0]
#define REFUSE(why) verify(false, why); transition accept;

// What an architecture adds to headers, metadata and the parser: nothing.
#define ARCH_HEADERS
#define ARCH_METADATA
#define ARCH_PARSER_SUMS
#define PARSED_IPV4
#define PARSED_IPV6
#define PARSED_TCP
#define PARSED_UDP
#define PARSED_ICMP
#define PARSED_ICMPV6
#define PARSED_ECHO6
#define OTHER_ICMPV6 accept
#define PARSED_ND
#define PARSED_QUOTED_IPV4
#define PARSED_QUOTED_IPV6
#define ARCH_PARSER_STATES
#define SEND_TO(port) standard_metadata.egress_spec = port

const bit<32> INSTANCE_RECIRCULATED = 4;
const bit<9> CPU_PORT = 510;
const bit<9> RECIRCULATE_PORT = 509;
// Replicas of the clone session, all for the CPU's port: a sample for the controller, a mirror's copy, and what
// a witness is told of a packet as it came and of its drop, which egress recirculates (the copy, too). Those
// that were not asked for are dropped there.
const bit<32> CLONE_SESSION = 100;
const bit<16> SAMPLE_REPLICA = 1;
const bit<16> COPY_REPLICA = 2;
const bit<16> CAME_REPLICA = 3;
const bit<16> DROP_REPLICA = 4;

#endif

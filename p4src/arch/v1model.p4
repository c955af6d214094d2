// What differs between architectures, for v1model (BMv2 and the softswitch).
// SPDX-License-Identifier: Apache-2.0
#ifndef ARCH_V1MODEL_P4
#define ARCH_V1MODEL_P4

#include <core.p4>
#include <v1model.p4>

#define DIRECT_COUNTER(name) direct_counter(CounterType.packets_and_bytes) name
// The fields are a list expression, whose commas the preprocessor would take for its own.
#define HASH_CRC16(result, ...) hash(result, HashAlgorithm.crc16, (bit<32>)0, __VA_ARGS__, (bit<32>)65536)
#define HASH_CRC32(result, ...) hash(result, HashAlgorithm.crc32, (bit<64>)0, __VA_ARGS__, (bit<64>)4294967296)

const bit<9> CPU_PORT = 510;
const bit<9> RECIRCULATE_PORT = 509;
const bit<32> SAMPLE_SESSION = 100;

#endif

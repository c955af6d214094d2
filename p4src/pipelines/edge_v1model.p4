// edge on v1model (BMv2 and the softswitch).
// SPDX-License-Identifier: Apache-2.0
#include "../arch/v1model.p4"
#include "edge.p4"

V1Switch(v1model_parser(), v1model_verify_checksum(), ingress(), egress(),
         v1model_compute_checksum(), frame_deparser()) main;

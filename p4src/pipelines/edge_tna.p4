// edge on TNA (Tofino) and T2NA (Tofino 2).
// SPDX-License-Identifier: Apache-2.0
#include "../arch/tna.p4"
#include "edge.p4"

Pipeline(ingress_parser(), ingress(), ingress_deparser(), egress_parser(), egress(), egress_deparser()) pipe;

Switch(pipe) main;

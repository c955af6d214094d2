// edge: the shipped pipeline for v1model. It instantiates the blocks in order, nothing else.
// Capability, in order: acl, steer, split (all three acl blocks), rewrite, route.
// SPDX-License-Identifier: Apache-2.0
#include "../arch/v1model.p4"
#include "../shared/headers.p4"
#include "../shared/metadata.p4"
#include "../shared/parser.p4"
#include "../shared/checksum.p4"
#include "../blocks/port.p4"
#include "../blocks/neighbor.p4"
#include "../blocks/classify.p4"
#include "../blocks/acl.p4"
#include "../blocks/rewrite.p4"
#include "../blocks/route.p4"
#include "../blocks/dispatch.p4"
#include "../blocks/deliver.p4"
#include "../blocks/flowtag.p4"
#include "../blocks/fabric.p4"
#include "../blocks/trajectory.p4"
#include "../blocks/flood.p4"

#include "../arch/v1model_main.p4"

control ingress(inout headers_t hdr, inout metadata_t meta, inout standard_metadata_t standard_metadata) {
    port_block() port;
    neighbor_block() neighbor;
    classify_block() classify;
    flowtag_arrival_block() flowtag_arrival;
    trajectory_label_block() trajectory_label;
    trajectory_sample_block() trajectory_sample;
    acl_block(16384, 8192, 1024) acl;
    acl_block(4096, 4096, 1024) steer;
    acl_block(4096, 4096, 1024) split;
    rewrite_block() rewrite;
    route_block(1048576, 262144, 1024) route;
    dispatch_block() dispatch;
    deliver_block() deliver;
    flowtag_departure_block() flowtag_departure;
    fabric_block() fabric;
    v1model_arrival() arrival;
    v1model_departure() departure;

    apply {
        if (hdr.packet_out.isValid()) {
            standard_metadata.egress_spec = hdr.packet_out.egress_port;
            hdr.packet_out.setInvalid();
            exit;
        }
        arrival.apply(hdr, meta, standard_metadata);
        if (meta.drop == 0 && standard_metadata.instance_type != INSTANCE_RECIRCULATED) {
            port.apply(meta);
        }
        if (meta.drop == 0) {
            if (meta.host_facing == 0) {
                if (hdr.nsh.isValid()) {
                    flowtag_arrival.apply(hdr, meta);
                } else {
                    meta.drop = 1;
                }
            } else if (hdr.nsh.isValid()) {
                meta.drop = 1;      // a host must not forge a tag
            } else {
                neighbor.apply(hdr, meta);
                if (meta.answered == 0) {
                    classify.apply(hdr, meta);
                    trajectory_label.apply(hdr, meta);
                }
            }
        }
        if (meta.drop == 0 && meta.answered == 0) {
            trajectory_sample.apply(meta);
        }
        if (meta.drop == 0 && meta.segment != 0) {
            acl.apply(hdr, meta);
            if (meta.drop == 0) {
                steer.apply(hdr, meta);
            }
            if (meta.drop == 0) {
                split.apply(hdr, meta);
            }
            if (meta.drop == 0) {
                rewrite.apply(hdr, meta);
                route.apply(hdr, meta);
            }
            if (meta.drop == 0) {
                dispatch.apply(meta);
            }
            if (meta.drop == 0 && meta.next == NEXT_NONE) {
                deliver.apply(hdr, meta);
            }
        }
        if (meta.drop == 0 && meta.answered == 0) {
            flowtag_departure.apply(hdr, meta);
            if (meta.next == NEXT_TAGGED) {
                fabric.apply(hdr, meta);
            }
        }
        departure.apply(hdr, meta, standard_metadata);
    }
}

V1Switch(v1model_parser(), v1model_verify_checksum(), ingress(), egress(),
         v1model_compute_checksum(), frame_deparser()) main;

// edge: the shipped pipeline, the same for every architecture; `pipelines/edge_<architecture>.p4` includes an
// architecture's macros (arch/<architecture>.p4) before it and puts it into that one's main.
// Between the marks of NF blocks stands what orchestrator/targets/block.py makes of the descriptors of blocks
// (`p4src/build.py` writes it): which there are, their sizes, their order, and when each applies. A specialised
// pipeline has other instances there.
// SPDX-License-Identifier: Apache-2.0
#include "../shared/headers.p4"
#include "../shared/metadata.p4"
#include "../shared/actions.p4"
#include "../shared/parser.p4"
#include "../shared/checksum.p4"
#include "../shared/prf.p4"
#include "../blocks/port.p4"
#include "../blocks/neighbor.p4"
#include "../blocks/classify.p4"
// NF blocks: files
#include "../blocks/acl.p4"
#include "../blocks/tree.p4"
#include "../blocks/mirror.p4"
#include "../blocks/policer.p4"
#include "../blocks/mark.p4"
#include "../blocks/hash_lb.p4"
#include "../blocks/vlan.p4"
#include "../blocks/tunnel.p4"
#include "../blocks/rewrite.p4"
#include "../blocks/route.p4"
// end of NF blocks
#include "../blocks/dispatch.p4"
#include "../blocks/deliver.p4"
#include "../blocks/flowtag.p4"
#include "../blocks/fabric.p4"
#include "../blocks/trajectory.p4"
#ifndef NO_SAMPLES
#include "../blocks/witness.p4"
#include "../blocks/record.p4"
#endif
#include "../blocks/flood.p4"

#include ARCH_MAIN

control ingress(inout headers_t hdr, inout metadata_t meta, INGRESS_PARAMETERS) {
    port_block() port;
    neighbor_block() neighbor;
    echo_answer_block() echo_answer;
    classify_block() classify;
    flowtag_arrival_block() flowtag_arrival;
    trajectory_label_block() trajectory_label;
#ifndef NO_SAMPLES
    trajectory_sample_block() trajectory_sample;
    witness_block() witness;
#endif
    // NF blocks: instances
    acl_block(16384, 8192, 1024) acl;
    @name("acl.tree")
    tree_block(16384, 131072, 131072, 65536, 65536) acl_tree;
    acl_block(4096, 4096, 1024) steer;
    acl_block(4096, 4096, 1024) split;
    mirror_block() mirror;
    policer_block() policer;
    mark_block() mark;
    hash_lb_block() hash_lb;
    vlan_block() untag;
    vlan_block() tag;
    tunnel_block() tunnel;
    rewrite_block() rewrite;
    route_block(1048576, 262144, 1024) route;
    // end of NF blocks
    dispatch_block() dispatch;
    deliver_block() deliver;
    flowtag_departure_block() flowtag_departure;
    fabric_block() fabric;
    arch_arrival() arrival;
    arch_departure() departure;

    apply {
        if (hdr.packet_out.isValid()) {
            SEND_TO(hdr.packet_out.egress_port);
            hdr.packet_out.setInvalid();
            exit;
        }
        arrival.apply(hdr, meta, INGRESS_ARGUMENTS);
        if (meta.drop == 0 && !RECIRCULATED) {
            port.apply(meta);
        }
        if (meta.resume != 0) {
            meta.segment = meta.resume;
            meta.resume = 0;
            if ((meta.host_facing == 1 && hdr.nsh.isValid())
                || hdr.ethernet.ether_type == ETHERTYPE_NSH) {
                meta.drop = DROP_TAG;   // a tag that came in a tunnel is forged, too
            }
        } else {
            if (meta.drop == 0) {
                if (meta.host_facing == 0) {
                    if (hdr.nsh.isValid()) {
                        flowtag_arrival.apply(hdr, meta);
                    } else {
                        meta.drop = DROP_TAG;
                    }
                } else if (hdr.nsh.isValid()) {
                    meta.drop = DROP_TAG;   // a host must not forge a tag
                } else {
                    neighbor.apply(hdr, meta);
                    if (meta.answered == 0) {
                        classify.apply(hdr, meta);
                        trajectory_label.apply(hdr, meta);
                    } else {
                        echo_answer.apply(hdr, meta);
                    }
                }
            }
#ifndef NO_SAMPLES
            if (meta.drop == 0 && meta.answered == 0) {
                trajectory_sample.apply(meta);
            }
            if (meta.graph != 0 && meta.next == NEXT_NONE) {     // not in transit
                witness.apply(hdr, meta);
            }
#endif
        }
        if (meta.drop == 0 && meta.segment != 0) {
            // NF blocks: order
            acl.apply(hdr, meta);
            if (meta.tree == 1) {
                acl_tree.apply(hdr, meta);
            }
            if (meta.drop == 0) {
                steer.apply(hdr, meta);
            }
            if (meta.drop == 0 && meta.segment[13:13] == 1) {
                mirror.apply(meta);
                policer.apply(hdr, meta);
                if (meta.drop == 0) {
                    mark.apply(hdr, meta);
                }
                if (meta.drop == 0) {
                    hash_lb.apply(hdr, meta);
                    untag.apply(hdr, meta);
                }
            }
            if (meta.drop == 0) {
                split.apply(hdr, meta);
            }
            if (meta.drop == 0) {
                rewrite.apply(hdr, meta);
                route.apply(hdr, meta);
            }
            if (meta.drop == 0 && meta.segment[13:13] == 1) {
                tag.apply(hdr, meta);
                if (meta.drop == 0) {
                    tunnel.apply(hdr, meta, FRAME_BYTES);
                }
            }
            // end of NF blocks
            if (meta.drop == 0 && meta.resume == 0) {
                dispatch.apply(meta);
                if (meta.next == NEXT_NONE) {
                    deliver.apply(hdr, meta);
                }
            }
        }
        if (meta.drop == 0 && meta.answered == 0 && meta.resume == 0) {
            if (meta.next == NEXT_TAGGED) {
                fabric.apply(meta);
            }
            flowtag_departure.apply(hdr, meta);
        }
        departure.apply(hdr, meta, INGRESS_ARGUMENTS);
    }
}

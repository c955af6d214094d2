// The controls that tie the neutral blocks to v1model.
// SPDX-License-Identifier: Apache-2.0
#ifndef ARCH_V1MODEL_MAIN_P4
#define ARCH_V1MODEL_MAIN_P4

const bit<32> INSTANCE_INGRESS_CLONE = 1;
const bit<32> INSTANCE_EGRESS_CLONE = 2;
const bit<8> REASON_SAMPLE = 1;

parser v1model_parser(packet_in packet, out headers_t hdr, inout metadata_t meta,
                      inout standard_metadata_t standard_metadata) {
    frame_parser() frame;

    state start {
        transition select(standard_metadata.ingress_port) {
            CPU_PORT: parse_packet_out;
            default: parse_frame;
        }
    }

    state parse_packet_out {
        packet.extract(hdr.packet_out);
        transition accept;
    }

    state parse_frame {
        frame.apply(packet, hdr, meta);
        transition accept;
    }
}

control v1model_verify_checksum(inout headers_t hdr, inout metadata_t meta) {
    apply {
    }
}

// Metadata from the architecture; a malformed frame is dropped.
control arch_arrival(inout headers_t hdr, inout metadata_t meta,
                        inout standard_metadata_t standard_metadata) {
    counter(1, CounterType.packets) malformed;

    apply {
        // BMv2 forgets the ingress port of a frame that it recirculates.
        if (!RECIRCULATED) {
            meta.arrival_port = standard_metadata.ingress_port;
            meta.arrival_us = standard_metadata.ingress_global_timestamp;
        }
        if (standard_metadata.parser_error != error.NoError) {
            malformed.count(0);
            meta.drop = DROP_MALFORMED;
        }
    }
}

control arch_departure(inout headers_t hdr, inout metadata_t meta,
                          inout standard_metadata_t standard_metadata) {
    apply {
        if (meta.drop == 0 && meta.next == NEXT_NONE && meta.answered == 0 && meta.resume == 0) {
            meta.drop = DROP_NEXT;
        }
        if (meta.sampled == 1 || meta.copy_to != 0 || meta.came == 1
            || (meta.watched != 0 && meta.drop != 0)) {
            clone_preserving_field_list(CloneType.I2E, CLONE_SESSION, CLONE_FIELDS);
        }
        if (meta.drop != 0) {
            mark_to_drop(standard_metadata);
        } else if (meta.resume != 0) {
            standard_metadata.egress_spec = standard_metadata.ingress_port;
        } else if (meta.answered == 1) {
            standard_metadata.egress_spec = standard_metadata.ingress_port;
        } else if (meta.next == NEXT_FLOOD) {
            standard_metadata.mcast_grp = meta.flood_group;
        } else if (meta.egress_port == RECIRCULATE_PORT) {
            meta.recirculate = 1;
            standard_metadata.egress_spec = standard_metadata.ingress_port;
        } else {
            standard_metadata.egress_spec = meta.egress_port;
        }
    }
}

control egress(inout headers_t hdr, inout metadata_t meta,
               inout standard_metadata_t standard_metadata) {
    flood_block() flood;
    record_block() record;

    apply {
        bit<8> tells = 0;
        if (standard_metadata.instance_type == INSTANCE_INGRESS_CLONE) {
            if (standard_metadata.egress_rid == SAMPLE_REPLICA && meta.sampled == 1) {
                hdr.packet_in.setValid();
                hdr.packet_in.ingress_port = meta.arrival_port;
                hdr.packet_in._pad = 0;
                hdr.packet_in.reason = REASON_SAMPLE;
                hdr.packet_in.label = meta.label;
                hdr.packet_in.spi = meta.spi;
                hdr.packet_in.si = meta.si;
                hdr.packet_in.timestamp_us = meta.arrival_us;
            } else if (standard_metadata.egress_rid == COPY_REPLICA && meta.copy_to != 0) {
                meta.resume = meta.copy_to;
                recirculate_preserving_field_list(RESUME_FIELDS);
            } else if (standard_metadata.egress_rid == CAME_REPLICA && meta.came == 1) {
                tells = RECORD_HOP;
                if (meta.host_facing == 1) {
                    tells = RECORD_ENTRY;
                }
            } else if (standard_metadata.egress_rid == DROP_REPLICA && meta.watched != 0 && meta.drop != 0) {
                tells = RECORD_DROP;
            } else {
                mark_to_drop(standard_metadata);
            }
        } else if (standard_metadata.instance_type == INSTANCE_EGRESS_CLONE) {
            if (standard_metadata.egress_rid != CAME_REPLICA) {
                mark_to_drop(standard_metadata);
            } else {
                tells = RECORD_EXIT;
                if (hdr.nsh.isValid()) {
                    tells = RECORD_OUT;
                }
            }
        } else if (meta.resume != 0) {
            recirculate_preserving_field_list(RESUME_FIELDS);
        } else {
            if (meta.recirculate == 1) {
                recirculate_preserving_field_list(RECIRCULATE_FIELDS);
            } else if (meta.next == NEXT_FLOOD) {
                flood.apply(hdr, meta, standard_metadata.egress_rid);
            }
            if (meta.watched != 0) {
                clone_preserving_field_list(CloneType.E2E, CLONE_SESSION, CLONE_FIELDS);
            }
        }
        if (tells != 0) {
            record.apply(hdr, meta, tells);
            if (hdr.record.isValid()) {
                recirculate_preserving_field_list(RECIRCULATE_FIELDS);
            } else {
                mark_to_drop(standard_metadata);
            }
        }
    }
}

// Only the answer to a neighbour solicitation is summed from scratch (RFC 4443, 2.3).
control v1model_compute_checksum(inout headers_t hdr, inout metadata_t meta) {
    apply {
        update_checksum(meta.nd_answer == 1,
            { hdr.ipv6.src_addr, hdr.ipv6.dst_addr, 16w0, hdr.ipv6.payload_len, 8w0, hdr.ipv6.next_hdr,
              hdr.icmp.type, hdr.icmp.code, hdr.icmp.identifier, hdr.icmp.sequence,
              hdr.nd.target, hdr.nd.option_type, hdr.nd.option_len, hdr.nd.link_addr },
            hdr.icmp.checksum, HashAlgorithm.csum16);
    }
}

#endif

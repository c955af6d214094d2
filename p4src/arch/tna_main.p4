// The controls that tie the neutral blocks to TNA and T2NA.
// SPDX-License-Identifier: Apache-2.0
#ifndef ARCH_TNA_MAIN_P4
#define ARCH_TNA_MAIN_P4

parser ingress_parser(packet_in packet, out headers_t hdr, out metadata_t meta,
                      out ingress_intrinsic_metadata_t arrived) {
    frame_parser() frame;

    state start {
        packet.extract(arrived);
        packet.advance(PORT_METADATA_SIZE);
        meta.arrival_port = arrived.ingress_port;
        meta.arrival_us = arrived.ingress_mac_tstamp;
        transition select(arrived.ingress_port) {
            CPU_PORT: parse_packet_out;
            RECIRCULATE_PORT: parse_pass;
            default: parse_frame;
        }
    }

    state parse_packet_out {
        packet.extract(hdr.packet_out);
        transition accept;
    }

    state parse_pass {
        packet.extract(hdr.pass);
        meta.label = hdr.pass.label;
        meta.flow = hdr.pass.flow;
        meta.spi = hdr.pass.spi;
        meta.si = hdr.pass.si;
        meta.graph = hdr.pass.graph;
        meta.switch_id = hdr.pass.switch_id;
        meta.host_facing = hdr.pass.host_facing;
        meta.resume = hdr.pass.resume;
        meta.arrival_port = hdr.pass.arrival_port;
        meta.arrival_us = hdr.pass.arrival_us;
        transition parse_frame;
    }

    state parse_frame {
        frame.apply(packet, hdr, meta);
        transition accept;
    }
}

// The parser has done it.
control arch_arrival(inout headers_t hdr, inout metadata_t meta, INGRESS_PARAMETERS) {
    apply {
    }
}

control arch_departure(inout headers_t hdr, inout metadata_t meta, INGRESS_PARAMETERS) {
    action drop() {
        leaving.drop_ctl = 1;
    }

    action pass_again(bit<24> segment) {
        hdr.pass.setValid();
        hdr.pass.kind = PASS_AGAIN;
        hdr.pass.si = meta.si;
        hdr.pass.flow = meta.flow;
        hdr.pass.label = meta.label;
        hdr.pass.spi = meta.spi;
        hdr.pass.resume = segment;
        hdr.pass.switch_id = meta.switch_id;
        hdr.pass.arrival_us = meta.arrival_us;
        hdr.pass.arrival_port = meta.arrival_port;
        hdr.pass.graph = meta.graph;
        hdr.pass.host_facing = meta.host_facing;
        sending.ucast_egress_port = RECIRCULATE_PORT;
        sending.bypass_egress = 1;
    }

    action replicate() {
        hdr.pass.setValid();
        hdr.pass.kind = PASS_FLOOD;
        hdr.pass.switch_id = meta.switch_id;
        hdr.pass.flood_group = meta.flood_group;
        sending.mcast_grp_a = meta.flood_group;
    }

    action send(port_id_t port) {
        hdr.pass.setInvalid();
        sending.ucast_egress_port = port;
        sending.bypass_egress = 1;
    }

    apply {
        if (hdr.udp.isValid() && hdr.udp.checksum != 0) {
            meta.udp_summed = 1;
        }
        if (meta.copy_to != 0) {
            leaving.mirror_type = COPY_MIRROR;
            meta.copy_session = CLONE_SESSION;
            meta.copy_kind = PASS_COPY;
        }
        if (meta.drop != 0) {
            drop();
        } else if (meta.resume != 0) {
            pass_again(meta.resume);
        } else if (meta.answered == 1) {
            send(arrived.ingress_port);
        } else if (meta.next == NEXT_FLOOD) {
            replicate();
        } else if (meta.next == NEXT_NONE) {
            drop();
        } else if (meta.egress_port == RECIRCULATE_PORT) {
            pass_again(0);
        } else {
            send(meta.egress_port);
        }
    }
}

control ingress_deparser(packet_out packet, inout headers_t hdr, in metadata_t meta,
                         in ingress_intrinsic_metadata_for_deparser_t leaving) {
    Mirror(COPY_MIRROR) copy;
    Checksum() ipv4_sum;
    Checksum() tcp_sum;
    Checksum() udp_sum;
    Checksum() icmp_sum;
    Checksum() quoted_sum;

    apply {
        if (leaving.mirror_type == COPY_MIRROR) {
            copy.emit<pass_t>(meta.copy_session, { meta.copy_kind, meta.si, meta.flow, meta.label, meta.spi,
                meta.copy_to, meta.switch_id, 0, meta.arrival_us, 0, meta.arrival_port, 0, meta.graph,
                meta.host_facing });
        }
        hdr.ipv4.hdr_checksum = ipv4_sum.update({ WORDS_IPV4(hdr.ipv4), meta.ipv4_rest });
        hdr.tcp.checksum = tcp_sum.update({ hdr.ipv4.src_addr, hdr.ipv4.dst_addr,
                                            hdr.ipv6.src_addr, hdr.ipv6.dst_addr, meta.l4_rest });
        if (meta.udp_summed == 1) {
            hdr.udp.checksum = udp_sum.update({ hdr.ipv4.src_addr, hdr.ipv4.dst_addr,
                                                hdr.ipv6.src_addr, hdr.ipv6.dst_addr, meta.l4_rest }, true);
        }
        hdr.icmp.checksum = icmp_sum.update({ hdr.ipv6.src_addr, hdr.ipv6.dst_addr, WORDS_ICMP, WORDS_ND,
                                              hdr.quoted_ipv6.src_addr, hdr.quoted_ipv6.dst_addr,
                                              meta.l4_rest });
        hdr.quoted_ipv4.hdr_checksum = quoted_sum.update({ WORDS_IPV4(hdr.quoted_ipv4), meta.quoted_rest });
        packet.emit(hdr);
    }
}

// Behind the replication engine; only what is replicated and mirrors' copies come here.
parser egress_parser(packet_in packet, out headers_t hdr, out metadata_t meta,
                     out egress_intrinsic_metadata_t replica) {
    state start {
        packet.extract(replica);
        packet.extract(hdr.pass);
        transition select(hdr.pass.kind) {
            PASS_FLOOD: parse_flood;
            default: accept;
        }
    }

    state parse_flood {
        meta.flood_group = hdr.pass.flood_group;
        meta.switch_id = hdr.pass.switch_id;
        packet.extract(hdr.outer);
        packet.extract(hdr.nsh);
        transition accept;
    }
}

control egress(inout headers_t hdr, inout metadata_t meta, in egress_intrinsic_metadata_t replica,
               in egress_intrinsic_metadata_from_parser_t parsed,
               inout egress_intrinsic_metadata_for_deparser_t leaving,
               inout egress_intrinsic_metadata_for_output_port_t port) {
    flood_block() flood;

    apply {
        if (hdr.nsh.isValid()) {
            hdr.pass.setInvalid();
            flood.apply(hdr, meta, replica.egress_rid);
        }
    }
}

control egress_deparser(packet_out packet, inout headers_t hdr, in metadata_t meta,
                        in egress_intrinsic_metadata_for_deparser_t leaving) {
    apply {
        packet.emit(hdr.pass);
        packet.emit(hdr.outer);
        packet.emit(hdr.nsh);
    }
}

#endif

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
        transition select(arrived.ingress_port) {
            CPU_PORT: parse_packet_out;
            RECIRCULATE_PORT: parse_pass;
            default: parse_first_pass;
        }
    }

    state parse_first_pass {
        meta.first_us = arrived.ingress_mac_tstamp[39:8];
        transition parse_frame;
    }

    state parse_packet_out {
        packet.extract(hdr.packet_out);
        transition accept;
    }

    state parse_pass {
        packet.extract(hdr.pass);
        meta.label = hdr.pass.label;
        meta.flow = hdr.pass.flow;
        meta.switch_id = hdr.pass.switch_id;
        meta.resume = hdr.pass.resume;
        meta.first_us = hdr.pass.first_us;
        transition select(hdr.pass.kind) {
            PASS_HOST: parse_of_host;
            PASS_COPIED: parse_copied;
            PASS_COPIED | PASS_HOST: parse_copied_of_host;
            default: parse_frame;
        }
    }

    state parse_of_host {
        meta.host_facing = 1;
        transition parse_frame;
    }

    state parse_copied {
        packet.advance(PASS_BITS);
        transition parse_frame;
    }

    state parse_copied_of_host {
        packet.advance(PASS_BITS);
        meta.host_facing = 1;
        transition parse_frame;
    }

    state parse_frame {
        frame.apply(packet, hdr, meta);
        transition accept;
    }
}

control arch_arrival(inout headers_t hdr, inout metadata_t meta, INGRESS_PARAMETERS) {
    apply {
        if (!RECIRCULATED) {
            meta.first_us = meta.first_us >> 2;     // of what the parser takes by whole bytes
        }
    }
}

control arch_departure(inout headers_t hdr, inout metadata_t meta, INGRESS_PARAMETERS) {
    action drop() {
        leaving.drop_ctl = 1;
    }

    action pass_again(bit<8> kind) {
        hdr.pass.setValid();
        hdr.pass.kind = kind;
        hdr.pass.resume = meta.resume;
        hdr.pass.switch_id = meta.switch_id;
        hdr.pass.flow = meta.flow;
        hdr.pass.label = meta.label;
        hdr.pass.first_us = meta.first_us;
        sending.ucast_egress_port = RECIRCULATE_PORT;
        sending.bypass_egress = 1;
    }

    action replicate() {
        hdr.pass.setValid();
        hdr.pass.kind = PASS_FLOOD;
        hdr.pass.switch_id = meta.switch_id;
        hdr.pass.flow = meta.flood_group;
        sending.mcast_grp_a = meta.flood_group;
    }

    action send(port_id_t port) {
        hdr.pass.setInvalid();
        sending.ucast_egress_port = port;
        sending.bypass_egress = 1;
    }

    action copy(bit<8> kind) {
        leaving.mirror_type = COPY_MIRROR;
        meta.copy_session = CLONE_SESSION;
        meta.copy_kind = kind;
    }

    apply {
        if (hdr.udp.isValid() && hdr.udp.checksum != 0) {
            meta.udp_summed = 1;
        }
        if (meta.copy_to != 0) {
            if (RECIRCULATED && meta.host_facing == 1) {
                copy(PASS_COPIED | PASS_HOST);
            } else if (RECIRCULATED) {
                copy(PASS_COPIED);
            } else if (meta.host_facing == 1) {
                copy(PASS_HOST);
            } else {
                copy(0);
            }
        }
        if (meta.drop != 0) {
            drop();
        } else if (meta.resume != 0 && meta.host_facing == 1) {
            pass_again(PASS_HOST);
        } else if (meta.resume != 0) {
            pass_again(0);
        } else if (meta.answered == 1) {
            send(arrived.ingress_port);
        } else if (meta.next == NEXT_FLOOD) {
            replicate();
        } else if (meta.next == NEXT_NONE) {
            drop();
        } else if (meta.egress_port == RECIRCULATE_PORT) {
            pass_again(0);      // what came from a host has its tag by now
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
            copy.emit<pass_t>(meta.copy_session, { meta.copy_kind, meta.copy_to, meta.switch_id, meta.flow,
                                                   meta.label, meta.first_us });
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
        meta.flood_group = hdr.pass.flow;
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

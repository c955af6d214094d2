// record: what a switch tells a witness of a watched packet, in egress: a tag to the CLE, a header (record_t), and
// the packet's frame as it is now without its own tag. It goes through the fabric as any tagged frame does;
// its graph is 0, so nothing is ever told of it.
// Reads: meta.*, hdr.outer, hdr.nsh. Writes: hdr.record, hdr.outer, hdr.nsh.
// Effect on the packet: it becomes the record; where nobody is told of its graph nothing is changed.
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_RECORD_P4
#define BLOCKS_RECORD_P4

// As in servernf/wire/records.py.
const bit<8> RECORD_OUT = 2;
const bit<8> RECORD_DROP = 3;
const bit<8> RECORD_ENTRY = 7;
const bit<8> RECORD_EXIT = 8;
const bit<8> RECORD_HOP = 9;

const bit<16> ETHERTYPE_EXPERIMENT = 0x88b5;
const bit<8> RECORD_VERSION = 1;

control record_block(inout headers_t hdr, inout metadata_t meta, in bit<8> kind) {
    DIRECT_COUNTER(collectors_counter);
    SEQUENCES(numbers, 1024);
    bit<32> k0 = 0;
    bit<32> k1 = 0;
    bit<32> number = 0;
    mac_addr_t to = 0;
    prf_t v;
    prf_start() start;
    prf_take() take;
    prf_finish() finish;

    @write_only
    action tell(mac_addr_t collector, bit<32> boot, bit<32> key0, bit<32> key1) {
        COUNT(collectors_counter);
        hdr.record.setValid();
        hdr.record.boot = boot;
        to = collector;
        k0 = key0;
        k1 = key1;
    }

    // One CLE a graph.
    table collectors {
        key = {
            meta.graph : exact @name("graph");
        }
        actions = {
            tell;
            @defaultonly NoAction;
        }
        size = 1024;
        const default_action = NoAction();
        counters = collectors_counter;
    }

    action fill() {
        hdr.record.ether_type = ETHERTYPE_EXPERIMENT;
        hdr.record.version = RECORD_VERSION;
        hdr.record.kind = kind;
        hdr.record.switch_id = meta.switch_id;
        hdr.record.graph = (bit<16>)meta.graph;
        hdr.record.label = meta.label;
        hdr.record.ingress_us = meta.ingress_us;
        hdr.record.path = 0;
        hdr.record.epoch = meta.watched;
        hdr.record.flow = meta.flow;
        hdr.record.reason = 0;
        hdr.record.reserved = 0;
        hdr.record.port = (bit<16>)meta.arrival_port;
        hdr.record.arrival_us = meta.arrival_us;
        hdr.record.next_mac = 0;
        hdr.record.reserved2 = 0;
        hdr.record.next_path = 0;
        hdr.record.nf_labels = 0;
    }

    action address() {
        hdr.outer.setValid();
        hdr.outer.dst_addr = to;
        hdr.outer.src_addr = 16w0x0200 ++ meta.switch_id ++ 16w0;
        hdr.outer.ether_type = ETHERTYPE_NSH;
        hdr.nsh.setValid();
        hdr.nsh.version = 0;
        hdr.nsh.oam = 1;
        hdr.nsh.unassigned1 = 0;
        hdr.nsh.ttl = 63;
        hdr.nsh.length = 6;
        hdr.nsh.unassigned2 = 0;
        hdr.nsh.md_type = 1;
        hdr.nsh.next_protocol = 3;
        hdr.nsh.spi = 0;
        hdr.nsh.si = 0;
        hdr.nsh.traffic_class = 0;
        hdr.nsh.flow = 0;
        hdr.nsh.label = 0;
        hdr.nsh.nf_labels = 0;
        hdr.nsh.ingress_us = 0;
    }

    apply {
        if (collectors.apply().hit) {
            NEXT_NUMBER(numbers, meta.graph, number);
            hdr.record.number = number;
            fill();
            if (meta.host_facing == 0) {
                hdr.record.path = meta.spi ++ meta.si;
            }
            if (kind == RECORD_DROP) {
                hdr.record.reason = meta.drop;
            }
            if (hdr.nsh.isValid()) {
                hdr.record.nf_labels = hdr.nsh.nf_labels;
            }
            if (kind == RECORD_OUT) {
                hdr.record.next_mac = hdr.outer.dst_addr;
                hdr.record.next_path = hdr.nsh.spi ++ hdr.nsh.si;
            }
            start.apply(v, k0, k1);
            take.apply(v, hdr.record.boot);
            take.apply(v, hdr.record.number);
            take.apply(v, hdr.record.ether_type ++ hdr.record.version ++ hdr.record.kind);
            take.apply(v, hdr.record.switch_id ++ hdr.record.graph);
            take.apply(v, hdr.record.label);
            take.apply(v, hdr.record.ingress_us);
            take.apply(v, hdr.record.path);
            take.apply(v, hdr.record.epoch);
            take.apply(v, hdr.record.flow ++ hdr.record.reason ++ hdr.record.reserved);
            take.apply(v, hdr.record.port ++ hdr.record.arrival_us[47:32]);
            take.apply(v, hdr.record.arrival_us[31:0]);
            take.apply(v, hdr.record.next_mac[47:16]);
            take.apply(v, hdr.record.next_mac[15:0] ++ hdr.record.reserved2);
            take.apply(v, hdr.record.next_path);
            take.apply(v, hdr.record.nf_labels);
            take.apply(v, 0x3c000000);
            finish.apply(v, hdr.record.mac);
            address();
        }
    }
}

#endif

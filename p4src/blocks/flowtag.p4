// flowtag: the NSH tag (RFC 8300, MD type 1, next protocol Ethernet): who a tagged frame is for,
// pushing it at the ingress switch, popping it at the last device.
// Reads: meta.next, label, flow, arrival_us, arrival_port, server_facing, switch_id. Writes: hdr.outer, hdr.nsh,
// meta.segment, meta.graph, meta.next, meta.next_mac, meta.drop.
// Effect on the packet: 38 bytes in front of the original frame, which is never touched.
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_FLOWTAG_P4
#define BLOCKS_FLOWTAG_P4

// A tagged frame that is addressed to this switch enters the segment of its service path.
// Of a server's port a tag is taken only if a worker there was told to write it, to the device that it was
// told to send to: whoever gets hold of a server reaches the graphs that it serves, not those of others.
control flowtag_arrival_block(inout headers_t hdr, inout metadata_t meta) {
    DIRECT_COUNTER(paths_counter);
    DIRECT_COUNTER(origins_counter);

    action accept_tag() {
        COUNT(origins_counter);
    }

    action enter(@refers_to("segment") segment_id_t segment) {
        COUNT(paths_counter);
        meta.segment = segment;
    }

    action refuse() {
        meta.drop = DROP_PATH;
    }

    table paths {
        key = {
            hdr.nsh.spi : exact @name("spi") @belongs_to("path");
            hdr.nsh.si : exact @name("si") @belongs_to("position");
        }
        actions = {
            enter;
            @defaultonly refuse;
        }
        size = 4096;
        const default_action = refuse();
        counters = paths_counter;
    }

    table origins {
        key = {
            meta.arrival_port : exact @name("ingress_port") @refers_to("server_port");
            hdr.outer.dst_addr : exact @name("mac") @refers_to("device");
            hdr.nsh.spi : exact @name("spi") @refers_to("path");
            hdr.nsh.si : exact @name("si") @refers_to("position");
        }
        actions = {
            accept_tag;
            @defaultonly refuse;
        }
        size = 4096;
        const default_action = refuse();
        counters = origins_counter;
    }

    apply {
        meta.label = hdr.nsh.label;
        meta.spi = hdr.nsh.spi;
        meta.si = hdr.nsh.si;
        meta.graph = hdr.nsh.spi[23:14];
        if (meta.server_facing == 1) {
            origins.apply();
        }
        // RFC 8300, 2.2: decrement, and drop at zero.
        if (AT_MOST_ONE(hdr.nsh.ttl)) {
            meta.drop = DROP_TTL;
        } else if (meta.drop == 0) {
            ONE_LESS_6(hdr.nsh.ttl);
            if (hdr.outer.dst_addr[31:16] == meta.switch_id) {
                paths.apply();
            } else {
                meta.next = NEXT_TAGGED;
                meta.next_mac = hdr.outer.dst_addr;
            }
        }
    }
}

// Writes the tag of a frame that leaves for another device, takes it off one that leaves for a host.
control flowtag_departure_block(inout headers_t hdr, inout metadata_t meta) {
    action push() {
        hdr.outer.setValid();
        hdr.outer.ether_type = ETHERTYPE_NSH;
        hdr.nsh.setValid();
        hdr.nsh.version = 0;
        hdr.nsh.oam = 0;
        hdr.nsh.unassigned1 = 0;
        hdr.nsh.ttl = 63;
        hdr.nsh.length = 6;
        hdr.nsh.unassigned2 = 0;
        hdr.nsh.md_type = 1;
        hdr.nsh.next_protocol = 3;
        hdr.nsh.flow = meta.flow;
        hdr.nsh.label = meta.label;
        hdr.nsh.nf_labels = 0;
        hdr.nsh.ingress_us = MICROSECONDS(meta.arrival_us);
    }

    action send() {
        hdr.outer.dst_addr = meta.next_mac;
    }

    action address() {
        hdr.outer.src_addr = 16w0x0200 ++ meta.switch_id ++ 16w0;
        hdr.nsh.spi = meta.next_spi;
        hdr.nsh.si = meta.next_si;
        hdr.nsh.traffic_class = meta.next_class;
    }

    apply {
        if (meta.next == NEXT_TAGGED || meta.next == NEXT_FLOOD) {
            if (meta.host_facing == 1) {
                push();
            }
            if (meta.next == NEXT_TAGGED) {
                send();
                if (meta.segment != 0) {    // not in transit
                    address();
                }
            }
        } else {
            hdr.outer.setInvalid();
            hdr.nsh.setInvalid();
        }
    }
}

#endif

// fabric: forwards tagged frames by their structured outer MAC (kind and tree, device, core).
// It looks at what the MAC is about to be, so that the tag need not be written first.
// Reads: meta.next_mac. Writes: meta.next_mac, meta.egress_port, meta.drop.
// Effect on the packet: at a server's own switch the tree is cleared, so that a core has one MAC.
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_FABRIC_P4
#define BLOCKS_FABRIC_P4

control fabric_block(inout metadata_t meta) {
    DIRECT_COUNTER(forward_counter);

    action forward(port_id_t port) {
        COUNT(forward_counter);
        meta.egress_port = port;
    }

    action to_server(port_id_t port) {
        COUNT(forward_counter);
        meta.next_mac[39:32] = 0;
        meta.egress_port = port;
    }

    action recirculate_here() {
        COUNT(forward_counter);
        meta.egress_port = RECIRCULATE_PORT;
    }

    action unreachable() {
        meta.drop = DROP_DEVICE;
    }

    table devices {
        key = {
            meta.next_mac : lpm @name("device");
        }
        actions = {
            forward;
            to_server;
            recirculate_here;
            @defaultonly unreachable;
        }
        size = 4096;
        const default_action = unreachable();
        counters = forward_counter;
    }

    apply {
        devices.apply();
    }
}

#endif

// port: what stands behind the ingress port, and who this switch is.
// Reads: meta.arrival_port. Writes: meta.host_facing, meta.server_facing, meta.switch_id.
// Effect on the packet: none.
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_PORT_P4
#define BLOCKS_PORT_P4

control port_block(inout metadata_t meta) {
    DIRECT_COUNTER(ports_counter);

    action host_facing(bit<16> switch_id) {
        COUNT(ports_counter);
        meta.host_facing = 1;
        meta.switch_id = switch_id;
    }

    action server_facing(bit<16> switch_id) {
        COUNT(ports_counter);
        meta.server_facing = 1;
        meta.switch_id = switch_id;
    }

    action fabric_facing(bit<16> switch_id) {
        COUNT(ports_counter);
        meta.switch_id = switch_id;
    }

    action refuse() {
        meta.drop = DROP_PORT;
    }

    table ports {
        key = {
            meta.arrival_port : exact @name("ingress_port");
        }
        actions = {
            host_facing;
            server_facing;
            fabric_facing;
            @defaultonly refuse;
        }
        size = 512;
        const default_action = refuse();
        counters = ports_counter;
    }

    apply {
        ports.apply();
    }
}

#endif

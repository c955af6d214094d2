// deliver: the end of a path: which host of the endpoint, and where it is attached.
// Reads: meta.segment, MACs, destination address. Writes: MACs, meta.next*,
// meta.egress_port, meta.flood_group, meta.drop.
// Effect on the packet: a frame to the gateway's MAC gets its host's; no such host: dropped.
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_DELIVER_P4
#define BLOCKS_DELIVER_P4

control deliver_block(inout headers_t hdr, inout metadata_t meta) {
    DIRECT_COUNTER(mac_counter);
    DIRECT_COUNTER(floods_counter);
    DIRECT_COUNTER(ipv4_counter);
    DIRECT_COUNTER(ipv6_counter);

    action to_port(@refers_to("host_port") port_id_t port) {
        COUNT(mac_counter);
        meta.egress_port = port;
        meta.next = NEXT_PORT;
    }

    action to_switch(@refers_to("device") mac_addr_t mac, @refers_to("path") bit<24> spi,
                     @refers_to("position") bit<8> si) {
        COUNT(mac_counter);
        meta.next_mac = mac;
        meta.next_spi = spi;
        meta.next_si = si;
        meta.next = NEXT_TAGGED;
    }

    action flood(@refers_to("group") bit<16> group) {
        COUNT(floods_counter);
        meta.flood_group = group;
        meta.next = NEXT_FLOOD;
    }

#define HOST(table)                                                                                 \
    ACTION_OF(table, host_at_port)(@refers_to("host") mac_addr_t host_mac,                          \
                                   @refers_to("gateway") mac_addr_t gateway_mac,                    \
                                   @refers_to("host_port") port_id_t port) {                        \
        COUNT(table##_counter);                                                                     \
        hdr.ethernet.dst_addr = host_mac;                                                           \
        hdr.ethernet.src_addr = gateway_mac;                                                        \
        meta.egress_port = port;                                                                    \
        meta.next = NEXT_PORT;                                                                      \
    }                                                                                               \
    ACTION_OF(table, host_at_switch)(@refers_to("host") mac_addr_t host_mac,                        \
                                     @refers_to("gateway") mac_addr_t gateway_mac,                  \
                                     @refers_to("device") mac_addr_t mac, @refers_to("path") bit<24> spi, \
                                     @refers_to("position") bit<8> si) {                            \
        COUNT(table##_counter);                                                                     \
        hdr.ethernet.dst_addr = host_mac;                                                           \
        hdr.ethernet.src_addr = gateway_mac;                                                        \
        meta.next_mac = mac;                                                                        \
        meta.next_spi = spi;                                                                        \
        meta.next_si = si;                                                                          \
        meta.next = NEXT_TAGGED;                                                                    \
    }

    HOST(ipv4)
    HOST(ipv6)

    action resolve() {
        COUNT(mac_counter);
    }

    action no_host() {
        meta.drop = DROP_HOST;
    }

    table mac {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
            hdr.ethernet.dst_addr : exact @name("dst");
        }
        actions = {
            to_port;
            to_switch;
            resolve;
            @defaultonly no_host;
        }
        size = 4096;
        const default_action = no_host();
        counters = mac_counter;
    }

    // Broadcast and multicast: to every host of the endpoint.
    table floods {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
        }
        actions = {
            flood;
            @defaultonly no_host;
        }
        size = 1024;
        const default_action = no_host();
        counters = floods_counter;
    }

    table ipv4 {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
            hdr.ipv4.dst_addr : exact @name("dst");
        }
        actions = {
            ipv4_host_at_port;
            ipv4_host_at_switch;
            @defaultonly no_host;
        }
        size = 4096;
        const default_action = no_host();
        counters = ipv4_counter;
    }

    table ipv6 {
        key = {
            meta.segment : exact @name("segment") @belongs_to("segment");
            hdr.ipv6.dst_addr : exact @name("dst");
        }
        actions = {
            ipv6_host_at_port;
            ipv6_host_at_switch;
            @defaultonly no_host;
        }
        size = 4096;
        const default_action = no_host();
        counters = ipv6_counter;
    }

    apply {
        if (hdr.ethernet.dst_addr[40:40] == 1) {
            floods.apply();
        } else {
            switch (mac.apply().action_run) {
                resolve: {
                    if (hdr.ipv4.isValid()) {
                        ipv4.apply();
                    } else if (hdr.ipv6.isValid()) {
                        ipv6.apply();
                    } else {
                        meta.drop = DROP_HOST;
                    }
                }
                default: {}
            }
        }
    }
}

#undef HOST
#endif

// neighbor: answers ARP requests (RFC 826) and neighbour solicitations (RFC 4861)
// for the addresses that the network owns: gateways, NAPT pools, virtual addresses; and echo requests to
// gateways (RFC 792; RFC 4443, 4.2).
// Reads: meta.arrival_port, hdr.arp, hdr.nd, hdr.icmp. Writes: meta.answered, meta.nd_answer.
// Effect on the packet: a request becomes its answer, to be sent back out of its port.
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_NEIGHBOR_P4
#define BLOCKS_NEIGHBOR_P4

control neighbor_block(inout headers_t hdr, inout metadata_t meta) {
    DIRECT_COUNTER(arp_counter);
    DIRECT_COUNTER(nd_counter);
    DIRECT_COUNTER(echo_ipv4_counter);
    DIRECT_COUNTER(echo_ipv6_counter);

    action answer_arp(@refers_to("gateway") mac_addr_t mac) {
        COUNT(arp_counter);
        hdr.ethernet.dst_addr = hdr.ethernet.src_addr;
        hdr.ethernet.src_addr = mac;
        hdr.arp.oper = 2;
        hdr.arp.tha = hdr.arp.sha;
        hdr.arp.sha = mac;
        ipv4_addr_t asked = hdr.arp.tpa;
        hdr.arp.tpa = hdr.arp.spa;
        hdr.arp.spa = asked;
        meta.answered = 1;
    }

    action answer_solicitation(@refers_to("gateway") mac_addr_t mac) {
        COUNT(nd_counter);
        hdr.ethernet.dst_addr = hdr.ethernet.src_addr;
        hdr.ethernet.src_addr = mac;
        hdr.ipv6.dst_addr = hdr.ipv6.src_addr;
        hdr.ipv6.src_addr = hdr.nd.target;
        hdr.ipv6.hop_limit = 255;
        hdr.icmp.type = 136;
        hdr.icmp.code = 0;
        hdr.icmp.identifier = 0xe000;   // router, solicited, override
        hdr.icmp.sequence = 0;
        hdr.nd.option_type = 2;         // target link-layer address
        hdr.nd.link_addr = mac;
        meta.answered = 1;
        meta.nd_answer = 1;
    }

#define ANSWER_ECHO(table)                                                                          \
    ACTION_OF(table, answer_echo)() {                                                               \
        COUNT(table##_counter);                                                                     \
        meta.answered = 1;                                                                          \
    }

    ANSWER_ECHO(echo_ipv4)
    ANSWER_ECHO(echo_ipv6)

    table arp {
        key = {
            meta.arrival_port : exact @name("ingress_port") @refers_to("host_port");
            hdr.arp.tpa : lpm @name("target");
        }
        actions = {
            answer_arp;
            @defaultonly NoAction;
        }
        size = 4096;
        const default_action = NoAction();
        counters = arp_counter;
    }

    table nd {
        key = {
            meta.arrival_port : exact @name("ingress_port") @refers_to("host_port");
            hdr.nd.target : lpm @name("target");
        }
        actions = {
            answer_solicitation;
            @defaultonly NoAction;
        }
        size = 4096;
        const default_action = NoAction();
        counters = nd_counter;
    }

    table echo_ipv4 {
        key = {
            meta.arrival_port : exact @name("ingress_port") @refers_to("host_port");
            hdr.ethernet.dst_addr : exact @name("mac") @refers_to("gateway");
            hdr.ipv4.dst_addr : exact @name("target");
        }
        actions = {
            echo_ipv4_answer_echo;
            @defaultonly NoAction;
        }
        size = 2048;
        const default_action = NoAction();
        counters = echo_ipv4_counter;
    }

    table echo_ipv6 {
        key = {
            meta.arrival_port : exact @name("ingress_port") @refers_to("host_port");
            hdr.ethernet.dst_addr : exact @name("mac") @refers_to("gateway");
            hdr.ipv6.dst_addr : exact @name("target");
        }
        actions = {
            echo_ipv6_answer_echo;
            @defaultonly NoAction;
        }
        size = 2048;
        const default_action = NoAction();
        counters = echo_ipv6_counter;
    }

    apply {
        if (hdr.arp.isValid() && hdr.arp.oper == 1 && hdr.arp.htype == 1
            && hdr.arp.ptype == ETHERTYPE_IPV4 && hdr.arp.hlen == 6 && hdr.arp.plen == 4) {
            arp.apply();
        } else if (hdr.nd.isValid() && hdr.nd.option_type == 1 && hdr.nd.option_len == 1
                   && hdr.ipv6.hop_limit == 255 && hdr.icmp.code == 0) {
            nd.apply();
        } else if (hdr.icmp.isValid() && hdr.icmp.code == 0) {
            // Fragments and packets with options or extension headers are not answered.
            if (hdr.ipv4.isValid() && hdr.icmp.type == 8 && hdr.ipv4.ihl == 5
                && hdr.ipv4.more_fragments == 0) {
                echo_ipv4.apply();
            } else if (hdr.ipv6.isValid() && hdr.icmp.type == 128 && !hdr.ipv6_fragment.isValid()) {
                echo_ipv6.apply();
            }
        }
    }
}

// Turns an echo request that is answered round: behind its question, so that who classifies need not wait for it.
control echo_answer_block(inout headers_t hdr, inout metadata_t meta) {
    checksum_update() update_ip;
    checksum_update() update_icmp;

    apply {
        if (hdr.icmp.isValid() && meta.nd_answer == 0) {
            mac_addr_t own_mac = hdr.ethernet.dst_addr;
            hdr.ethernet.dst_addr = hdr.ethernet.src_addr;
            hdr.ethernet.src_addr = own_mac;
            bit<16> old_type = hdr.icmp.type ++ hdr.icmp.code;
            if (hdr.ipv4.isValid()) {
                ipv4_addr_t asked = hdr.ipv4.dst_addr;
                hdr.ipv4.dst_addr = hdr.ipv4.src_addr;
                hdr.ipv4.src_addr = asked;
                bit<16> old_word = hdr.ipv4.ttl ++ hdr.ipv4.protocol;
                hdr.ipv4.ttl = 64;
                bit<16> new_word = hdr.ipv4.ttl ++ hdr.ipv4.protocol;
                update_ip.apply(hdr.ipv4.hdr_checksum, (bit<32>)(~old_word) + (bit<32>)new_word);
                hdr.icmp.type = 0;
            } else {
                ipv6_addr_t asked6 = hdr.ipv6.dst_addr;
                hdr.ipv6.dst_addr = hdr.ipv6.src_addr;
                hdr.ipv6.src_addr = asked6;
                hdr.ipv6.hop_limit = 64;
                hdr.icmp.type = 129;
            }
            bit<16> new_type = hdr.icmp.type ++ hdr.icmp.code;
            update_icmp.apply(hdr.icmp.checksum, (bit<32>)(~old_type) + (bit<32>)new_type);
        }
    }
}

#undef ANSWER_ECHO
#endif

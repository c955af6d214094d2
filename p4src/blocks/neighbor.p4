// neighbor: answers ARP requests (RFC 826) and neighbour solicitations (RFC 4861)
// for the addresses that the network owns: gateways, NAPT pools, virtual addresses.
// Reads: meta.arrival_port, hdr.arp, hdr.nd. Writes: meta.answered, meta.nd_answer.
// Effect on the packet: a request becomes its answer, to be sent back out of its port.
// SPDX-License-Identifier: Apache-2.0
#ifndef BLOCKS_NEIGHBOR_P4
#define BLOCKS_NEIGHBOR_P4

control neighbor_block(inout headers_t hdr, inout metadata_t meta) {
    DIRECT_COUNTER(arp_counter);
    DIRECT_COUNTER(nd_counter);

    action answer_arp(@refers_to("gateway") mac_addr_t mac) {
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

    apply {
        if (hdr.arp.isValid() && hdr.arp.oper == 1 && hdr.arp.htype == 1
            && hdr.arp.ptype == ETHERTYPE_IPV4 && hdr.arp.hlen == 6 && hdr.arp.plen == 4) {
            arp.apply();
        } else if (hdr.nd.isValid() && hdr.nd.option_type == 1 && hdr.nd.option_len == 1
                   && hdr.ipv6.hop_limit == 255 && hdr.icmp.code == 0) {
            nd.apply();
        }
    }
}

#endif

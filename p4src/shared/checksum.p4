// RFC 1624, equation 3: HC' = ~(~HC + ~m + m'). A block adds ~m + m' of the words
// that it changes to one 32-bit sum and folds it once, so that every implementation
// of a rewrite arrives at the same of the two representations of zero.
// SPDX-License-Identifier: Apache-2.0
#ifndef SHARED_CHECKSUM_P4
#define SHARED_CHECKSUM_P4

#define SUM_2(a) ((bit<32>)(a)[31:16] + (bit<32>)(a)[15:0])
#define SUM_8(a) ((bit<32>)(a)[127:112] + (bit<32>)(a)[111:96] + (bit<32>)(a)[95:80] \
                  + (bit<32>)(a)[79:64] + (bit<32>)(a)[63:48] + (bit<32>)(a)[47:32] \
                  + (bit<32>)(a)[31:16] + (bit<32>)(a)[15:0])

control checksum_update(inout bit<16> checksum, in bit<32> delta) {
    apply {
#ifndef DEPARSER_SUMS
        bit<32> sum = (bit<32>)(~checksum) + delta;
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        checksum = ~sum[15:0];
#endif
    }
}

// RFC 768: a UDP checksum of 0 means none.
control udp_checksum_update(inout bit<16> checksum, in bit<32> delta) {
    checksum_update() update;

    apply {
#ifndef DEPARSER_SUMS
        if (checksum != 0) {
            update.apply(checksum, delta);
            if (checksum == 0) {
                checksum = 0xffff;
            }
        }
#endif
    }
}

// What covers an address that has changed by `delta`: the IPv4 header's checksum and L4's.
control address_checksums(inout headers_t hdr, in bit<32> delta) {
    checksum_update() update_ip;
    checksum_update() update_tcp;
    udp_checksum_update() update_udp;
    checksum_update() update_icmpv6;

    apply {
        if (hdr.ipv4.isValid()) {
            update_ip.apply(hdr.ipv4.hdr_checksum, delta);
        }
        if (hdr.tcp.isValid()) {
            update_tcp.apply(hdr.tcp.checksum, delta);
        } else if (hdr.udp.isValid()) {
            update_udp.apply(hdr.udp.checksum, delta);
        } else if (hdr.icmp.isValid() && hdr.ipv6.isValid()) {
            update_icmpv6.apply(hdr.icmp.checksum, delta);
        }
    }
}

// What covers a quoted address that has changed by `delta`: the quoted IPv4 header's checksum, a quoted UDP
// checksum that is there, over IPv6 a quoted ICMPv6 checksum, and the error's own, which covers all of them.
control quote_checksums(inout headers_t hdr, in bit<32> delta) {
    checksum_update() update_ip;
    udp_checksum_update() update_udp;
    checksum_update() update_icmpv6;
    checksum_update() update_error;

    apply {
        bit<32> covered = delta;
        bit<8> protocol = hdr.quoted_ipv6.next_hdr;
        bit<16> old_checksum = 0;
        if (hdr.quoted_ipv4.isValid()) {
            protocol = hdr.quoted_ipv4.protocol;
            old_checksum = hdr.quoted_ipv4.hdr_checksum;
            update_ip.apply(hdr.quoted_ipv4.hdr_checksum, delta);
            covered = covered + (bit<32>)(~old_checksum) + (bit<32>)hdr.quoted_ipv4.hdr_checksum;
        }
        if (hdr.quoted_l4.isValid()) {
            if (protocol == PROTO_UDP) {
                old_checksum = hdr.quoted_l4.sequence;
                update_udp.apply(hdr.quoted_l4.sequence, delta);
                covered = covered + (bit<32>)(~old_checksum) + (bit<32>)hdr.quoted_l4.sequence;
            } else if (protocol == PROTO_ICMPV6 && hdr.quoted_ipv6.isValid()) {
                old_checksum = hdr.quoted_l4.dst_port;
                update_icmpv6.apply(hdr.quoted_l4.dst_port, delta);
                covered = covered + (bit<32>)(~old_checksum) + (bit<32>)hdr.quoted_l4.dst_port;
            }
        }
        update_error.apply(hdr.icmp.checksum, covered);
    }
}

// The upper six bits of what was the type of service, or IPv6's traffic class.
control dscp_update(inout headers_t hdr, in bit<6> dscp) {
    checksum_update() update_ip;

    apply {
        if (hdr.ipv4.isValid()) {
            bit<8> old_byte = hdr.ipv4.diffserv;
            bit<8> new_byte = dscp ++ old_byte[1:0];
            hdr.ipv4.diffserv = new_byte;
            update_ip.apply(hdr.ipv4.hdr_checksum, 0xffff - (bit<32>)old_byte + (bit<32>)new_byte);
        } else if (hdr.ipv6.isValid()) {
            hdr.ipv6.traffic_class = dscp ++ hdr.ipv6.traffic_class[1:0];
        }
    }
}

#endif

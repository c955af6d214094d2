// Metadata that the blocks share. A block reads and writes only what its file says.
// SPDX-License-Identifier: Apache-2.0
#ifndef SHARED_METADATA_P4
#define SHARED_METADATA_P4

// graph (10 bits) | gated (1) | index (13): unique among all graphs on a switch. Only packets of a gated
// segment come to the blocks that most segments have no use for.
// What a key or parameter names is said where it stands, by @refers_to, or by @belongs_to at the key that
// says whose the entry is. Who reads P4Info has it from there (orchestrator/targets/references.py).
typedef bit<24> segment_id_t;
typedef bit<10> graph_id_t;

// What the L4 part of a packet offers to a match: a later fragment has no ports, not port 0.
// ICMP (and ICMPv6) has its type and code where the ports are.
const bit<3> L4_NONE = 0;
const bit<3> L4_PORTS = 1;
const bit<3> L4_LATER_FRAGMENT = 2;
const bit<3> L4_ICMP = 4;

const bit<2> NEXT_NONE = 0;     // no block has decided: dropped
const bit<2> NEXT_TAGGED = 1;   // with a tag, to its outer destination
const bit<2> NEXT_PORT = 2;     // popped, out of meta.egress_port
const bit<2> NEXT_FLOOD = 3;    // to meta.flood_group; the flood block sees to the copies' tags

// Why a packet is dropped: what a witness is told (servernf/wire/reports.py has the words).
const bit<8> DROP_RULE = 1;         // an NF's, as it is configured
const bit<8> DROP_MALFORMED = 2;
const bit<8> DROP_PORT = 3;         // nothing is known of the port
const bit<8> DROP_TAG = 4;          // a tag where none may be, or none where one must be
const bit<8> DROP_TTL = 5;          // of the tag
const bit<8> DROP_PATH = 6;         // nobody here takes this path, or not from there
const bit<8> DROP_REFUSED = 7;      // no graph asks for it, or not from this source
const bit<8> DROP_VLAN = 8;         // more tags than are parsed
const bit<8> DROP_ROUTE = 9;
const bit<8> DROP_TUNNEL = 10;
const bit<8> DROP_HOST = 11;        // the endpoint has no such host
const bit<8> DROP_DEVICE = 12;      // no way to the next device
const bit<8> DROP_NEXT = 13;        // no block has said where to

// Field lists: what a clone (for the controller, or a mirror's) and what a recirculated frame keep.
const bit<8> CLONE_FIELDS = 1;
const bit<8> RECIRCULATE_FIELDS = 2;
const bit<8> RESUME_FIELDS = 3;     // of a frame that enters its next segment in a pass of its own

@pa_auto_init_metadata      // TNA: what no parse state sets is 0
struct metadata_t {
    ARCH_METADATA
    @field_list(CLONE_FIELDS, RESUME_FIELDS)
    bit<32> label;
    @field_list(CLONE_FIELDS, RESUME_FIELDS)
    bit<16> flow;
    @field_list(CLONE_FIELDS, RESUME_FIELDS)
    bit<32> ingress_us;         // as the tag has it, of a packet that a witness watches
    @field_list(CLONE_FIELDS, RESUME_FIELDS)
    bit<32> watched;            // by this key epoch of a witness; 0: it is not
    @field_list(CLONE_FIELDS)
    bit<1> came;                // watched, and told of for the first time: not a later pass
    @field_list(CLONE_FIELDS, RESUME_FIELDS)
    bit<24> spi;
    @field_list(CLONE_FIELDS, RESUME_FIELDS)
    bit<8> si;
    @field_list(CLONE_FIELDS, RECIRCULATE_FIELDS, RESUME_FIELDS)
    port_id_t arrival_port;
    @field_list(CLONE_FIELDS, RECIRCULATE_FIELDS, RESUME_FIELDS)
    bit<48> arrival_us;

    segment_id_t segment;       // 0: none
    @field_list(CLONE_FIELDS, RESUME_FIELDS)
    graph_id_t graph;
    @field_list(CLONE_FIELDS, RECIRCULATE_FIELDS, RESUME_FIELDS)
    bit<16> switch_id;
    @field_list(CLONE_FIELDS, RESUME_FIELDS)
    bit<1> host_facing;
    bit<1> server_facing;       // of this pass: a frame that is recirculated was looked at before
    @field_list(CLONE_FIELDS)
    segment_id_t copy_to;       // where a copy of what arrived enters; 0: no copy
    @field_list(RESUME_FIELDS)
    segment_id_t resume;        // where the next pass begins; 0: there is none
    bit<16> grown;              // bytes more than arrived, by VLAN tags
    @field_list(CLONE_FIELDS)
    bit<8> drop;                // DROP_*; 0: it is not dropped
    bit<1> answered;            // an ARP or ND reply goes back out of its port
    bit<1> nd_answer;           // ... whose ICMPv6 checksum the deparser must compute
    @field_list(CLONE_FIELDS)
    bit<1> sampled;
    bit<2> next;
    port_id_t egress_port;
    bit<16> flood_group;
    bit<1> recirculate;
    mac_addr_t next_mac;        // outer destination of a tagged frame
    bit<24> next_spi;
    bit<8> next_si;
    bit<16> next_class;

    bit<16> ether_type;         // behind VLAN tags
    bit<13> vlan;               // 1 ++ VLAN ID of the outermost tag; 0: untagged
    bit<8> protocol;            // 0 for non-IP packets
    bit<3> l4;
    bit<16> l4_src;             // or ICMP type
    bit<16> l4_dst;             // or ICMP code
    bit<8> tcp_flags;

    // From an acl block to its tree: whether it hands over, and its own verdict, which holds unless the
    // tree's rule comes before the weighed rules from this number on.
    bit<1> tree;
    bit<16> tree_weighed;
    bit<1> tree_drop;
    segment_id_t tree_segment;

    // The flow that owns this packet: its own addresses, or for an ICMP error
    // those of the packet that it quotes, turned round.
    ipv6_addr_t flow_src;
    ipv6_addr_t flow_dst;
    bit<16> flow_dst_port;      // destination port, ICMP identifier or quoted source port
    bit<1> flow_has_port;
    bit<16> flow_hash;
}

#endif

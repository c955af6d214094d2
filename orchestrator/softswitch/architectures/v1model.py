"""v1model as BMv2's simple_switch runs it (p4c/p4include/v1model.p4; behavioral-model,
docs/simple_switch.md and targets/simple_switch/simple_switch.cpp)."""

from __future__ import annotations

from orchestrator.softswitch.architectures import (
    Architecture,
    Control,
    Metadata,
    PacketOrigin,
    TrafficStep,
)

V1MODEL = Architecture(
    name="v1model",
    parser="parser",
    deparser="deparser",
    ingress=Control(
        "ingress",
        (
            TrafficStep.CLONE,
            TrafficStep.DIGEST,
            TrafficStep.RESUBMIT,
            TrafficStep.MULTICAST,
            TrafficStep.FORWARD,
        ),
    ),
    egress=Control("egress", (TrafficStep.CLONE, TrafficStep.FORWARD)),
    behind_deparser=(TrafficStep.RECIRCULATE, TrafficStep.SEND),
    asked_by={
        TrafficStep.CLONE: frozenset({"clone_ingress_pkt_to_egress", "clone_egress_pkt_to_egress"}),
        TrafficStep.DIGEST: frozenset({"generate_digest"}),
        TrafficStep.RESUBMIT: frozenset({"resubmit"}),
        TrafficStep.RECIRCULATE: frozenset({"recirculate"}),
    },
    instance_types={
        PacketOrigin.PORT: 0,
        PacketOrigin.INGRESS_CLONE: 1,
        PacketOrigin.EGRESS_CLONE: 2,
        PacketOrigin.RECIRCULATION: 4,
        PacketOrigin.MULTICAST: 5,
        PacketOrigin.RESUBMISSION: 6,
    },
    metadata=Metadata(
        header="standard_metadata",
        required=("ingress_port", "packet_length", "instance_type", "egress_spec", "egress_port"),
        intrinsic=(
            *("ingress_port", "egress_spec", "egress_port", "instance_type"),
            *("mcast_grp", "egress_rid"),
        ),
        elsewhere={
            **dict.fromkeys(("mcast_grp", "egress_rid", "priority"), "intrinsic_metadata"),
            "ingress_global_timestamp": "intrinsic_metadata",
            "egress_global_timestamp": "intrinsic_metadata",
            "enq_timestamp": "queueing_metadata",
        },
    ),
    externs={
        "mark_to_drop": (),
        "drop": (),
        "clone_ingress_pkt_to_egress": ("value", "value"),
        "clone_egress_pkt_to_egress": ("value", "value"),
        "recirculate": ("value",),
        "resubmit": ("value",),
        "modify_field_with_hash_based_offset": ("lvalue", "value", "calculation", "value"),
        "modify_field_rng_uniform": ("lvalue", "value", "value"),
        "count": ("counter", "value"),
        "register_read": ("lvalue", "register", "value"),
        "register_write": ("register", "value", "value"),
        "truncate": ("value",),
        "execute_meter": ("meter", "value", "lvalue"),
        "generate_digest": ("value", "value"),
        "log_msg": ("text", "values"),
        "assert": ("value",),
        "assume": ("value",),
    },
    match_kinds=("exact", "lpm", "ternary", "range", "optional", "valid"),
    algorithms=frozenset(
        {
            *("csum16", "cksum16", "xor16", "xor32", "identity"),
            *("crc16", "crc32", "crcCCITT"),
            *("crc8_custom", "crc16_custom", "crc32_custom", "crc64_custom"),
            *("toeplitz", "xxh64", "round_robin", "round_robin_consistent"),
        }
    ),
)

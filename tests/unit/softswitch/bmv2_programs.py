"""Small programs in BMv2's JSON, made here: one header, one or more tables, what a test adds.

Written by hand from the format's description, so that a test can write them as
a compiler of another year would.
"""

from __future__ import annotations

from typing import Any

Json = Any

STANDARD = (
    *(("ingress_port", 9), ("egress_spec", 9), ("egress_port", 9), ("instance_type", 32)),
    *(("packet_length", 32), ("mcast_grp", 16), ("egress_rid", 16), ("parser_error", 32)),
    *(("checksum_error", 1), ("_padding", 3)),
)


def field(header: str, name: str) -> Json:
    return {"type": "field", "value": [header, name]}


def number(value: int) -> Json:
    return {"type": "hexstr", "value": hex(value)}


def argument(index: int) -> Json:
    return {"type": "runtime_data", "value": index}


def operation(op: str, left: Json, right: Json) -> Json:
    inner = {"type": "expression", "value": {"op": op, "left": left, "right": right}}
    return {"type": "expression", "value": inner}


def call(op: str, *parameters: Json) -> Json:
    return {"op": op, "parameters": list(parameters)}


def action(ident: int, name: str, *primitives: Json, params: tuple[int, ...] = ()) -> Json:
    data = [{"name": f"a{i}", "bitwidth": width} for i, width in enumerate(params)]
    return {"id": ident, "name": name, "runtime_data": data, "primitives": list(primitives)}


def send_to(port: int) -> Json:
    return call("assign", field("standard_metadata", "egress_spec"), number(port))


def table(ident: int, name: str, following: str | None = None, **other: Json) -> Json:
    """A table without a key whose default action is action 0, unless `other` says more."""
    actions = other.pop("calls", {0: "forward"})
    return {
        "id": ident,
        "name": name,
        "key": [],
        "match_type": "exact",
        "type": "simple",
        "max_size": 16,
        "with_counters": False,
        "support_timeout": False,
        "direct_meters": None,
        "action_ids": list(actions),
        "actions": list(actions.values()),
        "next_tables": dict.fromkeys(actions.values(), following),
        "base_default_next": following,
        "default_entry": {
            "action_id": next(iter(actions)),
            "action_const": False,
            "action_data": [],
            "action_entry_const": False,
        },
        **other,
    }


def pipeline(ident: int, name: str, *tables: Json, conditionals: tuple[Json, ...] = ()) -> Json:
    first = tables[0]["name"] if tables else None
    return {
        "id": ident,
        "name": name,
        "init_table": first,
        "tables": list(tables),
        "action_profiles": [],
        "conditionals": list(conditionals),
    }


def small() -> Json:
    """`h` is extracted (kind, tag, size of 8, 8 and 16 bits), then one table: to port 2."""
    return {
        "__meta__": {"version": [2, 18], "compiler": "by hand"},
        "header_types": [
            {
                "name": "standard_metadata",
                "id": 0,
                "fields": [[name, width, False] for name, width in STANDARD],
            },
            {
                "name": "h_t",
                "id": 1,
                "fields": [["kind", 8, False], ["tag", 8, False], ["size", 16, False]],
            },
            {"name": "scalars_t", "id": 2, "fields": [["x", 32, False], ["y", 8, True]]},
        ],
        "headers": [
            {
                "name": "standard_metadata",
                "id": 0,
                "header_type": "standard_metadata",
                "metadata": True,
            },
            {"name": "h", "id": 1, "header_type": "h_t", "metadata": False},
            {"name": "scalars", "id": 2, "header_type": "scalars_t", "metadata": True},
        ],
        "header_stacks": [],
        "field_lists": [],
        "errors": [["NoError", 1], ["PacketTooShort", 2]],
        "enums": [],
        "parsers": [
            {
                "name": "parser",
                "id": 0,
                "init_state": "start",
                "parse_states": [
                    {
                        "name": "start",
                        "id": 0,
                        "parser_ops": [
                            {"op": "extract", "parameters": [{"type": "regular", "value": "h"}]}
                        ],
                        "transitions": [
                            {"type": "default", "value": None, "mask": None, "next_state": None}
                        ],
                        "transition_key": [],
                    }
                ],
            }
        ],
        "deparsers": [{"name": "deparser", "id": 0, "order": ["h"]}],
        "meter_arrays": [],
        "counter_arrays": [],
        "register_arrays": [],
        "calculations": [],
        "learn_lists": [],
        "actions": [action(0, "forward", send_to(2))],
        "pipelines": [pipeline(0, "ingress", table(0, "t")), pipeline(1, "egress")],
        "checksums": [],
        "extern_instances": [],
        "field_aliases": [
            ["intrinsic_metadata.mcast_grp", ["standard_metadata", "mcast_grp"]],
            ["intrinsic_metadata.egress_rid", ["standard_metadata", "egress_rid"]],
        ],
    }


def frame(kind: int = 0, tag: int = 0, size: int = 0, tail: bytes = b"tail") -> bytes:
    return bytes((kind, tag)) + size.to_bytes(2, "big") + tail

"""JSON of older compilers loads as in BMv2 (P4Objects.cpp): each of its ways is a program here.

p4c before April 2020 wrote parser transitions without a type; p4c-bm, for
P4_14, wrote most of the rest: actions by name, profiles inside tables, other
primitives, headers of intrinsic metadata, sections left out.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from bmv2_programs import (
    action,
    argument,
    call,
    field,
    frame,
    number,
    operation,
    pipeline,
    send_to,
    small,
    table,
)
from finsy.proto import p4i, p4r
from softswitch_support import internet_checksum, loaded, program, udp_frame

from orchestrator.errors import MalformedProgram, UnsupportedFeature
from orchestrator.softswitch.switch import SoftSwitch

Json = Any


def run(raw: Json, packet: bytes = b"") -> list[tuple[int, bytes]]:
    switch = SoftSwitch()
    switch.load(raw, p4i.P4Info())
    out = switch.process(1, packet or frame(1, 2, 3))
    assert not switch.counters.faults, switch.counters.last_fault
    return out


def with_primitives(*primitives: Json, params: tuple[int, ...] = ()) -> Json:
    raw = small()
    raw["actions"] = [action(0, "forward", send_to(2), *primitives, params=params)]
    return raw


# ---- versions and sections


@pytest.mark.parametrize("version", [[2, 0], [2, 18], [2, 24]])
def test_all_minor_versions_up_to_bmv2s_load(version: list[int]) -> None:
    raw = small()
    raw["__meta__"] = {"version": version}
    assert run(raw) == [(2, frame(1, 2, 3))]


def test_without_a_version_a_program_loads() -> None:
    raw = small()
    del raw["__meta__"]
    assert run(raw)
    raw["__meta__"] = {}
    assert run(raw)


@pytest.mark.parametrize("version", [[1, 0], [3, 0], [2, 25], [2], ["2", 0]])
def test_another_version_is_refused(version: list[Any]) -> None:
    raw = small()
    raw["__meta__"]["version"] = version
    with pytest.raises(MalformedProgram, match=r"__meta__\.version"):
        run(raw)


def test_sections_that_are_empty_may_be_absent_or_null() -> None:
    raw = small()
    empty = [k for k, v in raw.items() if v == []]
    assert len(empty) >= 10
    for section in empty:
        del raw[section]
    del raw["errors"]
    del raw["field_aliases"]
    raw["learn_lists"] = None
    for pipe in raw["pipelines"]:
        del pipe["action_profiles"]
        del pipe["conditionals"]
    assert run(raw) == [(2, frame(1, 2, 3))]


def test_fields_are_pairs_triples_or_quadruples() -> None:
    raw = small()
    raw["header_types"][1]["fields"] = [["kind", 8], ["tag", 8, False], ["size", 16, False, True]]
    raw["actions"][0]["primitives"].append(
        call("assign", field("h", "size"), operation("+", field("h", "size"), number(0xFFFF)))
    )
    assert run(raw) == [(2, frame(1, 2, 0xFFFF))]


def test_a_header_without_the_word_metadata_is_none() -> None:
    raw = small()
    del raw["headers"][1]["metadata"]
    assert run(raw) == [(2, frame(1, 2, 3))]


# ---- parser


def select(*transitions: Json) -> Json:
    """`start` selects on h.kind; `other` sets h.tag to 9."""
    raw = small()
    states = raw["parsers"][0]["parse_states"]
    states[0]["transition_key"] = [field("h", "kind")]
    states[0]["transitions"] = list(transitions)
    mark = {"op": "set", "parameters": [field("h", "tag"), number(9)]}
    ends = {"value": "default", "mask": None, "next_state": None}
    states.append(
        {
            "name": "other",
            "id": 1,
            "parser_ops": [mark],
            "transition_key": [],
            "transitions": [ends],
        }
    )
    return raw


def test_transitions_without_a_type() -> None:
    raw = select(
        {"value": "0x05", "mask": None, "next_state": "other"},
        {"value": "0x10", "mask": "0xf0", "next_state": "other"},
        {"value": "default", "mask": None, "next_state": None},
    )
    for kind, tag in ((5, 9), (0x1F, 9), (6, 0)):
        assert run(raw, frame(kind)) == [(2, frame(kind, tag))]


def test_a_mask_may_be_absent_and_the_default_too() -> None:
    raw = select({"value": "0x05", "next_state": "other"})
    assert run(raw, frame(5)) == [(2, frame(5, 9))]
    assert run(raw, frame(6)) == [(2, frame(6))]


def test_the_default_may_be_written_as_hexstr() -> None:
    raw = select({"type": "hexstr", "value": "default", "next_state": "other"})
    assert run(raw, frame(6)) == [(2, frame(6, 9))]


@pytest.mark.parametrize("name", ["router", "features", "externs"])
def test_whole_programs_without_types_behave_alike(name: str) -> None:
    raw: Json = copy.deepcopy(program(name))
    for state in raw["parsers"][0]["parse_states"]:
        for t in state["transitions"]:
            if t["type"] != "parse_vset" and t.pop("type") == "default":
                t["value"] = "default"
    older = SoftSwitch(clock=lambda: 5_000)
    older.load(raw, p4i.P4Info() if name == "features" else loaded(name).p4info)
    newer = loaded(name)
    for i in range(20):
        packet = bytes([i]) + udp_frame()[1:] if name == "features" else udp_frame(vlan=i or None)
        assert older.process(1, packet) == newer.process(1, packet)


def test_verify_with_the_code_itself() -> None:
    raw = small()
    raw["parsers"][0]["parse_states"][0]["parser_ops"].append(
        {"op": "verify", "parameters": [operation("==", field("h", "kind"), number(1)), 7]}
    )
    raw["actions"][0]["primitives"].append(
        call("assign", field("h", "tag"), field("standard_metadata", "parser_error"))
    )
    assert run(raw, frame(1)) == [(2, frame(1, 0))]
    assert run(raw, frame(2)) == [(2, frame(2, 7))]


def test_of_several_parsers_the_one_called_parser_counts() -> None:
    raw = small()
    other = copy.deepcopy(raw["parsers"][0]) | {"name": "another", "id": 1}
    other["parse_states"][0]["parser_ops"] = []
    raw["parsers"].insert(0, other)
    raw["deparsers"].insert(0, {"name": "another", "id": 1, "order": []})
    assert run(raw) == [(2, frame(1, 2, 3))]


def test_p4_14_length_expressions() -> None:
    """`length_exp`: bits of the varbit; `local` is a field of the header itself."""
    raw = small()
    raw["header_types"][1] |= {
        "fields": [["kind", 8, False], ["tag", 8, False], ["size", 16, False], ["rest", "*"]],
        "max_length": 12,
        "length_exp": {
            "type": "expression",
            "value": {
                "op": "*",
                "left": {"type": "local", "value": 0},
                "right": number(8),
            },
        },
    }
    raw["actions"][0]["primitives"].append(call("assign", field("h", "tag"), number(9)))
    assert run(raw, frame(3, 0, 0, b"abcdef")) == [(2, frame(3, 9, 0, b"abcdef"))]
    assert run(raw, frame(0, 0, 0, b"")) == [(2, frame(0, 9, 0, b""))]
    for short in (frame(7, 0, 0, b"abc"), frame(9, 0, 0, b"x" * 20)):  # cut off; above max_length
        assert run(raw, short) == [(2, short)]


# ---- actions and primitives


@pytest.mark.parametrize(
    ("primitive", "tag"),
    [
        (call("modify_field", field("h", "tag"), number(0x77)), 0x77),
        (call("modify_field", field("h", "tag"), field("h", "kind")), 0x21),
        (call("add_to_field", field("h", "tag"), number(3)), 0x33),
        (call("add_to_field", field("h", "tag"), number(0xFF)), 0x2F),
        (call("subtract_from_field", field("h", "tag"), number(0x31)), 0xFF),
        (call("add", field("h", "tag"), field("h", "kind"), number(1)), 0x22),
        (call("subtract", field("h", "tag"), field("h", "kind"), number(1)), 0x20),
        (call("bit_xor", field("h", "tag"), field("h", "kind"), number(0xFF)), 0xDE),
        (call("bit_or", field("h", "tag"), field("h", "kind"), number(0x0E)), 0x2F),
        (call("bit_and", field("h", "tag"), field("h", "kind"), number(0x0F)), 0x01),
        (call("shift_left", field("h", "tag"), field("h", "kind"), number(1)), 0x42),
        (call("shift_right", field("h", "tag"), field("h", "kind"), number(4)), 0x02),
    ],
    ids=lambda v: v["op"] if isinstance(v, dict) else "",
)
def test_primitives_of_p4_14(primitive: Json, tag: int) -> None:
    assert run(with_primitives(primitive), frame(0x21, 0x30)) == [(2, frame(0x21, tag))]


def test_copy_header_and_drop() -> None:
    raw = with_primitives(
        call("copy_header", {"type": "header", "value": "g"}, {"type": "header", "value": "h"}),
        call("modify_field", field("g", "kind"), number(8)),
    )
    raw["headers"].append({"name": "g", "id": 3, "header_type": "h_t", "metadata": False})
    raw["deparsers"][0]["order"] = ["g", "h"]
    assert run(raw) == [(2, frame(8, 2, 3, b"") + frame(1, 2, 3))]
    assert run(with_primitives(call("drop"))) == []
    assert run(with_primitives(call("mark_to_drop"))) == []
    metadata = {"type": "header", "value": "standard_metadata"}
    assert run(with_primitives(call("mark_to_drop", metadata))) == []


def test_a_register_cell_is_an_operand() -> None:
    cell = {"type": "register", "value": ["r", number(2)]}
    by_field = {"type": "register", "value": ["r", field("h", "kind")]}
    raw = with_primitives(
        call("modify_field", cell, number(0x155)),
        call("modify_field", field("h", "tag"), by_field),
        call("assign", field("h", "size"), operation("+", cell, number(1))),
    )
    raw["register_arrays"] = [{"name": "r", "id": 0, "size": 4, "bitwidth": 8}]
    assert run(raw, frame(2)) == [(2, frame(2, 0x55, 0x56))]
    assert run(raw, frame(9)) == [(2, frame(9, 0, 0x56))]


def test_unary_plus_and_locals() -> None:
    plus = operation("+", None, {"type": "local", "value": 0})
    raw = with_primitives(call("assign", field("h", "tag"), plus), params=(8,))
    raw["pipelines"][0]["tables"][0]["default_entry"]["action_data"] = ["0x2a"]
    assert run(raw) == [(2, frame(1, 0x2A, 3))]


def test_the_last_element_of_a_stack_is_an_operand() -> None:
    last = {"type": "stack_field", "value": ["s", "tag"]}
    raw = with_primitives(call("modify_field", last, operation("+", last, number(1))))
    raw["headers"] += [
        {"name": f"s[{i}]", "id": 5 + i, "header_type": "h_t", "metadata": False} for i in range(3)
    ]
    raw["header_stacks"] = [
        {"name": "s", "id": 0, "header_type": "h_t", "size": 3, "header_ids": [5, 6, 7]}
    ]
    extract = {"op": "extract", "parameters": [{"type": "stack", "value": "s"}]}
    raw["parsers"][0]["parse_states"][0]["parser_ops"] = [extract, extract]
    raw["deparsers"][0]["order"] = ["s[0]", "s[1]", "s[2]"]
    assert run(raw, frame(1, 1, 0, frame(2, 2))) == [(2, frame(1, 1, 0, frame(2, 3)))]


# ---- tables


def test_actions_by_name() -> None:
    raw = small()
    raw["actions"].append(action(7, "other", send_to(5)))
    t = raw["pipelines"][0]["tables"][0]
    del t["action_ids"]
    t["actions"] = ["other", "forward"]
    t["next_tables"] = {"other": None, "forward": None}
    t["default_entry"]["action_id"] = 7
    assert run(raw) == [(5, frame(1, 2, 3))]
    t["actions"] = ["another"]
    with pytest.raises(MalformedProgram, match=r"tables\[0\]\.actions\[0\]: no action \"another\""):
        run(raw)


def test_what_a_table_may_leave_out() -> None:
    raw = small()
    t = raw["pipelines"][0]["tables"][0]
    for key in ("with_counters", "support_timeout", "direct_meters", "base_default_next", "key"):
        del t[key]
    for key in ("action_const", "action_entry_const"):
        del t["default_entry"][key]
    assert run(raw) == [(2, frame(1, 2, 3))]


def test_a_table_of_entries_needs_no_size() -> None:
    raw = small()
    raw["actions"].append(action(1, "other", send_to(5)))
    entry = {
        "match_key": [{"match_type": "exact", "key": "0x07"}],
        "action_entry": {"action_id": 1, "action_data": []},
    }
    t = table(
        0,
        "t",
        calls={0: "forward", 1: "other"},
        key=[{"match_type": "exact", "target": ["h", "kind"]}],
        entries=[entry],
    )
    raw["pipelines"][0]["tables"] = [t]
    del t["max_size"]
    assert run(raw, frame(7)) == [(5, frame(7))]
    assert run(raw, frame(8)) == [(2, frame(8))]
    del t["entries"]
    with pytest.raises(MalformedProgram, match=r"tables\[0\]: 'max_size' is missing"):
        run(raw)


def test_a_valid_key_and_hits_and_misses() -> None:
    raw = small()
    raw["actions"].append(action(1, "other", send_to(5)))
    entry = {
        "match_key": [{"match_type": "valid", "key": True}],
        "action_entry": {"action_id": 0, "action_data": []},
        "priority": 1,
    }
    first = table(
        0,
        "t",
        key=[{"match_type": "valid", "target": "h", "mask": None}],
        entries=[entry],
        next_tables={"__HIT__": None, "__MISS__": "u"},
    )
    raw["pipelines"][0] = pipeline(0, "ingress", first, table(1, "u", calls={1: "other"}))
    assert run(raw, frame(1)) == [(2, frame(1))]
    assert run(raw, b"\1") == [(5, b"\1")]


def test_a_profile_declared_with_its_table() -> None:
    raw = small()
    spec = call("assign", field("standard_metadata", "egress_spec"), argument(0))
    raw["actions"] = [action(0, "forward", spec, params=(9,))]
    t = table(0, "t", key=[{"match_type": "exact", "target": ["h", "kind"]}])
    del t["default_entry"]
    t |= {
        "type": "indirect_ws",
        "act_prof_name": "prof",
        "selector": {"algo": "crc16", "input": [field("h", "size")]},
    }
    raw["pipelines"][0]["tables"] = [t]
    del raw["pipelines"][0]["action_profiles"]
    switch = SoftSwitch()
    switch.build(raw)
    del t["selector"]
    with pytest.raises(MalformedProgram, match="'selector' is missing"):
        switch.build(raw)
    del t["act_prof_name"]
    with pytest.raises(MalformedProgram, match="'action_profile' is missing"):
        switch.build(raw)


def test_a_conditional_may_have_one_way() -> None:
    raw = small()
    test = {
        "name": "n",
        "id": 0,
        "expression": operation("==", field("h", "kind"), number(1))["value"],
        "true_next": "t",
    }
    raw["pipelines"][0]["conditionals"] = [test]
    raw["pipelines"][0]["init_table"] = "n"
    assert run(raw, frame(1)) == [(2, frame(1))]
    assert run(raw, frame(0))[0][0] == 0
    del test["true_next"]
    with pytest.raises(MalformedProgram, match=r"conditionals\[0\]: 'true_next'"):
        run(raw)


def test_arrays_may_leave_out_that_they_are_indirect() -> None:
    counter = {"type": "counter_array", "value": "c"}
    raw = with_primitives(call("count", counter, number(1)))
    raw["counter_arrays"] = [{"name": "c", "id": 0, "size": 2}]
    raw["meter_arrays"] = [{"name": "m", "id": 0, "type": "bytes", "rate_count": 2, "size": 1}]
    switch = SoftSwitch()
    switch.load(raw, p4i.P4Info())
    switch.process(1, frame())
    assert switch.pipeline is not None
    assert switch.pipeline.state.counters["c"][0] == [0, 1]


# ---- checksums


def header_of(*words: int) -> bytes:
    return b"".join(w.to_bytes(2, "big") for w in words)


def with_checksum(**checksum: Json) -> Json:
    """`h` is six words, the fifth of them a checksum over the whole header."""
    raw = with_primitives(call("assign", field("h", "w0"), number(0x1234)))
    raw["header_types"][1]["fields"] = [[f"w{i}", 16, False] for i in range(6)]
    raw["checksums"] = [{"name": "c", "id": 0, "target": ["h", "w5"], **checksum}]
    return raw


def test_checksums_of_type_ipv4() -> None:
    raw = with_checksum(type="ipv4")
    data = header_of(1, 2, 3, 4, 5, 0)
    (sent,) = run(raw, data)
    assert internet_checksum(sent[1]) == 0
    assert sent[1][:10] == header_of(0x1234, 2, 3, 4, 5)
    assert run(raw, b"\1\2\3") == [(2, b"\1\2\3")]


def test_checksums_verify_and_update_unless_they_say_no() -> None:
    calculation = {
        "name": "calc",
        "id": 0,
        "algo": "csum16",
        "input": [field("h", f"w{i}") for i in range(5)],
    }
    raw = with_checksum(type="generic", calculation="calc")
    raw["calculations"] = [calculation]
    raw["actions"][0]["primitives"].append(
        call("assign", field("h", "w1"), field("standard_metadata", "checksum_error"))
    )
    data = header_of(1, 2, 3, 4, 5, 0)
    good = data[:10] + internet_checksum(data).to_bytes(2, "big")
    for packet, wrong in ((data, 1), (good, 0)):
        (sent,) = run(raw, packet)
        assert internet_checksum(sent[1]) == 0
        assert sent[1][2:4] == wrong.to_bytes(2, "big")
    raw["checksums"][0]["update"] = False
    assert run(raw, data)[0][1][10:] == b"\0\0"
    raw["checksums"][0]["verify"] = False
    assert run(raw, data)[0][1][2:4] == b"\0\0"


# ---- metadata of P4_14


def p4_14(**fields: int) -> Json:
    """Standard metadata as P4_14 has it, the rest in intrinsic_metadata, no aliases."""
    raw = small()
    standard = raw["header_types"][0]["fields"]
    raw["header_types"][0]["fields"] = [
        f for f in standard if f[0] not in ("mcast_grp", "egress_rid")
    ]
    raw["field_aliases"] = []
    if fields:
        rows = [[n, w, False] for n, w in fields.items()]
        raw["header_types"].append({"name": "intrinsic_t", "id": 9, "fields": rows})
        raw["headers"].append(
            {"name": "intrinsic_metadata", "id": 9, "header_type": "intrinsic_t", "metadata": True}
        )
    return raw


def test_without_intrinsic_metadata() -> None:
    raw = p4_14()
    assert run(raw) == [(2, frame(1, 2, 3))]
    raw["actions"][0]["primitives"].append(call("drop"))
    assert run(raw) == []


def test_intrinsic_metadata_in_a_header_of_its_own() -> None:
    raw = p4_14(mcast_grp=16, egress_rid=16)
    group = call("modify_field", field("intrinsic_metadata", "mcast_grp"), field("h", "kind"))
    raw["actions"][0]["primitives"].append(group)
    rid = call("modify_field", field("h", "tag"), field("intrinsic_metadata", "egress_rid"))
    raw["actions"].append(action(1, "mark", rid))
    raw["pipelines"][1] = pipeline(1, "egress", table(1, "e", calls={1: "mark"}))
    switch = SoftSwitch()
    switch.load(raw, p4i.P4Info())
    update = p4r.Update(type=p4r.Update.INSERT)
    entry = update.entity.packet_replication_engine_entry.multicast_group_entry
    entry.multicast_group_id = 7
    for port in (3, 4):
        entry.replicas.add(egress_port=port, instance=port + 10)
    switch.write([update])
    assert switch.process(1, frame(7)) == [(3, frame(7, 13)), (4, frame(7, 14))]
    assert switch.process(1, frame(0)) == [(2, frame(0))]


def test_field_aliases_are_followed() -> None:
    raw = small()
    raw["header_types"].append({"name": "mine_t", "id": 5, "fields": [["to", 9, False]]})
    raw["headers"].append({"name": "mine", "id": 5, "header_type": "mine_t", "metadata": True})
    raw["field_aliases"].append(["standard_metadata.egress_spec", ["mine", "to"]])
    raw["actions"] = [action(0, "forward", call("modify_field", field("mine", "to"), number(6)))]
    assert run(raw) == [(6, frame(1, 2, 3))]


@pytest.mark.parametrize(
    "name", ["ingress_port", "packet_length", "instance_type", "egress_spec", "egress_port"]
)
def test_what_simple_switch_requires_is_required(name: str) -> None:
    raw = small()
    rows = raw["header_types"][0]["fields"]
    raw["header_types"][0]["fields"] = [r for r in rows if r[0] != name]
    with pytest.raises(MalformedProgram, match=rf"standard_metadata\.{name} is missing"):
        run(raw)


def test_constants_in_field_lists_keep_nothing() -> None:
    raw = small()
    elements = [field("scalars", "x"), {"type": "hexstr", "value": "0x1", "bitwidth": 8}]
    raw["field_lists"] = [{"id": 1, "name": "fl", "elements": elements}]
    assert run(raw) == [(2, frame(1, 2, 3))]


def test_externs_of_others_are_still_refused_by_name() -> None:
    raw = small()
    raw["extern_instances"] = [{"name": "e", "id": 0, "type": "police", "attribute_values": []}]
    with pytest.raises(UnsupportedFeature, match=re.escape("extern_instances.e: extern 'police'")):
        run(raw)


def test_a_list_of_nothing_may_be_an_empty_object() -> None:
    text = {"type": "string", "value": "here"}
    raw = with_primitives(call("log_msg", text, {"type": "parameters_vector", "value": {}}))
    assert run(raw) == [(2, frame(1, 2, 3))]

"""A P4 program is data: no text of one becomes code, and what is not a program is refused.

Every kind of leaf of every shipped program gets what does not belong there;
then either reading ends with a sentence, or the syntax tree of the generated
source shows the text in string constants only.
"""

from __future__ import annotations

import ast
import copy
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
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
from finsy.proto import p4i
from softswitch_support import PROGRAMS

from orchestrator.errors import MalformedProgram, UnsupportedFeature
from orchestrator.softswitch import codegen
from orchestrator.softswitch.ir import decode_program, read_program
from orchestrator.softswitch.switch import SoftSwitch

pytestmark = pytest.mark.slow

Json = Any
ROOT = PROGRAMS.parents[2]
SHIPPED = (*sorted(PROGRAMS.glob("*.json")), ROOT / "p4src" / "build" / "edge_v1model.json")
MARKER = "qzqMARKERqzq"
TEXTS = (
    f"{MARKER}",
    f"{MARKER}'''\n__import__('os').abort()\n'''",
    f"{MARKER}') or __import__('os').abort() or ('",
    f"{MARKER}\u2028\r\f\x00\ud800",
    f"0) + {MARKER} + (0",
)
WRONG: tuple[Json, ...] = (True, -1, 1.5, 10**40, None, [], {}, [[]], *TEXTS)


def shipped(path: Path) -> Json:
    return json.loads(path.read_text())


def places(node: Json, shape: str = "") -> Iterator[tuple[str, Json, Any]]:
    """(shape, container, key) of every leaf; the shape is its path without numbers and names."""
    keys: Any = range(len(node)) if isinstance(node, list) else list(node)
    for key in keys:
        named = "*" if isinstance(node, list) or shape.endswith(".next_tables") else key
        inner, at = node[key], f"{shape}.{named}"
        if isinstance(inner, (list, dict)) and inner:
            yield from places(inner, at)
        else:
            yield at, node, key


def one_of_each_shape(raw: Json, rng: random.Random) -> list[tuple[str, Json, Any]]:
    """A leaf of each shape: what is nested in expressions only as deep as they are read."""
    shapes: dict[str, list[tuple[Json, Any]]] = {}
    for shape, node, key in places(raw):
        if "source_info" in shape and "conditionals" not in shape:
            continue
        shape = re.sub(r"(\.value\.(left|right|cond))+", r".value.side", shape)
        shapes.setdefault(shape, []).append((node, key))
    return [(shape, *rng.choice(places_of)) for shape, places_of in shapes.items()]


def source_shows_nothing(source: str) -> None:
    """The source is one function, and the marker is in its string constants only."""
    tree = ast.parse(source)
    (function,) = tree.body
    assert isinstance(function, ast.FunctionDef)
    assert function.name == "run"
    assert not function.decorator_list
    # What `ast.dump` would say of everything but constants.
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            continue
        assert not isinstance(node, (ast.Import, ast.ImportFrom, ast.Global, ast.Lambda))
        for name in ("id", "attr", "arg", "name"):
            assert MARKER not in str(getattr(node, name, ""))
    assert not re.search(r"__import__", re.sub(r"'(\\.|[^'\\])*'|\"(\\.|[^\"\\])*\"", "", source))


def refusal(raw: Json) -> str:
    """What a program that is no program is refused with; '' if it is one."""
    try:
        read_program(raw)
    except (MalformedProgram, UnsupportedFeature) as e:
        return str(e)
    return ""


def try_program(raw: Json) -> bool:
    """Whether a program is read; if it is, its code, plain and traced, shows nothing."""
    text = refusal(raw)
    if text:
        assert all(part.isprintable() for part in text.split("\n")), text
        assert len(text) < 4000
        return False
    # Code that tells its steps is the other code, and more.
    source = codegen.generate(read_program(raw), trace=True).source
    if MARKER in source:
        source_shows_nothing(source)
    return True


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_no_leaf_becomes_code(path: Path) -> None:
    rng = random.Random(11)
    raw = shipped(path)
    places = one_of_each_shape(raw, rng)
    assert len(places) > 60
    if len(path.read_bytes()) > 200_000:  # a second a program
        places = rng.sample(places, 12)
    read = refused = 0
    for _, node, key in places:
        was = node[key]
        for wrong in (rng.choice(WRONG), rng.choice(TEXTS)):
            node[key] = wrong
            if try_program(raw):
                read += 1
            else:
                refused += 1
        node[key] = was
    assert refused > read
    assert raw == shipped(path)


@pytest.mark.exhaustive
@pytest.mark.timeout(0)
@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_no_leaf_at_all_becomes_code(path: Path) -> None:
    """Every leaf of the small programs, one of each shape of ours; every text in each."""
    raw = shipped(path)
    large = len(path.read_bytes()) > 200_000
    leaves = one_of_each_shape(raw, random.Random(7)) if large else list(places(raw))
    for _, node, key in leaves:
        was = node[key]
        for text in TEXTS:
            node[key] = text
            try_program(raw)
        node[key] = was


@pytest.mark.parametrize("path", SHIPPED[:3], ids=lambda p: p.stem)
def test_what_is_missing_is_told_with_its_place(path: Path) -> None:
    rng = random.Random(12)
    raw = shipped(path)
    for shape, node, key in one_of_each_shape(raw, rng):
        was = copy.copy(node)
        del node[key]
        text = refusal(raw)
        assert not text or re.match(r"BMv2 JSON: [a-z_]+(\[\d+\]|\.\w+)*: ", text), (shape, text)
        assert "KeyError" not in text
        if isinstance(node, list):
            node[:] = was
        else:
            node.clear()
            node.update(was)
    assert raw == shipped(path)


@pytest.mark.parametrize("path", SHIPPED[:3], ids=lambda p: p.stem)
def test_parts_in_each_others_places_are_programs_or_refused(path: Path) -> None:
    """Whole parts of a program where others belong: right values of the wrong kind."""
    rng = random.Random(14)
    text = path.read_text()
    built = refused = 0
    for _ in range(60):
        raw = json.loads(text)
        spots = parts(raw)
        (node, key), (other, at) = rng.choice(spots), rng.choice(spots)
        node[key] = copy.deepcopy(other[at])
        switch = SoftSwitch()
        try:
            switch.load(raw, p4i.P4Info())
        except (MalformedProgram, UnsupportedFeature):
            refused += 1
            continue
        built += 1
        switch.trace(1, bytes(80))
        assert not switch.counters.faults, switch.counters.last_fault
    assert refused > 20
    assert built > 0


def parts(node: Json) -> list[tuple[Json, Any]]:
    """(container, key) of everything but what no reader looks at."""
    keys: Any = range(len(node)) if isinstance(node, list) else list(node)
    leaves: list[tuple[Json, Any]] = []
    for key in keys:
        if key in ("source_info", "program"):
            continue
        leaves.append((node, key))
        if isinstance(node[key], (list, dict)):
            leaves += parts(node[key])
    return leaves


PAYLOAD = "0''''\nraise SystemExit('ran')\n''''"


def in_parser(op: str, *parameters: Json) -> Json:
    raw = small()
    state = raw["parsers"][0]["parse_states"][0]
    state["parser_ops"].append({"op": op, "parameters": list(parameters)})
    return raw


@pytest.mark.parametrize(
    "raw",
    [
        in_parser("shift", PAYLOAD),
        {**small(), "errors": [["PacketTooShort", PAYLOAD]]},
        {**small(), "field_lists": [{"id": PAYLOAD, "name": "f", "elements": []}]},
        {**small(), "learn_lists": [{"id": PAYLOAD, "name": "l", "elements": []}]},
        {**small(), "actions": [action(PAYLOAD, "forward", send_to(2))]},  # pyright: ignore[reportArgumentType]
        {**small(), "actions": [action(0, f"x{PAYLOAD}", send_to(2))]},
    ],
    ids=["shift", "error", "field list", "learn list", "action id", "action name"],
)
def test_what_once_ran_is_refused(raw: Json) -> None:
    with pytest.raises(MalformedProgram, match=r"is not an? "):
        SoftSwitch().build(raw)


def renamed(node: Json, old: str, new: str) -> Json:
    if isinstance(node, dict):
        return {(new if k == old else k): renamed(v, old, new) for k, v in node.items()}
    if isinstance(node, list):
        return [renamed(v, old, new) for v in node]
    return new if node == old else node


@pytest.mark.parametrize("path", SHIPPED[:3], ids=lambda p: p.stem)
def test_names_of_all_kinds_are_only_ever_quoted(path: Path) -> None:
    """Every thing that has a name gets a hostile, printable one, wherever it is meant."""
    raw = shipped(path)
    names: list[str] = []
    for section in ("header_types", "headers", "header_stacks", "actions", "calculations"):
        names += [item["name"] for item in raw[section]]
    for section in ("counter_arrays", "register_arrays", "meter_arrays", "parse_vsets"):
        names += [item["name"] for item in raw[section]]
    for pipe in raw["pipelines"]:
        for section in ("tables", "conditionals", "action_profiles"):
            names += [item["name"] for item in pipe[section]]
    names += [s["name"] for s in raw["parsers"][0]["parse_states"]]
    keep = {"standard_metadata", "scalars"}
    read = 0
    for name in random.Random(13).sample(sorted(set(names) - keep), 25):
        read += try_program(renamed(raw, name, f"{MARKER}') or \"x\" or ('{name}"))
    assert read == 25


@pytest.mark.parametrize("text", ["x\ny", "x\u2028y", "", "x" * 2000, "\x1b[2J", "\ud800"])
def test_a_name_that_no_line_can_tell_is_refused(text: str) -> None:
    raw = renamed(small(), "forward", text)
    with pytest.raises(MalformedProgram, match=r"actions\[0\]\.name: .* is not a name"):
        read_program(raw)


def test_the_generator_refuses_what_is_no_line() -> None:
    compiler = codegen.Context(read_program(small()))
    for line in ("a\nb", "a\rb", "a\x0cb", "\u2028", "é", "a\0"):
        with pytest.raises(ValueError, match="no code"):
            compiler.emit(line)
    with pytest.raises(TypeError):
        codegen.literal("1")  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError):
        codegen.literal(True)


# ---- names that look alike


def test_names_that_are_alike_once_mangled_are_different_things() -> None:
    raw = small()
    raw["counter_arrays"] = [
        {"name": n, "id": i, "size": 4, "is_direct": False}
        for i, n in enumerate(("c.x", "c_x", "c x"))
    ]
    raw["register_arrays"] = [
        {"name": n, "id": i, "size": 4, "bitwidth": 8} for i, n in enumerate(("r.x", "r_x"))
    ]

    def count(name: str, index: int) -> Json:
        return call("count", {"type": "counter_array", "value": name}, number(index))

    def write(name: str, value: int) -> Json:
        array = {"type": "register_array", "value": name}
        return call("register_write", array, number(0), number(value))

    raw["actions"] = [
        action(0, "one", count("c.x", 0), count("c x", 2), write("r.x", 1)),
        action(1, "two", count("c_x", 1), write("r_x", 2), send_to(3)),
    ]
    keyed: Json = {"key": [{"match_type": "exact", "target": ["h", "kind"], "mask": None}]}
    first = table(0, "acl.ipv4", "acl_ipv4", calls={0: "one"}, **keyed)
    raw["pipelines"][0] = pipeline(
        0, "ingress", first, table(1, "acl_ipv4", calls={1: "two"}, **keyed)
    )
    switch = SoftSwitch()
    switch.load(raw, p4i.P4Info())
    assert switch.process(1, frame(7)) == [(3, frame(7))]
    assert switch.pipeline is not None
    counters = {n: packets for n, (packets, _) in switch.pipeline.state.counters.items()}
    assert counters == {"c.x": [1, 0, 0, 0], "c_x": [0, 1, 0, 0], "c x": [0, 0, 1, 0]}
    registers = {n: cells[0] for n, cells in switch.pipeline.state.registers.items()}
    assert registers == {"r.x": 1, "r_x": 2}
    assert switch.pipeline.state.tables["acl.ipv4"] is not switch.pipeline.state.tables["acl_ipv4"]


def test_headers_fields_and_tables_do_not_take_each_others_names() -> None:
    """Names that the generator's own locals and globals could be mistaken for."""
    raw = small()
    for old, new in (("h", "miss_t"), ("kind", "v"), ("tag", "o"), ("size", "d"), ("t", "t_v")):
        raw = renamed(raw, old, new)
    raw["actions"][0]["primitives"] += [
        call("assign", field("miss_t", "v"), number(1)),
        call("assign", field("miss_t", "o"), number(2)),
        call("assign", field("miss_t", "d"), number(3)),
    ]
    switch = SoftSwitch()
    switch.load(raw, p4i.P4Info())
    assert switch.process(1, frame()) == [(2, frame(1, 2, 3))]


def test_an_action_with_many_parameters_has_all_of_them() -> None:
    raw = small()
    sets = [call("assign", field("h", "tag"), argument(i)) for i in range(14)]
    raw["actions"] = [action(0, "many", send_to(2), *sets, params=(8,) * 14)]
    entry = {"action_id": 0, "action_data": [hex(i + 1) for i in range(14)]}
    raw["pipelines"][0]["tables"] = [table(0, "t", calls={0: "many"}, default_entry=entry)]
    switch = SoftSwitch()
    switch.load(raw, p4i.P4Info())
    assert switch.process(1, frame()) == [(2, frame(tag=14))]


# ---- what is too much


def nested(depth: int) -> Json:
    value: Json = field("scalars", "x")
    for _ in range(depth):
        value = operation("+", value, number(1))
    return value


def many_states(count: int) -> Json:
    raw = small()
    first = raw["parsers"][0]["parse_states"][0]
    raw["parsers"][0]["parse_states"] = [
        {
            **first,
            "name": f"s{i}",
            "id": i,
            "parser_ops": [],
            "transitions": [
                {"type": "default", "next_state": f"s{i + 1}" if i + 1 < count else None}
            ],
        }
        for i in range(count)
    ]
    raw["parsers"][0]["init_state"] = "s0"
    return raw


def many_tables(count: int) -> Json:
    raw = small()
    nodes = [table(i, f"t{i}", f"t{i + 1}" if i + 1 < count else None) for i in range(count)]
    raw["pipelines"][0] = pipeline(0, "ingress", *nodes)
    return raw


def nested_branches(count: int) -> Json:
    """`if (h.kind == 0) { t0 } else if (...) ...`, each branch inside the one before."""
    raw = small()
    leaves = [table(i, f"t{i}") for i in range(count + 1)]
    conditions = [
        {
            "name": f"n{i}",
            "id": i,
            "expression": operation("==", field("h", "kind"), number(i))["value"],
            "true_next": f"t{i}",
            "false_next": f"n{i + 1}" if i + 1 < count else f"t{count}",
        }
        for i in range(count)
    ]
    raw["pipelines"][0] = pipeline(0, "ingress", *leaves, conditionals=tuple(conditions))
    raw["pipelines"][0]["init_table"] = "n0"
    return raw


def with_array(section: str, **other: Json) -> Json:
    raw = small()
    raw[section] = [{"name": "a", "id": 0, "is_direct": False, **other}]
    return raw


def with_value(value: Json) -> Json:
    raw = small()
    raw["actions"][0]["primitives"].append(call("assign", field("scalars", "x"), value))
    return raw


def with_stack(size: int) -> Json:
    raw = small()
    raw["headers"] += [
        {"name": f"s[{i}]", "id": 10 + i, "header_type": "h_t", "metadata": False}
        for i in range(size)
    ]
    ids = [10 + i for i in range(size)]
    raw["header_stacks"] = [
        {"name": "s", "id": 0, "header_type": "h_t", "size": size, "header_ids": ids}
    ]
    return raw


TOO_MUCH: dict[str, Callable[[], Json]] = {
    "counters": lambda: with_array("counter_arrays", size=10**10),
    "counters_in_all": lambda: with_array("counter_arrays", size=2**31 - 1),
    "registers": lambda: with_array("register_arrays", size=2**26, bitwidth=8),
    "wide_registers": lambda: with_array("register_arrays", size=2**20, bitwidth=65_536),
    "register_width": lambda: with_array("register_arrays", size=1, bitwidth=10**9),
    "table_size": lambda: {
        **small(),
        "pipelines": [
            pipeline(0, "ingress", table(0, "t", max_size=10**10)),
            pipeline(1, "egress"),
        ],
    },
    "expression_depth": lambda: with_value(nested(95)),
    "constant": lambda: with_value({"type": "hexstr", "value": "0x" + "f" * 100_000}),
    "stack": lambda: with_stack(10_000),
    "states": lambda: many_states(5_000),
    "tables": lambda: many_tables(5_000),
    "field_width": lambda: renamed(small(), "nothing", "") | {
        "header_types": [
            *small()["header_types"][:2],
            {"name": "scalars_t", "id": 2, "fields": [["x", 10**9, False], ["y", 8, True]]},
        ]
    },
}  # fmt: skip


@pytest.mark.parametrize("what", TOO_MUCH)
def test_too_much_is_an_answer(what: str) -> None:
    with pytest.raises((MalformedProgram, UnsupportedFeature)) as e:
        SoftSwitch().build(TOO_MUCH[what]())
    assert len(str(e.value)) < 600


def test_deep_and_long_programs_that_are_not_too_much_run() -> None:
    for raw in (many_states(600), many_tables(1_500), with_value(nested(80)), nested_branches(300)):
        switch = SoftSwitch()
        switch.load(raw, p4i.P4Info())
        assert switch.process(1, frame(9)) == [(2, frame(9))], switch.counters.last_fault


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"[" * 100_000, "too deeply nested"),
        (b"[" + b"1," * 3_000_000 + b"1]", "more than 2000000 values"),
        (b" " * (17 << 20), "bytes are too many"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"", "not JSON"),
    ],
)
def test_json_that_is_too_much_is_refused_before_it_is_read(data: bytes, text: str) -> None:
    with pytest.raises(MalformedProgram, match=text) as e:
        decode_program(data)
    assert len(str(e.value)) < 400

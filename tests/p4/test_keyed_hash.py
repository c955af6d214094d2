"""`keyed_hash` in place of HalfSipHash's arithmetic (`codegen.keyed_hash`).

Oracles: P4's arithmetic itself, which the traced function keeps and a small interpreter here does word
by word; and wire.prf, whose own oracle is the authors' vectors. What this cannot see: programs of other
compilers than the p4c that made the shipped one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import count as count_from
from itertools import repeat
from typing import Any

import pytest
from edge_switch import GRAPH, EdgeSwitch, ether, forwarding, shipped, tagged
from scapy.layers.inet import IP, UDP

from orchestrator.softswitch.codegen.keyed_hash import with_keyed_hash
from orchestrator.softswitch.codegen.straight import StraightRun, chains_of
from orchestrator.softswitch.ir.program import Action, ActionCall, P4Program
from servernf.wire.addresses import COLLECTOR_CORE, device_mac
from servernf.wire.prf import half_siphash_32

HALF = 1 << 31
Fields = dict[tuple[str, str], int]


def hashes(program: P4Program) -> list[tuple[str, Any]]:
    """(action, parameters) of every `keyed_hash`."""
    return [
        (action.name, primitive["parameters"])
        for action in program.actions
        for primitive in action.primitives
        if primitive["op"] == "keyed_hash"
    ]


@cache
def epoch() -> tuple[P4Program, StraightRun]:
    """A program of which little is left but what asks for an epoch's packets, and where it does."""
    program = shipped().program
    rewritten = {a.id: a for a in with_keyed_hash(program).actions}

    def words(chain: StraightRun) -> list[int]:
        actions = [rewritten[a.id] for a in chain.actions]
        hashes = [p for a in actions for p in a.primitives if p["op"] == "keyed_hash"]
        return [len(p["parameters"]) - 3 for p in hashes]

    chain = next(chain for chain in chains_of(program) if words(chain) == [2])
    return alone(program, chain.actions, chain), chain


def alone(program: P4Program, actions: Sequence[Action], chain: StraightRun) -> P4Program:
    """The program with nothing but these actions, one after the other, and a chain's condition."""
    assert chain.condition is not None
    pipeline, condition = chain.condition
    names = [str(at) for at in range(len(actions))]
    node = replace(
        program.pipelines[pipeline].conditionals[condition], true_next=None, false_next=None
    )
    calls = {
        name: ActionCall(name, action, after)
        for name, action, after in zip(names, actions, [*names[1:], condition], strict=True)
    }
    pipe = replace(
        program.pipelines[pipeline],
        init="0", tables={}, calls=calls, conditionals={condition: node},
    )  # fmt: skip
    return replace(program, actions=tuple(actions), pipelines={pipeline: pipe})


def outcome(
    program: P4Program, chain: StraightRun, fields: Mapping[tuple[str, str], int]
) -> Fields:
    """What fields have behind a chain that is `alone`; under ("", "") what its condition says."""
    assert chain.condition is not None
    pipeline, condition = chain.condition
    now: Fields = dict(fields)

    def value(node: Any) -> int:
        kind, what = node["type"], node["value"]
        if kind == "hexstr":
            return what
        if kind == "field":
            return now.get(tuple(what), 0)
        assert kind == "expression"
        if "op" not in what:
            return value(what)
        if what["op"] == "d2b":
            return int(value(what["right"]) != 0)
        one, other = value(what["left"]), value(what["right"])
        return {
            "+": one + other, "-": one - other, "^": one ^ other, "&": one & other, "|": one | other,
            "<<": one << min(other, 64), ">>": one >> other, "<": int(one < other),
        }[what["op"]]  # fmt: skip

    for call in program.pipelines[pipeline].calls.values():
        for primitive in call.action.primitives:
            to, *words = primitive["parameters"]
            got = [value(word) for word in words]
            header, name = to["value"]
            width = program.headers[header].type.by_name[name].width
            made = half_siphash_32(*got) if primitive["op"] == "keyed_hash" else got[0]
            now[header, name] = made & ((1 << width) - 1)
    now["", ""] = value(program.pipelines[pipeline].conditionals[condition].expression)
    return now


def random_fields(program: P4Program, draw: random.Random) -> Fields:
    """Every metadata field at random; thresholds half of all, so that answers differ."""
    return {
        (header.name, f.name): HALF if "below" in f.name else draw.getrandbits(f.width)
        for header in program.headers.values()
        if header.metadata
        for f in header.type.fields
    }


def assert_same(
    program: P4Program, chain: StraightRun, draw: random.Random, times: int = 3
) -> None:
    """The arithmetic and what becomes of it say the same; so do fields that others read."""
    rewritten = with_keyed_hash(program)
    for _ in range(times):
        fields = random_fields(program, draw)
        ours, theirs = outcome(rewritten, chain, fields), outcome(program, chain, fields)
        assert ours["", ""] == theirs["", ""]


def changed(node: Any, at: Iterator[bool], draw: random.Random) -> Any:
    """An expression with another constant, operator or field where `at` says so."""
    if isinstance(node, (list, tuple)):
        return [changed(item, at, draw) for item in node]
    if not isinstance(node, dict):
        return node
    node = {name: changed(item, at, draw) for name, item in node.items()}
    if node.get("type") == "hexstr" and next(at):
        return {**node, "value": node["value"] ^ 1 << draw.randrange(5)}
    if node.get("op") in ("+", "^", "|", "<<", ">>", "&") and next(at):
        return {**node, "op": draw.choice([op for op in ("+", "^", "|", "&") if op != node["op"]])}
    if node.get("type") == "field":
        node["value"] = tuple(node["value"])
        header, name = node["value"]
        if name in ("v0", "v1", "v2", "v3") and next(at):
            return {**node, "value": (header, draw.choice(["v0", "v1", "v2", "v3"]))}
    return node


def near_misses(count: int, seed: int) -> Iterator[tuple[P4Program, StraightRun]]:
    """The epoch's program with one place of its arithmetic changed."""
    program, chain = epoch()
    draw = random.Random(seed)
    for _ in range(count):
        actions = list(chain.actions)
        which = draw.randrange(len(actions))
        primitives = list(actions[which].primitives)
        at = draw.randrange(len(primitives))
        to, source = primitives[at]["parameters"]
        counted = count_from(0)
        changed(source, (next(counted) < 0 for _ in repeat(None)), draw)
        place = draw.randrange(max(next(counted), 1))
        made = changed(source, (n == place for n in count_from(0)), draw)
        primitives[at] = {**primitives[at], "parameters": [to, made]}
        actions[which] = replace(actions[which], primitives=tuple(primitives))
        yield alone(program, actions, chain), replace(chain, actions=tuple(actions))


def test_every_hash_of_the_shipped_pipeline_is_one_primitive() -> None:
    made = with_keyed_hash(shipped().program)
    # A manifest's label, and of two epochs the packet and the flow; the MAC of a report.
    assert sorted(len(words) - 3 for _, words in hashes(made)) == [1, 1, 1, 2, 2, 15]
    left = [p for a in made.actions if a.name.endswith("sip_round") for p in a.primitives]
    assert {p["op"] for p in left} == {"keyed_hash"}


def test_what_is_generated_does_not_depend_on_this_process() -> None:
    first, again = (with_keyed_hash(shipped().program) for _ in range(2))
    assert hashes(first) == hashes(again)
    numbers = [words[0]["value"][1] for _, words in hashes(first) if words[0]["value"][0] == "$prf"]
    assert sorted(numbers) == [f"answer{at}" for at in range(5)]


def test_a_program_without_a_hash_is_itself() -> None:
    program, chain = epoch()
    shorter = alone(program, chain.actions[:-1], chain)
    assert with_keyed_hash(shorter) is shorter


def test_the_primitive_says_what_the_arithmetic_says() -> None:
    program, chain = epoch()
    assert [len(words) for _, words in hashes(with_keyed_hash(program))] == [5]
    assert_same(program, chain, random.Random(1), times=50)


def test_other_arithmetic_stays_what_it_is() -> None:
    draw = random.Random(2)
    kept = 0
    for program, chain in near_misses(40, seed=3):
        assert_same(program, chain, draw)
        kept += not hashes(with_keyed_hash(program))
    assert kept > 20, "few of the changes were any"


@pytest.mark.exhaustive
def test_other_arithmetic_stays_what_it_is_wherever_it_differs() -> None:
    draw = random.Random(4)
    for program, chain in near_misses(3000, seed=5):
        assert_same(program, chain, draw)


@pytest.mark.parametrize("place", [0, 4, 8, -1])
def test_a_word_that_changes_meanwhile_is_hashed_as_it_was(place: int) -> None:
    program, chain = epoch()
    actions = list(chain.actions)
    label = ("scalars", "metadata_t.label")
    other = {"type": "field", "value": label}
    assign = {"op": "assign", "parameters": [other, {"type": "hexstr", "value": 7}]}
    actions[place] = replace(actions[place], primitives=(*actions[place].primitives, assign))
    chain = replace(chain, actions=tuple(actions))
    assert_same(alone(program, actions, chain), chain, random.Random(6))


def test_state_that_others_read_is_computed() -> None:
    program, chain = epoch()
    state = chain.actions[-1].primitives[-1]["parameters"][0]
    reads = {
        "op": "assign",
        "parameters": [{"type": "field", "value": ("scalars", "metadata_t.spi")}, state],
    }
    elsewhere = Action(99_999, "reads", (), (reads,))
    with_reader = replace(program, actions=(*program.actions, elsewhere))
    made = with_keyed_hash(with_reader)
    assert hashes(made)
    fields = random_fields(program, random.Random(7))
    name = tuple(state["value"])
    assert outcome(made, chain, fields)[name] == outcome(program, chain, fields)[name]


def test_packets_are_watched_alike_by_the_arithmetic_and_by_both_engines() -> None:
    """The traced function keeps the arithmetic: with two epochs, flows, a manifest and reports."""
    switches = [_watching() for _ in range(2)]
    draw = random.Random(8)
    told = 0
    for _ in range(60):
        source, port = f"10.0.1.{draw.randrange(256)}", draw.getrandbits(16)
        frame = ether(
            IP(src=source, dst="198.51.100.13", id=draw.getrandbits(16)) / UDP(sport=port)
        )
        for switch in switches:
            switch.now_ns += 1_000_000 + 1000 * (port % 500)
        arithmetic, _ = switches[0].soft.trace(1, bytes(frame))
        assert switches[1].send(frame) == arithmetic
        told += len(arithmetic) > 1
    assert 20 < told < 60


def _watching() -> EdgeSwitch:
    switch, at = forwarding()
    tagged(switch, at)
    collector = {"collector": device_mac(9, core=COLLECTOR_CORE), "boot": 1, "key0": 1, "key1": 2}
    switch.add("record.collectors", {"graph": GRAPH}, "tell", collector)
    rates = {
        "packets": HALF // 2,
        "flows": HALF // 4,
        "next_packets": HALF // 4,
        "next_flows": HALF // 8,
    }
    keys = {
        "number": 1,
        "key0": 0x89ABCDEF,
        "key1": 2,
        "next_number": 2,
        "next_key0": 5,
        "next_key1": 1,
    }
    switch.add("witness.epochs", {"graph": GRAPH}, "watch_both", {**keys, **rates})
    manifest = {"key0": 3, "key1": 4, "below": HALF}
    switch.add("trajectory_sample.manifests", {"graph": GRAPH}, "watch", manifest)
    return switch

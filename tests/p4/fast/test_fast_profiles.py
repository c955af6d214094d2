"""Action profiles, selectors and value sets on C beside the Python engine: random writes and frames.

Oracle: the Python engine, which BMv2 stands beside (test_softswitch_equals_bmv2). Blind spot: what
neither of them has of P4Runtime's action profiles.
"""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from finsy.proto import p4i, p4r

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "softswitch"))

from fast_support import Pair
from softswitch_support import DELETE, INSERT, MODIFY, Names, Profiles, p4info, program

from orchestrator.softswitch.fast.building import compiler
from orchestrator.softswitch.packetmeta import canonical

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler (cc) is installed")

INFO = p4info("externs")
NAMES, PROFILES = Names(INFO), Profiles(INFO)
Update = p4r.Update


def without_shifts_of_union_stacks() -> Any:
    """The program but for two actions that the C generator refuses."""
    made = program("externs")
    for action in made["actions"]:
        if any(p["op"] in ("push", "pop") for p in action["primitives"]):
            action["primitives"] = []
    return made


@pytest.fixture
def both() -> Iterator[Pair]:
    with Pair(without_shifts_of_union_stacks(), INFO) as pair:
        yield pair


def frame(op: int, a: int, b: int = 0, c: int = 0) -> bytes:
    return struct.pack(">BBHIQ", op, a, b, c, 0)


def target(table: str, a: int, kind: Any = INSERT, **action: int) -> Update:
    update = NAMES.entry(table, {"hdr.op.a": a}, kind=kind)
    for name, value in action.items():
        setattr(update.entity.table_entry.action, name, value)
    return update


class Writer:
    """Random updates of both profiles; most of them are possible."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def action(self) -> tuple[str, tuple[int, ...]]:
        rng = self.rng
        return rng.choice(
            (
                ("ig.forward", (rng.randrange(1, 5),)),
                ("ig.tag", (rng.getrandbits(32),)),
                ("ig.drop", ()),
            )
        )

    def member(self) -> Update:
        name, params = self.action()
        kind = self.rng.choice((INSERT, INSERT, MODIFY, MODIFY, DELETE))
        profile = self.rng.choice(("ig.nexthops", "ig.ecmp"))
        return PROFILES.member(profile, self.rng.randrange(1, 8), name, *params, kind=kind)

    def group(self) -> Update:
        rng = self.rng
        kind = rng.choice((INSERT, MODIFY, MODIFY, DELETE))
        members = [(m, rng.randrange(1, 4)) for m in rng.sample(range(1, 8), rng.randrange(4))]
        made = PROFILES.group("ig.ecmp", rng.randrange(1, 4), *members, kind=kind)
        for m in made.entity.action_profile_group.members:
            if rng.random() < 0.3:
                m.watch_port = canonical(rng.randrange(1, 4))
        return made

    def entry(self) -> Update:
        rng = self.rng
        kind, a = rng.choice((INSERT, INSERT, MODIFY, DELETE)), rng.randrange(6)
        if rng.random() < 0.5:
            made = target("ig.profiled", a, kind, action_profile_member_id=rng.randrange(1, 8))
        elif rng.random() < 0.7:
            made = target("ig.balanced", a, kind, action_profile_group_id=rng.randrange(1, 4))
        else:
            made = target("ig.balanced", a, kind, action_profile_member_id=rng.randrange(1, 8))
        return made

    def one_shot(self) -> Update:
        rng = self.rng
        kind = rng.choice((INSERT, MODIFY, DELETE))
        made = NAMES.entry("ig.balanced", {"hdr.op.a": rng.randrange(6)}, kind=kind)
        actions = [(rng.randrange(1, 3), *self.action()) for _ in range(rng.randrange(1, 4))]
        return PROFILES.one_shot(made, *actions)

    def clean(self) -> list[Update]:
        """Entries, groups and members away, so that the other way to fill a profile is open."""
        tables = ("ig.profiled", "ig.balanced")
        return [
            *(target(table, a, DELETE) for table in tables for a in range(6)),
            *(PROFILES.group("ig.ecmp", g, kind=DELETE) for g in range(1, 4)),
            *(PROFILES.member("ig.ecmp", m, "", kind=DELETE) for m in range(1, 8)),
        ]


def _probe(both: Pair, rng: random.Random) -> int:
    """Frames to all entries; how many of them a profile's action has changed or sent elsewhere."""
    told = 0
    for op in (5, 6):
        for a in range(6):
            frames = [frame(op, a, rng.getrandbits(16), rng.getrandbits(32)) for _ in range(3)]
            told += sum((2, f) not in both.process(1, [f]) for f in frames)
    return told


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in range(2, 40))]
)
def test_members_groups_and_one_shots(both: Pair, seed: int) -> None:
    rng = random.Random(seed)
    writer = Writer(rng)
    done = told = 0
    for round_ in range(30):
        if round_ % 10 == 9:
            both.write(writer.clean())
        kinds = [writer.one_shot] if round_ // 10 % 2 else [writer.member, writer.group]
        for _ in range(6):
            codes = both.write([rng.choice([*kinds, writer.entry])() for _ in range(5)])
            done += codes.count(0)
        if rng.random() < 0.4:
            port, up = rng.randrange(1, 4), rng.random() < 0.5
            both.python.set_port_up(port, up)
            both.fast.set_port_up(port, up)
        told += _probe(both, rng)
        both.read(p4r.Entity(action_profile_group=p4r.ActionProfileGroup()))
    both.read(p4r.Entity(table_entry=p4r.TableEntry()))
    assert done > 150
    assert told > 100


def test_entries_of_profiles_go_over_to_another_program(both: Pair) -> None:
    made = without_shifts_of_union_stacks()
    assert not any(
        both.write(
            [
                PROFILES.member("ig.nexthops", 1, "ig.tag", 5),
                *(PROFILES.member("ig.ecmp", m, "ig.tag", 10 + m) for m in (1, 2)),
                PROFILES.group("ig.ecmp", 1, (1, 1), (2, 2)),
                target("ig.profiled", 1, action_profile_member_id=1),
                target("ig.balanced", 1, action_profile_group_id=1),
                value_set("p.bytes", (7,)),
            ]
        )
    )
    both.python.reconcile(both.python.build(made), INFO)
    both.fast.reconcile(both.fast.prepare(made, INFO))
    assert _probe(both, random.Random(1)) > 3
    assert both.process(1, [frame(2, 7)]) == [(2, frame(2, 7, 0, 1))]


def test_entries_that_age_and_those_with_meters_are_modified(both: Pair) -> None:
    """Of one table entries have idle timeouts and no meter, of another meters."""
    aging = NAMES.entry("ig.aging", {"hdr.op.a": 1}, "ig.tag", (9,))
    aging.entity.table_entry.idle_timeout_ns = 3_000_000_000
    metered = NAMES.entry("ig.flows", {"hdr.op.a": 1}, "ig.metered")
    config = metered.entity.table_entry.meter_config
    config.cir, config.cburst, config.pir, config.pburst = 1, 1, 1, 2
    assert both.write([aging, metered]) == [0, 0]
    assert [both.process(1, [frame(7, 1)])[0][1][7] for _ in range(3)] == [0, 1, 2]
    for update in (aging, metered):
        update.type = MODIFY
    aging.entity.table_entry.action.action.params[0].value = b"\x08"
    metered.entity.table_entry.ClearField("meter_config")
    assert both.write([aging, metered]) == [0, 0]
    assert both.process(1, [frame(11, 1)])[0][1][7] == 8
    both.process(1, [frame(7, 1)])


# ---- value sets


def value_set(name: str, *members: tuple[int, ...]) -> Update:
    info = next(v for v in INFO.value_sets if v.preamble.name == name)
    update = Update(type=MODIFY)
    update.entity.value_set_entry.value_set_id = info.preamble.id
    for values in members:
        member = update.entity.value_set_entry.members.add()
        for f, value in zip(info.match, values, strict=True):
            member.match.add(field_id=f.id).exact.value = canonical(value)
    return update


def test_value_sets_steer_the_parser(both: Pair) -> None:
    rng = random.Random(6)
    frames = [frame(2, a, b) for a in range(10) for b in (0, 1, 300)]
    in_a_set = 0
    for _ in range(20):
        singles = [(rng.randrange(10),) for _ in range(rng.randrange(4))]
        pairs = [(rng.randrange(10), rng.choice((0, 1, 300))) for _ in range(rng.randrange(4))]
        both.write([value_set("p.bytes", *singles), value_set("p.pairs", *pairs)])
        in_a_set += sum((2, f) not in both.process(1, [f]) for f in frames)
        both.read(p4r.Entity(value_set_entry=p4r.ValueSetEntry()))
    assert in_a_set > 50


@pytest.mark.parametrize("kind", ["TERNARY", "RANGE", "LPM", "OPTIONAL"])
def test_value_sets_of_other_kinds_of_matches(kind: str) -> None:
    info = p4i.P4Info()
    info.CopyFrom(INFO)
    for each in info.value_sets:
        for f in each.match:
            f.match_type = p4i.MatchField.MatchType.Value(kind)
    rng = random.Random(kind)
    frames = [frame(2, rng.getrandbits(8), rng.getrandbits(16)) for _ in range(60)]
    in_a_set = 0
    with Pair(without_shifts_of_union_stacks(), info) as both:
        for _ in range(15):
            both.write([_random_members(each, kind, rng) for each in info.value_sets])
            in_a_set += sum((2, f) not in both.process(1, [f]) for f in frames)
    assert in_a_set > 10


def _random_members(info: p4i.ValueSet, kind: str, rng: random.Random) -> Update:
    update = Update(type=MODIFY)
    update.entity.value_set_entry.value_set_id = info.preamble.id
    for _ in range(rng.randrange(1, 4)):
        member = update.entity.value_set_entry.members.add()
        for f in info.match:
            if kind != "RANGE" and rng.random() < 0.2:
                continue  # any value
            low, high = sorted(rng.getrandbits(f.bitwidth) for _ in range(2))
            m = member.match.add(field_id=f.id)
            if kind == "TERNARY":
                mask = rng.getrandbits(f.bitwidth) & rng.getrandbits(f.bitwidth)
                m.ternary.value, m.ternary.mask = canonical(low & mask), canonical(mask)
            elif kind == "RANGE":
                m.range.low, m.range.high = canonical(low), canonical(high)
            elif kind == "LPM":
                m.lpm.value, m.lpm.prefix_len = canonical(low), rng.randrange(4)
            else:
                m.optional.value = canonical(low)
    return update

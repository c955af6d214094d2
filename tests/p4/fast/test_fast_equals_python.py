"""The C engine beside the Python engine: random entries and packets, and random arithmetic.

Oracle: the Python engine, which BMv2 stands beside (test_fuzz). Blind spot: what both generators, which
share the reader and the layout of headers, get wrong alike. The C code runs with sanitizers.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest
from finsy.proto import p4i, p4r

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))
sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "softswitch"))

import bmv2_programs as by_hand
import fast_arithmetic
import fuzz
from fast_support import Pair
from fuzz_entries import EntryMaker
from softswitch_support import p4info, program

from orchestrator.errors import SwitchError, UnsupportedFeature
from orchestrator.softswitch.fast.building import compiler
from orchestrator.softswitch.fast.switch import FastSwitch

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler (cc) is installed")

PACKETS = 600


def test_the_shipped_pipeline_with_random_entries() -> None:
    rng = random.Random(18)
    (target,) = [t for t in fuzz.shipped() if t.name == "edge_v1model"]
    with Pair(json.loads(target.raw), target.info) as both:
        for _ in range(3):
            maker = EntryMaker(target.info, rng, target.pools)
            codes = both.write([*target.setup, *maker.entries(12)])
            assert codes.count(0) > 100
            sent = 0
            for _ in range(PACKETS // 20):
                frames = [target.frame(rng) for _ in range(20)]
                port = rng.choice((1, 2, 3, 4, 510))
                sent += len(both.process(port, frames))
                both.now_ns += rng.randrange(1_000_000)
                _change_a_few(both, maker, rng)
                both.process(port, frames)  # what was looked up is found anew where it must be
            assert sent > PACKETS // 10
            counted = p4r.Entity()
            counted.table_entry.counter_data.SetInParent()
            assert any(e.table_entry.counter_data.packet_count for e in both.read(counted))
            removed = [
                p4r.Update(type=p4r.Update.DELETE, entity=e)
                for e in both.read(p4r.Entity(table_entry=p4r.TableEntry()))
                if not e.table_entry.is_default_action
            ]
            assert not any(both.write(removed))
            both.process(1, [target.frame(rng) for _ in range(20)])
            groups = p4r.Entity()
            groups.packet_replication_engine_entry.clone_session_entry.SetInParent()
            both.write([p4r.Update(type=p4r.Update.DELETE, entity=e) for e in both.read(groups)])
            groups.packet_replication_engine_entry.multicast_group_entry.SetInParent()
            both.write([p4r.Update(type=p4r.Update.DELETE, entity=e) for e in both.read(groups)])


def _change_a_few(both: Pair, maker: EntryMaker, rng: random.Random) -> None:
    """So few changes of a table that it forgets only the keys that they concern."""
    everything = [
        e
        for e in both.read(p4r.Entity(table_entry=p4r.TableEntry()))
        if not e.table_entry.is_default_action
    ]
    gone = [
        p4r.Update(type=p4r.Update.DELETE, entity=e)
        for e in rng.sample(everything, min(8, len(everything)))
    ]
    both.write(gone)
    made = maker.entries(1)
    both.write([*rng.sample(made, min(8, len(made))), *([] if rng.random() < 0.5 else gone)])


@pytest.mark.parametrize("name", ["router", "features"])
def test_programs_with_random_entries(name: str) -> None:
    rng = random.Random(3)
    info = p4info(name)
    with Pair(program(name), info) as both:
        maker = EntryMaker(info, rng)
        both.write([*fuzz.replication(), *maker.entries(20)])
        for _ in range(20):
            frames = [fuzz.ip_frame(rng) for _ in range(10)] + [rng.randbytes(rng.randrange(80))]
            both.process(rng.choice((1, 2, 3)), frames)
            if name == "router":
                _change_a_few(both, maker, rng)
                both.process(rng.choice((1, 2, 3)), frames)
            both.now_ns += rng.randrange(10_000_000)


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in range(2, 40))]
)
def test_random_arithmetic(seed: int) -> None:
    """Expressions of all operators over fields of 1 to 2,048 bits, signed and saturating ones."""
    made = fast_arithmetic.program(seed)
    rng = random.Random(seed)
    with Pair(made, p4i.P4Info()) as both:
        for _ in range(40):
            assert both.process(1, [fast_arithmetic.frame(made, rng)])


@pytest.mark.skipif(fuzz.P4C is None, reason="p4c-bm2-ss is not installed")
@pytest.mark.parametrize(
    ("first", "count"), [(7, 1), pytest.param(1000, 40, marks=pytest.mark.exhaustive)]
)
@pytest.mark.timeout(3600)
def test_generated_programs(first: int, count: int) -> None:
    """Those that p4c takes, of random programs with random entries. Many: with sanitizers."""
    ran = 0
    for seed in range(first, first + 2 * count + 8):
        if ran == count:
            break
        target = fuzz.generated(seed)
        if target is None:
            continue
        rng = random.Random(seed)
        with Pair(json.loads(target.raw), target.info, sanitized=count > 1) as both:
            both.write([*target.setup, *EntryMaker(target.info, rng).entries(8)])
            for _ in range(30):
                frames = [target.frame(rng) for _ in range(10)]
                both.process(rng.choice((1, 2, 3)), frames)
                both.now_ns += rng.randrange(1_000_000)
        ran += 1
    assert ran == count


def test_what_is_not_implemented_is_refused_by_name() -> None:
    with (
        FastSwitch() as fast,
        pytest.raises(UnsupportedFeature, match="header union stack options"),
    ):
        fast.load(program("externs"), p4info("externs"))


def test_an_endless_loop_ends_with_a_fault() -> None:
    made = by_hand.small()
    made["actions"][0]["primitives"] = [by_hand.call("_jump", by_hand.number(0))]
    with Pair(made, p4i.P4Info()) as both:
        assert both.process(1, [bytes(20)]) == []
        assert both.python.counters.faults == 1


def test_entries_that_nobody_hits_are_told_of() -> None:
    made, info = program("router"), p4info("router")
    (table,) = [t for p in made["pipelines"] for t in p["tables"] if t["name"] == "ig.acl"]
    table["support_timeout"] = True
    (stated,) = [t for t in info.tables if t.preamble.name == "ig.acl"]
    stated.idle_timeout_behavior = p4i.Table.NOTIFY_CONTROL
    update = p4r.Update(type=p4r.Update.INSERT)
    entry = update.entity.table_entry
    entry.table_id, entry.priority, entry.idle_timeout_ns = stated.preamble.id, 5, 3_000_000_000
    (port,) = [f.id for f in stated.match_fields if f.name == "port"]
    entry.match.add(field_id=port).exact.value = b"\x01"
    (action,) = [a.preamble.id for a in info.actions if a.preamble.name == "ig.permit"]
    entry.action.action.action_id = action
    rng = random.Random(4)
    with Pair(made, info) as both:
        assert both.write([update]) == [0]
        told: list[int] = []
        for hit in (False, True, False, False, False, True, False, False):
            if hit:
                both.process(1, [fuzz.ip_frame(rng) for _ in range(20)])
            both.now_ns += 1_600_000_000
            for switch in (both.python, both.fast):
                switch.tick()
            timeouts = [list(s.idle_timeouts) for s in (both.python, both.fast)]
            assert timeouts[0] == timeouts[1]
            told.append(sum(len(n.table_entry) for n in timeouts[0]))
        assert told == [0, 0, 1, 1, 1, 1, 2, 2], "told once each time that it was not hit"


def test_another_program_takes_the_entries_over() -> None:
    info = p4info("router")
    rng = random.Random(9)
    maker = EntryMaker(info, rng)
    frames = [fuzz.ip_frame(rng) for _ in range(30)]
    with Pair(program("router"), info) as both:
        both.write([*fuzz.replication(), *maker.entries(10)])
        both.process(1, frames)
        both.python.reconcile(both.python.build(program("router")), info)
        both.fast.reconcile(both.fast.prepare(program("router"), info))
        both.python.counters.faults = both.python.counters.loops_cut = 0
        both.process(1, frames)
        counted = p4r.Entity()
        counted.table_entry.counter_data.SetInParent()
        both.read(counted)
        cells = p4r.Entity()
        cells.register_entry.SetInParent()
        assert any(cell.register_entry.data.bitstring.strip(b"\0") for cell in both.read(cells))
        cells.counter_entry.SetInParent()
        assert any(cell.counter_entry.data.packet_count for cell in both.read(cells))
        with pytest.raises(SwitchError, match="does not fit the new pipeline"):
            both.fast.reconcile(both.fast.prepare(program("features"), p4info("features")))
        both.process(1, frames)

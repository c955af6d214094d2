"""State that moves: an instance that takes another one's over goes on as if nothing had happened, and a
packet finds all that it needs in its slice, and nothing that it does not.

Oracle: the instance that was not moved. Blind spot: what both do wrong; the reference tells that.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import pytest
import state_traffic as traffic
from state_traffic import INSIDE, OUTSIDE, Place, Traffic

from servernf.python.network_function import NetworkFunction, create, known_types
from servernf.python.packet import PacketView
from servernf.python.scope import EVERYTHING, Scope
from servernf.python.slices import Incomplete, Outcome, Slice, Twin, replay
from servernf.python.state import difference
from servernf.python.tables import Flow
from servernf.wire.state import decode

ELSEWHERE_US = 77_000_000_000_123
"""How much later another host's clock is."""
POOL = ["203.0.113.1", "203.0.113.2"]


@dataclass(frozen=True, slots=True)
class Case:
    """An NF, and who talks through it."""

    nf: str
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    why: str = ""
    place: Place = Place()
    kinds: Sequence[Callable[..., traffic.Conversation]] = traffic.KINDS
    by: str = "inside"
    """The field of flows that buckets are told by; "": it has one bucket."""
    is_full: bool = False
    """Its tables are so small that what goes depends on all that there is."""

    def make(self) -> NetworkFunction:
        return create(self.nf, f"g/{self.nf}", self.config)

    def __str__(self) -> str:
        return f"{self.nf} {self.why}".strip()


CASES = [
    Case("napt", {"addresses": POOL}),
    Case(
        "napt",
        {
            "addresses": POOL[:1],
            "ports": [2000, 2011],
            "max_mappings_per_address": 3,
            "filtering": "address_and_port_dependent",
        },
        "with few ports",
        is_full=True,
    ),
]
STATELESS: list[str] = []


def test_every_nf_is_here() -> None:
    with_state = {case.nf for case in CASES}
    assert with_state | set(STATELESS) == set(known_types())


def process(
    nf: NetworkFunction, port: str, frame: bytes, now_us: int
) -> tuple[str | None, bytes, int, list[Any]]:
    """What becomes of a frame; emissions with how long they wait."""
    view = PacketView()
    assert view.load(frame)
    view.context = 0
    left = nf.process(view, port, now_us)
    beside = [(e.port, e.frame, max(0, e.at_us - now_us)) for e in nf.emitted]
    nf.emitted.clear()
    return left, bytes(view.data) if left else b"", view.context if left else 0, beside


def leaving(outcome: tuple[str | None, bytes, int, list[Any]]) -> list[tuple[str, bytes]]:
    left, frame, _, beside = outcome
    return ([(left, frame)] if left else []) + [(port, out) for port, out, _ in beside]


def run(nf: NetworkFunction, talk: Traffic, count: int) -> None:
    for port, frame, now_us in talk.frames(count):
        talk.told(leaving(process(nf, port, frame, now_us)))


def moved(
    case: Case, nf: NetworkFunction, scope: Scope, now_us: int, later_us: int = ELSEWHERE_US
) -> NetworkFunction:
    """A fresh instance, on a host with another clock, with the state of a scope."""
    fresh = case.make()
    batches = [decode(raw, lambda _: fresh.state.layouts) for raw in nf.state.export(scope, now_us, 7)]
    fresh.state.enter(batches, now_us + later_us)
    return fresh


def go_on(
    here: NetworkFunction, there: NetworkFunction, talk: Traffic, count: int, scope: Scope
) -> None:
    """Both treat the same traffic in the same way, and have the same state afterwards."""
    now_us = talk.now_us
    for number, (port, frame, now_us) in enumerate(talk.frames(count)):
        drops = dict(here.drops), dict(there.drops)
        expected = process(here, port, frame, now_us)
        got = process(there, port, frame, now_us + ELSEWHERE_US)
        counted = [
            {reason: n - before.get(reason, 0) for reason, n in nf.drops.items()}
            for before, nf in zip(drops, (here, there), strict=True)
        ]
        assert got == expected, f"packet {number} {frame.hex()} {counted}"
        new = [{k: n for k, n in found.items() if n} for found in counted]
        assert new[0] == new[1], f"packet {number}"
        talk.told(leaving(expected))
    kept = here.state.snapshot(scope, now_us)
    assert not difference(kept, there.state.snapshot(scope, now_us + ELSEWHERE_US))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_moved_as_if_never_moved(case: Case) -> None:
    for seed in range(4):
        nf, talk = case.make(), Traffic(seed, case.place, case.kinds)
        run(nf, talk, 150)
        assert nf.state.size()[0]
        there = moved(case, nf, EVERYTHING, talk.now_us)
        assert not difference(
            nf.state.snapshot(EVERYTHING, talk.now_us),
            there.state.snapshot(EVERYTHING, talk.now_us + ELSEWHERE_US),
        )
        assert there.metrics() == nf.metrics()
        assert there.drops == nf.drops
        assert there.state.size() == nf.state.size()
        go_on(nf, there, talk, 100, EVERYTHING)


@pytest.mark.parametrize("case", [c for c in CASES if c.by and not c.is_full], ids=str)
def test_a_bucket_moved_as_if_never_moved(case: Case) -> None:
    def bucket_of(flow: Flow) -> int:
        return getattr(flow, case.by)[-1] % 2

    bucket = Scope(buckets=frozenset((1,)))
    for seed in range(4):
        nf, talk = case.make(), Traffic(seed, case.place, case.kinds)
        nf.state.use_buckets(bucket_of)
        run(nf, talk, 150)
        there = moved(case, nf, bucket, talk.now_us)
        control = moved(case, nf, EVERYTHING, talk.now_us, 0)
        control.state.use_buckets(bucket_of)
        there.state.use_buckets(bucket_of)
        before = nf.state.snapshot(EVERYTHING, talk.now_us)
        gone = nf.state.snapshot(bucket, talk.now_us)
        assert nf.state.delete(bucket) == sum(
            len(records)
            for name, records in gone.items()
            if nf.state.tables[name].kind.flow_of is not None
        )
        after = nf.state.snapshot(EVERYTHING, talk.now_us)
        changed = difference(before, after)
        assert all(body is None for records in changed.values() for body in records.values())
        assert {name: set(records) for name, records in changed.items()} == {
            name: set(records)
            for name, records in gone.items()
            if records and nf.state.tables[name].kind.flow_of is not None
        }
        assert not any(
            records
            for name, records in nf.state.snapshot(bucket, talk.now_us).items()
            if nf.state.tables[name].kind.flow_of is not None
        )
        hosts = [host for host in case.place.hosts if host % 2]
        servers = case.place.servers
        place = Place(
            hosts, servers, case.place.ports, case.place.begins, case.place.texts, case.place.datagrams
        )
        more = Traffic(seed + 100, place, case.kinds)
        more.now_us = talk.now_us
        go_on(control, there, more, 100, bucket)


def loaded(frame: bytes) -> PacketView:
    view = PacketView()
    assert view.load(frame)
    return view


def without(told: Slice, place: tuple[str, bytes]) -> Slice:
    before = {p: body for p, body in told.before.items() if p != place}
    return Slice(before, told.after, told.evicted)


def replayed(case: Case, told: Slice, frame: bytes, port: str, now_us: int) -> Outcome | None:
    """What becomes of the packet again; None: its slice did not do."""
    try:
        return replay(case.make(), told, loaded(frame), port, now_us + ELSEWHERE_US)
    except Incomplete:
        return None


def shown(outcome: Outcome, now_us: int) -> tuple[object, ...]:
    beside = tuple((e.port, e.frame, max(0, e.at_us - now_us)) for e in outcome.emitted)
    port, frame, context, _, counted, changes, evicted = outcome.shown
    return port, frame, context, beside, counted, changes, evicted


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_packet_is_played_again_from_its_slice(case: Case) -> None:
    rng = random.Random(case.nf)
    nf, control, talk = case.make(), case.make(), Traffic(9, case.place, case.kinds)
    control.state.enter(
        [decode(raw, lambda _: nf.state.layouts) for raw in nf.state.export(EVERYTHING, 0)], 0
    )
    twin, records, evicted = Twin(nf), 0, 0
    for number, (port, frame, now_us) in enumerate(talk.frames(220)):
        expected = process(control, port, frame, now_us)
        found = twin.process(loaded(frame), port, now_us)
        emitted = [(e.port, e.frame, max(0, e.at_us - now_us)) for e in nf.emitted]
        nf.emitted.clear()
        assert (found.port, found.frame if found.port else b"", emitted) == (
            expected[0],
            expected[1],
            expected[3],
        ), f"packet {number}: a watched packet is treated otherwise"
        talk.told(leaving(expected))
        told = found.slice
        records += sum(body is not None for body in told.before.values())
        evicted += len(told.evicted)
        again = replayed(case, told, frame, port, now_us)
        assert again is not None, f"packet {number}: the slice does not do"
        assert shown(again, now_us + ELSEWHERE_US) == shown(found, now_us), f"packet {number}"
        assert again.slice.after == told.after, f"packet {number}"
        for place in rng.sample(list(told.before), min(3, len(told.before))):
            less = replayed(case, without(told, place), frame, port, now_us)
            assert less is None or shown(less, now_us + ELSEWHERE_US) != shown(found, now_us), (
                f"packet {number} does not need {place}"
            )
    assert not difference(
        control.state.snapshot(EVERYTHING, talk.now_us), nf.state.snapshot(EVERYTHING, talk.now_us)
    )
    assert records > 50
    assert control.drops == nf.drops
    assert evicted or not case.is_full or case.nf == "napt"

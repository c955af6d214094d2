"""Clocks as intervals: what is told of a delay contains what it was, whatever clocks say.

Oracle: delays that the test drew, and clocks that it made.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from orchestrator.verification.clocks import Clocks, Span, sandwiches, steps
from orchestrator.verification.trajectories import Trajectory
from servernf.wire.records import Record, RecordKind

SWITCH, WORKER = 1, 2
Reads = Callable[[float], int]


def clock(offset_us: float, ppm: float) -> Reads:
    return lambda true_us: int(1e15 + offset_us + true_us * (1 + ppm * 1e-6))


def packet(
    at_us: float, there_us: float, stay_us: float, back_us: float, switch: Reads, worker: Reads,
    *, boot: int = 1, comes_back: bool = True,
) -> Trajectory:  # fmt: skip
    """From a switch to a worker and, perhaps, back."""
    came, left = at_us + there_us, at_us + there_us + stay_us
    told = [
        (RecordKind.ENTRY, SWITCH, 254, switch(at_us)),
        (RecordKind.IN, WORKER, 253, worker(came)),
        (RecordKind.OUT, WORKER, 253, worker(left)),
        (RecordKind.HOP, SWITCH, 252, switch(left + back_us)),
    ]
    records = tuple(
        Record(kind, point, boot if point == WORKER else 1, 0, path=si, wall_us=wall_us)
        for kind, point, si, wall_us in told[: 4 if comes_back else 2]
    )
    return Trajectory((1, 1), tuple(_numbered(records)))


def _numbered(records: Sequence[Record]) -> list[Record]:
    return [
        Record(r.kind, r.point, r.boot, at, path=r.path, wall_us=r.wall_us)
        for at, r in enumerate(records)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_every_delay_is_in_its_interval(seed: int) -> None:
    chance = random.Random(seed)
    switch = clock(chance.uniform(-5e5, 5e5), chance.uniform(-100, 100))
    worker = clock(chance.uniform(-5e5, 5e5), chance.uniform(-100, 100))
    drawn: list[tuple[float, float]] = []
    packets: list[Trajectory] = []
    for number in range(300):
        there, back = 20 + chance.expovariate(0.02), 30 + chance.expovariate(0.02)
        drawn.append((there, back))
        packets.append(packet(number * 1e5, there, chance.uniform(2, 900), back, switch, worker))
    clocks = Clocks(packets)
    widths: list[int] = []
    for (there, back), trajectory in zip(drawn, packets, strict=True):
        first, went, stayed, came = steps(trajectory, clocks)
        assert first is None
        for true, span in ((there, went), (back, came)):
            assert span is not None
            assert span.most is not None
            assert span.least <= true <= span.most
            widths.append(span.most - span.least)
        assert stayed is not None
        (sandwich,) = sandwiches(trajectory)
        assert sandwich.point == WORKER
        assert sandwich.ways.most is not None
        # No clock has a part in that: both ways together are known to a few us.
        assert sandwich.ways.least <= there + back <= sandwich.ways.most
        assert sandwich.ways.most - sandwich.ways.least <= 6
    # What the offset may hide is the shortest way there and back, and the drift until then.
    assert min(widths) < 150


def test_one_way_alone_bounds_a_delay_from_below_only() -> None:
    clocks = clock(700, 0), clock(-300, 0)
    packets = [packet(at * 1000, 50 + 10 * at, 5, 0, *clocks, comes_back=False) for at in range(5)]
    spans = [steps(trajectory, Clocks(packets))[1] for trajectory in packets]
    assert all(span is not None and span.most is None for span in spans)
    assert str(spans[0]).endswith("or more")
    assert spans[4] is not None
    assert 38 <= spans[4].least <= 40  # so much longer than the quickest one


def test_a_clock_that_was_set_gives_no_interval_and_a_boot_begins_anew() -> None:
    switch, before, after = clock(0, 0), clock(0, 0), clock(-50_000, 0)

    def told(boot: int) -> list[Span | None]:
        packets = [packet(at * 1e4, 40, 5, 40, switch, before) for at in range(10)]
        late = [packet(2e5 + at * 1e4, 40, 5, 40, switch, after, boot=boot) for at in range(10)]
        clocks = Clocks(packets + late)
        return [steps(trajectory, clocks)[1] for trajectory in packets + late]

    assert set(told(boot=1)) == {None}
    assert all(span is not None and span.least <= 40 <= (span.most or 0) for span in told(boot=2))


def test_copies_and_equal_packets_have_no_steps() -> None:
    one = packet(0, 40, 5, 40, clock(0, 0), clock(0, 0))
    copy = Record(RecordKind.OUT, WORKER, 1, 9, path=253, branch=1, wall_us=10**15)
    both = Trajectory(one.packet, (*one.records[:3], copy, *one.records[3:]))
    assert steps(both, Clocks([both]))[3:] == [None, None]
    assert sandwiches(both) == sandwiches(one)
    twice = Trajectory(one.packet, (one.records[0], *one.records))
    assert set(steps(twice, Clocks([twice]))) == {None}
    assert str(Span(3, 3)) == "3 us"
    assert str(Span(3, 9)) == "3 to 9 us"

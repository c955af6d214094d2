"""The collector takes a switch's own words in the order of their numbers, and says what it refused.

Oracle: who made the reports here. Blind spot: frames of real switches (tests/p4/test_block_record.py).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from orchestrator.verification.collector import COLLECTOR, HELD_US, KEYED, LOST, REFUSED, Collector
from orchestrator.verification.keys import report_key
from servernf.wire import records, reports
from servernf.wire.errors import InputError
from servernf.wire.nsh import TAG_BYTES
from servernf.wire.records import CUT, Record, RecordKind, frame_digest, point_id
from servernf.wire.reports import HEADER_BYTES, Report

KEY, MAC, GRAPH, BOOT = bytes(range(32)), 0x02_00_00_09_FF_FF, 5, 1_700_000_000
OVERLAP_US = 2_000_000
FRAME = bytes(range(100))
key_of = partial(report_key, KEY, "g")


class Site:
    """A collector of two switches at a time that stands still until it is moved."""

    def __init__(self, headers: int = 0) -> None:
        self.now_us = 1_000_000
        self.told: list[Record] = []
        self.collector = Collector(
            GRAPH,
            {1: "leaf1", 2: "leaf2"},
            key_of,
            lambda: self.now_us,
            lambda data: self.told.append(records.read(data)),
            boot=7,
            overlap_us=OVERLAP_US,
            headers=headers,
        )
        self.told.clear()  # its own boot

    def take(
        self,
        number: int,
        switch: int = 1,
        boot: int = BOOT,
        graph: int = GRAPH,
        epoch: int = 1,
        key: int = 1,
    ) -> bytes:
        """A report of a packet that an epoch watches, by the key of one."""
        name = {1: "leaf1", 2: "leaf2"}.get(switch, "stranger")
        report = Report(
            RecordKind.HOP, switch, graph, boot, number, label=number, epoch=epoch, frame=FRAME
        )
        frame = report.encode(MAC, key_of(name, boot, key))
        self.collector.take(frame)
        return frame

    def numbers(self, name: str = "leaf1") -> list[int]:
        return [r.sequence for r in self.told if r.point == point_id(name)]

    def said(self, event: str) -> list[dict[str, Any]]:
        events = [r.event() for r in self.told if r.point == COLLECTOR]
        return [one for one in events if one["event"] == event]

    def refusals(self) -> dict[str, int]:
        return {one["why"]: one["count"] for one in self.said(REFUSED)}


def test_numbers_are_put_in_order() -> None:
    site = Site()
    for number in (0, 2, 1, 3):
        site.take(number)
    site.collector.settle()
    assert site.numbers() == [0, 1, 2, 3]
    site.take(0, 2)
    site.collector.settle()
    assert site.numbers("leaf2") == [0]


def test_what_is_missing_holds_others_up_for_a_while_only() -> None:
    site = Site()
    site.take(0)
    site.take(2)
    site.collector.settle()
    assert site.numbers() == [0]
    site.now_us += HELD_US
    site.collector.settle()
    assert site.numbers() == [0, 2]
    site.take(1)  # too late
    site.collector.settle(ended=True)
    assert site.numbers() == [0, 2]
    assert not site.refusals()


def test_what_comes_again_is_told_once_and_said() -> None:
    site = Site()
    frame = site.take(0)
    site.collector.take(frame)
    site.take(0, boot=BOOT + 1)
    site.collector.take(frame)  # of a boot that is over
    site.collector.settle()
    assert [(r.boot, r.sequence) for r in site.told if r.point == point_id("leaf1")] == [
        (BOOT, 0),
        (BOOT + 1, 0),
    ]
    assert site.refusals() == {"replayed": 2}


@pytest.mark.parametrize("at", [0, 4, 8, 16, 20, 24, 28, 32, 36, 38, 42, 50, 58, 62])
def test_no_byte_of_the_header_is_anybodys_but_the_switchs(at: int) -> None:
    site = Site()
    key = key_of("leaf1", BOOT, 1)
    frame = bytearray(Report(RecordKind.DROP, 1, GRAPH, BOOT, 3, epoch=1).encode(MAC, key))
    frame[TAG_BYTES + at] ^= 1
    site.collector.take(bytes(frame))
    site.collector.settle()
    assert not site.numbers()
    assert sum(site.refusals().values()) == 1


def test_other_graphs_and_frames_are_nobodys_business_and_strangers_are() -> None:
    site = Site()
    site.take(0, graph=GRAPH + 1)
    site.collector.take(FRAME)
    site.collector.settle()
    assert not site.told
    site.take(0, switch=3)
    site.collector.settle()
    assert site.refusals() == {"strange": 1}


def test_a_record_is_the_reports_and_may_be_its_headers() -> None:
    site = Site(headers=20)
    site.take(9)
    site.now_us += HELD_US
    site.collector.settle()
    (record,) = (r for r in site.told if r.point == point_id("leaf1"))
    assert (record.kind, record.label, record.frame_bytes) == (RecordKind.HOP, 9, len(FRAME))
    assert (record.flags, record.frame, record.digest) == (CUT, FRAME[:20], frame_digest(FRAME))
    assert replace(record, flags=0, frame=FRAME).whole_digest == record.digest


@pytest.mark.parametrize(
    ("word", "at", "value"), [("kind 1", 15, 1), ("kind 16", 15, 16), ("reason 99", 38, 99)]
)
def test_what_no_switch_says_is_no_report(word: str, at: int, value: int) -> None:
    frame = bytearray(Report(RecordKind.HOP, 1, GRAPH, BOOT, 3).encode(MAC, (1, 2)))
    frame[TAG_BYTES + at] = value
    with pytest.raises(InputError, match=word):
        reports.decode(bytes(frame))
    assert not reports.is_report(bytes(frame[: TAG_BYTES + HEADER_BYTES - 1]))


def test_times_are_the_switchs_own_clock_set_once() -> None:
    site = Site()
    for number, (arrived, came) in enumerate(((100, 900), (200, 5_000), (300, 5_001))):
        site.now_us = 1_000_000 + came
        report = Report(RecordKind.HOP, 1, GRAPH, BOOT, number, epoch=1, arrival_us=arrived)
        site.collector.take(report.encode(MAC, key_of("leaf1", BOOT, 1)))
    site.collector.settle()
    times = [r.wall_us for r in site.told if r.point == point_id("leaf1")]
    assert times == [1_000_900, 1_001_000, 1_001_100]
    site.now_us += 10_000_000  # the clocks have come apart
    site.take(3)
    site.collector.settle()
    assert site.told[-1].wall_us == site.now_us


def test_keys_go_forward_with_an_overlap() -> None:
    """As a switch is told them: the epochs first, then the key."""
    site = Site()
    way = [(1, 1), (2, 1), (1, 1), (2, 2), (1, 2), (1, 1), (2, 2)]
    for number, (epoch, key) in enumerate(way):
        site.take(number, epoch=epoch, key=key)
    site.now_us += OVERLAP_US
    site.take(len(way), epoch=2, key=2)
    site.take(len(way) + 1, epoch=2, key=1)
    site.take(len(way) + 1, epoch=1, key=1)
    site.collector.settle()
    assert site.numbers() == list(range(len(way) + 1))
    assert site.refusals() == {"forged": 2}
    keyed = [(one["switch"], one["boot"], one["epoch"]) for one in site.said(KEYED)]
    assert keyed == [("leaf1", BOOT, 1), ("leaf1", BOOT, 2)]


def test_epochs_may_be_left_out_and_a_key_may_stay() -> None:
    """The CLE was away for long: what the switch said meanwhile is its own, and nothing is missing."""
    site = Site()
    for number, (epoch, key) in enumerate([(1, 1), (5, 1), (6, 6), (5, 6), (6, 6)]):
        site.take(number, epoch=epoch, key=key)
    site.collector.settle()
    assert site.numbers() == list(range(5))
    assert not site.refusals()
    other = Site()  # a collector that begins while the switch is told
    other.take(0, epoch=3, key=2)
    other.collector.settle()
    assert other.numbers() == [0]


def test_what_was_lost_is_told() -> None:
    site = Site()
    site.collector.lost["socket"] = 7
    site.collector.settle()
    site.collector.settle()
    site.collector.lost["socket"] += 2
    site.collector.settle()
    assert [(one["why"], one["count"]) for one in site.said(LOST)] == [("socket", 7), ("socket", 2)]

"""Trajectories: the records of one packet, in the order of its way.

Order is structure's, not time's: the service index falls along the way, an edge comes before what it
tagged, and a point's own numbers order what it saw. What two points' clocks say together: `clocks`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from orchestrator.verification.intended import Intended
from servernf.wire.records import Record, RecordKind

ENDS = (RecordKind.EXIT, RecordKind.DROP, RecordKind.HELD, RecordKind.ERROR, RecordKind.LOST)
"""Behind these a packet need not be seen any more."""
BEFORE = 256
"""The service index of what has no tag yet, since it falls along the way."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A packet (label, time of ingress) and what points told of it, in order."""

    packet: tuple[int, int]
    records: tuple[Record, ...]

    @property
    def entries(self) -> int:
        """How many packets it is: equal ones of one microsecond cannot be told apart."""
        return sum(record.kind is RecordKind.ENTRY for record in self.records)

    @property
    def flow(self) -> int:
        """The hash of its flow, as its ingress switch has made it."""
        return self.records[0].flow

    @property
    def drops(self) -> tuple[Record, ...]:
        """Where it was dropped, with reasons."""
        return tuple(
            r
            for r in self.records
            if r.kind in (RecordKind.DROP, RecordKind.ERROR, RecordKind.LOST)
        )

    @property
    def complete(self) -> bool:
        """Whether it is known how it began and how it ended."""
        return self.entries > 0 and any(record.kind in ENDS for record in self.records)


def trajectories(records: Iterable[Record]) -> list[Trajectory]:
    """Those of a graph's packets, by time of ingress."""
    by_packet: dict[tuple[int, int], list[Record]] = defaultdict(list)
    for record in records:
        if record.kind is not RecordKind.EVENT:
            by_packet[record.packet].append(record)
    return [
        Trajectory(packet, _ordered(some))
        for packet, some in sorted(by_packet.items(), key=lambda item: (item[0][1], item[0][0]))
    ]


def _ordered(records: list[Record]) -> tuple[Record, ...]:
    edges = {(record.point, record.path) for record in records if record.kind is RecordKind.ENTRY}

    def order(record: Record) -> tuple[int, bool, int, bool, int, int]:
        inner = (record.point, record.path) not in edges
        # A switch's engine may number what it makes of a packet before what came to it.
        later = record.kind not in (RecordKind.ENTRY, RecordKind.HOP)
        si = record.si or BEFORE
        return -si, inner, record.point, later, record.boot, record.sequence

    return tuple(sorted(records, key=order))


def words(record: Record) -> str:
    """A record in a few words."""
    match record.kind:
        case RecordKind.IN:
            return f"{record.nf} in {record.port_in}"
        case RecordKind.OUT:
            return f"{record.nf} out {record.port_out}" if record.nf else f"on to {record.port_out}"
        case RecordKind.DROP | RecordKind.ERROR | RecordKind.LOST:
            who = f"{record.nf} " if record.nf else ""
            return f"{who}dropped: {record.reason}"
        case _:
            return f"{record.nf} {record.kind.name.lower()}".strip()


def picture(
    trajectory: Trajectory, intended: Intended, took: Sequence[object | None]
) -> Iterator[str]:
    """A trajectory as lines, one a record: an arrow to the next device, how long it took (`clocks`)."""
    label, ingress_us = trajectory.packet
    yield f"label {label:#010x}, flow {trajectory.flow:#06x}, came in at {ingress_us} us"
    before = -1
    for record, span in zip(trajectory.records, took, strict=True):
        name = intended.name(record.point)
        lead = "" if record.point == before else f"-> {name}"
        before = record.point
        after = "" if span is None else f"  (after {span})"
        yield f"  {lead:20} {record.path >> 8}/{record.si:<4} {words(record)}{after}"

"""The slice of state that one packet touches, and a packet played again from its slice.

A *twin* of an instance has its configuration and its tables, but each table notes what is read and
written. A packet that goes through the twin is treated as any other, and leaves a slice: with it, an
instance that knows nothing else treats the packet in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any

from servernf.python.network_function import Emitted, NetworkFunction
from servernf.python.packet import PacketView
from servernf.python.state import NfState
from servernf.python.watched import Incomplete, Watch, watched
from servernf.wire.errors import InputError
from servernf.wire.slices import Place, StateSlice
from servernf.wire.state import Batch, StateRecord

__all__ = ("Incomplete", "PacketOutcome", "StateSlice", "Twin", "replay")


@dataclass(frozen=True, slots=True)
class PacketOutcome:
    """What became of a packet: the port it left, its frame, what left beside it, what was counted."""

    port: str | None
    frame: bytes
    context: int
    emitted: tuple[Emitted, ...]
    counted: Mapping[str, int]
    slice: StateSlice

    @property
    def shown(self) -> tuple[object, ...]:
        """All by which a packet played again is compared."""
        there = self.port is not None
        return (
            self.port,
            self.frame if there else b"",
            self.context if there else 0,
            self.emitted,
            dict(self.counted),
            self.slice.changes,
            self.slice.evicted,
        )


class Twin:
    """The watched twin of an instance; to be made anew when that goes on from another one."""

    def __init__(self, nf: NetworkFunction) -> None:
        self._nf = nf
        self._watch = Watch()
        twin = self._twin = copy(nf)
        twin.emitted = []
        twin.drops = {}
        twin.state = NfState(twin)
        twin.state.counts = dict.fromkeys(nf.state.counts, 0)
        for declared in nf.state.tables.values():
            setattr(twin, declared.attribute, watched(declared, self._watch))
        twin.bound()

    def process(self, packet: PacketView, port: str, now_us: int) -> PacketOutcome:
        """As the instance's `process`, and what became of it."""
        return self._process(packet, port, now_us, None)

    def play(self, packet: PacketView, port: str, now_us: int, only: StateSlice) -> PacketOutcome:
        """As `process`, while the instance has a slice only; Incomplete when that was not enough."""
        return self._process(packet, port, now_us, only)

    def _process(
        self, packet: PacketView, port: str, now_us: int, only: StateSlice | None
    ) -> PacketOutcome:
        nf, twin = self._nf, self._twin
        twin.emitted.clear()  # of a packet that it failed for
        twin.drops.clear()
        twin.last_drop = twin.last_rule = ""
        for name in twin.state.counts:
            twin.state.counts[name] = 0
        self._watch.begin(nf, now_us, only)
        left = twin.process(packet, port, now_us)
        emitted = tuple(twin.emitted)
        twin.emitted.clear()
        nf.emitted += emitted
        nf.last_drop, nf.last_rule = twin.last_drop, twin.last_rule
        counted = {f"drop.{reason}": count for reason, count in twin.drops.items()}
        for mine, more in ((nf.drops, twin.drops), (nf.state.counts, twin.state.counts)):
            for name, count in more.items():
                mine[name] = mine.get(name, 0) + count
        counted |= {f"count.{name}": count for name, count in twin.state.counts.items() if count}
        frame = bytes(packet.data)
        return PacketOutcome(left, frame, packet.context, emitted, counted, self._watch.end())


def replay(
    fresh: NetworkFunction, told: StateSlice, packet: PacketView, port: str, now_us: int
) -> PacketOutcome:
    """What becomes of a packet in a fresh instance that has its slice; `now_us` is of its clock.

    Incomplete: the packet needs more than the slice has, or what it has does not fit together.
    """
    try:
        fresh.state.enter(_batches(fresh, told), now_us, is_slice=True)
    except InputError as error:
        raise Incomplete(str(error)) from None
    return Twin(fresh).play(packet, port, now_us, told)


def _batches(nf: NetworkFunction, told: StateSlice) -> list[Batch]:
    by_table: dict[str, list[StateRecord]] = {name: [] for name in nf.state.tables}
    place: Place
    body: bytes | None
    for place, body in told.before.items():
        if body is not None:
            by_table[place[0]].append(StateRecord(place[1], body))
    layouts: dict[str, Any] = nf.state.layouts
    return [
        Batch(nf.type_name, name, layouts[name].version, tuple(records))
        for name, records in by_table.items()
    ]

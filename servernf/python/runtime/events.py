"""The events of a worker: a ring that the data path writes without a lock and readers read by a cursor.

A reader that is too slow, or comes late, loses the eldest and is told how many. Texts of packets are
made printable here: whatever they hold, a line stays a line.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from ipaddress import IPv4Address, IPv6Address

from servernf.proto import vnf_pb2 as vnf
from servernf.python.runtime.tables import graph_of
from servernf.python.telling import (
    MOST_TEXT,
    RATES,
    Alert,
    Nat,
    Said,
    Source,
    Suppressed,
    ToldDrop,
    ToldPacket,
)

RING = 8192
BATCH = 256
"""Events of one message."""

_Event = tuple[int, int, str, str, ToldPacket | None, Said]
"""Number, wall clock (us), instance, type, packet, what is said."""


class Events:
    """What the NFs of a worker have told. `clock` is the data path's, `wall_clock` people's (us)."""

    def __init__(
        self, clock: Callable[[], int], wall_clock: Callable[[], int], size: int = RING
    ) -> None:
        self._clock, self._wall_clock = clock, wall_clock
        self._ring: list[_Event | None] = [None] * size
        self._first = self._next = wall_clock()
        """Numbers of events: those of a worker that is started anew come behind its earlier ones."""
        self._sources: dict[str, Source] = {}
        self.rates: Mapping[str, tuple[int, int]] = RATES
        """Of instances that come."""

    def source(self, name: str, type_name: str) -> Source:
        """By which an instance tells; the next configuration of an NF goes on with its limits."""
        source = self._sources.get(name)
        if source is None:
            source = Source(name, type_name, self._clock, self.put, self.rates)
            self._sources[name] = source
        return source

    def forget(self, but: Collection[str]) -> None:
        """Instances other than these are gone."""
        self._sources = {name: source for name, source in self._sources.items() if name in but}

    def settle(self) -> None:
        """Tell of what has been suppressed; by the thread of the data path."""
        for source in self._sources.values():
            source.settle()

    def metrics(self) -> dict[str, int]:
        """What was told, and what was not."""
        suppressed = sum(source.suppressed for source in list(self._sources.values()))
        counts = {"events.told": self._next - self._first, "events.suppressed": suppressed}
        return {name: count for name, count in counts.items() if count}

    def read(self, cursor: int, graphs: Collection[str] = ()) -> tuple[list[vnf.Event], int, int]:
        """Events of some graphs (of all, if none is named) from a cursor on; the next cursor, and how
        many, of whichever graphs, had been overwritten."""
        ring, size, end = self._ring, len(self._ring), self._next
        cursor = max(cursor, self._first)
        start = min(max(cursor, end - size), end)
        lost = max(0, start - cursor)
        events: list[vnf.Event] = []
        for number in range(start, end):
            event = ring[number % size]
            if event is None or event[0] != number:  # overwritten meanwhile
                lost += 1
            elif not graphs or graph_of(event[2]) in graphs:
                events.append(_message(event))
                if len(events) == BATCH:
                    end = number + 1
                    break
        return events, end, lost

    def put(
        self, name: str, type_name: str, flow: ToldPacket | None, said: Said, at_us: int = 0
    ) -> None:
        """One more, of a time by the wall clock (0: now)."""
        number = self._next
        event = number, at_us or self._wall_clock(), name, type_name, flow, said
        self._ring[number % len(self._ring)] = event
        self._next = number + 1


def printable(text: bytes) -> str:
    """A packet's text for people: printable ASCII, all else as \\x0a, and bounded."""
    kept = text[:MOST_TEXT]
    words = "".join(chr(b) if 0x20 <= b < 0x7F and b != 0x5C else f"\\x{b:02x}" for b in kept)
    return words + ("..." if len(text) > len(kept) else "")


def _message(event: _Event) -> vnf.Event:
    _, at_us, name, type_name, flow, said = event
    told = vnf.Event(timestamp_us=at_us, nf=name, type=type_name)
    if flow is not None:
        told.packet.CopyFrom(_packet(flow))
    match said:
        case ToldDrop(reason, rule):
            told.drop.reason, told.drop.rule = reason, rule
        case Alert():
            told.alert.signature_id = said.number
            told.alert.signature = printable(said.signature.encode())
            told.alert.rule, told.alert.blocked = said.rule, said.blocked
            told.alert.hostname = printable(said.hostname)
            told.alert.url, told.alert.rrname = printable(said.url), printable(said.rrname)
        case Nat():
            told.nat.event, told.nat.protocol = said.event, said.protocol
            told.nat.inside_ip = str(IPv4Address(said.inside))
            told.nat.outside_ip = str(IPv4Address(said.outside))
            told.nat.inside_port, told.nat.outside_port = said.inside_port, said.outside_port
        case Suppressed(kind, count):
            told.suppressed.kind, told.suppressed.count = kind, count
    return told


def _packet(flow: ToldPacket) -> vnf.EventPacket:
    told = vnf.EventPacket(ether_type=flow.ether_type, length=flow.length, ttl=flow.ttl)
    if flow.version:
        address = IPv4Address if flow.version == 4 else IPv6Address
        told.source, told.destination = str(address(flow.source)), str(address(flow.destination))
        told.protocol = flow.protocol
    if flow.source_port >= 0:
        told.source_port, told.destination_port = flow.source_port, flow.destination_port
    if flow.kind:
        told.icmp_type, told.icmp_code = flow.kind
    return told

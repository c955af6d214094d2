"""Duplicate elimination: of equal packets within a time window only the first passes.

Equal are IP packets whose bytes agree but for DSCP, ECN, TTL (hop limit) and the IPv4 header checksum.
TCP segments without payload always pass: equal ACKs mean something to a sender (RFC 5681, 3.2).
A packet is remembered by a 16-byte digest; the window counts from the copy that passed. Senders share
the memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

from servernf.python.fair_table import FairEntry, FairTable
from servernf.python.flow_keys import FLOW, FLOW_KEY_BYTES, flow_key, flow_of_key, host_of
from servernf.python.network_function import (
    INSIDE,
    OTHER,
    OUTSIDE,
    NetworkFunction,
    network_function,
)
from servernf.python.packet import TCP, PacketView
from servernf.python.state import EntryKind
from servernf.python.tables import RecordFlow
from servernf.wire.fields import Fields
from servernf.wire.state import RecordField


class _Passed(FairEntry):
    __slots__ = ("flow", "passed_us")

    def __init__(self, passed_us: int = 0, flow: bytes = b"") -> None:
        self.passed_us = passed_us
        self.flow = flow
        """Its `flow_key`."""


class _Memory(FairTable[_Passed]):
    """The packets of one direction."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.by_time: deque[_Passed] = deque()
        """Also those that had to go for others."""

    def entered(self, entry: _Passed) -> None:
        self.by_time.append(entry)


def _flow(_key: bytes, passed: _Passed) -> RecordFlow:
    return flow_of_key(passed.flow)


_PASSED = {
    port: EntryKind(
        f"passed_{port}",
        _Passed,
        (RecordField("passed_us", "age"), RecordField("flow", "bytes", max(FLOW_KEY_BYTES))),
        key_sizes=(16,),
        flow_of=_flow,
        looks_at=FLOW,
    )
    for port in (INSIDE, OUTSIDE)
}


@network_function("dedup")
class Dedup(NetworkFunction):
    """Drops copies; each direction has a memory of its own."""

    _passed_inside: _Memory
    _passed_outside: _Memory

    def setup(self, config: Fields) -> None:
        self._window_us = config.integer("window_ms", 1, 60_000, 50) * 1000
        self._max = config.integer("max_packets", 1, 1 << 20, 65_536)
        for port, kind in _PASSED.items():
            self.state.declare(f"_passed_{port}", kind, _Memory(self._max))

    def bound(self) -> None:
        self._passed = {INSIDE: self._passed_inside, OUTSIDE: self._passed_outside}

    def problems(self, new: Mapping[str, Mapping[Any, Any]], *, whole: bool) -> Iterable[str]:
        for table, records in new.items():
            for key, passed in records.items():
                if len(passed.flow) not in FLOW_KEY_BYTES:
                    yield f"{table} {key.hex()}: flow must have 13 or 37 bytes"

    def has_entered(self) -> None:
        for memory in self._passed.values():
            ordered = sorted(memory.by_time, key=lambda passed: passed.passed_us)
            memory.by_time.clear()
            memory.by_time.extend(ordered)

    def metrics(self) -> dict[str, int]:
        return {"remembered": sum(len(memory) for memory in self._passed.values())}

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        if not packet.version or _is_bare_tcp(packet):
            return OTHER[port]
        memory = self._passed[port]
        self._forget(memory, now_us - self._window_us)
        digest = _digest(packet)
        if memory.get(digest) is not None:
            return self.drop("duplicate")
        inside = port == INSIDE
        flow = flow_key(packet, inside=inside)
        sender = flow[1:] if inside else flow[len(flow) // 2 + 1 :]
        memory.size = self._max
        memory.add(digest, _Passed(now_us, flow), host_of(sender))
        return OTHER[port]

    @staticmethod
    def _forget(memory: _Memory, until_us: int) -> None:
        """What has passed until then."""
        by_time, there = memory.by_time, memory.records
        while by_time and by_time[0].passed_us <= until_us:
            passed = by_time.popleft()
            if there.get(passed.key) is passed:
                memory.remove(passed)


def _is_bare_tcp(packet: PacketView) -> bool:
    if packet.protocol != TCP or packet.later_fragment:
        return False
    header = packet.data[packet.l4 + 12] >> 4 << 2
    return header < 20 or packet.l4 + header >= packet.end


def _digest(packet: PacketView) -> bytes:
    data, l3 = packet.data, packet.l3
    digest = blake2b(digest_size=16)
    if packet.version == 4:
        digest.update(data[l3 : l3 + 1] + data[l3 + 2 : l3 + 8])
        digest.update(data[l3 + 9 : l3 + 10] + data[l3 + 12 : packet.end])
    else:
        digest.update(bytes((data[l3 + 1] & 0x0F,)) + data[l3 + 2 : l3 + 7])
        digest.update(data[l3 + 8 : packet.end])
    return digest.digest()

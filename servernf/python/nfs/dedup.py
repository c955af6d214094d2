"""Duplicate elimination: of equal packets within a time window only the first passes.

Equal are IP packets whose bytes agree but for DSCP, ECN, TTL (hop limit) and the IPv4 header checksum.
TCP segments without payload always pass: equal ACKs mean something to a sender (RFC 5681, 3.2).
A packet is remembered by a 16-byte digest; the window counts from the copy that passed. Senders share
the memory.
"""

from __future__ import annotations

from collections import deque
from hashlib import blake2b
from typing import Self

from servernf.python.fair_table import Entry, FairTable
from servernf.python.flow_keys import ends, host_of
from servernf.python.network_function import (
    INSIDE,
    OTHER,
    OUTSIDE,
    NetworkFunction,
    network_function,
)
from servernf.python.packet import TCP, PacketView
from servernf.wire.fields import Fields


class _Passed(Entry):
    __slots__ = ("passed_us",)

    def __init__(self, passed_us: int) -> None:
        self.passed_us = passed_us


class _Memory:
    """The packets of one direction."""

    __slots__ = ("by_time", "packets")

    def __init__(self, size: int) -> None:
        self.packets = FairTable[_Passed](size)
        self.by_time: deque[_Passed] = deque()
        """Also those that had to go for others."""

    def forget(self, until_us: int) -> None:
        """What has passed until then."""
        by_time, packets = self.by_time, self.packets
        while by_time and by_time[0].passed_us <= until_us:
            passed = by_time.popleft()
            if packets.get(passed.key) is passed:
                packets.remove(passed)


@network_function("dedup")
class Dedup(NetworkFunction):
    """Drops copies; each direction has a memory of its own."""

    def setup(self, config: Fields) -> None:
        self._window_us = config.integer("window_ms", 1, 60_000, 50) * 1000
        self._max = config.integer("max_packets", 1, 1 << 20, 65_536)
        self._passed = {INSIDE: _Memory(self._max), OUTSIDE: _Memory(self._max)}

    def continue_from(self, before: Self) -> bool:
        self._passed = before._passed
        return True

    def metrics(self) -> dict[str, int]:
        return {"remembered": sum(len(m.packets) for m in self._passed.values())}

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        if not packet.version or _is_bare_tcp(packet):
            return OTHER[port]
        memory = self._passed[port]
        memory.forget(now_us - self._window_us)
        packets = memory.packets
        digest = _digest(packet)
        if packets.get(digest) is not None:
            return self.drop("duplicate")
        passed = _Passed(now_us)
        packets.size = self._max
        packets.add(digest, passed, host_of(ends(packet)[0]))
        memory.by_time.append(passed)
        return OTHER[port]


def _is_bare_tcp(packet: PacketView) -> bool:
    if packet.protocol != TCP or packet.later_fragment:
        return False
    header = packet.data[packet.l4 + 12] >> 4 << 2
    return header < 20 or packet.l4 + header >= packet.end


def _digest(packet: PacketView) -> bytes:
    data, l3 = packet.data, packet.l3
    found = blake2b(digest_size=16)
    if packet.version == 4:
        found.update(data[l3 : l3 + 1] + data[l3 + 2 : l3 + 8])
        found.update(data[l3 + 9 : l3 + 10] + data[l3 + 12 : packet.end])
    else:
        found.update(bytes((data[l3 + 1] & 0x0F,)) + data[l3 + 2 : l3 + 7])
        found.update(data[l3 + 8 : packet.end])
    return found.digest()

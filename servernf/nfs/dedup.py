"""Duplicate elimination: of equal packets within a time window only the first passes.

Equal are IP packets whose bytes agree but for DSCP, ECN, TTL (hop limit) and the IPv4 header checksum.
TCP segments without payload always pass: equal ACKs mean something to a sender (RFC 5681, 3.2).
A packet is remembered by a 16-byte digest; the window counts from the copy that passed.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import Self

from servernf.config import Fields
from servernf.network_function import INSIDE, OTHER, OUTSIDE, NetworkFunction, network_function
from servernf.packet import TCP, PacketView


@network_function("dedup")
class Dedup(NetworkFunction):
    """Drops copies; each direction has a memory of its own."""

    def setup(self, config: Fields) -> None:
        self._window_us = config.integer("window_ms", 1, 60_000, 50) * 1000
        self._max = config.integer("max_packets", 1, 1 << 20, 65_536)
        self._passed: dict[str, OrderedDict[bytes, int]] = {
            INSIDE: OrderedDict(),
            OUTSIDE: OrderedDict(),
        }

    def continue_from(self, before: Self) -> bool:
        self._passed = before._passed
        return True

    def metrics(self) -> dict[str, int]:
        return {"remembered": sum(len(passed) for passed in self._passed.values())}

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        if not packet.version or _is_bare_tcp(packet):
            return OTHER[port]
        passed = self._passed[port]
        # Entries stand in the order of their time: what is over lies in front.
        while passed and next(iter(passed.values())) + self._window_us <= now_us:
            passed.popitem(last=False)
        digest = _digest(packet)
        if digest in passed:
            return self.drop("duplicate")
        while len(passed) >= self._max:
            passed.popitem(last=False)
        passed[digest] = now_us
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

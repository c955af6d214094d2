"""Destination NAT: all packets from inside go to one address, and answers show the one that was asked.

A connection is the protocol, the inside's address and port, and the outside's port as rewritten; without
ports both are 0. Two original destinations of one connection share an entry, the last one counts.
Addresses quoted in ICMP errors are left alone.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Self

from servernf.config import Fields
from servernf.network_function import INSIDE, OUTSIDE, NetworkFunction, network_function
from servernf.packet import NO_PORT, PacketView


@network_function("dnat")
class Dnat(NetworkFunction):
    """From inside the destination is replaced, from outside the source restored; others pass."""

    def setup(self, config: Fields) -> None:
        address = config.address("address")
        self._version = address.version if address is not None else 0
        self._address = int(address) if address is not None else 0
        self._port = config.integer("port", 0, 0xFFFF) if config.has("port") else NO_PORT
        self._max = config.integer("max_connections", 1, 1 << 20, 65_536)
        self._idle_us = config.seconds("idle_timeout_s", 300)
        self._asked: OrderedDict[tuple[int, int, int, int], list[int]] = OrderedDict()

    def continue_from(self, before: Self) -> bool:
        target = (before._version, before._address, before._port)
        if target != (self._version, self._address, self._port):
            return False  # the other address knows nothing of these connections
        self._asked = before._asked
        return True

    def metrics(self) -> dict[str, int]:
        return {"connections": len(self._asked)}

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        if packet.version == self._version:
            if port == INSIDE:
                self._redirect(packet, now_us)
            elif packet.source == self._address:
                self._restore(packet, now_us)
        return OUTSIDE if port == INSIDE else INSIDE

    def _redirect(self, packet: PacketView, now_us: int) -> None:
        original, port = packet.destination, packet.destination_port
        target = self._port if port >= 0 and self._port >= 0 else port
        key = (packet.protocol, packet.source, max(packet.source_port, 0), max(target, 0))
        asked = self._asked
        entry = asked.get(key)
        if entry is None:
            while len(asked) >= self._max:
                asked.popitem(last=False)
            asked[key] = [original, port, now_us]
        else:
            entry[:] = original, port, now_us
            asked.move_to_end(key)
        packet.set_destination(self._address, target)

    def _restore(self, packet: PacketView, now_us: int) -> None:
        key = (
            packet.protocol,
            packet.destination,
            max(packet.destination_port, 0),
            max(packet.source_port, 0),
        )
        entry = self._asked.get(key)
        if entry is None:
            return
        if entry[2] + self._idle_us <= now_us:
            del self._asked[key]
            return
        entry[2] = now_us
        self._asked.move_to_end(key)
        # A packet without ports may share its entry with port 0: it has none to write.
        has_ports = packet.source_port >= 0
        packet.set_source(entry[0], max(entry[1], 0) if has_ports else NO_PORT)

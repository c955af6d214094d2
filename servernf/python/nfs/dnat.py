"""Destination NAT: all packets from inside go to one address, and answers show the one that was asked.

A connection is the protocol, the inside's address and port, and the outside's port as rewritten; without
ports both are 0. Two original destinations of one connection share an entry, the last one counts.
Addresses quoted in ICMP errors are left alone. Inside addresses share the table; a connection on which
inside has sent again after an answer is safe from others' floods.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from servernf.python.fair_table import Entry, FairTable
from servernf.python.flow_keys import ends, host_of
from servernf.python.network_function import INSIDE, OUTSIDE, NetworkFunction, network_function
from servernf.python.packet import NO_PORT, PacketView
from servernf.python.state import EntryKind
from servernf.python.tables import Flow
from servernf.wire.fields import Fields
from servernf.wire.state import Field


class _Asked(Entry):
    """The destination that inside asked for."""

    __slots__ = ("address", "answered", "port", "used_us")

    def __init__(self) -> None:
        self.address = self.port = self.used_us = 0
        self.answered = False

    @property
    def written_address(self) -> bytes:
        """In 16 bytes, whatever its version."""
        return self.address.to_bytes(16, "big")

    @written_address.setter
    def written_address(self, raw: bytes) -> None:
        self.address = int.from_bytes(raw, "big")


def _flow(key: bytes, _record: object) -> Flow:
    return Flow(key[1:-4], key[-4] << 8 | key[-3], protocol=key[0])


_ASKED = EntryKind(
    "asked",
    _Asked,
    (
        Field("port", "i64"),
        Field("used_us", "age"),
        Field("answered", "bool"),
        Field("address", "bytes", 16),
    ),
    key_sizes=(9, 21),
    flow_of=_flow,
    looks_at=("inside", "inside_port", "protocol"),
    paths={"address": "written_address"},
)


@network_function("dnat")
class Dnat(NetworkFunction):
    """From inside the destination is replaced, from outside the source restored; others pass."""

    _asked: FairTable[_Asked]
    """By protocol, inside end and outside's port as rewritten."""

    def setup(self, config: Fields) -> None:
        address = config.address("address")
        self._version = address.version if address is not None else 0
        self._address = int(address) if address is not None else 0
        self._port = config.integer("port", 0, 0xFFFF) if config.has("port") else NO_PORT
        self._max = config.integer("max_connections", 1, 1 << 20, 65_536)
        self._idle_us = config.seconds("idle_timeout_s", 300)
        # Another address knows nothing of these connections.
        about = self._version, self._address, self._port
        self.state.declare("_asked", _ASKED, FairTable[_Asked](self._max), about=about)

    def problems(self, new: Mapping[str, Mapping[Any, Any]], *, whole: bool) -> Iterable[str]:
        for key, asked in new[_ASKED.layout.table].items():
            if not NO_PORT <= asked.port <= 0xFFFF:
                yield f"asked {key.hex()}: port must be {NO_PORT} to 65535, not {asked.port}"
            bits = 32 if len(key) == 9 else 128
            if bits != (32 if self._version == 4 else 128) or asked.address >> bits:
                yield f"asked {key.hex()}: is not of IPv{self._version}"

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
        inside, _ = ends(packet)
        key = b"%c%b%b" % (packet.protocol, inside, max(target, 0).to_bytes(2, "big"))
        asked = self._asked
        entry = asked.get(key)
        if entry is None:
            entry = _Asked()
            asked.size = self._max
            asked.add(key, entry, host_of(inside))
        else:
            asked.refresh(entry)
            if entry.answered:
                asked.establish(entry)
        entry.address, entry.port, entry.used_us = original, port, now_us
        packet.set_destination(self._address, target)

    def _restore(self, packet: PacketView, now_us: int) -> None:
        outside, inside = ends(packet)
        entry = self._asked.get(b"%c%b%b" % (packet.protocol, inside, outside[-2:]))
        if entry is None:
            return
        if entry.used_us + self._idle_us <= now_us:
            self._asked.remove(entry)
            return
        entry.used_us, entry.answered = now_us, True
        self._asked.refresh(entry)
        # A packet without ports may share its entry with port 0: it has none to write.
        has_ports = packet.source_port >= 0
        packet.set_source(entry.address, max(entry.port, 0) if has_ports else NO_PORT)

"""Destination NAT: what comes from inside goes to one address, and answers show the one asked.

A connection is the protocol, the inside's address and port, and the outside's port as rewritten; both
are 0 without ports. Two original destinations of one connection share an entry, the last one counts.
Inside addresses share the table; a connection on which inside has sent again after an answer is safe
from others' floods.

An ICMP error belongs to the connection that it quotes, and is translated with the quote; it refreshes
nothing (RFC 5508, REQ-6). Of an answer in fragments the later ones follow the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from servernf.python.datagrams import (
    FIRSTS,
    MAX_REMEMBERED,
    MAX_WAITING,
    WAITING,
    Datagrams,
    First,
    Waiting,
)
from servernf.python.fair_table import FairEntry, FairTable
from servernf.python.flow_keys import ends, fragment_key, host_of
from servernf.python.network_function import (
    INSIDE,
    OTHER,
    OUTSIDE,
    NetworkFunction,
    network_function,
)
from servernf.python.packet import NO_PORT, TCP, UDP, PacketView
from servernf.python.quotes import Quote, quote_of, translate
from servernf.python.state import EntryKind
from servernf.python.tables import RecordFlow
from servernf.wire.fields import Fields
from servernf.wire.state import RecordField


class _Asked(FairEntry):
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


def _flow(key: bytes, _record: object) -> RecordFlow:
    return RecordFlow(key[1:-4], key[-4] << 8 | key[-3], protocol=key[0])


_ASKED = EntryKind(
    "asked",
    _Asked,
    (
        RecordField("port", "i64"),
        RecordField("used_us", "age"),
        RecordField("answered", "bool"),
        RecordField("address", "bytes", 16),
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
    _fragments: FairTable[First]
    _waiting: FairTable[Waiting]

    def setup(self, config: Fields) -> None:
        address = config.address("address")
        self.version = address.version if address is not None else 0
        self.address = int(address) if address is not None else 0
        self.port = config.integer("port", 0, 0xFFFF) if config.has("port") else NO_PORT
        self.most_connections = config.integer("max_connections", 1, 1 << 20, 65_536)
        self.idle_us = config.seconds("idle_timeout_s", 300)
        # Another address knows nothing of these connections.
        about = self.version, self.address, self.port
        self.state.declare("_asked", _ASKED, FairTable[_Asked](self.most_connections), about=about)
        firsts = FairTable[First](MAX_REMEMBERED)
        self.state.declare("_fragments", FIRSTS, firsts, about=about)
        self.state.declare("_waiting", WAITING, FairTable[Waiting](MAX_WAITING), about=about)

    def bound(self) -> None:
        # From inside all goes to one address, so there only answers need to be remembered.
        self._datagrams = Datagrams(self, self._fragments, self._waiting, lambda _port: True)

    def tidy(self, now_us: int) -> None:
        self._datagrams.tidy(now_us)

    def problems(self, new: Mapping[str, Mapping[Any, Any]], *, whole: bool) -> Iterable[str]:
        for key, asked in new[_ASKED.layout.table].items():
            if not NO_PORT <= asked.port <= 0xFFFF:
                yield f"asked {key.hex()}: port must be {NO_PORT} to 65535, not {asked.port}"
            bits = 32 if len(key) == 9 else 128
            if bits != (32 if self.version == 4 else 128) or asked.address >> bits:
                yield f"asked {key.hex()}: is not of IPv{self.version}"

    def metrics(self) -> dict[str, int]:
        return {"connections": len(self._asked), **self._datagrams.metrics()}

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        if packet.version != self.version:
            return OTHER[port]
        if port == INSIDE:
            self._from_inside(packet, now_us)
            return OUTSIDE
        quote = quote_of(packet)
        if quote is not None:
            self._error_from_outside(packet, quote, now_us)
            return INSIDE
        if packet.source != self.address:
            return INSIDE
        if packet.later_fragment:
            return self._datagrams.follow(packet, OUTSIDE, now_us)
        key = fragment_key(packet, OUTSIDE) if packet.first_fragment else b""
        self._restore(packet, now_us)
        if key:
            inside = host_of(ends(packet)[1])
            self._datagrams.lead(key, OUTSIDE, packet.source, inside, now_us)
        return INSIDE

    def _from_inside(self, packet: PacketView, now_us: int) -> None:
        quote = quote_of(packet)
        if quote is not None:
            self._error_from_inside(packet, quote, now_us)
            packet.set_destination(self.address)
        elif packet.later_fragment:
            packet.set_destination(self.address)
        else:
            self._redirect(packet, now_us)

    def _redirect(self, packet: PacketView, now_us: int) -> None:
        original, port = packet.destination, packet.destination_port
        target = self.port if port >= 0 and self.port >= 0 else port
        inside, _ = ends(packet)
        key = b"%c%b%b" % (packet.protocol, inside, max(target, 0).to_bytes(2, "big"))
        asked = self._asked
        entry = asked.get(key)
        if entry is None:
            entry = _Asked()
            asked.size = self.most_connections
            asked.add(key, entry, host_of(inside))
        else:
            asked.refresh(entry)
            if entry.answered:
                asked.establish(entry)
        entry.address, entry.port, entry.used_us = original, port, now_us
        packet.set_destination(self.address, target)

    def _restore(self, packet: PacketView, now_us: int) -> None:
        outside, inside = ends(packet)
        entry = self._live(b"%c%b%b" % (packet.protocol, inside, outside[-2:]), now_us)
        if entry is None:
            return
        entry.used_us, entry.answered = now_us, True
        self._asked.refresh(entry)
        # A packet without ports may share its entry with port 0: it has none to write.
        has_ports = packet.source_port >= 0
        packet.set_source(entry.address, max(entry.port, 0) if has_ports else NO_PORT)

    def _live(self, key: bytes, now_us: int) -> _Asked | None:
        """The connection, unless it has been idle for too long: it is forgotten."""
        entry = self._asked.get(key)
        if entry is not None and entry.used_us + self.idle_us <= now_us:
            self._asked.remove(entry)
            return None
        return entry

    # ICMP errors.

    def _error_from_outside(self, packet: PacketView, quote: Quote, now_us: int) -> None:
        """About a packet that had been redirected: its destination is the address."""
        if quote.destination != self.address or _lacks_ports(quote):
            return
        inside = quote.source, quote.source_port
        entry = self._live(self._key(quote.protocol, *inside, quote.destination_port), now_us)
        if entry is None:
            return
        translate(packet, quote, entry.address, _own_port(quote, entry.port), source=False)
        if packet.source == self.address:
            packet.set_source(entry.address)

    def _error_from_inside(self, packet: PacketView, quote: Quote, now_us: int) -> None:
        """About an answer: its source is what had been asked."""
        if _lacks_ports(quote):
            return
        port = quote.source_port
        target = self.port if port >= 0 and self.port >= 0 else port
        key = self._key(quote.protocol, quote.destination, quote.destination_port, target)
        entry = self._live(key, now_us)
        if entry is not None and (entry.address, entry.port) == (quote.source, port):
            translate(packet, quote, self.address, _own_port(quote, target), source=True)

    def _key(self, protocol: int, inside: int, inside_port: int, target: int) -> bytes:
        address = inside.to_bytes(4 if self.version == 4 else 16, "big")
        ports = max(inside_port, 0) << 16 | max(target, 0)
        return b"%c%b%b" % (protocol, address, ports.to_bytes(4, "big"))


def _lacks_ports(quote: Quote) -> bool:
    """Whether what is quoted has ports that are not known."""
    return quote.protocol in (TCP, UDP) and not quote.l4


def _own_port(quote: Quote, port: int) -> int:
    """A port, to write where the quoted packet has one."""
    return max(port, 0) if quote.source_port >= 0 else NO_PORT

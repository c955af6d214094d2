"""L4 load balancer: connections to a virtual service go to its backends, and stay with them.

Clients are outside, backends inside. A new connection's backend is chosen by weighted rendezvous
hashing over the client's (address, port): when a backend comes or goes, only its own share moves,
and a SYN that opens the same connection again comes to the same backend.

Clients share the table; a connection whose client has sent again after an answer is safe from others'
floods.

Backends are judged by whether they answer (`servernf/python/backend_health.py`): a connection that has
had no answer may be opened again with another one.

An ICMP error belongs to the connection that it quotes, and is translated with the quote, so that path
MTU discovery works through the service; it refreshes nothing. Later fragments follow their first.

Another configuration goes on with the connections whose service and backend it has, and knows no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import log
from typing import Any
from zlib import crc32

from servernf.python.backend_health import BackendHealth, HealthChecks
from servernf.python.datagrams import (
    FIRSTS,
    MAX_REMEMBERED,
    MAX_WAITING,
    WAITING,
    Datagrams,
    First,
    Waiting,
    inside_source,
)
from servernf.python.fair_table import FairEntry, FairTable
from servernf.python.flow_keys import (
    FLOW,
    FLOW_KEY_BYTES,
    ends,
    flow_key,
    flow_of_key,
    fragment_key,
    host_of,
)
from servernf.python.network_function import (
    OTHER,
    OUTSIDE,
    NetworkFunction,
    network_function,
)
from servernf.python.packet import TCP, UDP, PacketView
from servernf.python.quotes import Quote, quote_of, translate
from servernf.python.state import EntryKind, TableKind
from servernf.python.tables import Fixed
from servernf.wire.fields import Fields
from servernf.wire.state import RecordField, Values

MAX_CONNECTIONS = 262_144
_PROTOCOLS = {"tcp": TCP, "udp": UDP}
_FLAGS, _FIN, _SYN, _RST, _ACK = 13, 1, 2, 4, 16


@dataclass(frozen=True, slots=True)
class Backend:
    """Where connections go; `seed` is the CRC-32 of address and port."""

    address: int
    port: int
    weight: int
    seed: int

    @property
    def end(self) -> tuple[int, int]:
        """Where it is."""
        return self.address, self.port


_NOWHERE = Backend(0, 0, 1, 0)


class _Connection(FairEntry):
    __slots__ = ("answered", "back", "backend", "known_to", "service", "used_us")

    def __init__(
        self,
        backend: Backend = _NOWHERE,
        back: bytes = b"",
        service: tuple[int, int, int, int] = (0, 0, 0, 0),
        known_to: object = None,
    ) -> None:
        self.backend = backend
        self.back = back
        """The key of what a reply carries."""
        self.service = service
        self.known_to = known_to
        """The mark of the last configuration that was found to have its service and backend."""
        self.used_us = 0
        self.answered = False

    @property
    def written_backend(self) -> bytes:
        """Its address and port."""
        size = 4 if self.service[0] == 4 else 16
        return self.backend.address.to_bytes(size, "big") + self.backend.port.to_bytes(2, "big")

    @written_backend.setter
    def written_backend(self, raw: bytes) -> None:
        port = int.from_bytes(raw[-2:], "big")
        self.backend = Backend(int.from_bytes(raw[:-2], "big"), port, 1, 0)

    def served(self, key: bytes) -> None:
        """Know the service and what replies carry; `key`: of the table."""
        flow = flow_of_key(key)
        version = 4 if len(flow.inside) == 4 else 6
        self.service = version, flow.protocol, int.from_bytes(flow.inside, "big"), flow.inside_port
        client = key[len(key) // 2 + 1 :]
        self.back = b"%c%b%b" % (flow.protocol, self.written_backend, client)


class _Connections(FairTable[_Connection]):
    """Also by what replies carry."""

    secondary = ("replies",)

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.replies: dict[bytes, _Connection] = {}

    def entered(self, entry: _Connection) -> None:
        self.replies[entry.back] = entry

    def left(self, entry: _Connection) -> None:
        # Another virtual service may have taken the same backend for the same client since.
        if self.replies.get(entry.back) is entry:
            del self.replies[entry.back]


_CONNECTIONS = EntryKind(
    "connections",
    _Connection,
    (
        RecordField("used_us", "age"),
        RecordField("answered", "bool"),
        RecordField("backend", "bytes", 18),
    ),
    key_sizes=FLOW_KEY_BYTES,
    flow_of=lambda key, _connection: flow_of_key(key),
    looks_at=FLOW,
    paths={"backend": "written_backend"},
)


def _written_end(key: tuple[int, int, int]) -> Values:
    version, address, port = key
    return port, address.to_bytes(4 if version == 4 else 16, "big")


def _end(values: Values) -> tuple[int, int, int]:
    port, raw = values
    assert isinstance(port, int)
    assert isinstance(raw, bytes)
    return 4 if len(raw) == 4 else 6, int.from_bytes(raw, "big"), port


def _backends(checks: HealthChecks) -> TableKind[BackendHealth]:
    """What is known of backends: of use to whoever has some of their connections."""
    return TableKind(
        "backends",
        lambda: BackendHealth(checks),
        (
            RecordField("missed", "u32"),
            RecordField("doubtful", "bool"),
            RecordField("unheard", "bool"),
            RecordField("down_until_us", "age"),
            RecordField("waiting", "ages", 100),
        ),
        key=(RecordField("port", "u16"), RecordField("address", "bytes", 16)),
        key_values=_written_end,
        key_of=_end,
        paths={
            "missed": "_missed",
            "down_until_us": "_down_until_us",
            "waiting": "_waiting",
        },
    )


@network_function("l4_load_balancer")
class L4LoadBalancer(NetworkFunction):
    """Balances virtual services; everything else passes both ways."""

    _forward: _Connections
    health: Fixed[tuple[int, int, int], BackendHealth]
    """Of TCP's backends, by version, address and port; UDP owes nobody an answer."""
    _fragments: FairTable[First]
    _waiting: FairTable[Waiting]

    def setup(self, config: Fields) -> None:
        self.idle_us = config.seconds("idle_timeout_s", 300)
        self.checks = HealthChecks(config.object("health"))
        self.services: dict[tuple[int, int, int, int], list[Backend]] = {}
        for item in config.objects("virtual"):
            address = item.address("address")
            protocol = _PROTOCOLS[item.choice("protocol", tuple(_PROTOCOLS))]
            port = item.integer("port", 0, 0xFFFF)
            version = address.version if address is not None else 0
            backends = [
                backend
                for item_backend in item.objects("backends")
                if (backend := _backend(item_backend, version)) is not None
            ]
            item.only_known()
            if address is None:
                continue
            if not backends:
                item.problem("backends", "needs at least one backend")
            key = (version, protocol, int(address), port)
            if key in self.services:
                item.problem("", f"{address} port {port} is in an earlier virtual service")
            self.services[key] = backends
        self._mark = object()
        self.state.declare("_forward", _CONNECTIONS, _Connections(MAX_CONNECTIONS))
        health = Fixed(
            ((version, *backend.end), BackendHealth(self.checks))
            for (version, protocol, _, _), backends in self.services.items()
            if protocol == TCP and self.checks.misses
            for backend in backends
        )
        self.state.declare("health", _backends(self.checks), health, shared=True)
        self.state.declare("_fragments", FIRSTS, FairTable[First](MAX_REMEMBERED))
        self.state.declare("_waiting", WAITING, FairTable[Waiting](MAX_WAITING))
        # Only of these later fragments follow a first that came by here.
        self._virtual = {key[:3] for key in self.services}
        self._backends = {
            (version, protocol, backend.address)
            for (version, protocol, _, _), backends in self.services.items()
            for backend in backends
        }

    def bound(self) -> None:
        self._datagrams = Datagrams(self, self._fragments, self._waiting, inside_source)
        self._find_reply = self._forward.replies.get
        for health in self.health.records.values():
            health.judged_by(self.checks)

    def goes_on(self, table: str, key: Any, record: Any) -> bool:
        return not isinstance(record, _Connection) or self._is_served(record)

    def problems(self, new: Mapping[str, Mapping[Any, Any]], *, whole: bool) -> Iterable[str]:
        for key, connection in new[_CONNECTIONS.layout.table].items():
            connection.served(key)
            if not self._knows(connection):
                version, protocol, address, port = connection.service
                yield (
                    f"connections {key.hex()}: no backend {connection.written_backend.hex()} of"
                    f" IPv{version} protocol {protocol} {address:x} port {port} here"
                )

    def metrics(self) -> dict[str, int]:
        down = sum(health.doubtful for health in self.health.records.values())
        return {
            "connections": len(self._forward),
            "backends_down": down,
            **self._datagrams.metrics(),
        }

    def tidy(self, now_us: int) -> None:
        self._datagrams.tidy(now_us)

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        if packet.source_port < 0:
            if packet.later_fragment and self._may_rewrite(packet, port):
                return self._datagrams.follow(packet, port, now_us)
            quote = quote_of(packet)
            if quote is not None and quote.source_port >= 0:
                self._error(packet, quote, port, now_us)
            return OTHER[port]
        leads = packet.first_fragment and self._may_rewrite(packet, port)
        key = fragment_key(packet, port) if leads else b""
        if port == OUTSIDE:
            self._balance(packet, now_us)
        else:
            self._return(packet, now_us)
        if key:
            source, destination = ends(packet)
            if port == OUTSIDE:
                address, client = packet.destination, source
            else:
                address, client = packet.source, destination
            self._datagrams.lead(key, port, address, host_of(client), now_us)
        return OTHER[port]

    def _may_rewrite(self, packet: PacketView, port: str) -> bool:
        """Whether packets like this one may be of a service, by address and protocol alone."""
        if port == OUTSIDE:
            return (packet.version, packet.protocol, packet.destination) in self._virtual
        return (packet.version, packet.protocol, packet.source) in self._backends

    def _error(self, packet: PacketView, quote: Quote, port: str, now_us: int) -> None:
        """An ICMP error about a packet of a connection: from outside about a reply, from inside about
        what a client had sent."""
        size = 4 if packet.version == 4 else 16
        source = quote.source.to_bytes(size, "big") + quote.source_port.to_bytes(2, "big")
        destination = quote.destination.to_bytes(size, "big")
        destination += quote.destination_port.to_bytes(2, "big")
        if port == OUTSIDE:
            key = b"%c%b%b" % (quote.protocol, source, destination)
            connection = self._current(self._forward.get(key), now_us)
            if connection is None or packet.destination != quote.source:
                return
            translate(packet, quote, *connection.backend.end, source=True)
            packet.set_destination(connection.backend.address)
            return
        key = b"%c%b%b" % (quote.protocol, destination, source)
        connection = self._current(self._find_reply(key), now_us)
        if connection is not None:
            translate(packet, quote, *connection.service[2:], source=False)
            if packet.source == connection.backend.address:
                packet.set_source(connection.service[2])

    def _current(self, connection: _Connection | None, now_us: int) -> _Connection | None:
        """A connection that was looked up, unless it is over or no longer served."""
        if (
            connection is not None
            and now_us < connection.used_us + self.idle_us
            and (connection.known_to is self._mark or self._knows(connection))
        ):
            return connection
        return None

    def _balance(self, packet: PacketView, now_us: int) -> None:
        version, protocol = packet.version, packet.protocol
        destination, port = packet.destination, packet.destination_port
        service = (version, protocol, destination, port)
        backends = self.services.get(service)
        if backends is None:
            return
        key = flow_key(packet, inside=False)
        connection = self._forward.get(key)
        if connection is not None and self._current(connection, now_us) is None:
            self._forward.remove(connection)
            connection = None
        opens = (connection is None or not connection.answered) and _opens(packet)
        if opens and connection is not None and self._is_down(connection, now_us):
            self._forward.remove(connection)
            connection = None
        if connection is None:
            connection = self._open(packet, key, service, backends, now_us)
            health = self._health_of(connection) if opens else None
            if health is not None:
                health.opened(now_us)
        else:
            self._forward.refresh(connection)
            if connection.answered:
                self._forward.establish(connection)
        connection.used_us = now_us
        packet.set_destination(connection.backend.address, connection.backend.port)

    def _return(self, packet: PacketView, now_us: int) -> None:
        forward = self._find_reply(flow_key(packet, inside=True))
        connection = self._current(forward, now_us)
        if connection is not None:
            connection.used_us = now_us
            self._answer(connection, packet, now_us)
            self._forward.refresh(connection)
            packet.set_source(*connection.service[2:])

    def _health_of(self, connection: _Connection) -> BackendHealth | None:
        """That of its backend, if it is judged."""
        version, protocol, *_ = connection.service
        return self.health.get((version, *connection.backend.end)) if protocol == TCP else None

    def _is_down(self, connection: _Connection, now_us: int) -> bool:
        health = self._health_of(connection)
        return health is not None and not health.is_up(now_us)

    def _answer(self, connection: _Connection, packet: PacketView, now_us: int) -> None:
        """A reset in answer to a SYN is a refusal, all else a sign of life."""
        health = self._health_of(connection)
        if health is not None:
            if not connection.answered and packet.data[packet.l4 + _FLAGS] & _RST:
                health.refused(now_us)
                return
            if health.unheard:  # nearly all frames tell nothing new
                health.heard()
        connection.answered = True

    def _knows(self, connection: _Connection) -> bool:
        """Whether a connection of another configuration is one of this, too."""
        served = self._is_served(connection)
        if served:
            connection.known_to = self._mark
        return served

    def _is_served(self, connection: _Connection) -> bool:
        wanted = connection.backend.end
        return any(b.end == wanted for b in self.services.get(connection.service, ()))

    def _open(
        self,
        packet: PacketView,
        key: bytes,
        service: tuple[int, int, int, int],
        backends: list[Backend],
        now_us: int,
    ) -> _Connection:
        version, protocol, *_ = service
        client, _ = ends(packet)
        if protocol == TCP and self.checks.misses:
            health = [self.health.get((version, *b.end)) for b in backends]
            up = [b for b, h in zip(backends, health, strict=True) if h is None or h.is_up(now_us)]
            backends = up or backends
        backend = choose(packet.source, packet.source_port, version, backends)
        address = backend.address.to_bytes(4 if version == 4 else 16, "big")
        back = b"%c%b%b%b" % (protocol, address, backend.port.to_bytes(2, "big"), client)
        connection = _Connection(backend, back, service, self._mark)
        self._forward.add(key, connection, host_of(client))
        return connection


def _opens(packet: PacketView) -> bool:
    """Whether a packet is a SYN that opens a connection."""
    if packet.protocol != TCP:
        return False
    return packet.data[packet.l4 + _FLAGS] & (_FIN | _SYN | _RST | _ACK) == _SYN


def choose(client: int, client_port: int, version: int, backends: list[Backend]) -> Backend:
    """Weighted rendezvous hashing: the backend with the highest -weight / ln(hash)."""
    size = 4 if version == 4 else 16
    seed = crc32(client.to_bytes(size, "big") + client_port.to_bytes(2, "big"))
    return max(backends, key=lambda backend: _score(seed, backend))


def _score(seed: int, backend: Backend) -> float:
    # CRC-32 is linear: without mixing, the backends' hashes would differ by constants, and with
    # three backends the shares would be a half and two quarters. MurmurHash3's finaliser mixes.
    h = seed ^ backend.seed
    h = (h ^ h >> 16) * 0x85EBCA6B & 0xFFFF_FFFF
    h = (h ^ h >> 13) * 0xC2B2AE35 & 0xFFFF_FFFF
    h ^= h >> 16
    return -backend.weight / log((h + 0.5) / 0x1_0000_0000)


def _backend(fields: Fields, version: int) -> Backend | None:
    address = fields.address("address")
    port = fields.integer("port", 0, 0xFFFF)
    weight = fields.integer("weight", 1, 1_000_000, 1)
    fields.only_known()
    if address is None:
        return None
    if version and address.version != version:
        fields.problem("address", f"{address} is not of the virtual address's IP version")
    seed = crc32(address.packed + port.to_bytes(2, "big"))
    return Backend(int(address), port, weight, seed)

"""L4 load balancer: connections to a virtual service go to its backends, and stay with them.

Clients are outside, backends inside. A new connection's backend is chosen by weighted rendezvous
hashing over the client's (address, port): when a backend comes or goes, only its own share moves,
and a SYN that opens the same connection again comes to the same backend.

Clients share the table; a connection whose client has sent again after an answer is safe from others'
floods.

Backends are judged by whether they answer (`servernf/python/backend_health.py`): a connection that has
had no answer may be opened again with another one.

Another configuration goes on with the connections whose service and backend it has, and knows no others.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Self
from zlib import crc32

from servernf.python.backend_health import BackendHealth, HealthChecks
from servernf.python.fair_table import Entry, FairTable
from servernf.python.flow_keys import ends, flow_key, host_of
from servernf.python.network_function import INSIDE, OUTSIDE, NetworkFunction, network_function
from servernf.python.packet import TCP, UDP, PacketView
from servernf.wire.fields import Fields

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


class _Connection(Entry):
    __slots__ = ("answered", "back", "backend", "health", "known_to", "service", "used_us")

    def __init__(
        self,
        backend: Backend,
        health: BackendHealth | None,
        back: bytes,
        service: tuple[int, int, int, int],
        known_to: object,
    ) -> None:
        self.backend = backend
        self.health = health
        """Of a backend that is judged."""
        self.back = back
        """The key of what a reply carries."""
        self.service = service
        self.known_to = known_to
        """The mark of the last configuration that was found to have its service and backend."""
        self.used_us = 0
        self.answered = False


@network_function("l4_load_balancer")
class L4LoadBalancer(NetworkFunction):
    """Balances virtual services; everything else passes both ways."""

    def setup(self, config: Fields) -> None:
        self._idle_us = config.seconds("idle_timeout_s", 300)
        self._checks = HealthChecks(config.object("health"))
        self._services: dict[tuple[int, int, int, int], list[Backend]] = {}
        for item in config.objects("virtual"):
            address = item.address("address")
            protocol = _PROTOCOLS[item.choice("protocol", tuple(_PROTOCOLS))]
            port = item.integer("port", 0, 0xFFFF)
            version = address.version if address is not None else 0
            backends = [
                backend
                for found in item.objects("backends")
                if (backend := _backend(found, version)) is not None
            ]
            item.only_known()
            if address is None:
                continue
            if not backends:
                item.problem("backends", "needs at least one backend")
            key = (version, protocol, int(address), port)
            if key in self._services:
                item.problem("", f"{address} port {port} is in an earlier virtual service")
            self._services[key] = backends
        self._forward = FairTable[_Connection](MAX_CONNECTIONS)
        self._back: dict[bytes, _Connection] = {}
        self._mark = object()
        self._health = {
            (version, backend.address, backend.port): BackendHealth(self._checks)
            for (version, protocol, _, _), backends in self._services.items()
            if protocol == TCP and self._checks.misses
            for backend in backends
        }
        """Of TCP's backends; UDP owes nobody an answer."""

    def continue_from(self, before: Self) -> bool:
        self._forward, self._back = before._forward, before._back
        for key in self._health.keys() & before._health.keys():
            self._health[key] = before._health[key]
            self._health[key].judged_by(self._checks)
        return True

    def metrics(self) -> dict[str, int]:
        down = sum(health.doubtful for health in self._health.values())
        return {"connections": len(self._forward), "backends_down": down}

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        if port == OUTSIDE:
            if packet.source_port >= 0:
                self._balance(packet, now_us)
            return INSIDE
        if packet.source_port >= 0:
            self._return(packet, now_us)
        return OUTSIDE

    def _balance(self, packet: PacketView, now_us: int) -> None:
        version, protocol = packet.version, packet.protocol
        destination, port = packet.destination, packet.destination_port
        service = (version, protocol, destination, port)
        backends = self._services.get(service)
        if backends is None:
            return
        key = flow_key(packet, inside=False)
        connection = self._forward.get(key)
        if connection is not None and not (
            now_us < connection.used_us + self._idle_us
            and (connection.known_to is self._mark or self._knows(connection))
        ):
            self._forget(connection)
            connection = None
        opens = (connection is None or not connection.answered) and _opens(packet)
        if opens and connection is not None and _is_down(connection, now_us):
            self._forget(connection)
            connection = None
        if connection is None:
            connection = self._open(packet, key, service, backends, now_us)
            if opens and connection.health is not None:
                connection.health.opened(now_us)
        else:
            self._forward.refresh(connection)
            if connection.answered:
                self._forward.establish(connection)
        connection.used_us = now_us
        packet.set_destination(connection.backend.address, connection.backend.port)

    def _return(self, packet: PacketView, now_us: int) -> None:
        connection = self._back.get(flow_key(packet, inside=True))
        if (
            connection is not None
            and now_us < connection.used_us + self._idle_us
            and (connection.known_to is self._mark or self._knows(connection))
        ):
            connection.used_us = now_us
            self._answer(connection, packet, now_us)
            self._forward.refresh(connection)
            packet.set_source(*connection.service[2:])

    @staticmethod
    def _answer(connection: _Connection, packet: PacketView, now_us: int) -> None:
        """A reset in answer to a SYN is a refusal, all else a sign of life."""
        health = connection.health
        if health is not None:
            if not connection.answered and packet.data[packet.l4 + _FLAGS] & _RST:
                health.refused(now_us)
                return
            if health.unheard:  # nearly all frames tell nothing new
                health.heard()
        connection.answered = True

    def _knows(self, connection: _Connection) -> bool:
        """Whether a connection of another configuration is one of this, too."""
        wanted = connection.backend.address, connection.backend.port
        backends = self._services.get(connection.service, ())
        known = any((b.address, b.port) == wanted for b in backends)
        if known:
            connection.known_to = self._mark
        return known

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
        judged = self._health if protocol == TCP else {}
        if judged:
            up = [b for b in backends if judged[version, b.address, b.port].is_up(now_us)]
            backends = up or backends
        backend = choose(packet.source, packet.source_port, version, backends)
        health = judged.get((version, backend.address, backend.port))
        address = backend.address.to_bytes(4 if version == 4 else 16, "big")
        back = b"%c%b%b%b" % (protocol, address, backend.port.to_bytes(2, "big"), client)
        connection = _Connection(backend, health, back, service, self._mark)
        self._back[back] = connection
        for gone in self._forward.add(key, connection, host_of(client)):
            self._forget_back(gone)
        return connection

    def _forget(self, connection: _Connection) -> None:
        self._forward.remove(connection)
        self._forget_back(connection)

    def _forget_back(self, connection: _Connection) -> None:
        # Another virtual service may have taken the same backend for the same client since.
        if self._back.get(connection.back) is connection:
            del self._back[connection.back]


def _opens(packet: PacketView) -> bool:
    """Whether a packet is a SYN that opens a connection."""
    if packet.protocol != TCP:
        return False
    return packet.data[packet.l4 + _FLAGS] & (_FIN | _SYN | _RST | _ACK) == _SYN


def _is_down(connection: _Connection, now_us: int) -> bool:
    return connection.health is not None and not connection.health.is_up(now_us)


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

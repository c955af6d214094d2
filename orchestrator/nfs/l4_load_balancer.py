"""l4_load_balancer: spreads connections to virtual services over backends, and keeps them there."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from orchestrator.model.elements import (
    CostProfile,
    Element,
    ElementGraph,
    FilterProgram,
    FilterRule,
    Leave,
    Relation,
    StatefulProgram,
    StateKey,
)
from orchestrator.model.headers import TCP, UDP
from orchestrator.model.match import Match, Prefix
from orchestrator.model.packet import Packet
from orchestrator.nfs.backend_health_reference import HealthReference
from orchestrator.nfs.base import (
    Environment,
    NetworkFunction,
    NfConfig,
    Output,
    Reference,
    network_function,
)
from orchestrator.nfs.editing import icmp_error_rules
from orchestrator.nfs.fair_table_reference import FairTable, source_of
from orchestrator.nfs.fragments_reference import FollowingFragments, datagram_of
from orchestrator.nfs.values import PROTOCOLS, Address, AddressField, address_text

PortNumber = Annotated[int, Field(ge=0, le=65535, strict=True)]

_SYN, _RST = 0x02, 0x04
_OPENS_MASK = 0x17
"""FIN, SYN, RST, ACK."""

MAX_CONNECTIONS = 262_144
"""The runtime's, too."""


class Backend(NfConfig):
    """A server of a service; twice the weight gets twice the connections."""

    address: AddressField
    port: PortNumber
    weight: Annotated[int, Field(ge=1, le=65535, strict=True)] = 1


class VirtualService(NfConfig):
    """What clients ask for."""

    address: AddressField
    protocol: Literal["tcp", "udp"]
    port: PortNumber
    backends: Annotated[tuple[Backend, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        seen: set[tuple[Address, int]] = set()
        for backend in self.backends:
            text = f"{address_text(backend.address)} port {backend.port}"
            if backend.address[0] != self.address[0]:
                raise ValueError(
                    f"backend {text} and the virtual address {address_text(self.address)} "
                    "are of different IP versions"
                )
            if (backend.address, backend.port) in seen:
                raise ValueError(f"backend {text} is given twice")
            seen.add((backend.address, backend.port))
        return self


class HealthChecks(NfConfig):
    """Passive checks of TCP backends, as nginx's `max_fails` and `fail_timeout`; `misses` 0: none.

    A backend that lets `misses` SYNs in a row go unanswered for `timeout_s` each, or resets them, and
    sends nothing in between, gets no new connections for `retry_s`; then one tries it.
    """

    misses: Annotated[int, Field(ge=0, le=100, strict=True)] = 3
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 2
    retry_s: Annotated[float, Field(gt=0, le=86_400)] = 10


class LoadBalancerConfig(NfConfig):
    """Virtual services; a connection that is idle for `idle_timeout_s` is forgotten."""

    virtual: Annotated[tuple[VirtualService, ...], Field(min_length=1)]
    idle_timeout_s: Annotated[int, Field(gt=0, strict=True)] = 300
    health: HealthChecks = HealthChecks()

    @model_validator(mode="after")
    def _unique(self) -> Self:
        seen: set[tuple[Address, str, int]] = set()
        for service in self.virtual:
            key = (service.address, service.protocol, service.port)
            if key in seen:
                text = f"{address_text(service.address)} {service.protocol} port {service.port}"
                raise ValueError(f"the virtual service {text} is given twice")
            seen.add(key)
        return self


@network_function("l4_load_balancer")
class L4LoadBalancer(NetworkFunction[LoadBalancerConfig]):
    """Outside: `virtual` (is it a service's?), `balance`. Inside: `backend`, `return`."""

    Config = LoadBalancerConfig
    state_key = StateKey(frozenset({"outside_address"}))
    relation = Relation("consistent_choice", "backend of each connection")
    keeps_state_when_changed = frozenset({"virtual", "idle_timeout_s", "health"})
    cost = CostProfile(
        564,
        0.0,
        "Lemur (CoNEXT'20), HashLB, 1500 B at 1.7 GHz",
        state_entry_bytes=940,  # measured (CPython 3.11, tracemalloc), each its own source
    )

    @property
    def state_entries(self) -> int:
        return MAX_CONNECTIONS

    def elements(self, port: str) -> ElementGraph:
        services = self.config.virtual
        if port == "outside":
            first, taken, second, left = "virtual", "balance", "balance", "inside"
            sides = [(s.address, s.protocol) for s in services]
        else:
            first, taken, second, left = "backend", "return", "return", "outside"
            sides = [(b.address, s.protocol) for s in services for b in s.backends]
        # Not by port: a later fragment has none, and its first must have come the same way.
        rules = [
            FilterRule(_end_match(port, *side), taken, f"{first} {_text(*side)}")
            for side in dict.fromkeys(sides)
        ]
        rules += icmp_error_rules({s.address[0] for s in services}, taken)
        reason = "keeps the backend of each connection"
        return ElementGraph(
            first,
            {
                first: Element(first, FilterProgram(tuple(rules), "pass"), (taken, "pass")),
                second: Element(second, StatefulProgram(reason), (left,)),
            },
            {
                (first, taken): second,
                (first, "pass"): Leave(left),
                (second, left): Leave(left),
            },
        )

    @classmethod
    def state_lost(cls, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
        gone = _backends(before) - _backends(after)
        lost = "connections to backends that it no longer has" if gone else ""
        return super().state_lost(before, after) or lost

    def reference(self) -> Reference:
        return _BalancerReference(self.config)

    def owned_addresses(self) -> Sequence[tuple[str, int, int]]:
        addresses = dict.fromkeys(service.address for service in self.config.virtual)
        return [("outside", *address) for address in addresses]


def _backends(config: Mapping[str, Any]) -> set[tuple[object, ...]]:
    """Service and backend, as a runtime config has them."""
    return {
        (*(str(end[key]) for end in (service, backend) for key in ("address", "port")), protocol)
        for service in config["virtual"]
        for protocol in [service["protocol"]]
        for backend in service["backends"]
    }


def _end_match(port: str, address: Address, protocol: str) -> Match:
    prefix = Prefix(address[0], address[1], 32 if address[0] == 4 else 128)
    if port == "outside":
        return Match(dst=prefix, protocol=PROTOCOLS[protocol])
    return Match(src=prefix, protocol=PROTOCOLS[protocol])


def _text(address: Address, protocol: str) -> str:
    return f"{address_text(address)} {protocol}"


Socket = tuple[int, int, int]
"""(IP version, address, port)."""


@dataclass(slots=True)
class _Connection:
    client: Socket
    virtual: Socket
    backend: Socket
    used_us: int
    answered: bool = False


_ALL_UP = HealthReference(0, 0, 0)


class _BalancerReference(Reference):
    def __init__(self, config: LoadBalancerConfig) -> None:
        self._idle_us = config.idle_timeout_s * 1_000_000
        self._services = {
            (PROTOCOLS[s.protocol], (*s.address, s.port)): s.backends for s in config.virtual
        }
        self._forward = FairTable[tuple[int, Socket, Socket], _Connection](MAX_CONNECTIONS)
        """By protocol, client, virtual service; a share for each client's address."""
        self._back: dict[tuple[int, Socket, Socket], _Connection] = {}
        """By protocol, client, backend."""
        checks = config.health
        self._checked = checks.misses > 0
        self._health = HealthReference(
            checks.misses, int(checks.timeout_s * 1_000_000), int(checks.retry_s * 1_000_000)
        )
        self._fragments = FollowingFragments()
        self._virtual = {(s.address, PROTOCOLS[s.protocol]) for s in config.virtual}
        self._behind = {
            (b.address, PROTOCOLS[s.protocol]) for s in config.virtual for b in s.backends
        }

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        now_us = env.now_us
        left = "inside" if port == "outside" else "outside"
        divided = packet.later_fragment or packet.more_fragments
        if divided and packet.version:
            return [(left, piece) for piece in self._fragment(packet, port, now_us)]
        if packet.has_ports:
            self._translate(packet, port, now_us)
        elif packet.quotes_l4 and packet.quoted_protocol in (TCP, UDP):
            self._error(packet, port, now_us)
        return ((left, packet),)

    def _translate(self, packet: Packet, port: str, now_us: int) -> None:
        source = (packet.version, packet.src, packet.src_port or 0)
        target = (packet.version, packet.dst, packet.dst_port or 0)
        if port == "outside":
            self._balance(packet, source, target, now_us)
        else:
            self._return(packet, source, target, now_us)

    def _fragment(self, packet: Packet, port: str, now_us: int) -> Sequence[Packet]:
        """What leaves for a fragment: the later ones go where their first went."""
        own, remembered = (
            (packet.dst, self._virtual) if port == "outside" else (packet.src, self._behind)
        )
        follows = ((packet.version, own), packet.protocol) in remembered
        if packet.later_fragment:
            address = self._fragments.later(packet, port, now_us) if follows else own
            return () if address is None else (_readdressed(packet, port, address),)
        datagram = datagram_of(packet, port)
        if packet.has_ports:
            self._translate(packet, port, now_us)
        if not follows:
            return (packet,)
        address, client = packet.dst, packet.src
        if port == "inside":
            address, client = client, address
        owner = source_of(packet.version, client)
        later = self._fragments.first(datagram, address, owner, now_us)
        return (packet, *(_readdressed(fragment, port, address) for fragment in later))

    def _error(self, packet: Packet, port: str, now_us: int) -> None:
        """It belongs to the connection that it quotes, and refreshes nothing (RFC 5508, REQ-6)."""
        protocol, version = packet.quoted_protocol, packet.version
        source_port, target_port = packet.quoted_ports
        source = (version, packet.quoted_src, source_port)
        target = (version, packet.quoted_dst, target_port)
        if port == "outside":  # a reply went astray: it had left as the virtual service's
            connection = self._live(self._forward.get((protocol, target, source)), now_us)
            if connection is not None and packet.dst == packet.quoted_src:
                packet.rewrite_quoted(src=connection.backend[1], port=connection.backend[2])
                packet.rewrite(dst=connection.backend[1])
            return
        connection = self._live(self._back.get((protocol, source, target)), now_us)
        if (
            connection is None
            or self._forward.get((protocol, source, connection.virtual)) is not connection
        ):
            return
        packet.rewrite_quoted(dst=connection.virtual[1], port=connection.virtual[2])
        if packet.src == connection.backend[1]:
            packet.rewrite(src=connection.virtual[1])

    def _balance(self, packet: Packet, client: Socket, virtual: Socket, now_us: int) -> None:
        protocol = packet.protocol or 0
        backends = self._services.get((protocol, virtual))
        if backends is None:
            return
        key = protocol, client, virtual
        connection = self._forward.get(key)
        if connection is not None and self._live(connection, now_us) is None:
            self._forward.remove(key)
            connection = None
        health = self._health if protocol == PROTOCOLS["tcp"] else _ALL_UP
        opens = packet.tcp_flags is not None and packet.tcp_flags & _OPENS_MASK == _SYN
        # A SYN alone does not move a connection: the same client and port get the same choice, unless
        # the backend that has not answered them is down.
        unanswered = connection is not None and opens and not connection.answered
        if connection is not None and unanswered and not health.is_up(connection.backend, now_us):
            self._forward.remove(key)
            connection = None
        if connection is None:
            up = [b for b in backends if health.is_up(_socket(b), now_us)]
            chosen = max(up or backends, key=lambda backend: _score(backend, client))
            backend = _socket(chosen)
            connection = _Connection(client, virtual, backend, now_us)
            self._forward.add(key, connection, source_of(*client[:2]))
            self._back[protocol, client, backend] = connection
            if opens:
                health.opened(backend, now_us)
        elif connection.answered:
            self._forward.establish(key)
        if self._forward.get(key) is not None:
            self._forward.refresh(key)
        connection.used_us = now_us
        packet.rewrite(dst=connection.backend[1], dst_port=connection.backend[2])

    def _return(self, packet: Packet, backend: Socket, client: Socket, now_us: int) -> None:
        protocol = packet.protocol or 0
        connection = self._live(self._back.get((protocol, client, backend)), now_us)
        if connection is None:
            return
        if self._forward.get((protocol, client, connection.virtual)) is not connection:
            return
        connection.used_us = now_us
        reset = packet.tcp_flags is not None and packet.tcp_flags & _RST
        if reset and self._checked and not connection.answered:
            self._health.refused(backend, now_us)
        else:
            connection.answered = True
            if packet.tcp_flags is not None:
                self._health.heard(backend)
        self._forward.refresh((protocol, client, connection.virtual))
        packet.rewrite(src=connection.virtual[1], src_port=connection.virtual[2])

    def _live(self, connection: _Connection | None, now_us: int) -> _Connection | None:
        if connection is None or now_us - connection.used_us >= self._idle_us:
            return None
        return connection


def _socket(backend: Backend) -> Socket:
    return (*backend.address, backend.port)


def _score(backend: Backend, client: Socket) -> float:
    """Weighted rendezvous (highest random weight): -weight / ln(h), h uniform in (0, 1)."""
    text = b"".join(
        part.to_bytes(16, "big")
        for part in (client[1], client[2], backend.address[1], backend.port)
    )
    return -backend.weight / math.log((zlib.crc32(text) + 0.5) / 2**32)


def _readdressed(fragment: Packet, port: str, address: int) -> Packet:
    """A later fragment with the address that its first has."""
    if port == "outside":
        fragment.rewrite(dst=address)
    else:
        fragment.rewrite(src=address)
    return fragment

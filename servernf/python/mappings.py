"""The mappings of a NAPT: the ports that they hold, whose they are, the TCP connections they serve."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple, TypeAlias

from servernf.python.fair_table import Entry, FairTable
from servernf.python.flow_keys import ends
from servernf.python.network_function import INSIDE, OUTSIDE
from servernf.python.packet import TCP, PacketView
from servernf.python.tcp_acceptance import (
    ACCEPTED,
    ACK,
    BEGINS,
    FIN,
    REFUSED,
    RST,
    SYN,
    Side,
    accept_packet,
    is_established,
    is_intact,
)

MAX_SESSIONS = 65_536
MAX_SESSIONS_OF_MAPPING = 4096
"""TCP connections that are followed."""

_FLAGS = FIN | SYN | RST | ACK
ESTABLISHED_TCP = 256
"""A mapping's kind is its protocol or this; each has a timeout."""


Queue: TypeAlias = "OrderedDict[Mapping, None]"


class Pool:
    """Ports of one address and protocol: bit n of `taken` stands for port n."""

    __slots__ = ("established", "taken", "transitory")

    def __init__(self) -> None:
        self.taken = 0
        # Mappings by when they were used last. One timeout holds for each, so the first of each
        # is the first to expire. (UDP and ICMP have transitory ones only.)
        self.transitory: Queue = OrderedDict()
        self.established: Queue = OrderedDict()

    def take(self, wanted: int, share: int) -> int:
        """The wanted port, else the next free one of `share` upwards, wrapping; -1: none is free."""
        free = share & ~self.taken
        if not free:
            return -1
        above = free >> wanted << wanted
        free = above or free
        port = (free & -free).bit_length() - 1
        self.taken |= 1 << port
        return port

    def give_back(self, port: int) -> None:
        self.taken &= ~(1 << port)


_NONE: Queue = OrderedDict()
"""Stands for the established mappings of a host that never had any."""


class Host:
    """The mappings of one protocol that an inside address has; queues as a pool's."""

    __slots__ = ("established", "transitory")

    def __init__(self) -> None:
        self.transitory: Queue = OrderedDict()
        self.established = _NONE

    def __len__(self) -> int:
        return len(self.transitory) + len(self.established)


class Session(Entry):
    """A TCP connection of a mapping."""

    __slots__ = ("inside", "is_established", "mapping", "outside", "remote")

    def __init__(self, remote: bytes) -> None:
        self.remote = remote
        """Its outside end: address and port."""
        self.inside = Side()
        self.outside = Side()
        self.is_established = False
        self.mapping: Mapping | None = None
        """Set once it is followed."""


class Mapping:
    __slots__ = (
        "established",
        "host",
        "host_queue",
        "inside",
        "inside_port",
        "kind",
        "outside",
        "outside_port",
        "pool",
        "protocol",
        "queue",
        "remotes",
        "sessions",
        "share",
        "used_us",
    )

    def __init__(
        self,
        protocol: int,
        inside: int,
        inside_port: int,
        outside: int,
        outside_port: int,
        pool: Pool,
        host: Host,
        share: Share,
    ) -> None:
        self.protocol = protocol
        self.inside = inside
        self.inside_port = inside_port
        self.outside = outside
        self.outside_port = outside_port
        self.pool = pool
        self.kind = protocol
        self.queue = pool.transitory
        self.queue[self] = None
        self.host = host
        self.host_queue = host.transitory
        self.host_queue[self] = None
        self.share = share
        """The last one that was found to hold it."""
        self.used_us = 0
        self.sessions: dict[bytes, Session] = {}
        """Those of TCP that are followed, the one that began first in front."""
        self.established = 0
        """How many of them are."""
        self.remotes: dict[int, None] = {}

    def refresh(self) -> None:
        """It will be the last of its kind to expire."""
        self.queue.move_to_end(self)
        self.host_queue.move_to_end(self)

    def count_established(self, change: int) -> None:
        """So many connections more are established."""
        self.established += change
        kind = ESTABLISHED_TCP if self.established else TCP
        if kind != self.kind:
            self.move(kind)

    def move(self, kind: int) -> None:
        """As `refresh`, and another timeout holds from now on."""
        self.kind = kind
        del self.queue[self], self.host_queue[self]
        established = kind == ESTABLISHED_TCP
        if established and self.host.established is _NONE:
            self.host.established = OrderedDict()
        self.queue = self.pool.established if established else self.pool.transitory
        self.host_queue = self.host.established if established else self.host.transitory
        self.queue[self] = self.host_queue[self] = None


class Share(NamedTuple):
    """What of the pool is owned; bit n of `ports` stands for port n."""

    addresses: list[int]
    low: int
    high: int
    ports: int

    def holds(self, mapping: Mapping) -> bool:
        return mapping.outside in self.addresses and self.low <= mapping.outside_port <= self.high


class Sessions:
    """The TCP connections of all mappings (RFC 5382, REQ-5); inside addresses share the room."""

    def __init__(self) -> None:
        self._table = FairTable[Session](MAX_SESSIONS)

    def __len__(self) -> int:
        return len(self._table)

    def judge(self, mapping: Mapping | None, packet: PacketView, port: str) -> tuple[Session, int]:
        """The connection (perhaps a new one) of a segment that is not translated yet, and what its
        receiver makes of it."""
        source, destination = ends(packet)
        remote = destination if port == INSIDE else source
        session = None if mapping is None else mapping.sessions.get(remote)
        if session is None:
            session = Session(remote)
        if not is_intact(packet):
            return session, REFUSED
        if port == INSIDE:
            return session, accept_packet(session.inside, session.outside, packet)
        return session, accept_packet(session.outside, session.inside, packet)

    def settle(
        self, mapping: Mapping, session: Session, verdict: int, packet: PacketView, port: str
    ) -> None:
        """Let the mapping know of a segment that was not refused."""
        if session.mapping is None:
            if verdict in (ACCEPTED, BEGINS):
                self._begin(mapping, session, port)
            return
        self._table.refresh(session)
        if not session.is_established or packet.data[packet.l4 + 13] & _FLAGS != ACK:
            established = is_established(session.inside, session.outside)
            if established != session.is_established:
                session.is_established = established
                self._table.establish(session, established)
                mapping.count_established(1 if established else -1)

    def end_of(self, mapping: Mapping) -> None:
        """The mapping is over."""
        for session in mapping.sessions.values():
            self._table.remove(session)

    def _begin(self, mapping: Mapping, session: Session, port: str) -> None:
        if len(mapping.sessions) >= MAX_SESSIONS_OF_MAPPING:
            if port == OUTSIDE:
                return  # no stranger takes the room of what inside has opened
            first = next(iter(mapping.sessions.values()))
            self._table.remove(first)
            _forget(first)
        session.mapping = mapping
        mapping.sessions[session.remote] = session
        inside = mapping.inside.to_bytes(4, "big")
        key = inside + mapping.inside_port.to_bytes(2, "big") + session.remote
        for gone in self._table.add(key, session, inside):
            _forget(gone)


def _forget(session: Session) -> None:
    """Its mapping goes on without one that is in the table no more."""
    mapping = session.mapping
    assert mapping is not None
    del mapping.sessions[session.remote]
    if session.is_established:
        mapping.count_established(-1)


def fair_limit(ports: int) -> int:
    """How many of so many ports an inside address may have (RFC 6888, REQ-4).

    A sixteenth; of small pools 64 or a half, so that one host is never all.
    """
    return max(ports // 16, min(64, ports // 2), 1)

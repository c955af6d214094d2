"""The reference semantics of stateful_firewall, by the letter of docs/functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from orchestrator.model.headers import (
    ACK,
    FIN,
    ICMP,
    ICMP_ERRORS,
    ICMPV6,
    ICMPV6_ERRORS,
    RST,
    SYN,
    TCP,
    UDP,
)
from orchestrator.model.match import Match
from orchestrator.model.packet import Packet
from orchestrator.nfs.base import Environment, Output, Reference
from orchestrator.nfs.fair_table_reference import FairTable, source_of
from orchestrator.nfs.matching import Headers, meets
from orchestrator.nfs.tcp_acceptance_reference import Segment, TcpConnection, Verdict

FRAGMENT_US = 30_000_000
MAX_FRAGMENTS = 4096
ECHO_REQUESTS = {4: 8, 6: 128}
ECHO_REPLIES = {4: 0, 6: 129}
_OTHER = {"inside": "outside", "outside": "inside"}

Judge = tuple[tuple[Match, bool], ...]
"""(match, permits), first match wins."""


@dataclass(frozen=True, slots=True)
class FirewallRules:
    """The config in plain data; times in microseconds."""

    outbound: Judge
    inbound: Judge
    default_permits: bool
    non_ip_passes: bool
    max_connections: int
    udp_us: int
    tcp_established_us: int
    tcp_transitory_us: int
    icmp_us: int


class ConnectionKey(NamedTuple):
    """What names a connection. `asker` is the side that sends an echo's requests, else empty."""

    version: int
    protocol: int
    inside: tuple[int, int]
    outside: tuple[int, int]
    asker: str

    @classmethod
    def between(
        cls, side: str, version: int, protocol: int, ends: tuple[int, int, int, int], asker: str
    ) -> ConnectionKey:
        """The flow of a packet that entered `side`; `ends`: source, its port, destination, its port."""
        source, target = ends[:2], ends[2:]
        if side == "inside":
            return cls(version, protocol, source, target, asker)
        return cls(version, protocol, target, source, asker)


@dataclass(slots=True)
class _Connection:
    tcp: TcpConnection | None = None
    used_us: int = 0

    @property
    def established(self) -> bool:
        return self.tcp is not None and self.tcp.is_established


class StatefulFirewallReference(Reference):
    """One instance that sees every packet of both sides."""

    def __init__(self, rules: FirewallRules) -> None:
        self.rules = rules
        self._connections = FairTable[ConnectionKey, _Connection](rules.max_connections)
        self._fragments = FairTable[tuple[object, ...], list[int]](MAX_FRAGMENTS)
        """When a first fragment passed, by what its later ones share."""

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        if packet.version == 0:
            passes = self.rules.non_ip_passes
        elif packet.later_fragment:
            remembered = self._fragments.get(_fragment_key(packet, port))
            passes = remembered is not None and env.now_us - remembered[0] < FRAGMENT_US
        else:
            passes = self._judge(packet, port, env.now_us)
            if passes and packet.more_fragments:
                self._remember_fragment(packet, port, env.now_us)
        return ((_OTHER[port], packet),) if passes else ()

    def _judge(self, packet: Packet, side: str, now_us: int) -> bool:
        """Whether a packet that is no later fragment passes."""
        errors = ICMP_ERRORS if packet.version == 4 else ICMPV6_ERRORS
        if packet.icmp_type in errors:
            flow = _quoted_flow(packet, side)
            return flow is not None and self._live(flow, now_us) is not None
        flow = _flow(packet, side)
        if flow is None:
            return self._permits(packet, side)
        connection = self._live(flow, now_us)
        if packet.is_tcp:
            return self._judge_tcp(packet, side, flow, connection, now_us)
        if connection is None:
            answers = packet.is_icmp and packet.icmp_type == ECHO_REPLIES[packet.version]
            if answers or not self._permits(packet, side):
                return False
            connection = _Connection()
            if not self._connections.add(flow, connection, source_of(flow.version, flow.inside[0])):
                return False
        connection.used_us = now_us
        self._connections.refresh(flow)
        return True

    def _judge_tcp(
        self,
        packet: Packet,
        side: str,
        flow: ConnectionKey,
        connection: _Connection | None,
        now_us: int,
    ) -> bool:
        if packet.more_fragments or Segment.of(packet) is None:
            return connection is not None
        tcp = connection.tcp if connection is not None else None
        opens = (packet.tcp_flags or 0) & (SYN | ACK | FIN | RST) == SYN
        if opens and not (tcp is not None and tcp.is_half_open):
            if not self._permits(packet, side):
                return False
        elif tcp is None:
            return False
        if tcp is None:
            tcp = TcpConnection("inside", "outside")
        was_over = tcp.is_over
        verdict = tcp.judge(packet, side)
        if verdict == Verdict.REFUSED:
            return True
        if connection is None:
            connection = _Connection(tcp, now_us)
            return self._connections.add(flow, connection, source_of(flow.version, flow.inside[0]))
        counts = verdict in (Verdict.ACCEPTED, Verdict.BEGINS)
        if counts or (opens if was_over else verdict == Verdict.RESET):
            connection.used_us = now_us
            self._connections.refresh(flow)
        self._connections.establish(flow, tcp.is_established)
        return True

    def _permits(self, packet: Packet, side: str) -> bool:
        headers = Headers.of(packet)
        inside = side == "inside"
        for match, permits in self.rules.outbound if inside else self.rules.inbound:
            if meets(match, headers):
                return permits
        return inside and self.rules.default_permits

    def _live(self, flow: ConnectionKey, now_us: int) -> _Connection | None:
        """The connection unless its time is over; then it is forgotten."""
        connection = self._connections.get(flow)
        if connection is None:
            return None
        if now_us - connection.used_us < self._timeout_us(flow, connection):
            return connection
        self._connections.remove(flow)
        return None

    def _timeout_us(self, flow: ConnectionKey, connection: _Connection) -> int:
        rules = self.rules
        if flow.protocol == UDP:
            return rules.udp_us
        if flow.protocol != TCP:
            return rules.icmp_us
        return rules.tcp_established_us if connection.established else rules.tcp_transitory_us

    def _remember_fragment(self, packet: Packet, side: str, now_us: int) -> None:
        key = _fragment_key(packet, side)
        fragment = self._fragments.get(key)
        if fragment is None:
            inside = packet.src if side == "inside" else packet.dst
            self._fragments.add(key, [now_us], source_of(packet.version, inside))
        else:
            fragment[0] = now_us
            self._fragments.refresh(key)


def _fragment_key(packet: Packet, side: str) -> tuple[object, ...]:
    return side, packet.version, packet.src, packet.dst, packet.identification, packet.protocol


def _flow(packet: Packet, side: str) -> ConnectionKey | None:
    """The flow of a packet with ports or of an echo; None of any other."""
    version, protocol = packet.version, packet.protocol or 0
    if packet.has_ports:
        ends = packet.src, packet.src_port or 0, packet.dst, packet.dst_port or 0
        return ConnectionKey.between(side, version, protocol, ends, "")
    number = packet.icmp_id
    if number is None:
        return None
    asks = packet.icmp_type == ECHO_REQUESTS[version]
    ends = packet.src, number, packet.dst, number
    return ConnectionKey.between(side, version, protocol, ends, side if asks else _OTHER[side])


def _quoted_flow(packet: Packet, side: str) -> ConnectionKey | None:
    """The flow of what an ICMP error quotes, if the error goes to whoever sent that."""
    back = _OTHER[side]
    version = packet.version
    if version == 4:
        if not packet.quotes_l4:
            return None
        protocol, source, target = packet.quoted_protocol, packet.quoted_src, packet.quoted_dst
        start = packet.layout.quoted_l4
    else:
        quoted = packet.layout.quoted
        start = quoted + 40
        protocol = packet.data[quoted + 6]
        source = int.from_bytes(packet.data[quoted + 8 : quoted + 24], "big")
        target = int.from_bytes(packet.data[quoted + 24 : quoted + 40], "big")
    quoted_l4 = packet.data[start : start + 8]
    if len(quoted_l4) < 8 or source != packet.dst:
        return None
    first, second = (int.from_bytes(quoted_l4[i : i + 2], "big") for i in (0, 2))
    if protocol in (TCP, UDP):
        return ConnectionKey.between(back, version, protocol, (source, first, target, second), "")
    kind, number = quoted_l4[0], int.from_bytes(quoted_l4[4:6], "big")
    echo = (ECHO_REQUESTS[version], ECHO_REPLIES[version])
    if protocol != (ICMP if version == 4 else ICMPV6) or kind not in echo:
        return None
    asker = back if kind == ECHO_REQUESTS[version] else side
    return ConnectionKey.between(back, version, protocol, (source, number, target, number), asker)

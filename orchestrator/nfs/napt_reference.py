"""The reference semantics of napt: mappings with explicit state, by the clauses of the RFCs.

RFC 4787 (UDP: REQ-1 endpoint-independent mapping, REQ-5 timers, REQ-8 filtering), RFC 5382 (TCP timers),
RFC 5508 (ICMP queries and errors). No hairpinning (RFC 4787 REQ-9): the architecture does not ask it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

from orchestrator.model.headers import ICMP, ICMP_ERRORS, TCP, UDP
from orchestrator.model.match import PortRange
from orchestrator.model.packet import Packet
from orchestrator.nfs.base import Environment, Output, Reference
from orchestrator.nfs.fair_table_reference import FairTable, source_of
from orchestrator.nfs.fragments_reference import FollowingFragments, datagram_of
from orchestrator.nfs.tcp_acceptance_reference import TcpConnection, Verdict

MAX_SESSIONS, MAX_SESSIONS_OF_MAPPING = 65_536, 4096
ECHO_REPLY, ECHO_REQUEST = 0, 8

Peer = tuple[int, int]
"""(address, port or ICMP id)."""


@dataclass(frozen=True, slots=True)
class NaptRules:
    """The config in numbers; times in microseconds."""

    addresses: tuple[int, ...]
    ports: PortRange
    filtering: str
    max_mappings: int | None
    """Of one protocol and inside address; None: by the number of ports."""
    ipv6_passes: bool
    udp_us: int
    tcp_established_us: int
    tcp_transitory_us: int
    icmp_us: int


@dataclass(slots=True)
class _Mapping:
    """One inside (address, port or id) seen outside as `external`; `peers` it has sent to."""

    protocol: int
    inside: Peer
    external: Peer
    used_us: int = 0
    peers: set[Peer] = field(default_factory=set[Peer])
    remotes: list[Peer] = field(default_factory=list[Peer])
    """Whose TCP connections are followed, the first to begin in front."""


class NaptReference(Reference):
    """One napt instance that owns its whole pool."""

    def __init__(self, rules: NaptRules) -> None:
        self.rules = rules
        self._limit = rules.max_mappings or fair_limit(rules.ports.high - rules.ports.low + 1)
        self._by_inside: dict[tuple[int, Peer], _Mapping] = {}
        self._by_external: dict[tuple[int, Peer], _Mapping] = {}
        self._sessions = FairTable[tuple[Peer, Peer], TcpConnection](MAX_SESSIONS)
        """TCP connections that are followed, by inside and remote end."""
        self._fragments = FollowingFragments()

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        left = "outside" if port == "inside" else "inside"
        if packet.version == 6:
            return ((left, packet),) if self.rules.ipv6_passes else ()
        if packet.version != 4 or packet.protocol not in (TCP, UDP, ICMP):
            return ()
        if port == "outside" and packet.dst not in self.rules.addresses:
            return ()
        if packet.later_fragment:
            address = self._fragments.later(packet, port, env.now_us)
            return () if address is None else ((left, _readdressed(packet, port, address)),)
        datagram, inside = datagram_of(packet, port), packet.src
        if packet.protocol == ICMP and packet.icmp_type in ICMP_ERRORS:
            passes = self._error(packet, port, env.now_us)
        elif port == "inside":
            passes = self._outbound(packet, env.now_us)
        else:
            passes = self._inbound(packet, env.now_us)
        if not passes:
            return ()
        later: Sequence[Packet] = ()
        if packet.more_fragments:
            new = packet.src if port == "inside" else packet.dst
            owner = source_of(4, inside if port == "inside" else new)
            later = self._fragments.first(datagram, new, owner, env.now_us)
            later = [_readdressed(fragment, port, new) for fragment in later]
        return [(left, fragment) for fragment in (packet, *later)]

    # From inside

    def _outbound(self, packet: Packet, now_us: int) -> bool:
        protocol = packet.protocol or 0
        if protocol == ICMP and packet.icmp_type != ECHO_REQUEST:
            return False
        own = packet.icmp_id if protocol == ICMP else packet.src_port
        peer = (packet.dst, 0 if protocol == ICMP else packet.dst_port or 0)
        inside = (packet.src, own or 0)
        has_mapping = self._live(self._by_inside.get((protocol, inside)), now_us)
        verdict, session = self._judge(packet, has_mapping, inside, peer, "inside")
        counts = verdict != Verdict.REFUSED
        mapping = has_mapping or (self._mapping(protocol, inside, now_us) if counts else None)
        if mapping is None:
            return False
        if counts:
            mapping.peers.add(peer)
            mapping.used_us = now_us
            self._settle(mapping, session, verdict, peer, "inside")
        address, port = mapping.external
        if protocol == ICMP:
            packet.rewrite(src=address, icmp_id=port)
        else:
            packet.rewrite(src=address, src_port=port)
        return True

    def _mapping(self, protocol: int, inside: Peer, now_us: int) -> _Mapping | None:
        """A new mapping of an inside endpoint.

        None: no port is free, or the inside address has as many as it may (RFC 6888, REQ-4).
        """
        own = [
            m
            for m in self._by_inside.values()
            if (m.protocol, m.inside[0]) == (protocol, inside[0])
        ]
        if sum(self._live(mapping, now_us) is not None for mapping in own) >= self._limit:
            return None
        pool = self.rules.addresses
        address = pool[inside[0] % len(pool)]
        low, high = self.rules.ports.low, self.rules.ports.high
        first = inside[1] if low <= inside[1] <= high else low
        for port in chain(range(first, high + 1), range(low, first)):
            external = (address, port)
            if self._live(self._by_external.get((protocol, external)), now_us) is None:
                mapping = _Mapping(protocol, inside, external)
                self._by_inside[protocol, inside] = mapping
                self._by_external[protocol, external] = mapping
                return mapping
        return None

    # From outside

    def _inbound(self, packet: Packet, now_us: int) -> bool:
        protocol = packet.protocol or 0
        if protocol == ICMP and packet.icmp_type != ECHO_REPLY:
            return False
        own = packet.icmp_id if protocol == ICMP else packet.dst_port
        peer = (packet.src, 0 if protocol == ICMP else packet.src_port or 0)
        mapping = self._live(self._by_external.get((protocol, (packet.dst, own or 0))), now_us)
        if mapping is None or not self._admits(mapping, peer):
            return False
        verdict, session = self._judge(packet, mapping, mapping.inside, peer, "outside")
        if verdict != Verdict.REFUSED:
            self._settle(mapping, session, verdict, peer, "outside")
        first_of_tcp = packet.is_tcp and packet.more_fragments
        if verdict in (Verdict.ACCEPTED, Verdict.BEGINS) and not first_of_tcp:
            mapping.used_us = now_us
        address, port = mapping.inside
        if protocol == ICMP:
            packet.rewrite(dst=address, icmp_id=port)
        else:
            packet.rewrite(dst=address, dst_port=port)
        return True

    def _admits(self, mapping: _Mapping, peer: Peer) -> bool:
        """RFC 4787 REQ-8."""
        if self.rules.filtering == "endpoint_independent":
            return True
        if self.rules.filtering == "address_dependent":
            return any(address == peer[0] for address, _ in mapping.peers)
        return peer in mapping.peers

    # ICMP errors (RFC 5508, 4): they neither refresh nor end a mapping

    def _error(self, packet: Packet, port: str, now_us: int) -> bool:
        if not packet.quotes_l4:
            return False
        protocol = packet.quoted_protocol
        if protocol == ICMP and packet.quoted_icmp_type not in (ECHO_REPLY, ECHO_REQUEST):
            return False
        source_port, target_port = packet.quoted_ports
        if port == "inside":
            inside = (packet.quoted_dst, target_port)
            mapping = self._live(self._by_inside.get((protocol, inside)), now_us)
            if mapping is None:
                return False
            packet.rewrite_quoted(dst=mapping.external[0], port=mapping.external[1])
            packet.rewrite(src=mapping.external[0])
            return True
        external = (packet.quoted_src, source_port)
        mapping = self._live(self._by_external.get((protocol, external)), now_us)
        # What it quotes was sent to the peer, so the peer is judged, not the router that complains.
        peer = (packet.quoted_dst, 0 if protocol == ICMP else target_port)
        if mapping is None or not self._admits(mapping, peer):
            return False
        packet.rewrite_quoted(src=mapping.inside[0], port=mapping.inside[1])
        packet.rewrite(dst=mapping.inside[0])
        return True

    # TCP connections (RFC 5382, 4 and REQ-5)

    def _judge(
        self, packet: Packet, mapping: _Mapping | None, inside: Peer, remote: Peer, side: str
    ) -> tuple[Verdict, TcpConnection | None]:
        """What the receiver makes of a packet; with the connection of a whole segment."""
        if not packet.is_tcp or packet.more_fragments:
            return Verdict.ACCEPTED, None
        session = self._sessions.get((inside, remote)) if mapping is not None else None
        if session is None:
            session = TcpConnection("inside", "outside")
        return session.judge(packet, side), session

    def _settle(
        self,
        mapping: _Mapping,
        session: TcpConnection | None,
        verdict: Verdict,
        remote: Peer,
        side: str,
    ) -> None:
        if session is None:
            return
        key = mapping.inside, remote
        if self._sessions.get(key) is session:
            self._sessions.refresh(key)
            self._sessions.establish(key, session.is_established)
        elif verdict in (Verdict.ACCEPTED, Verdict.BEGINS):
            followed = self._followed(mapping)
            if len(followed) >= MAX_SESSIONS_OF_MAPPING:
                if side == "outside":
                    return
                self._sessions.remove((mapping.inside, followed[0]))
            mapping.remotes = [*self._followed(mapping), remote]
            self._sessions.add(key, session, source_of(4, mapping.inside[0]))

    def _followed(self, mapping: _Mapping) -> list[Peer]:
        """The remotes whose connections have not had to go for others."""
        return [r for r in mapping.remotes if self._sessions.get((mapping.inside, r)) is not None]

    # Time

    def _live(self, mapping: _Mapping | None, now_us: int) -> _Mapping | None:
        """The mapping unless it has expired; then it is forgotten."""
        if mapping is None or now_us - mapping.used_us < self._timeout_us(mapping):
            return mapping
        for remote in self._followed(mapping):
            self._sessions.remove((mapping.inside, remote))
        del self._by_inside[mapping.protocol, mapping.inside]
        del self._by_external[mapping.protocol, mapping.external]
        return None

    def _timeout_us(self, mapping: _Mapping) -> int:
        if mapping.protocol == UDP:
            return self.rules.udp_us
        if mapping.protocol == ICMP:
            return self.rules.icmp_us
        rules = self.rules
        sessions = [self._sessions.get((mapping.inside, r)) for r in self._followed(mapping)]
        established = any(s is not None and s.is_established for s in sessions)
        return rules.tcp_established_us if established else rules.tcp_transitory_us


def fair_limit(ports: int) -> int:
    """Mappings that an inside address may have when nothing is said: a sixteenth of the ports.

    Where there are few, 64 of them or half.
    """
    return max(1, min(64, ports // 2), ports // 16)


def _readdressed(fragment: Packet, port: str, address: int) -> Packet:
    """A later fragment with the address that its first got."""
    if port == "inside":
        fragment.rewrite(src=address)
    else:
        fragment.rewrite(dst=address)
    return fragment

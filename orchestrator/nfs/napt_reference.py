"""The reference semantics of napt: mappings with explicit state, by the clauses of the RFCs.

RFC 4787 (UDP: REQ-1 endpoint-independent mapping, REQ-5 timers, REQ-8 filtering), RFC 5382 (TCP timers),
RFC 5508 (ICMP queries and errors). No hairpinning (RFC 4787 REQ-9): the architecture does not ask it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

from orchestrator.model.match import PortRange
from orchestrator.model.packet import FIN, ICMP, ICMP_ERRORS, RST, SYN, TCP, UDP, Packet
from orchestrator.nfs.base import Environment, Output, Reference

FRAGMENT_US = 30_000_000
MAX_FRAGMENTS = 4096
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
    data_from: set[str] = field(default_factory=set[str])
    """Sides that have sent a TCP packet without SYN or RST since the last start."""
    fin_from: set[str] = field(default_factory=set[str])

    def observe_tcp(self, side: str, flags: int) -> None:
        """RFC 5382, 4 and REQ-5: follow the connection as far as the timers need it."""
        if flags & RST or (flags & SYN and len(self.fin_from) == 2):
            self.data_from.clear()
            self.fin_from.clear()
        if not flags & (SYN | RST):
            self.data_from.add(side)
        if flags & FIN:
            self.fin_from.add(side)

    @property
    def established(self) -> bool:
        """Data has come from both sides, and not yet FINs."""
        return len(self.data_from) == 2 and len(self.fin_from) < 2


class NaptReference(Reference):
    """One napt instance that owns its whole pool."""

    def __init__(self, rules: NaptRules) -> None:
        self.rules = rules
        self._limit = rules.max_mappings or fair_limit(rules.ports.high - rules.ports.low + 1)
        self._by_inside: dict[tuple[int, Peer], _Mapping] = {}
        self._by_external: dict[tuple[int, Peer], _Mapping] = {}
        # (source, destination, id, protocol) of a first fragment -> (the new address, when)
        self._fragments: OrderedDict[tuple[int, int, int, int], tuple[int, int]] = OrderedDict()

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        left = "outside" if port == "inside" else "inside"
        if packet.version == 6:
            return ((left, packet),) if self.rules.ipv6_passes else ()
        if packet.version != 4 or packet.protocol not in (TCP, UDP, ICMP):
            return ()
        if port == "outside" and packet.dst not in self.rules.addresses:
            return ()
        if packet.later_fragment:
            passes = self._follow_fragment(packet, port, env.now_us)
        else:
            key = _fragment_key(packet)
            if packet.protocol == ICMP and packet.icmp_type in ICMP_ERRORS:
                passes = self._error(packet, port, env.now_us)
            elif port == "inside":
                passes = self._outbound(packet, env.now_us)
            else:
                passes = self._inbound(packet, env.now_us)
            if passes and packet.more_fragments:
                self._remember_fragment(key, packet, port, env.now_us)
        return ((left, packet),) if passes else ()

    # From inside

    def _outbound(self, packet: Packet, now_us: int) -> bool:
        protocol = packet.protocol or 0
        if protocol == ICMP and packet.icmp_type != ECHO_REQUEST:
            return False
        own = packet.icmp_id if protocol == ICMP else packet.src_port
        peer = (packet.dst, 0 if protocol == ICMP else packet.dst_port or 0)
        mapping = self._mapping(protocol, (packet.src, own or 0), now_us)
        if mapping is None:
            return False
        mapping.peers.add(peer)
        self._use(mapping, packet, "inside", now_us)
        address, port = mapping.external
        if protocol == ICMP:
            packet.rewrite(src=address, icmp_id=port)
        else:
            packet.rewrite(src=address, src_port=port)
        return True

    def _mapping(self, protocol: int, inside: Peer, now_us: int) -> _Mapping | None:
        """The mapping of an inside endpoint, made when there is none.

        None: no port is free, or the inside address has as many as it may (RFC 6888, REQ-4).
        """
        found = self._live(self._by_inside.get((protocol, inside)), now_us)
        if found is not None:
            return found
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
        self._use(mapping, packet, "outside", now_us)
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

    # Fragments

    def _remember_fragment(
        self, key: tuple[int, int, int, int], packet: Packet, port: str, now_us: int
    ) -> None:
        self._fragments.pop(key, None)
        self._fragments[key] = (packet.src if port == "inside" else packet.dst, now_us)
        if len(self._fragments) > MAX_FRAGMENTS:
            self._fragments.popitem(last=False)

    def _follow_fragment(self, packet: Packet, port: str, now_us: int) -> bool:
        known = self._fragments.get(_fragment_key(packet))
        if known is None or now_us - known[1] >= FRAGMENT_US:
            return False
        if port == "inside":
            packet.rewrite(src=known[0])
        else:
            packet.rewrite(dst=known[0])
        return True

    # Time

    def _use(self, mapping: _Mapping, packet: Packet, side: str, now_us: int) -> None:
        """Both directions refresh (RFC 4787 REQ-6)."""
        mapping.used_us = now_us
        if packet.tcp_flags is not None:
            mapping.observe_tcp(side, packet.tcp_flags)

    def _live(self, mapping: _Mapping | None, now_us: int) -> _Mapping | None:
        """The mapping unless it has expired; then it is forgotten."""
        if mapping is None or now_us - mapping.used_us < self._timeout_us(mapping):
            return mapping
        del self._by_inside[mapping.protocol, mapping.inside]
        del self._by_external[mapping.protocol, mapping.external]
        return None

    def _timeout_us(self, mapping: _Mapping) -> int:
        if mapping.protocol == UDP:
            return self.rules.udp_us
        if mapping.protocol == ICMP:
            return self.rules.icmp_us
        rules = self.rules
        return rules.tcp_established_us if mapping.established else rules.tcp_transitory_us


def fair_limit(ports: int) -> int:
    """Mappings that an inside address may have when nothing is said: a sixteenth of the ports.

    Where there are few, 64 of them or half.
    """
    return max(1, min(64, ports // 2), ports // 16)


def _fragment_key(packet: Packet) -> tuple[int, int, int, int]:
    return packet.src, packet.dst, packet.identification or 0, packet.protocol or 0

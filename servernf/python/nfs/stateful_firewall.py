"""Stateful firewall: rules say who may open a connection, what belongs to one passes.

Both sides' packets of a connection meet in one table. Inside addresses share it: when it is full, a
connection goes that is not established TCP, of the address with most of them. Connections expire
lazily, when they are looked up. TCP segments that the receiver would ignore change nothing and are
dropped (`servernf.python.tcp_acceptance`).

Another configuration goes on with the connections: rules judge what is opened from then on, timeouts
count from the last packet, whichever configuration it met.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from servernf.python.fair_table import FairEntry, FairTable
from servernf.python.flow_keys import (
    FLOW,
    FLOW_KEY_BYTES,
    FRAGMENT_KEY_BYTES,
    ends,
    flow_key,
    flow_of_fragment,
    flow_of_key,
    fragment_key,
    host_of,
)
from servernf.python.match import Headers, MatchCondition
from servernf.python.network_function import INSIDE, OTHER, NetworkFunction, network_function
from servernf.python.packet import (
    ICMP,
    ICMP_ECHO_REPLY,
    ICMP_ECHO_REQUEST,
    ICMP_ERRORS,
    ICMPV6,
    TCP,
    UDP,
    PacketView,
    quotes_l4,
)
from servernf.python.state import EntryKind
from servernf.python.tables import RecordFlow
from servernf.python.tcp_acceptance import (
    ACCEPTED,
    ACK,
    BEGINS,
    FIN,
    REFUSED,
    RESET,
    RST,
    SYN,
    Side,
    accept_packet,
    is_established,
    is_intact,
    is_open,
    is_over,
    side_fields,
    side_problem,
)
from servernf.wire.fields import Fields
from servernf.wire.state import RecordField

FRAGMENT_TIMEOUT_US = 30_000_000
MAX_FRAGMENTS = 4096

_ECHO = {
    4: (ICMP, ICMP_ECHO_REQUEST, ICMP_ECHO_REPLY),
    6: (ICMPV6, 128, 129),
}
_ERRORS = {4: ICMP_ERRORS, 6: frozenset((1, 2, 3, 4))}
_ACTIONS = ("deny", "permit")
ESTABLISHED_TCP = 256
"""A connection's kind is TCP, this, UDP, or ICMP for all echoes; each has a timeout."""


_NO_SIDE = Side()
"""Of what is not TCP."""


class _Connection(FairEntry):
    __slots__ = ("inside", "kind", "outside", "used_us")

    def __init__(self, kind: int = TCP) -> None:
        self.kind = kind
        self.used_us = 0
        self.inside = self.outside = _NO_SIDE
        if kind == TCP:
            self.inside, self.outside = Side(), Side()


class _Fragment(FairEntry):
    __slots__ = ("expires_us",)

    def __init__(self) -> None:
        self.expires_us = 0


def _flow(key: bytes, _record: object) -> RecordFlow:
    return flow_of_key(key if len(key) % 2 else key[:-1])  # an echo's says who asks, too


def _fragment_flow(key: bytes, _record: object) -> RecordFlow:
    return flow_of_fragment(key)


_CONNECTIONS = EntryKind(
    "connections",
    _Connection,
    (
        RecordField("kind", "u16"),
        RecordField("used_us", "age"),
        *side_fields("inside"),
        *side_fields("outside"),
    ),
    key_sizes=(*FLOW_KEY_BYTES, *(size + 1 for size in FLOW_KEY_BYTES)),
    flow_of=_flow,
    looks_at=FLOW,
)
_FRAGMENTS = EntryKind(
    "fragments",
    _Fragment,
    (RecordField("expires_us", "age"),),
    key_sizes=FRAGMENT_KEY_BYTES,
    flow_of=_fragment_flow,
    looks_at=("inside", "outside", "protocol"),
)


@network_function("stateful_firewall")
class StatefulFirewall(NetworkFunction):
    """Passes what a side may open, and what belongs to it."""

    _connections: FairTable[_Connection]
    _fragments: FairTable[_Fragment]

    def setup(self, config: Fields) -> None:
        self.rules = {
            True: _rules(config, "rules"),
            False: _rules(config, "inbound_rules"),
        }
        permits = config.choice("default", _ACTIONS, "deny") == "permit"
        self.default = {True: permits, False: False}
        self.non_ip_passes = config.choice("non_ip", ("drop", "pass"), "drop") == "pass"
        self.most_connections = config.integer("max_connections", 1, 1 << 20, 65_536)
        timeouts = config.object("timeouts_s")
        self.timeouts_us = {
            UDP: timeouts.seconds("udp", 60),
            ESTABLISHED_TCP: timeouts.seconds("tcp_established", 7440),
            TCP: timeouts.seconds("tcp_transitory", 60),
            ICMP: timeouts.seconds("icmp", 30),
        }
        timeouts.only_known()
        connections = FairTable[_Connection](self.most_connections)
        self.state.declare("_connections", _CONNECTIONS, connections)
        self.state.declare("_fragments", _FRAGMENTS, FairTable[_Fragment](MAX_FRAGMENTS))
        self.state.counts |= {"opened": 0}

    def problems(self, new: Mapping[str, Mapping[Any, Any]], *, whole: bool) -> Iterable[str]:
        for key, connection in new[_CONNECTIONS.layout.table].items():
            problem = side_problem(connection.inside) or side_problem(connection.outside)
            if connection.kind not in self.timeouts_us:
                problem = f"kind must be one of {[*self.timeouts_us]}, not {connection.kind}"
            if problem:
                yield f"connections {key.hex()}: {problem}"
            if connection.kind in (UDP, ICMP):
                connection.inside = connection.outside = _NO_SIDE

    def metrics(self) -> dict[str, int]:
        return {
            "connections": len(self._connections),
            **self.state.counts,
            "evicted": self._connections.evicted,
            "fragments": len(self._fragments),
        }

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        if not packet.version:
            return OTHER[port] if self.non_ip_passes else self.drop("not_ip")
        inside = port == INSIDE
        if packet.later_fragment:
            fragment = self._fragments.get(fragment_key(packet, port))
            passes = fragment is not None and now_us < fragment.expires_us
            return OTHER[port] if passes else self.drop("fragment")
        if not self._passes(packet, inside, now_us):
            return None
        if packet.first_fragment:
            self._remember_fragment(packet, port, now_us)
        return OTHER[port]

    def _passes(self, packet: PacketView, inside: bool, now_us: int) -> bool:
        """Whether it passes; what does not is counted."""
        if packet.source_port >= 0:
            key = flow_key(packet, inside=inside)
            if packet.protocol == TCP:
                return self._tcp_passes(packet, key, inside, now_us)
            kind, opens = UDP, True
        else:
            protocol, request, reply = _ECHO[packet.version]
            message = packet.data[packet.l4] if packet.protocol == protocol else -1
            if message in _ERRORS[packet.version]:
                return self._error_passes(packet, inside, now_us)
            if message not in (request, reply):
                return self._permits(packet, inside)
            kind, opens = ICMP, message == request
            key = _echo_key(packet, inside, inside == opens)
        connection = self._find(key, now_us)
        if connection is None:
            if not opens:
                self.drop("no_connection")
                return False
            if not self._permits(packet, inside):
                return False
            return self._open(key, _Connection(kind), now_us)
        self._connections.refresh(connection)
        connection.used_us = now_us
        return True

    # TCP.

    def _tcp_passes(self, packet: PacketView, key: bytes, inside: bool, now_us: int) -> bool:
        connection = self._find(key, now_us)
        # Whether a fragmented one is intact is known to the receiver only.
        if packet.first_fragment or not is_intact(packet):
            if connection is None:
                self.drop("no_connection")
            return connection is not None
        flags = packet.data[packet.l4 + 13] & (FIN | SYN | RST | ACK)
        if flags == SYN and (connection is None or is_open(connection.inside, connection.outside)):
            if not self._permits(packet, inside):
                return False
        elif connection is None:
            self.drop("no_connection")
            return False
        is_new = connection is None
        if connection is None:
            connection = _Connection(TCP)
        one, other = connection.inside, connection.outside
        if not inside:
            one, other = other, one
        was_over = is_over(one, other)
        verdict = accept_packet(one, other, packet)
        if verdict == REFUSED:
            return True  # the receiver ignores it, too
        if is_new:
            return self._open(key, connection, now_us)
        counts = verdict in (ACCEPTED, BEGINS)
        if counts or (was_over and flags == SYN) or (verdict == RESET and not was_over):
            connection.used_us = now_us
            self._connections.refresh(connection)
        if flags != ACK or connection.kind == TCP:
            established = is_established(one, other)
            connection.kind = ESTABLISHED_TCP if established else TCP
            self._connections.establish(connection, established)
        return True

    # Rules.

    def _permits(self, packet: PacketView, inside: bool) -> bool:
        headers = Headers.of(packet)
        permits, rule = self.default[inside], "default"
        for condition, action, name in self.rules[inside]:
            if condition.holds(headers):
                permits, rule = action, name
                break
        if not permits:
            self.drop("denied", rule)
        return permits

    # Connections.

    def _find(self, key: bytes, now_us: int) -> _Connection | None:
        connection = self._connections.get(key)
        if connection is None:
            return None
        if connection.used_us + self.timeouts_us[connection.kind] <= now_us:
            self._connections.remove(connection)
            return None
        return connection

    def _open(self, key: bytes, connection: _Connection, now_us: int) -> bool:
        """Enter what is new; whether there is room."""
        connections = self._connections
        connection.used_us = now_us
        connections.size = self.most_connections
        self.count("opened")
        gone = connections.add(key, connection, host_of(key[1 : len(key) // 2 + 1]))
        if connection in gone:
            self.drop("no_room")
            return False
        return True

    # ICMP errors: they follow what they quote, and refresh nothing (RFC 5508, REQ-6).

    def _error_passes(self, packet: PacketView, inside: bool, now_us: int) -> bool:
        key = _quoted_key(packet, inside)
        if key is None:
            self.drop("quote")
            return False
        if self._find(key, now_us) is None:
            self.drop("no_connection")
            return False
        return True

    # Fragments.

    def _remember_fragment(self, packet: PacketView, port: str, now_us: int) -> None:
        key = fragment_key(packet, port)
        fragment = self._fragments.get(key)
        if fragment is None:
            fragment = _Fragment()
            self._fragments.add(key, fragment, host_of(ends(packet)[port != INSIDE]))
        else:
            self._fragments.refresh(fragment)
        fragment.expires_us = now_us + FRAGMENT_TIMEOUT_US


def _rules(config: Fields, key: str) -> list[tuple[MatchCondition, bool, str]]:
    """Conditions, whether they permit, and their places in the configuration."""
    rules: list[tuple[MatchCondition, bool, str]] = []
    for index, item in enumerate(config.objects(key, required=False)):
        permits = item.choice("action", _ACTIONS) == "permit"
        rules.append((MatchCondition.read(item), permits, f"{key}[{index}]"))
        item.only_known()
    return rules


def _echo_key(packet: PacketView, inside: bool, inside_asks: bool) -> bytes:
    """As `flow_key`, the identifier for both ports, and who asks."""
    source, destination = ends(packet)
    number = bytes(packet.data[packet.l4 + 4 : packet.l4 + 6])
    return _of_echo(packet.protocol, source[:-2], destination[:-2], number, inside, inside_asks)


def _of_echo(
    protocol: int, source: bytes, destination: bytes, number: bytes, inside: bool, inside_asks: bool
) -> bytes:
    if not inside:
        source, destination = destination, source
    return b"%c%b%b%b%b%c" % (protocol, source, number, destination, number, inside_asks)


def _quoted_key(packet: PacketView, inside: bool) -> bytes | None:
    """The connection of the quoted packet, which the error's receiver has sent."""
    data, version = packet.data, packet.version
    quoted = packet.l4 + 8
    if version == 4:
        if not quotes_l4(data, quoted):
            return None
        protocol, at, size, l4 = data[quoted + 9], quoted + 12, 4, quoted + 20
    else:
        protocol, at, size, l4 = data[quoted + 6], quoted + 8, 16, quoted + 40
    if len(data) < l4 + 8:
        return None
    source = bytes(data[at : at + size])
    destination = bytes(data[at + size : at + 2 * size])
    if int.from_bytes(source, "big") != packet.destination:
        return None
    own, request, reply = _ECHO[version]
    if protocol in (TCP, UDP):
        source += data[l4 : l4 + 2]
        destination += data[l4 + 2 : l4 + 4]
        if inside:  # the error has entered there, so what it quotes had entered by the other side
            source, destination = destination, source
        return b"%c%b%b" % (protocol, source, destination)
    if protocol != own or data[l4] not in (request, reply):
        return None
    inside_asks = inside != (data[l4] == request)
    number = bytes(data[l4 + 4 : l4 + 6])
    return _of_echo(protocol, source, destination, number, not inside, inside_asks)

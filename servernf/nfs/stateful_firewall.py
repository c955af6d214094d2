"""Stateful firewall: rules say who may open a connection, what belongs to one passes.

Both sides' packets of a connection meet in one table, least recently refreshed first, so that the
first one goes when the table is full. Connections expire lazily, when they are looked up.

Another configuration goes on with the connections: rules judge what is opened from then on, timeouts
count from the last packet, whichever configuration it met.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Self

from servernf.config import Fields
from servernf.match import Condition, Headers
from servernf.network_function import INSIDE, OTHER, NetworkFunction, network_function
from servernf.packet import (
    ICMP,
    ICMP_ECHO_REPLY,
    ICMP_ECHO_REQUEST,
    ICMP_ERRORS,
    ICMPV6,
    IPV6_FRAGMENT,
    TCP,
    UDP,
    PacketView,
    quotes_l4,
)

FRAGMENT_TIMEOUT_US = 30_000_000
MAX_FRAGMENTS = 4096

_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
# Bits of a TCP connection's state.
_DATA_INSIDE, _DATA_OUTSIDE, _FIN_INSIDE, _FIN_OUTSIDE, _CLOSED = 1, 2, 4, 8, 16
_ESTABLISHED = _DATA_INSIDE | _DATA_OUTSIDE
_FINISHED = _FIN_INSIDE | _FIN_OUTSIDE
_ECHO = {
    4: (ICMP, ICMP_ECHO_REQUEST, ICMP_ECHO_REPLY),
    6: (ICMPV6, 128, 129),
}
_ERRORS = {4: ICMP_ERRORS, 6: frozenset((1, 2, 3, 4))}
_ACTIONS = ("deny", "permit")

_Key = tuple[int, int, int, int]
"""Version, kind, inside and outside (address and port as one number). The kind is the protocol, or of
an echo 256 when inside asks and 257 when outside does."""
_FragmentKey = tuple[int, int, int, int, int]
"""Side and version, protocol, source, destination, identification."""


class _Connection:
    __slots__ = ("tcp", "used_us")

    def __init__(self) -> None:
        self.used_us = 0
        self.tcp = 0


@network_function("stateful_firewall")
class StatefulFirewall(NetworkFunction):
    """Passes what a side may open, and what belongs to it."""

    def setup(self, config: Fields) -> None:
        self._rules = {
            True: _rules(config, "rules"),
            False: _rules(config, "inbound_rules"),
        }
        permits = config.choice("default", _ACTIONS, "deny") == "permit"
        self._default = {True: permits, False: False}
        self._non_ip_passes = config.choice("non_ip", ("drop", "pass"), "drop") == "pass"
        self._max_connections = config.integer("max_connections", 1, 1 << 20, 65_536)
        timeouts = config.object("timeouts_s")
        self._udp_us = timeouts.seconds("udp", 60)
        self._established_us = timeouts.seconds("tcp_established", 3600)
        self._transitory_us = timeouts.seconds("tcp_transitory", 60)
        self._icmp_us = timeouts.seconds("icmp", 30)
        timeouts.only_known()
        self._connections: OrderedDict[_Key, _Connection] = OrderedDict()
        self._fragments: OrderedDict[_FragmentKey, int] = OrderedDict()
        self._counts = {"opened": 0, "evicted": 0}

    def continue_from(self, before: Self) -> bool:
        self._connections, self._fragments = before._connections, before._fragments
        self._counts = before._counts
        return True

    def metrics(self) -> dict[str, int]:
        return {
            "connections": len(self._connections),
            **self._counts,
            "fragments": len(self._fragments),
        }

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        if not packet.version:
            return OTHER[port] if self._non_ip_passes else self.drop("not_ip")
        inside = port == INSIDE
        if packet.later_fragment:
            expires_us = self._fragments.get(_fragment_key(packet, inside), 0)
            return OTHER[port] if now_us < expires_us else self.drop("fragment")
        if not self._passes(packet, inside, now_us):
            return None
        if packet.first_fragment:
            self._remember_fragment(packet, inside, now_us)
        return OTHER[port]

    def _passes(self, packet: PacketView, inside: bool, now_us: int) -> bool:
        """Whether it passes; what does not is counted."""
        flags = 0
        if packet.source_port >= 0:
            kind = packet.protocol
            source_port, destination_port = packet.source_port, packet.destination_port
            if kind == TCP:
                flags = packet.data[packet.l4 + 13]
                opens = flags & (_SYN | _ACK | _FIN | _RST) == _SYN
            else:
                opens = True
        else:
            protocol, request, reply = _ECHO[packet.version]
            message = packet.data[packet.l4] if packet.protocol == protocol else -1
            if message in _ERRORS[packet.version]:
                return self._error_passes(packet, inside, now_us)
            if message not in (request, reply):
                return self._permits(packet, inside)
            opens = message == request
            kind = 256 if inside == opens else 257
            l4 = packet.l4
            source_port = destination_port = packet.data[l4 + 4] << 8 | packet.data[l4 + 5]
        source = packet.source << 16 | source_port
        destination = packet.destination << 16 | destination_port
        key: _Key = (
            (packet.version, kind, source, destination)
            if inside
            else (packet.version, kind, destination, source)
        )
        connection = self._find(key, now_us)
        if connection is None or (opens and connection.tcp & _CLOSED):
            if not opens:
                self.drop("no_connection")
                return False
            if not self._permits(packet, inside):
                return False
            connection = self._open(key, connection)
        if connection.tcp & _CLOSED:
            return True
        self._connections.move_to_end(key)
        connection.used_us = now_us
        if kind == TCP:
            _follow_tcp(connection, flags, inside)
        return True

    # Rules.

    def _permits(self, packet: PacketView, inside: bool) -> bool:
        headers = Headers.of(packet)
        permits = self._default[inside]
        for condition, action in self._rules[inside]:
            if condition.holds(headers):
                permits = action
                break
        if not permits:
            self.drop("denied")
        return permits

    # Connections.

    def _find(self, key: _Key, now_us: int) -> _Connection | None:
        connection = self._connections.get(key)
        if connection is None:
            return None
        kind = key[1]
        if kind == TCP:
            established = connection.tcp & (_ESTABLISHED | _CLOSED) == _ESTABLISHED
            idle_us = self._established_us if established else self._transitory_us
        else:
            idle_us = self._udp_us if kind == UDP else self._icmp_us
        if connection.used_us + idle_us <= now_us:
            del self._connections[key]
            return None
        return connection

    def _open(self, key: _Key, closed: _Connection | None) -> _Connection:
        connections = self._connections
        while closed is None and len(connections) >= self._max_connections:
            connections.popitem(last=False)
            self._counts["evicted"] += 1
        connection = connections[key] = _Connection()
        self._counts["opened"] += 1
        return connection

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

    def _remember_fragment(self, packet: PacketView, inside: bool, now_us: int) -> None:
        key = _fragment_key(packet, inside)
        fragments = self._fragments
        fragments[key] = now_us + FRAGMENT_TIMEOUT_US
        fragments.move_to_end(key)
        if len(fragments) > MAX_FRAGMENTS:
            fragments.popitem(last=False)


def _follow_tcp(connection: _Connection, flags: int, inside: bool) -> None:
    state = connection.tcp
    if not flags & (_SYN | _RST):
        state |= _DATA_INSIDE if inside else _DATA_OUTSIDE
    if flags & _FIN:
        state |= _FIN_INSIDE if inside else _FIN_OUTSIDE
    if flags & _RST or state & _FINISHED == _FINISHED:
        state |= _CLOSED
    connection.tcp = state


def _rules(config: Fields, key: str) -> list[tuple[Condition, bool]]:
    rules: list[tuple[Condition, bool]] = []
    for item in config.objects(key, required=False):
        permits = item.choice("action", _ACTIONS) == "permit"
        rules.append((Condition.read(item), permits))
        item.only_known()
    return rules


def _fragment_key(packet: PacketView, inside: bool) -> _FragmentKey:
    identification = packet.identification
    if packet.version == 6:
        at = packet.l3 + 44  # in the fragment header, which stands directly behind the IPv6 header
        assert packet.data[packet.l3 + 6] == IPV6_FRAGMENT
        identification = int.from_bytes(packet.data[at : at + 4], "big")
    side = packet.version << 1 | inside
    return side, packet.protocol, packet.source, packet.destination, identification


def _quoted_key(packet: PacketView, inside: bool) -> _Key | None:
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
    source = int.from_bytes(data[at : at + size], "big")
    destination = int.from_bytes(data[at + size : at + 2 * size], "big")
    if source != packet.destination:
        return None
    own, request, reply = _ECHO[version]
    if protocol in (TCP, UDP):
        kind = protocol
        source_port = data[l4] << 8 | data[l4 + 1]
        destination_port = data[l4 + 2] << 8 | data[l4 + 3]
    elif protocol == own and data[l4] in (request, reply):
        # The error has entered by one side, so what it quotes had entered by the other.
        kind = 257 if inside == (data[l4] == request) else 256
        source_port = destination_port = data[l4 + 4] << 8 | data[l4 + 5]
    else:
        return None
    source = source << 16 | source_port
    destination = destination << 16 | destination_port
    if inside:
        return version, kind, destination, source
    return version, kind, source, destination

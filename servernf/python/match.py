"""A condition on headers ("Match keys" in docs/functions), as server NFs evaluate it."""

from __future__ import annotations

from dataclasses import dataclass

from servernf.python.flow_keys import keyed_hash
from servernf.python.packet import ICMP, ICMPV6, TCP, UDP, PacketView
from servernf.wire.fields import Fields

_PROTOCOLS = {"tcp": TCP, "udp": UDP, "icmp": ICMP, "icmpv6": ICMPV6}
_ANY_PORT = (0, 0xFFFF)
UNTAGGED = 4096


@dataclass(frozen=True, slots=True)
class Headers:
    """What a condition can ask of a packet; hashable, so that answers can be cached.

    `ports` and `icmp` (type, code) are empty and `tcp_flags` -1 where the packet has none.
    """

    ether_type: int
    version: int
    source: int
    destination: int
    protocol: int
    ports: tuple[int, int] | tuple[()]
    tcp_flags: int
    later_fragment: bool
    icmp: tuple[int, int] | tuple[()]
    vlan: int
    """Of the outermost tag; UNTAGGED where there is none."""

    def __hash__(self) -> int:
        return keyed_hash(
            self.source, self.destination, self.protocol, self.tcp_flags, *self.ports, *self.icmp
        )

    @classmethod
    def of(cls, packet: PacketView) -> Headers:
        """The headers of a packet."""
        has_ports = packet.source_port >= 0
        tcp = has_ports and packet.protocol == TCP
        icmp = packet.protocol == (ICMP if packet.version == 4 else ICMPV6) and packet.l4 > 0
        return cls(
            packet.ether_type,
            packet.version,
            packet.source,
            packet.destination,
            packet.protocol,
            (packet.source_port, packet.destination_port) if has_ports else (),
            packet.data[packet.l4 + 13] if tcp else -1,
            packet.later_fragment,
            (packet.data[packet.l4], packet.data[packet.l4 + 1]) if icmp else (),
            UNTAGGED if packet.l3 == 14 else (packet.data[14] << 8 | packet.data[15]) & 0xFFF,
        )


@dataclass(frozen=True, slots=True)
class MatchCondition:
    """Conjunction; None asks nothing. Prefixes are (version, shift, first bits)."""

    ether_type: int | None
    version: int | None
    source: tuple[int, int, int] | None
    destination: tuple[int, int, int] | None
    protocol: int | None
    source_port: tuple[int, int] | None
    destination_port: tuple[int, int] | None
    tcp_flags: tuple[int, int] | None
    later_fragment: bool | None
    icmp_type: int | None
    icmp_code: int | None
    vlan: int | None

    @classmethod
    def read(cls, fields: Fields) -> MatchCondition:
        """From the match keys of a JSON object (its other keys are left to the caller)."""
        return cls(
            _ether_type(fields),
            fields.integer("version", 4, 6) if fields.has("version") else None,
            _prefix(fields, "src"),
            _prefix(fields, "dst"),
            _protocol(fields),
            fields.port_range("src_port"),
            fields.port_range("dst_port"),
            _tcp_flags(fields),
            fields.boolean("later_fragment"),
            _icmp(fields, "icmp_type"),
            _icmp(fields, "icmp_code"),
            _vlan(fields),
        )

    def mirrored(self) -> MatchCondition:
        """The same with source and destination exchanged."""
        return MatchCondition(
            self.ether_type,
            self.version,
            self.destination,
            self.source,
            self.protocol,
            self.destination_port,
            self.source_port,
            self.tcp_flags,
            self.later_fragment,
            self.icmp_type,
            self.icmp_code,
            self.vlan,
        )

    def holds(self, headers: Headers) -> bool:
        """Whether a packet meets it."""
        if self.source is not None and not _within(self.source, headers.version, headers.source):
            return False
        if self.destination is not None and not _within(
            self.destination, headers.version, headers.destination
        ):
            return False
        if self.protocol is not None and headers.protocol != self.protocol:
            return False
        if self.source_port is not None or self.destination_port is not None:
            if not headers.ports:
                return False
            for wanted, port in zip(
                (self.source_port, self.destination_port), headers.ports, strict=True
            ):
                low, high = wanted or _ANY_PORT
                if not low <= port <= high:
                    return False
        for wanted, at in ((self.icmp_type, 0), (self.icmp_code, 1)):
            if wanted is not None and (not headers.icmp or headers.icmp[at] != wanted):
                return False
        if self.tcp_flags is not None:
            value, mask = self.tcp_flags
            if headers.tcp_flags < 0 or headers.tcp_flags & mask != value:
                return False
        return (
            (self.ether_type is None or headers.ether_type == self.ether_type)
            and (self.version is None or headers.version == self.version)
            and (self.later_fragment is None or headers.later_fragment == self.later_fragment)
            and (self.vlan is None or headers.vlan == self.vlan)
        )


def _within(prefix: tuple[int, int, int], version: int, address: int) -> bool:
    return version == prefix[0] and address >> prefix[1] == prefix[2]


def _prefix(fields: Fields, key: str) -> tuple[int, int, int] | None:
    network = fields.prefix(key)
    if network is None:
        return None
    shift = network.max_prefixlen - network.prefixlen
    return network.version, shift, int(network.network_address) >> shift


def _protocol(fields: Fields) -> int | None:
    value = fields.raw("protocol")
    if value is None:
        return None
    if isinstance(value, str):
        name = fields.choice("protocol", tuple(_PROTOCOLS))
        return _PROTOCOLS[name]
    return fields.integer("protocol", 0, 255)


def _icmp(fields: Fields, key: str) -> int | None:
    return fields.integer(key, 0, 255) if fields.has(key) else None


def _vlan(fields: Fields) -> int | None:
    if not fields.has("vlan"):
        return None
    return UNTAGGED if fields.raw("vlan") == "none" else fields.integer("vlan", 0, 4094)


def _number(value: object, limit: int) -> int | None:
    try:
        number = int(value, 0) if isinstance(value, str) else value
    except ValueError:
        return None
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= limit:
        return number
    return None


def _ether_type(fields: Fields) -> int | None:
    value = fields.raw("ether_type")
    if value is None:
        return None
    number = _number(value, 0xFFFF)
    if number is None:
        fields.problem("ether_type", f'must be an EtherType like "0x0806", not {value!r}')
    return number


def _tcp_flags(fields: Fields) -> tuple[int, int] | None:
    value = fields.raw("tcp_flags")
    if value is None:
        return None
    if isinstance(value, str):
        first, _, last = value.partition("/")
        flags, mask = _number(first, 0xFF), _number(last, 0xFF)
        if flags is not None and mask is not None:
            return flags & mask, mask
    fields.problem("tcp_flags", f'must be "value/mask" like "0x02/0x12", not {value!r}')
    return None

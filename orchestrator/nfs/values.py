"""Values as users write them (prefixes, ports, protocols, flags), parsed, and as pydantic field types.

The parsers are plain functions, fast enough for files of half a million lines; each raises ValueError
with a text that says what would be valid.
"""

from __future__ import annotations

import ipaddress
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from orchestrator.errors import quoted, unknown
from orchestrator.model.match import UNTAGGED, Match, PortRange, Prefix

NO_VLAN = "none"
"""In configs: frames without a VLAN tag."""
PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58}
_PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}

Address = tuple[int, int]
"""(IP version, address)."""


def parse_address(text: object) -> Address:
    """`10.0.0.1` or `2001:db8::1` as (version, number)."""
    if not isinstance(text, str):
        raise ValueError(f"{quoted(text)} is not an IP address in quotes")
    version, family = (6, AF_INET6) if ":" in text else (4, AF_INET)
    try:
        return version, int.from_bytes(inet_pton(family, text), "big")
    except (OSError, ValueError):
        raise ValueError(f"{quoted(text)} is not an IP address") from None


def address_text(address: Address) -> str:
    """Inverse of `parse_address`."""
    version, number = address
    if version == 4:
        return inet_ntop(AF_INET, number.to_bytes(4, "big"))
    return inet_ntop(AF_INET6, number.to_bytes(16, "big"))


def parse_prefix(text: object, *, strict: bool = True) -> Prefix:
    """`10.0.0.0/8`; a bare address is a host. `strict` refuses bits behind the length."""
    if isinstance(text, Prefix):
        return text
    if not isinstance(text, str):
        raise ValueError(f"{quoted(text)} is not a prefix in quotes, like '10.0.0.0/8'")
    head, slash, tail = text.partition("/")
    try:
        version, value = parse_address(head)
    except ValueError:
        raise ValueError(
            f"{quoted(text)} is not a prefix (like 10.0.0.0/8 or 2001:db8::/32)"
        ) from None
    bits = 32 if version == 4 else 128
    if not slash:
        return Prefix(version, value, bits)
    if not (tail.isascii() and tail.isdigit() and int(tail) <= bits):
        raise ValueError(f"{quoted(text)}: the prefix length must be 0 to {bits}")
    length = int(tail)
    masked = value >> (bits - length) << (bits - length)
    if strict and masked != value:
        meant = address_text((version, masked))
        raise ValueError(
            f"{quoted(text)} has bits behind its length; did you mean '{meant}/{length}'?"
        )
    return Prefix(version, masked, length)


def parse_ports(text: object) -> PortRange:
    """`80`, "80" or "8000-8100"."""
    if isinstance(text, PortRange):
        return text
    written = str(text)
    low, dash, high = written.replace(" ", "").partition("-")
    numbers = (low, high) if dash else (low, low)
    if isinstance(text, bool) or not all(n.isascii() and n.isdigit() for n in numbers):
        raise ValueError(f"{quoted(text)} is not a port or a range of ports like '8000-8100'")
    result = PortRange(int(numbers[0]), int(numbers[1]))
    if result.high > 65535:
        raise ValueError(f"{quoted(written)}: ports end at 65535")
    if result.low > result.high:
        raise ValueError(f"{quoted(written)}: the range is empty; did you mean '{high}-{low}'?")
    return result


def parse_protocol(value: object) -> int:
    """`tcp`, `udp`, `icmp`, `icmpv6` or a number."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, str):
        if value not in PROTOCOLS:
            raise ValueError(unknown("protocol", value, (*PROTOCOLS, "0..255")))
        return PROTOCOLS[value]
    return _integer(value, 255, "a protocol")


def parse_flags(value: object) -> tuple[int, int]:
    """`0x02/0x12`: TCP flags equal to the value under the mask."""
    if isinstance(value, str):
        head, slash, tail = value.partition("/")
        try:
            flags, mask = int(head, 0), int(tail, 0)
        except ValueError:
            flags = mask = -1
        if slash and 0 <= flags <= 255 and 0 <= mask <= 255:
            if flags & ~mask:
                raise ValueError(
                    f"{quoted(value)} can never match: the value has bits outside the mask"
                )
            return flags, mask
    raise ValueError(f"{quoted(value)} is not 'value/mask' of TCP flags, like '0x02/0x12'")


def parse_icmp(value: object) -> int:
    """An ICMP or ICMPv6 type or code."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    return _integer(value, 255, "an ICMP type or code")


_DSCP_NAMES = {
    "BE": 0,
    "LE": 1,
    "VA": 44,
    "EF": 46,
    **{f"CS{n}": 8 * n for n in range(8)},
    **{f"AF{c}{d}": 8 * c + 2 * d for c in range(1, 5) for d in range(1, 4)},
}
"""RFC 2474, 2597, 3246, 5865, 8622."""


def parse_dscp(value: object) -> int:
    """`EF`, `AF41`, `CS6` or 0..63."""
    if isinstance(value, str):
        if value.upper() not in _DSCP_NAMES:
            raise ValueError(unknown("DSCP", value, (*_DSCP_NAMES, "0..63")))
        return _DSCP_NAMES[value.upper()]
    return _integer(value, 63, "a DSCP")


def parse_vlan(value: object) -> int:
    """A VLAN ID (IEEE 802.1Q; 0 is a priority tag's), or `none` for frames without a tag."""
    if value == NO_VLAN:
        return UNTAGGED
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    return _integer(value, 4094, f"a VLAN ID or '{NO_VLAN}'")


def vlan_json(value: int) -> int | str:
    """Inverse of `parse_vlan`."""
    return NO_VLAN if value == UNTAGGED else value


def parse_ether_type(value: object) -> int:
    """`0x0806` or a number."""
    if isinstance(value, str):
        try:
            value = int(value, 16 if value.lower().startswith("0x") else 10)
        except ValueError:
            raise ValueError(f"{quoted(value)} is not an EtherType like '0x0806'") from None
    return _integer(value, 0xFFFF, "an EtherType")


def _integer(value: object, highest: int, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= highest:
        raise ValueError(f"{quoted(value)} is not {what} (0..{highest})")
    return value


def protocol_text(protocol: int) -> str | int:
    """Inverse of `parse_protocol`."""
    return _PROTOCOL_NAMES.get(protocol, protocol)


def match_json(match: Match) -> dict[str, Any]:
    """A match in the keys of docs/functions."""
    result: dict[str, Any] = {}
    for key in ("src", "dst", "src_port", "dst_port"):
        value = getattr(match, key)
        if value is not None:
            result[key] = str(value)
    if match.ether_type is not None:
        result["ether_type"] = f"{match.ether_type:#06x}"
    if match.protocol is not None:
        result["protocol"] = protocol_text(match.protocol)
    if match.tcp_flags is not None:
        result["tcp_flags"] = "{:#04x}/{:#04x}".format(*match.tcp_flags)
    for key in ("version", "later_fragment", "icmp_type", "icmp_code"):
        value = getattr(match, key)
        if value is not None:
            result[key] = value
    if match.vlan is not None:
        result["vlan"] = vlan_json(match.vlan)
    return result


def impossible(match: Match) -> str | None:
    """Why no packet can ever match, or None."""
    versions = {p.version for p in (match.src, match.dst) if p is not None}
    if match.version is not None:
        versions.add(match.version)
    if match.ether_type is not None:
        by_type = {0x0800: 4, 0x86DD: 6}
        versions.add(by_type.get(match.ether_type, 0))
    ports = match.src_port is not None or match.dst_port is not None
    icmp = match.icmp_type is not None or match.icmp_code is not None
    flags, protocol = match.tcp_flags is not None, match.protocol
    l4 = ports or icmp or flags or protocol is not None or match.later_fragment is not None
    if 0 in versions and (len(versions) > 1 or l4):
        return f"EtherType {match.ether_type:#06x} is not IP, but the other keys ask for IP"
    if len(versions) > 1:
        return "it asks for IPv4 and IPv6 at once"
    if ports and protocol not in (None, 6, 17):
        return f"protocol {protocol_text(protocol or 0)} has no ports"
    if flags and protocol not in (None, 6):
        return f"protocol {protocol_text(protocol or 0)} has no TCP flags"
    if icmp and protocol not in (None, 1, 58):
        return f"protocol {protocol_text(protocol or 0)} has no ICMP type and code"
    if icmp and (ports or flags):
        return "ICMP has neither ports nor TCP flags"
    if icmp and protocol is not None and versions - {4 if protocol == 1 else 6}:
        return "ICMP is IPv4's and ICMPv6 is IPv6's"
    if match.later_fragment and (ports or flags or icmp):
        return "a later fragment has no ports, no TCP flags, no ICMP type and code"
    return None


def _text_schema(pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]})


def _number_or_text(highest: int, pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": highest},
                {"type": "string", "pattern": pattern},
            ],
            "examples": [example],
        }
    )


def _parse_ipv4(text: object) -> int:
    version, number = parse_address(text)
    if version != 4:
        raise ValueError(f"{quoted(text)} is not an IPv4 address")
    return number


AddressField = Annotated[
    Address,
    PlainValidator(lambda v: v if isinstance(v, tuple) else parse_address(v)),
    PlainSerializer(address_text),
    _text_schema("^[0-9a-fA-F.:]+$", "10.0.0.1"),
]
Ipv4Field = Annotated[
    int,
    PlainValidator(lambda v: v if type(v) is int else _parse_ipv4(v)),
    PlainSerializer(lambda v: str(ipaddress.IPv4Address(v))),
    _text_schema("^[0-9.]+$", "203.0.113.1"),
]
PrefixField = Annotated[
    Prefix,
    PlainValidator(parse_prefix),
    PlainSerializer(str),
    _text_schema("^[0-9a-fA-F.:]+(/[0-9]+)?$", "10.0.0.0/8"),
]
PortsField = Annotated[
    PortRange,
    PlainValidator(parse_ports),
    PlainSerializer(str),
    _number_or_text(65535, "^[0-9]+(-[0-9]+)?$", "8000-8100"),
]
ProtocolField = Annotated[
    int,
    PlainValidator(parse_protocol),
    PlainSerializer(protocol_text),
    _number_or_text(255, "^(tcp|udp|icmp|icmpv6|[0-9]+)$", "tcp"),
]
FlagsField = Annotated[
    tuple[int, int],
    PlainValidator(parse_flags),
    PlainSerializer(lambda v: "{:#04x}/{:#04x}".format(*v)),
    _text_schema("^(0x)?[0-9a-fA-F]+/(0x)?[0-9a-fA-F]+$", "0x02/0x12"),
]
IcmpField = Annotated[
    int,
    PlainValidator(parse_icmp),
    _number_or_text(255, "^[0-9]+$", "8"),
]
VlanField = Annotated[
    int,
    PlainValidator(parse_vlan),
    PlainSerializer(vlan_json),
    _number_or_text(4094, f"^([0-9]+|{NO_VLAN})$", NO_VLAN),
]
EtherTypeField = Annotated[
    int,
    PlainValidator(parse_ether_type),
    PlainSerializer(lambda v: f"{v:#06x}"),
    _number_or_text(65535, "^0x[0-9a-fA-F]{1,4}$", "0x0806"),
]
DscpField = Annotated[
    int,
    PlainValidator(parse_dscp),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": 63},
                {"type": "string", "enum": list(_DSCP_NAMES)},
            ],
            "examples": ["EF"],
        }
    ),
]

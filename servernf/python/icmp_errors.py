"""ICMP errors that a router sends (RFC 1812, 4.3.2; RFC 4443, 2.4): about what, which, how often."""

from __future__ import annotations

import struct
from typing import NamedTuple

from servernf.python.checksum import checksum
from servernf.python.packet import ICMP, ICMPV6, PacketView
from servernf.python.state import TableKind
from servernf.python.tables import Fixed
from servernf.wire.state import RecordField

RATE_PER_S, BURST = 1000, 50
"""Of an instance: a token bucket (RFC 4443, 2.4 f), as Linux's icmp_msgs_per_sec and _burst."""
_INTERVAL_US = 1_000_000 // RATE_PER_S
MOST_BYTES = {4: 576, 6: 1280}
"""Of an error's IP packet (RFC 1812, 4.3.2.3; RFC 4443, 2.4 c)."""
_NEVER_ABOUT = {4: frozenset((3, 4, 5, 11, 12)), 6: frozenset((*range(128), 137))}
"""Types of ICMP messages: errors and redirects."""
_IPV4 = struct.Struct("!BBHHHBBH")


class Code(NamedTuple):
    """Type and code of an error, in IPv4 and IPv6."""

    four: tuple[int, int]
    six: tuple[int, int]


TIME_EXCEEDED = Code((11, 0), (3, 0))
NO_ROUTE = Code((3, 0), (1, 0))
NO_HOST = Code((3, 1), (1, 3))
TOO_BIG = Code((3, 4), (2, 0))


class Pace:
    """How far ahead of its rate an instance is."""

    __slots__ = ("full_us",)

    def __init__(self) -> None:
        self.full_us = 0
        """When the bucket is full again."""


PACE = TableKind(
    "errors_pace",
    Pace,
    (RecordField("full_us", "age"),),
    key=(RecordField("number", "u8"),),
)


def pace() -> Fixed[int, Pace]:
    """The table of the one record."""
    return Fixed([(0, Pace())])


def may_tell(pace: Pace, now_us: int) -> bool:
    """Whether the rate allows one more error; it is counted then."""
    full_us = max(pace.full_us, now_us)
    if full_us - now_us > (BURST - 1) * _INTERVAL_US:
        return False
    pace.full_us = full_us + _INTERVAL_US
    return True


def is_told(packet: PacketView) -> bool:
    """Whether the sender of a packet may be told of its fate (RFC 1812, 4.3.2.7).

    Not of later fragments, ICMP errors, and what has less than eight bytes of L4 to quote.
    """
    if packet.later_fragment or not packet.version:
        return False
    if not packet.l4:
        return True
    is_icmp = packet.protocol in (ICMP, ICMPV6)
    if is_icmp and packet.data[packet.l4] in _NEVER_ABOUT[packet.version]:
        return False
    return packet.end >= packet.l4 + 8


def error_about(packet: PacketView, code: Code, source: int, gateway: bytes, mtu: int = 0) -> bytes:
    """The frame that tells a packet's sender, from a router's address; `mtu` for TOO_BIG."""
    four = packet.version == 4
    head = 28 if four else 48
    quote = bytes(packet.data[packet.l3 : packet.end][: MOST_BYTES[packet.version] - head])
    kind, number = code.four if four else code.six
    message = struct.pack("!BBHI", kind, number, 0, mtu) + quote
    size = 4 if four else 16
    addresses = source.to_bytes(size, "big") + packet.source.to_bytes(size, "big")
    pseudo = b"" if four else addresses + struct.pack("!II", len(message), ICMPV6)
    message = message[:2] + checksum(pseudo + message).to_bytes(2, "big") + message[4:]
    if four:
        # Precedence 6 (RFC 1812, 4.3.2.5).
        ip = _IPV4.pack(0x45, 0xC0, 20 + len(message), 0, 0x4000, 64, ICMP, 0) + addresses
        ip = ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:]
    else:
        ip = struct.pack("!IHBB", 6 << 28, len(message), ICMPV6, 64) + addresses
    macs = bytes(packet.data[6:12]) + gateway
    return macs + bytes(packet.data[12 : packet.l3]) + ip + message

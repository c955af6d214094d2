"""The packet that an ICMP error quotes, and how its headers are translated (RFC 5508, 4; RFC 4443).

Addresses are integers. With a header change: the quoted IPv4 header's checksum, a quoted UDP checksum
that is there, over IPv6 a quoted ICMPv6 checksum, and the error's own. A quoted TCP checksum is beyond
the eight bytes that an error must quote; who gets an error does not verify it.
"""

from __future__ import annotations

from dataclasses import dataclass

from servernf.python.checksum import delta16, delta32, delta128, patch, patch_udp
from servernf.python.packet import (
    ICMP,
    ICMP_ERRORS,
    ICMPV6,
    ICMPV6_ERRORS,
    NO_PORT,
    TCP,
    UDP,
    PacketView,
    quotes_l4,
)

_ECHO = {ICMP: (0, 8), ICMPV6: (128, 129)}


@dataclass(frozen=True, slots=True)
class Quote:
    """Headers of the quoted packet. `l4` is 0 when its L4 header is not known; ports are NO_PORT unless
    TCP or UDP, `echo` is the identifier of an echo request or reply, else NO_PORT."""

    at: int
    l4: int
    protocol: int
    source: int
    destination: int
    source_port: int = NO_PORT
    destination_port: int = NO_PORT
    echo: int = NO_PORT
    is_fragment: bool = False
    """Whether more fragments follow what is quoted (IPv4)."""


def quote_of(packet: PacketView) -> Quote | None:
    """What a packet quotes; None when it is no ICMP error."""
    data, l4 = packet.data, packet.l4
    at = l4 + 8
    if packet.protocol == ICMP and packet.version == 4 and l4 and data[l4] in ICMP_ERRORS:
        protocol, address_at, size = data[at + 9], at + 12, 4
        inner = at + 20 if quotes_l4(data, at) else 0
    elif packet.protocol == ICMPV6 and packet.version == 6 and l4 and data[l4] in ICMPV6_ERRORS:
        protocol, address_at, size = data[at + 6], at + 8, 16
        inner = at + 40 if protocol in (TCP, UDP, ICMPV6) else 0
    else:
        return None
    source = int.from_bytes(data[address_at : address_at + size], "big")
    destination = int.from_bytes(data[address_at + size : address_at + 2 * size], "big")
    if not inner:
        return Quote(at, 0, protocol, source, destination)
    if protocol in (TCP, UDP):
        ports = data[inner] << 8 | data[inner + 1], data[inner + 2] << 8 | data[inner + 3]
        divided = packet.version == 4 and bool(data[at + 6] & 0x20)
        return Quote(at, inner, protocol, source, destination, *ports, is_fragment=divided)
    is_echo = data[inner] in _ECHO[protocol]
    echo = data[inner + 4] << 8 | data[inner + 5] if is_echo else NO_PORT
    return Quote(at, inner, protocol, source, destination, echo=echo)


def translate(
    packet: PacketView, quote: Quote, address: int, port: int = NO_PORT, *, source: bool
) -> None:
    """Write the quoted source, else the destination, and, if given, its port or an echo's identifier."""
    data, at, l4, protocol = packet.data, quote.at, quote.l4, quote.protocol
    old = quote.source if source else quote.destination
    if packet.version == 4:
        start, size, addresses = at + (12 if source else 16), 4, delta32(old, address)
    else:
        start, size, addresses = at + (8 if source else 24), 16, delta128(old, address)
    data[start : start + size] = address.to_bytes(size, "big")
    covered = addresses
    if port >= 0:
        if protocol in (ICMP, ICMPV6):
            port_at, old_port = l4 + 4, quote.echo
        elif source:
            port_at, old_port = l4, quote.source_port
        else:
            port_at, old_port = l4 + 2, quote.destination_port
        data[port_at : port_at + 2] = port.to_bytes(2, "big")
        covered += delta16(old_port, port)
    # The error's own checksum covers all that changes in the quote, checksums included.
    delta = covered
    if packet.version == 4:
        delta += _patched(data, at + 10, addresses)
    if l4 and protocol == UDP:
        before = data[l4 + 6] << 8 | data[l4 + 7]
        patch_udp(data, l4 + 6, covered)
        delta += delta16(before, data[l4 + 6] << 8 | data[l4 + 7])
    elif l4 and protocol == ICMPV6:
        delta += _patched(data, l4 + 2, covered)
    patch(data, packet.l4 + 2, delta)


def _patched(data: bytearray, at: int, delta: int) -> int:
    """Update the checksum there; the delta of that change."""
    before = data[at] << 8 | data[at + 1]
    patch(data, at, delta)
    return delta16(before, data[at] << 8 | data[at + 1])

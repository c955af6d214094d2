"""Where the headers of a frame are, and whether it has all that it announces."""

from __future__ import annotations

from dataclasses import dataclass

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_ARP = 0x0806
ETHERTYPE_IPV6 = 0x86DD
VLAN_TYPES = frozenset({0x8100, 0x88A8})
ICMP, TCP, UDP, IPV6_FRAGMENT, ICMPV6 = 1, 6, 17, 44, 58
ICMP_ERRORS = frozenset({3, 11, 12})
"""Destination unreachable, time exceeded, parameter problem (RFC 792)."""
ICMPV6_ERRORS = frozenset({1, 2, 3, 4})
"""Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443)."""
FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10


class Malformed(ValueError):
    """A frame that ends inside a header that it announces, or whose IP header is no such thing."""


@dataclass(frozen=True, slots=True)
class HeaderLayout:
    """Where the headers are (byte offsets into the frame).

    `version` is 4, 6 or 0 (not IP). `l4` is where the L4 header or, behind a fragment offset above 0,
    the data begins; `end` is where IP's own length ends (padding follows) or the frame does. `quoted`
    is the IP header that an ICMP error quotes, `quoted_l4` its first 8 bytes of L4; 0 where not parsed.
    """

    ether_type: int = 0
    vlans: int = 0
    l3: int = 0
    version: int = 0
    protocol: int | None = None
    fragment: int = 0
    """Offset of the IPv6 fragment header; 0 without one."""
    later_fragment: bool = False
    l4: int = 0
    end: int = 0
    quoted: int = 0
    quoted_l4: int = 0


def layout_of(frame: bytes | bytearray) -> HeaderLayout:
    """Parse a frame; raises `Malformed` as docs/architecture.md defines it."""
    size = len(frame)
    _need(frame, 14, "Ethernet")
    ether_type = word(frame, 12)
    at, vlans = 14, 0
    while ether_type in VLAN_TYPES and vlans < 2:
        _need(frame, at + 4, "VLAN")
        ether_type = word(frame, at + 2)
        at, vlans = at + 4, vlans + 1
    if ether_type == ETHERTYPE_ARP:
        _need(frame, at + 28, "ARP")
    if ether_type not in (ETHERTYPE_IPV4, ETHERTYPE_IPV6):
        return HeaderLayout(ether_type, vlans, at, end=size)

    l3, fragment, later = at, 0, False
    if ether_type == ETHERTYPE_IPV4:
        version = 4
        _need(frame, l3 + 20, "IPv4")
        header = (frame[l3] & 0x0F) * 4
        if frame[l3] >> 4 != 4 or header < 20:
            raise Malformed(f"no IPv4 header: version {frame[l3] >> 4}, IHL {header // 4}")
        _need(frame, l3 + header, "IPv4")
        protocol = frame[l3 + 9]
        later = word(frame, l3 + 6) & 0x1FFF != 0
        l4 = l3 + header
        end = min(size, max(l4, l3 + word(frame, l3 + 2)))
    else:
        version = 6
        _need(frame, l3 + 40, "IPv6")
        if frame[l3] >> 4 != 6:
            raise Malformed(f"no IPv6 header: version {frame[l3] >> 4}")
        protocol = frame[l3 + 6]
        l4 = l3 + 40
        end = min(size, l4 + word(frame, l3 + 4))
        if protocol == IPV6_FRAGMENT:
            _need(frame, l4 + 8, "IPv6 fragment")
            fragment = l4
            protocol = frame[l4]
            later = word(frame, l4 + 2) >> 3 != 0
            l4 += 8
            end = max(end, l4)

    quoted = quoted_l4 = 0
    if not later:
        quoted, quoted_l4 = _quoted(frame, version, protocol, l3, l4)
    return HeaderLayout(
        ether_type, vlans, l3, version, protocol, fragment, later, l4, end, quoted, quoted_l4
    )


def _quoted(
    frame: bytes | bytearray, version: int, protocol: int, l3: int, l4: int
) -> tuple[int, int]:
    """Check the L4 header, and what it announces; where that of a quoted packet and its L4 are."""
    quoted = quoted_l4 = 0
    if protocol == TCP:
        _need(frame, l4 + 20, "TCP")
    elif protocol == UDP:
        _need(frame, l4 + 8, "UDP")
        if word(frame, l4 + 4) >= 16:
            _need(frame, l4 + 16, "UDP (its first 8 payload bytes belong to the label)")
    elif protocol == ICMP and version == 4:
        _need(frame, l4 + 8, "ICMP")
        if frame[l4] in ICMP_ERRORS:
            _need(frame, l4 + 28, "quoted IPv4")
            quoted = l4 + 8
            parsed_on = (
                frame[quoted] & 0x0F == 5
                and word(frame, quoted + 6) & 0x1FFF == 0
                and frame[quoted + 9] in (TCP, UDP, ICMP)
            )
            if parsed_on:
                _need(frame, quoted + 28, "quoted L4")
                quoted_l4 = quoted + 20
    elif protocol == ICMPV6 and version == 6:
        _need(frame, l4 + 8, "ICMPv6")
        if 1 <= frame[l4] <= 4:
            _need(frame, l4 + 48, "quoted IPv6")
            quoted = l4 + 8
            if frame[quoted + 6] in (TCP, UDP, ICMPV6):
                _need(frame, quoted + 48, "quoted L4")
                quoted_l4 = quoted + 40
        elif frame[l4] == 135 and word(frame, l3 + 4) == 32:
            _need(frame, l4 + 32, "neighbour solicitation")
    return quoted, quoted_l4


def _need(frame: bytes | bytearray, end: int, header: str) -> None:
    if end > len(frame):
        raise Malformed(
            f"the frame ends inside its {header} header ({len(frame)} bytes, needs {end})"
        )


def word(data: bytes | bytearray, at: int) -> int:
    """The 16 bits there."""
    return data[at] << 8 | data[at + 1]

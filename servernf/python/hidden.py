"""Ports that a receiver parses, but no device here: behind IPv6 extension headers or a third tag."""

from __future__ import annotations

from collections.abc import Mapping

from servernf.python.packet import IPV6_FRAGMENT, VLAN_TYPES, PacketView

EXTENSION_HEADERS = frozenset((0, 43, IPV6_FRAGMENT, 60))
"""Hop-by-hop options, routing, fragment, destination options (RFC 8200, 4): hosts read on behind."""
_MAX_HEADERS = 16


def hides(packet: PacketView, watched: Mapping[int, bytes]) -> bool:
    """Whether a packet without ports may carry what is watched: by protocol and port, 1.

    What cannot be followed may. A later fragment carries nothing without its first one.
    """
    if packet.ether_type in VLAN_TYPES:
        return True
    protocol = packet.protocol
    if packet.version != 6 or packet.later_fragment or protocol not in EXTENSION_HEADERS:
        return False
    data, end = packet.data, packet.end
    at = packet.l3 + (48 if data[packet.l3 + 6] == IPV6_FRAGMENT else 40)
    for _ in range(_MAX_HEADERS):
        if protocol in watched:
            if at + 4 > end:
                return True
            ports = watched[protocol]
            source, destination = data[at] << 8 | data[at + 1], data[at + 2] << 8 | data[at + 3]
            return bool(ports[source] or ports[destination])
        if protocol not in EXTENSION_HEADERS:
            return False
        if at + 8 > end:
            return True
        if protocol == IPV6_FRAGMENT:
            if data[at + 2] or data[at + 3] & 0xF8:
                return False
            size = 8
        else:
            size = data[at + 1] + 1 << 3
        protocol, at = data[at], at + size
    return True

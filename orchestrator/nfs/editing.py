"""What reference semantics and elements of several NFs share about frames, beside `Packet.rewrite`."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.model.checksums import updated_checksum
from orchestrator.model.elements import FilterRule
from orchestrator.model.headers import ICMP, ICMP_ERRORS, ICMPV6, ICMPV6_ERRORS, VLAN_TYPES
from orchestrator.model.match import Match
from orchestrator.model.packet import Packet


def set_dscp(packet: Packet, dscp: int) -> None:
    """The upper six bits of the IPv4 TOS byte or the IPv6 traffic class (RFC 2474); ECN stays."""
    if not packet.version:
        return
    data, l3 = packet.data, packet.layout.l3
    old = data[l3] << 8 | data[l3 + 1]
    if packet.version == 4:
        new = old & 0xFF03 | dscp << 2
        checksum = data[l3 + 10] << 8 | data[l3 + 11]
        data[l3 + 10 : l3 + 12] = updated_checksum(checksum, [(old, new)]).to_bytes(2, "big")
    else:
        new = old & 0xF03F | dscp << 6
    data[l3 : l3 + 2] = new.to_bytes(2, "big")


def with_vlan(packet: Packet, ether_type: int, tci: int) -> Packet | None:
    """The packet with one outermost tag more; None when it has two already."""
    if packet.layout.vlans == 2:
        return None
    tag = ether_type.to_bytes(2, "big") + tci.to_bytes(2, "big")
    return Packet.parse(bytes(packet.data[:12]) + tag + bytes(packet.data[12:]))


def without_vlan(packet: Packet) -> Packet | None:
    """The packet without its outermost tag; None when it has more than two."""
    if packet.ether_type in VLAN_TYPES:
        return None
    return Packet.parse(bytes(packet.data[:12]) + bytes(packet.data[16:]))


def flow_addresses(packet: Packet) -> tuple[int, int]:
    """Source and destination of the flow that owns a packet, (0, 0) for what is not IP.

    An ICMP error belongs to the flow of the packet that it quotes, seen from the other side.
    """
    quoted = packet.layout.quoted
    if not packet.version:
        return 0, 0
    if not quoted:
        return packet.src, packet.dst
    start, size = (quoted + 12, 4) if packet.version == 4 else (quoted + 8, 16)
    source = int.from_bytes(packet.data[start : start + size], "big")
    destination = int.from_bytes(packet.data[start + size : start + 2 * size], "big")
    return destination, source


def icmp_error_rules(versions: Iterable[int], output: str) -> list[FilterRule]:
    """Rules for all ICMP errors: whom one concerns is known from what it quotes only."""
    errors = {4: (ICMP, ICMP_ERRORS), 6: (ICMPV6, ICMPV6_ERRORS)}
    return [
        FilterRule(Match(version=version, protocol=protocol, icmp_type=kind), output, "ICMP errors")
        for version in sorted(versions)
        for protocol, kinds in [errors[version]]
        for kind in sorted(kinds)
    ]

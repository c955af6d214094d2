"""Keys and entries that several parts of lowering make."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.model.entries import (
    Between,
    Exact,
    Key,
    Lpm,
    TableEntry,
    Ternary,
)
from orchestrator.model.match import UNTAGGED, Match
from servernf.wire.addresses import GATEWAY_MAC

_L4_PORTS, _L4_LATER_FRAGMENT, _L4_ICMP = 1, 2, 4  # shared/metadata.p4
_TAGGED = 1 << 12  # shared/metadata.p4
_TCP = 6


def match_keys(match: Match, version: int) -> Iterator[tuple[str, Key]]:
    """The keys of a match in the table of a kind of packet; what it does not ask is left out."""
    if match.vlan is not None:
        yield "vlan", Ternary(0 if match.vlan == UNTAGGED else _TAGGED | match.vlan, 0x1FFF)
    if not version:
        if match.ether_type is not None:
            yield "ether_type", Ternary(match.ether_type, 0xFFFF)
        return
    for name, prefix in (("src", match.src), ("dst", match.dst)):
        if prefix is not None and prefix.length:
            yield name, Ternary(prefix.value, prefix.mask)
    protocol = match.protocol
    if match.tcp_flags is not None and protocol is None:
        protocol = _TCP  # other packets have no flags, not flags of 0
    if protocol is not None:
        yield "protocol", Ternary(protocol, 0xFF)
    ports = match.src_port is not None or match.dst_port is not None
    if ports:
        yield "l4", Ternary(_L4_PORTS, 3)
    elif match.icmp_type is not None or match.icmp_code is not None:
        yield "l4", Ternary(_L4_ICMP, _L4_ICMP)
    elif match.later_fragment is not None:
        yield "l4", Ternary(_L4_LATER_FRAGMENT if match.later_fragment else 0, _L4_LATER_FRAGMENT)
    elif match.tcp_flags is not None:
        yield "l4", Ternary(_L4_PORTS, 3)
    for name, ports_range in (("src_port", match.src_port), ("dst_port", match.dst_port)):
        if ports_range is not None and (ports_range.low, ports_range.high) != (0, 65535):
            yield name, Between(ports_range.low, ports_range.high)
    # ICMP's type and code are where the ports of TCP and UDP are
    for name, value in (("src_port", match.icmp_type), ("dst_port", match.icmp_code)):
        if value is not None:
            yield name, Between(value, value)
    if match.tcp_flags is not None and match.tcp_flags[1]:
        yield "tcp_flags", Ternary(match.tcp_flags[0] & match.tcp_flags[1], match.tcp_flags[1])


def neighbor_entry(port: int, version: int, address: int, origin: str) -> TableEntry:
    """The answer to ARP or ND for an address that the network owns, asked at a host-facing port."""
    table, action, bits = (
        ("nd", "answer_solicitation", 128) if version == 6 else ("arp", "answer_arp", 32)
    )
    return TableEntry(
        f"neighbor.{table}",
        (("ingress_port", Exact(port)), ("target", Lpm(address, bits))),
        f"neighbor.{action}",
        (("mac", GATEWAY_MAC),),
        0,
        f"{origin}: address",
    )


def echo_entry(port: int, version: int, address: int, origin: str) -> TableEntry:
    """The answer to a ping of a gateway, sent to it from a host-facing port."""
    return TableEntry(
        f"neighbor.echo_ipv{version}",
        (("ingress_port", Exact(port)), ("mac", Exact(GATEWAY_MAC)), ("target", Exact(address))),
        f"neighbor.echo_ipv{version}.answer_echo",
        (),
        0,
        f"{origin}: ping",
    )

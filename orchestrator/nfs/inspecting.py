"""The two elements of NFs that look into packets: a stateless choice, and what looks into the chosen.

The choice is a pure match, so a switch can make it; what it lets pass never visits a server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from pydantic import Field, PlainSerializer

from orchestrator.model.elements import (
    Element,
    ElementGraph,
    FilterProgram,
    FilterRule,
    Leave,
    StatefulProgram,
)
from orchestrator.model.headers import IPV6_FRAGMENT, VLAN_TYPES
from orchestrator.model.match import Match, PortRange
from orchestrator.model.packet import Packet
from orchestrator.nfs.values import PortsField, parse_ports

OPPOSITE = {"inside": "outside", "outside": "inside"}
PASS = "pass"
EXTENSION_HEADERS = frozenset({0, 43, IPV6_FRAGMENT, 60})
"""Behind these an IPv6 host reads on (RFC 8200, 4)."""
MAX_HEADERS = 16
ServedPorts = Annotated[
    tuple[PortsField, ...], Field(min_length=1), PlainSerializer(lambda v: [str(p) for p in v])
]
"""Ports that servers listen on."""


def inspected(
    select: tuple[str, FilterProgram],
    inspect: tuple[str, str],
    left: Sequence[str],
    *,
    keeps_headers: bool = False,
) -> ElementGraph:
    """`select` (name, program) gives packets to `inspect` (name, reason) or lets them PASS.

    They pass by the first port of `left`; `inspect` may use all of them.
    """
    (chooser, program), (inspector, reason) = select, inspect
    elements = {
        chooser: Element(chooser, program, (inspector, PASS)),
        inspector: Element(inspector, StatefulProgram(reason, keeps_headers), tuple(left)),
    }
    edges: dict[tuple[str, str], str | Leave] = {
        (chooser, inspector): inspector,
        (chooser, PASS): Leave(left[0]),
    }
    edges |= {(inspector, port): Leave(port) for port in left}
    return ElementGraph(chooser, elements, edges)


def ip_rules(output: str) -> tuple[FilterRule, ...]:
    """Rules that all IP packets meet."""
    return tuple(FilterRule(Match(version=v), output, f"IPv{v}") for v in (4, 6))


def port_rules(
    protocol: tuple[str, int], ranges: Iterable[PortRange], output: str
) -> list[FilterRule]:
    """Rules for the packets of a protocol (name, number) that come from or go to one of `ranges`."""
    name, number = protocol
    rules: list[FilterRule] = []
    for ports in merged(ranges):
        source = Match(protocol=number, src_port=ports)
        target = Match(protocol=number, dst_port=ports)
        rules.append(FilterRule(source, output, f"{name} src_port {ports}"))
        rules.append(FilterRule(target, output, f"{name} dst_port {ports}"))
    return rules


def hiding_rules(output: str) -> list[FilterRule]:
    """Rules for the packets that may have ports behind what no device here parses."""
    rules = [
        FilterRule(Match(version=6, protocol=header), output, f"IPv6 extension header {header}")
        for header in sorted(EXTENSION_HEADERS)
    ]
    tags = [FilterRule(Match(ether_type=t), output, "a third tag") for t in sorted(VLAN_TYPES)]
    return rules + tags


def hides(packet: Packet, watched: Mapping[int, Sequence[PortRange]]) -> bool:
    """Whether a receiver may find ports that are watched (by protocol) in a packet that has none here.

    docs/functions, "TCP streams". What cannot be read may be anything.
    """
    if packet.ether_type in VLAN_TYPES:
        return True
    if packet.version != 6 or packet.later_fragment:
        return False
    data, at, header = packet.data, packet.layout.l4, packet.protocol
    for _ in range(MAX_HEADERS):
        if header is not None and header in watched:
            ports = [int.from_bytes(data[i : i + 2], "big") for i in (at, at + 2)]
            is_cut = at + 4 > packet.layout.end
            return is_cut or any(within(watched[header], port) for port in ports)
        if header not in EXTENSION_HEADERS:
            return False
        if at + 8 > packet.layout.end:
            return True
        if header == IPV6_FRAGMENT and int.from_bytes(data[at + 2 : at + 4], "big") >> 3:
            return False
        size = 8 if header == IPV6_FRAGMENT else 8 * (data[at + 1] + 1)
        header, at = data[at], at + size
    return True


def within(ranges: Iterable[PortRange], port: int | None) -> bool:
    """Whether a port lies in one of the ranges."""
    return port is not None and any(r.low <= port <= r.high for r in ranges)


def ports_left_out(before: Iterable[object], after: Iterable[object]) -> str:
    """What a config's ports that another one does not inspect cost, in words; "": there are none."""
    now = merged(map(parse_ports, after))
    left_out = [
        str(ports)
        for ports in merged(map(parse_ports, before))
        if not any(r.low <= ports.low and ports.high <= r.high for r in now)
    ]
    return f"streams of ports within {', '.join(left_out)}" if left_out else ""


def merged(ranges: Iterable[PortRange]) -> list[PortRange]:
    """Sorted ranges, those that touch or overlap joined."""
    result: list[PortRange] = []
    for ports in sorted(ranges, key=lambda r: (r.low, r.high)):
        if result and ports.low <= result[-1].high + 1:
            result[-1] = PortRange(result[-1].low, max(result[-1].high, ports.high))
        else:
            result.append(ports)
    return result

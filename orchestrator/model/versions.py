"""Which kinds of packet (IPv4, IPv6, others) leave an element by which output: an upper bound."""

from __future__ import annotations

from orchestrator.model.elements import DROP, Element, FilterProgram, RouteProgram
from orchestrator.model.match import Match

NOT_IP = 0
ALL_VERSIONS = frozenset({4, 6, NOT_IP})
_IP = frozenset({4, 6})
_BY_ETHER_TYPE = {0x0800: frozenset({4}), 0x86DD: frozenset({6})}


def versions_of(match: Match) -> frozenset[int]:
    """The kinds of packet that a match can match."""
    versions = ALL_VERSIONS
    if match.ether_type is not None:
        versions = _BY_ETHER_TYPE.get(match.ether_type, frozenset({NOT_IP}))
    if match.version is not None:
        versions &= {match.version}
    for prefix in (match.src, match.dst):
        if prefix is not None:
            versions &= {prefix.version}
    if _asks_l4(match):
        versions &= _IP
    return versions


def _asks_l4(match: Match) -> bool:
    """Whether it asks for something that only IP packets have, besides addresses."""
    conditions = (
        match.protocol,
        match.src_port,
        match.dst_port,
        match.tcp_flags,
        match.later_fragment,
        match.icmp_type,
        match.icmp_code,
    )
    return any(condition is not None for condition in conditions)


def asks_only_version(match: Match) -> bool:
    """Whether every packet of the kinds that it can match does match."""
    prefixes = all(p is None or p.length == 0 for p in (match.src, match.dst))
    ether_type = match.ether_type is None or match.ether_type in _BY_ETHER_TYPE
    return prefixes and ether_type and not _asks_l4(match)


def narrow(element: Element | None, versions: frozenset[int]) -> dict[str, frozenset[int]]:
    """Kinds that can leave by each output, given the kinds that arrive."""
    if element is None:
        return {}
    program = element.program
    if isinstance(program, FilterProgram):
        result = dict.fromkeys((*element.outputs, DROP), frozenset[int]())
        left = versions
        for rule in program.rules:
            matching = versions_of(rule.match) & left
            result[rule.output] |= matching
            if asks_only_version(rule.match):
                left -= matching
        result[program.default] |= left
        return result
    if isinstance(program, RouteProgram):
        result = dict.fromkeys((*element.outputs, DROP), frozenset[int]())
        for route in program.routes:
            result[route.output] |= versions & {route.prefix.version}
        return result
    if program.restarts:
        return dict.fromkeys(element.outputs, ALL_VERSIONS)
    return dict.fromkeys(element.outputs, versions)

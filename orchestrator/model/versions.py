"""Which kinds of packet (IPv4, IPv6, others) leave an element by which output: an upper bound."""

from __future__ import annotations

from orchestrator.model.elements import DROP, Element, FilterProgram, RouteProgram
from orchestrator.model.match import Match
from orchestrator.recall import current, recalled

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


@recalled
def kinds(program: FilterProgram) -> list[tuple[frozenset[int], bool]]:
    """`versions_of` and `asks_only_version` of each rule."""
    return current().each(kinds, matches(program), _kind)


@recalled
def matches(program: FilterProgram) -> list[Match]:
    """What each rule asks for."""
    return [rule.match for rule in program.rules]


def _kind(match: Match) -> tuple[frozenset[int], bool]:
    return versions_of(match), asks_only_version(match)


@recalled
def _taken(program: FilterProgram, versions: frozenset[int]) -> dict[str, frozenset[int]]:
    """Kinds of packet by the output that a filter's rules, or else its default, send them to."""
    result: dict[str, frozenset[int]] = {}
    left = versions
    outputs = [rule.output for rule in program.rules]
    # Of several alike the first decides: the later ones find less left.
    for output, (asked, whole) in dict.fromkeys(zip(outputs, kinds(program), strict=True)):
        matching = asked & left
        result[output] = result.get(output, frozenset()) | matching
        if whole:
            left -= matching
    result[program.default] = result.get(program.default, frozenset()) | left
    return result


def _routed(program: RouteProgram, versions: frozenset[int]) -> dict[str, frozenset[int]]:
    """Kinds of packet by the output that routes send them to."""
    result: dict[str, frozenset[int]] = {}
    for output, version in program.routes.kinds:
        result[output] = result.get(output, frozenset()) | (versions & {version})
    return result


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
    nowhere = dict.fromkeys((*element.outputs, DROP), frozenset[int]())
    if isinstance(program, FilterProgram):
        return nowhere | _taken(program, versions)
    if isinstance(program, RouteProgram):
        return nowhere | _routed(program, versions)
    if program.restarts:
        return dict.fromkeys(element.outputs, ALL_VERSIONS)
    return dict.fromkeys(element.outputs, versions)

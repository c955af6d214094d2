"""Which kinds of packet (IPv4, IPv6, others) leave an element by which output: an upper bound."""

from __future__ import annotations

from orchestrator.model.elements import DROP, TOLD, Element, FilterProgram, RouteProgram
from orchestrator.model.match import ALL_VERSIONS


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


def _taken(program: FilterProgram, versions: frozenset[int]) -> dict[str, frozenset[int]]:
    """Kinds of packet by the output that a filter's rules, or else its default, send them to."""
    result: dict[str, frozenset[int]] = {}
    left = versions
    for output, (asked, whole) in program.ways:  # of several alike the later ones find less left
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
    if program.tells:
        result[TOLD] = versions & {4, 6}
    return result

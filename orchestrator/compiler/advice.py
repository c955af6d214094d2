"""What in a graph can never matter and is probably not meant so: told as warnings, with where."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import product

from orchestrator.graph.paths import ports_left
from orchestrator.model.cuts import SERVER, Cuts, Removed, Unit
from orchestrator.model.elements import FilterProgram, FilterRule, RewriteProgram
from orchestrator.model.graph import Port, ServiceGraph
from orchestrator.model.plan import Plan
from orchestrator.nfs.base import Functions
from orchestrator.nfs.esp import EspFunction

_MOST_TOLD = 5
_POSITION = re.compile(r"(\[\d+\]|:\d+)$")


def advice(before: Cuts, after: Cuts, graph: ServiceGraph, functions: Functions) -> tuple[str, ...]:
    """Warnings about what synthesis found: rules that no packet meets, edges that none takes."""
    where = graph.source or graph.name
    return tuple(
        f"{where}: {text}" for text in (*_rules(before, after), *_edges(after, graph, functions))
    )


def placed_advice(
    cuts: Cuts, plan: Plan, graph: ServiceGraph, functions: Functions
) -> tuple[str, ...]:
    """Warnings about where NFs ended up: what one server encrypts and decrypts crosses no link so."""
    servers: dict[str, set[str]] = defaultdict(set)
    for group, cores in zip(cuts.groups, plan.cores_of, strict=True):
        for nf in group.nfs:
            servers[nf] |= {core.server for core in cores}
    ends = [f for f in functions.values() if isinstance(f, EspFunction)]
    return tuple(
        f"{graph.source or graph.name}: nfs.{near.name}: is on one server with {far.name}, which takes "
        "off what it encrypts: no link is protected"
        for near, far in product(ends, ends)
        if near.plain_port == "inside" != far.plain_port
        and near.config.spi == far.config.spi
        and servers[near.name] & servers[far.name]
    )


def not_installed(before: Cuts, after: Cuts) -> tuple[tuple[str, str, str], ...]:
    """(NF, rule, why) of rules that no device is given."""
    return _everywhere(before, after.removed)


def _everywhere(before: Cuts, rules: Sequence[Removed]) -> tuple[tuple[str, str, str], ...]:
    """(NF, rule, why) of those that no packet meets wherever their NF has them.

    A mirrored rule may matter one way only, and one behind a NAT for the packets that it let pass. Of
    an NF that a server executes whole nobody knows what comes to it there.
    """
    whole = _whole_on_servers(before)
    rules = [r for r in rules if not (r.by_arrival and r.place.nf in whole)]
    gone = Counter((removed.place.nf, removed.rule) for removed in rules)
    places = Counter((unit.nf, rule) for unit, rule, _ in _named(before, gone))
    why = {(r.place.nf, r.rule): r.why for r in reversed(rules)}
    return tuple((*key, why[key]) for key, count in gone.items() if count >= places[key])


def _whole_on_servers(cuts: Cuts) -> set[str]:
    """NFs that packets come to on a server other than through their own elements in switches."""
    entered = {entry.target for entry in cuts.entries}
    entered |= {a.target for a in cuts.arcs if cuts.units[a.source].nf != cuts.units[a.target].nf}
    return {unit.nf for name, unit in cuts.units.items() if unit.kind == SERVER and name in entered}


def _rules(before: Cuts, after: Cuts) -> Iterator[str]:
    told: dict[str, list[str]] = defaultdict(list)
    everywhere = _everywhere(before, (*after.removed, *after.unmet))
    asked = _named(before, {(nf, rule) for nf, rule, _ in everywhere})
    meant = {(unit.nf, rule) for unit, rule, written in asked if written()}
    for nf, rule, why in everywhere:
        if (nf, rule) in meant:
            told[nf].append(f"nfs.{nf}: {rule} can never match: {why}")
    for nf, texts in told.items():
        yield from texts[:_MOST_TOLD]
        if len(texts) > _MOST_TOLD:
            yield (
                f"nfs.{nf}: {len(texts) - _MOST_TOLD} more rules can never match "
                "(compile --explain --json lists all)"
            )


def _named(
    cuts: Cuts, wanted: Collection[tuple[str, str]]
) -> Iterator[tuple[Unit, str, Callable[[], bool]]]:
    """Units that have a rule of these (NF, name), and who tells whether somebody wrote it (else the
    NF's type implies it)."""
    for unit in cuts.units.values():
        program = unit.element.program if unit.element else None
        if isinstance(program, FilterProgram):
            names = {rule for nf, rule in wanted if nf == unit.nf}
            for rule in program.rules if names else ():
                if rule.rule in names:
                    yield unit, rule.rule, partial(_written, rule)
        elif isinstance(program, RewriteProgram):
            for number in range(len(program.pairs)):
                if (unit.nf, f"pairs[{number}]") in wanted:
                    yield unit, f"pairs[{number}]", lambda: True


def _written(rule: FilterRule) -> bool:
    match = rule.match
    asked = (match.src, match.dst, match.src_port, match.dst_port)
    return bool(_POSITION.search(rule.rule)) or any(one is not None for one in asked)


def _edges(after: Cuts, graph: ServiceGraph, functions: Functions) -> Iterator[str]:
    """Edges from an NF port that packets could leave by, to what no packet ever reaches."""
    reached = _reached(after)
    for edge in graph.edges:
        nf = edge.source.node
        could = nf in functions and any(
            edge.source.port in ports_left(functions[nf], port.port)
            for port in reached
            if port.node == nf
        )
        if could and edge.target not in reached:
            yield f"edges: no packet ever goes from '{edge.source}' to '{edge.target}'"


def _reached(cuts: Cuts) -> set[Port]:
    """NF ports and endpoints that packets get to; what was left out for saying nothing counts, too."""
    ports = {Port(unit.endpoint) for unit in cuts.units.values() if unit.endpoint}
    for unit in cuts.units.values():
        if unit.nf:
            ports.add(Port(unit.nf, unit.port))
            ports |= {Port(place.nf, place.port) for place in unit.merged}
    ports |= {Port(place.nf, place.port) for place in cuts.passed}
    return ports

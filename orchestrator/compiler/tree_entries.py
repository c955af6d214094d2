"""Lowering of a filter that is decided by a tree (p4src/blocks/tree.p4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from orchestrator.compiler.keys import match_keys
from orchestrator.compiler.program_entries import BASE_PRIORITY, Site, program_entries, verdict
from orchestrator.model.decision import DecidedProgram, Diagram
from orchestrator.model.elements import FilterProgram
from orchestrator.model.entries import Exact, Key, Lpm, TableEntry
from orchestrator.targets.footprints import VERSION_TABLE

_IPV4 = 4


@program_entries.register
def _decided(program: DecidedProgram, site: Site) -> Iterator[TableEntry]:
    others = site.unit.versions - {_IPV4}
    if others:
        plain = program_entries.dispatch(FilterProgram)
        yield from plain(program, replace(site, unit=replace(site.unit, versions=others)))
    yield from _beside(program, site)
    yield from _levels(program, site)


def _beside(program: DecidedProgram, site: Site) -> Iterator[TableEntry]:
    """The ternary table: weighed rules, and the hand-over of all other packets."""
    weighed = program.diagram.weighed
    for rank, index in enumerate(weighed, start=1):
        rule = program.rules[index]
        action, params = verdict(site, rule.output)
        yield site.entry(
            VERSION_TABLE[_IPV4],
            tuple(match_keys(rule.match, _IPV4)),
            "weigh",
            rule.rule,
            priority=len(weighed) - rank + 1 + BASE_PRIORITY,
            rank=rank,
            deny=int(action == "deny"),
            segment=params.get("segment", site.segment),
        )
    last = site.entry(VERSION_TABLE[_IPV4], (), "decide", "", priority=BASE_PRIORITY)
    yield last._replace(origin=site.unit.nf)
    root = program.diagram.nodes[0]
    start = site.entry("tree.roots", (), f"tree.by_{root.word}", "", to=root.id)
    yield start._replace(origin=site.unit.nf)


def _levels(program: DecidedProgram, site: Site) -> Iterator[TableEntry]:
    """The branches. A verdict's origin is its rule; the way to it is of many rules, so of their NF."""
    diagram, nf = program.diagram, site.unit.nf
    verdicts = _verdicts(program, site)
    steps = [(f"{site.instance}.tree.by_{n.word}", (("to", n.id),), nf) for n in diagram.nodes]
    segment: tuple[str, Key] = ("segment", Exact(site.segment))
    for node in diagram.nodes:
        table = f"{site.instance}.tree.level_{node.level}"
        keys: tuple[tuple[str, Key], ...] = (segment, ("node", Exact(node.id)))
        for value, length, to in node.branches:
            action, params, origin = steps[to] if to >= 0 else verdicts[-1 - to]
            word = (*keys, ("word", Lpm(value, length))) if length else keys
            yield TableEntry(table, word, action, params, 0, origin)


def _verdicts(
    program: DecidedProgram, site: Site
) -> list[tuple[str, tuple[tuple[str, int], ...], str]]:
    """(action, parameters, origin) of each rule's leaves, and behind them the default's."""
    outputs = [(rule.output, rule.rule) for rule in program.rules]
    outputs.append((program.default, program.default_rule))
    before = _weighed_before(program.diagram, len(outputs))
    actions = {output: verdict(site, output) for output in dict(outputs)}
    result: list[tuple[str, tuple[tuple[str, int], ...], str]] = []
    for (output, rule), weighed in zip(outputs, before, strict=True):
        action, params = actions[output]
        found = [("weighed", weighed)]
        if "segment" in params:
            found.append(("target", params["segment"]))
        name = f"{site.instance}.tree.{action}"
        result.append((name, tuple(found), f"{site.unit.nf}: {rule}"))
    return result


def _weighed_before(diagram: Diagram, rules: int) -> list[int]:
    """How many weighed rules come before each rule."""
    counts, at = list[int](), 0
    for rule in range(rules):
        counts.append(at)
        if at < len(diagram.weighed) and diagram.weighed[at] == rule:
            at += 1
    return counts

"""Lowering of a filter that is decided by a tree (p4src/blocks/tree.p4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from orchestrator.compiler.keys import match_keys
from orchestrator.compiler.nodes import part_of, tree_node
from orchestrator.compiler.program_entries import (
    BASE_PRIORITY,
    Site,
    node_parts,
    program_entries,
    verdict,
)
from orchestrator.model.decision import DecidedProgram, Diagram, Node
from orchestrator.model.elements import FilterProgram
from orchestrator.model.entries import Exact, Key, Lpm, Part, TableEntry
from orchestrator.recall import current
from orchestrator.targets.footprints import VERSION_TABLE

_IPV4 = 4


@node_parts.register
def _decided(program: DecidedProgram, site: Site) -> Sequence[Part]:
    others = site.versions - {_IPV4}
    plain: Iterator[TableEntry] = iter(())
    if others:
        plain = program_entries.dispatch(FilterProgram)(program, replace(site, versions=others))
    own = part_of(site.switch, site.node, (*plain, *_beside(program, site)))
    return (own, *_levels(program, site))


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
    yield last._replace(origin=site.nf)
    root = program.diagram.nodes[0]
    start = site.entry("tree.roots", (), f"tree.by_{root.word}", "", to=root.id)
    yield start._replace(origin=site.nf)


def _levels(program: DecidedProgram, site: Site) -> list[Part]:
    """The branches. A verdict's origin is its rule; the way to it is of many rules, so of their NF."""
    nf, by = site.nf, f"{site.instance}.tree.by_"
    verdicts = _verdicts(program, site)
    segment: tuple[str, Key] = ("segment", Exact(site.segment))

    def part(node: Node) -> Part:
        table = f"{site.instance}.tree.level_{node.level}"
        keys: tuple[tuple[str, Key], ...] = (segment, ("node", Exact(node.id)))
        entries: list[TableEntry] = []
        for value, length, to, word in node.branches:
            key = (*keys, ("word", Lpm(value, length))) if length else keys
            if to < 0:
                action, params, origin = verdicts[-1 - to]
                entries.append(TableEntry(table, key, action, params, 0, origin))
            else:
                entries.append(TableEntry(table, key, by + word, (("to", to),), 0, nf))
        return part_of(site.switch, tree_node(site.switch, site.segment, node.id), entries)

    # Equal nodes are of rules with equal contents (`decision.Builder`); the default has none of its own.
    default = (program.default, program.default_rule)
    what = (_levels, site, program.diagram.weighed, default)
    return current().each(what, program.diagram.nodes, part)


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
        result.append((name, tuple(found), f"{site.nf}: {rule}"))
    return result


def _weighed_before(diagram: Diagram, rules: int) -> list[int]:
    """How many weighed rules come before each rule."""
    counts, at = list[int](), 0
    for rule in range(rules):
        counts.append(at)
        if at < len(diagram.weighed) and diagram.weighed[at] == rule:
            at += 1
    return counts

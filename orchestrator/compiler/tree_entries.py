"""Lowering of a filter that is decided by a tree (p4src/blocks/tree.p4)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

from orchestrator.compiler.keys import match_keys
from orchestrator.compiler.program_entries import (
    BASE_PRIORITY,
    Site,
    node_parts,
    program_entries,
    verdict,
)
from orchestrator.memo import Memo
from orchestrator.model.decision import DecidedProgram, DecisionNode
from orchestrator.model.elements import FilterProgram
from orchestrator.model.entries import Key, Lpm
from orchestrator.model.refs import Ref, TreeRef
from orchestrator.model.symbolic import SymbolicEntry, SymbolicPart
from orchestrator.targets.block import TREE_LEVELS, TREE_ROOTS, VERSION_TABLE

_IPV4 = 4


@node_parts.register
def _decided(program: DecidedProgram, site: Site, memo: Memo) -> Sequence[SymbolicPart]:
    others = site.versions - {_IPV4}
    plain: Iterator[SymbolicEntry] = iter(())
    if others:
        plain = program_entries.dispatch(FilterProgram)(program, replace(site, versions=others))
    own = SymbolicPart(site.segment, (*plain, *_beside(program, site)))
    return (own, *_levels(program, site, memo))


def _beside(program: DecidedProgram, site: Site) -> Iterator[SymbolicEntry]:
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
    start = site.entry(
        TREE_ROOTS, (), f"{TREE_ROOTS}.by_{root.word}", "", to=TreeRef(site.segment, root.id)
    )
    yield start._replace(origin=site.nf)


def _levels(program: DecidedProgram, site: Site, memo: Memo) -> list[SymbolicPart]:
    """The branches. A verdict's origin is its rule; the way to it is of many rules, so of their NF."""
    nf = site.nf
    verdict_of = cache(_Verdicts(program, site).of)
    action_of = cache("{}.{}".format)  # many branches share them
    segment = ("segment", site.segment)

    def part(node: DecisionNode) -> SymbolicPart:
        table = f"{site.instance}.{TREE_LEVELS[node.level - 1]}"
        me = TreeRef(site.segment, node.id)
        keys: tuple[tuple[str, Key | Ref], ...] = (segment, ("node", me))
        entries: list[SymbolicEntry] = []
        for value, length, to, word in node.branches:
            key = (*keys, ("word", Lpm(value, length))) if length else keys
            if to < 0:
                action, params, origin = verdict_of(-1 - to)
                entries.append(
                    SymbolicEntry(table, key, action_of(table, action), params, 0, origin)
                )
            else:
                on = (("to", TreeRef(site.segment, to)),)
                entries.append(SymbolicEntry(table, key, action_of(table, f"by_{word}"), on, 0, nf))
        return SymbolicPart(me, tuple(entries))

    # Equal nodes are of rules with equal contents (`decision.Builder`); the default has none of its own.
    default = (program.default, program.default_rule)
    what = ("node of a tree", site, program.diagram.weighed, default)
    return memo.each(what, program.diagram.nodes, part)


class _Verdicts:
    """What leaves say: the rule that a packet meets, and how many weighed rules come before it."""

    def __init__(self, program: DecidedProgram, site: Site) -> None:
        self.program, self.site = program, site

    def of(self, index: int) -> tuple[str, tuple[tuple[str, int | Ref], ...], str]:
        """(verb, parameters, origin) of a rule, or behind the last of the default."""
        program, site = self.program, self.site
        output, name = program.default, program.default_rule
        if index < len(program.rules):
            output, name = program.rules[index].output, program.rules[index].rule
        action, params = verdict(site, output)
        before = bisect_left(program.diagram.weighed, index)
        arguments: list[tuple[str, int | Ref]] = [("weighed", before)]
        if "segment" in params:
            arguments.append(("target", params["segment"]))
        return action, tuple(arguments), f"{site.nf}: {name}"

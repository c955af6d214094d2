"""Choose the form of each filter: ternary, a decision tree, or a mix, by what the target runs faster.

A tree takes five exact and LPM lookups however long the list is; a ternary table of BMv2 is searched
entry by entry. Rules that would make the tree explode are weighed: they stay ternary, and the earlier
rule of tree and ternary table wins (p4src/blocks/tree.p4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from math import prod
from operator import itemgetter
from zlib import crc32

from orchestrator.compiler.decision import (
    ANYTHING,
    CHOICES,
    FLAGS,
    Builder,
    Shape,
    TooLarge,
    copies,
    shape_of,
)
from orchestrator.memo import Memo
from orchestrator.model.cuts import SWITCH, Cuts, Unit
from orchestrator.model.decision import DecidedProgram, Diagram
from orchestrator.model.elements import FilterProgram, FilterRule
from orchestrator.model.match import Match
from orchestrator.targets.block import TREE_LEVELS
from orchestrator.targets.costs import FilterCosts
from orchestrator.targets.pipelines import Pipeline

MOST_BRANCHES = 200_000
_MOST_COPIES = (50_000_000, 1_000_000, 250_000, 60_000)
"""Rules are weighed, those with most copies first, until so many copies are left; in turn, until a
diagram is small enough. acl1_10k has 16 million and needs none weighed."""

_LEAST_SHARE = 0.25
"""A mix is left for no less of a plain table's costs: it is dear to change, since every branch says how
many weighed rules come before its verdict."""


def decide_filters(
    cuts: Cuts,
    costs: FilterCosts | None,
    room: tuple[int, ...],
    plain: Collection[str] = (),
    memo: Memo | None = None,
) -> Cuts:
    """The cuts with filters in their best form; those of the NFs in `plain` stay as they are.

    `room` is free of each level of a tree.
    """
    memo = Memo() if memo is None else memo
    if costs is None or not any(room):
        return cuts
    units = dict(cuts.units)
    for name, unit in cuts.units.items():
        if unit.kind == SWITCH and unit.element is not None and unit.nf not in plain:
            program = unit.element.program
            if isinstance(program, FilterProgram) and 4 in unit.versions:
                diagram = diagram_of(program, costs, room, memo, name)
                if diagram is not None:
                    units[name] = _decided(unit, program, diagram)
    return replace(cuts, units=units)


def has_tree(cuts: Cuts, nf: str) -> bool:
    """Whether a filter of an NF is a tree."""
    return any(
        unit.nf == nf
        and unit.element is not None
        and isinstance(unit.element.program, DecidedProgram)
        for unit in cuts.units.values()
    )


def _decided(unit: Unit, program: FilterProgram, diagram: Diagram) -> Unit:
    assert unit.element is not None
    same = {field.name: getattr(program, field.name) for field in fields(program)}
    decided = DecidedProgram(**same, diagram=diagram)
    beside = f" beside {len(diagram.weighed)} ternary rules" if diagram.weighed else ""
    why = f"{unit.why}; a tree of {diagram.entries} branches in {diagram.levels} levels{beside}"
    return replace(unit, element=replace(unit.element, program=decided), why=why)


def tree_room(
    pipelines: Collection[Pipeline], taken: Mapping[str, Counter[str]]
) -> tuple[int, ...]:
    """Free entries of each level of a tree, on every switch."""
    held: Counter[str] = Counter()
    for tables in taken.values():
        held |= tables
    return tuple(
        min(
            max(
                (
                    pipeline.table_sizes.get(table, 0) - held[table]
                    for slot in pipeline.slots
                    for table in (f"{slot.instance}.{level}",)
                ),
                default=0,
            )
            for pipeline in pipelines
        )
        if pipelines
        else 0
        for level in TREE_LEVELS
    )


def diagram_of(
    program: FilterProgram,
    costs: FilterCosts,
    room: tuple[int, ...],
    memo: Memo,
    where: str = "",
) -> Diagram | None:
    """The diagram that a target runs faster than the plain rules; None when there is none.

    `where` names the filter's place in the graph: there an earlier version's nodes are remembered.
    """
    rules = [i for i, (asked, _) in enumerate(program.kinds) if 4 in asked]
    if costs.ranges and costs.plain(len(rules)) <= costs.least_gain:
        return None
    asked_for = program.matches
    if len(rules) < len(asked_for):
        asked_for = [asked_for[i] for i in rules]
    shapes = memo.each("shape of a match", asked_for, _shape)
    plain = costs.plain(len(rules) if costs.ranges else sum(_expanded(s) for s, _ in shapes))
    asked = max(map(itemgetter(1), shapes), default=0)
    if plain - costs.decided(asked, asked, 0) <= costs.least_gain:
        return None  # not even the smallest tree that asks for all that a rule does
    suited = [(i, shape) for i, (shape, _) in zip(rules, shapes, strict=True) if shape is not None]
    unsuited = set(rules).difference(i for i, _ in suited) if len(suited) < len(rules) else ()
    limit = min(MOST_BRANCHES, sum(room))
    tried = -1
    for attempt, weighed in enumerate(_weighings(suited, memo)):
        if len(weighed) == tried:
            continue
        tried = len(weighed)
        beside = tried + len(unsuited)
        least_gain = max(costs.least_gain, plain * _LEAST_SHARE if beside else 0)
        if plain - costs.decided(1, 1, beside) <= least_gain:
            return None  # nor does any with still more rules weighed
        kept = [rule for rule in suited if rule[0] not in weighed] if weighed else suited
        for builder in _builders(where, attempt, memo):
            try:
                diagram = _built(
                    builder, program, kept, tuple(sorted(weighed.union(unsuited))), limit, memo
                )
            except TooLarge:
                continue
            if diagram is None:
                return None
            fits = all(size <= free for size, free in zip(diagram.sizes, room, strict=True))
            cost = costs.decided(diagram.levels, diagram.entries, len(diagram.weighed))
            if fits:
                return diagram if plain - cost > least_gain else None
    return None


_Shaped = tuple[int, Shape]
"""A rule, by its number in the list, and its shape."""


def _weighings(rules: Sequence[_Shaped], memo: Memo) -> Iterator[set[int]]:
    """Sets of rules to be weighed, each larger than the one before.

    Classes of rules with about as many copies are weighed as a whole: else a rule that comes or goes
    would have others weighed or not, and with their number change every branch of the tree.
    """
    shapes = [shape for _, shape in rules]
    numbers = copies(shapes, memo)
    left = sum(numbers)
    if left <= _MOST_COPIES[0]:
        yield set()  # mostly the only one that is asked for
    parts = memo.each("part of a shape", shapes, _part)
    classes = [(n.bit_length(), part) for n, part in zip(numbers, parts, strict=True)]
    held: Counter[tuple[int, int]] = Counter()
    for which, number in zip(classes, numbers, strict=True):
        held[which] += number
    waiting, weighed = sorted(held), set[tuple[int, int]]()
    for most in _MOST_COPIES:
        while left > most:
            next_one = waiting.pop()
            weighed.add(next_one)
            left -= held[next_one]
        yield {i for which, (i, _) in zip(classes, rules, strict=True) if which in weighed}


def _builders(where: str, attempt: int, memo: Memo) -> tuple[Builder, ...]:
    """They remember their nodes, so that a list with one rule changed costs little.

    Each attempt has its own: its list is another one, and one may be too large where the next is not.
    """
    place = ("builders", where, attempt)
    return memo.keep(place, memo.last(place) or tuple(map(Builder, CHOICES)))


def _shape(match: Match) -> tuple[Shape | None, int]:
    """A rule's shape, and how many words it asks of."""
    shape = shape_of(match)
    return shape, sum(map(bool, shape)) if shape else 0


def _part(shape: Shape) -> int:
    """One of 16 parts of the rules with about as many copies, by what a rule asks and nothing else."""
    return crc32(repr(shape).encode()) & 15


def _expanded(shape: Shape | None) -> int:
    """Ternary entries of a rule where ranges are expanded into prefixes."""
    return prod(len(prefixes) or 1 for prefixes in shape[:FLAGS]) if shape else 1


def _content(rule: FilterRule) -> object:
    """What tells apart rules of one shape."""
    return rule.output, rule.rule


def _built(
    builder: Builder,
    program: FilterProgram,
    shaped: Sequence[_Shaped],
    weighed: tuple[int, ...],
    limit: int,
    memo: Memo,
) -> Diagram | None:
    """The diagram of some rules and the default; None when they ask nothing of a packet."""
    places = [i for i, _ in shaped]
    shapes = [shape for _, shape in shaped]
    contents = memo.each("content of a rule", [program.rules[i] for i in places], _content)
    default = len(program.rules)
    root, numbers = builder.build([*shapes, ANYTHING], [*contents, None], limit)
    if root < 0:
        return None
    return builder.numbering.diagram(root, numbers, [*places, default], weighed)

"""Choose the form of each filter: ternary, a decision tree, or a mix, by what the target runs faster.

A tree takes five exact and LPM lookups however long the list is; a ternary table of BMv2 is searched
entry by entry. Rules that would make the tree explode are weighed: they stay ternary, and the earlier
rule of tree and ternary table wins (p4src/blocks/tree.p4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import fields, replace

from orchestrator.compiler.decision import (
    ANYTHING,
    CHOICES,
    Builder,
    Shape,
    TooLarge,
    number_nodes,
    shape_of,
)
from orchestrator.model.cuts import SWITCH, Cuts, Unit
from orchestrator.model.decision import DecidedProgram, Diagram
from orchestrator.model.elements import FilterProgram
from orchestrator.model.versions import versions_of
from orchestrator.targets.costs import FilterCosts
from orchestrator.targets.pipeline import Pipeline

BRANCHES_PER_RULE = 64
MOST_BRANCHES = 200_000
"""Bounds of a diagram, which bound the time to build one, too."""
_ROUNDS = 5
_SHARE = 0.05
"""Rules that are weighed more after a round that was too large."""

_builders = tuple(Builder(choice) for choice in CHOICES)
"""They remember their nodes, so that a list with one rule changed costs little."""


def decide_filters(
    cuts: Cuts,
    costs: FilterCosts | None,
    pipelines: Collection[Pipeline],
    taken: Mapping[str, Counter[str]],
    plain: Collection[str] = (),
) -> Cuts:
    """The cuts with filters in their best form; those of the NFs in `plain` stay as they are."""
    room = _room(pipelines, taken)
    if costs is None or not any(room):
        return cuts
    units = dict(cuts.units)
    for name, unit in cuts.units.items():
        if unit.kind == SWITCH and unit.element is not None and unit.nf not in plain:
            program = unit.element.program
            if isinstance(program, FilterProgram) and 4 in unit.versions:
                diagram = diagram_of(program, costs, room)
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
    return replace(unit, element=replace(unit.element, program=decided))


def _room(pipelines: Collection[Pipeline], taken: Mapping[str, Counter[str]]) -> tuple[int, ...]:
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
                    for table in (f"{slot.instance}.tree.level_{level}",)
                ),
                default=0,
            )
            for pipeline in pipelines
        )
        if pipelines
        else 0
        for level in range(1, 6)
    )


def diagram_of(program: FilterProgram, costs: FilterCosts, room: tuple[int, ...]) -> Diagram | None:
    """The diagram that a target runs faster than the plain rules; None when there is none."""
    rules = [i for i, rule in enumerate(program.rules) if 4 in versions_of(rule.match)]
    plain = costs.plain(len(rules))
    if plain - costs.decided(1, 1, 0) <= costs.least_gain:
        return None
    shapes = {i: shape_of(program.rules[i].match) for i in rules}
    weighed = {i for i, shape in shapes.items() if shape is None}
    default = len(program.rules)
    shapes[default] = ANYTHING
    limit = min(BRANCHES_PER_RULE * len(rules), MOST_BRANCHES, sum(room))
    for attempt in range(_ROUNDS):
        suited = {i: s for i, s in shapes.items() if s is not None and i not in weighed}
        copies: Counter[int] | None = None
        for builder in _builders if not attempt else map(Builder, CHOICES):
            try:
                diagram = _built(builder, program, suited, tuple(sorted(weighed)), limit)
            except TooLarge as error:
                if copies is None or error.copies.total() < copies.total():
                    copies = error.copies
                continue
            if diagram is None:
                return None
            fits = all(size <= free for size, free in zip(diagram.sizes, room, strict=True))
            cost = costs.decided(diagram.levels, diagram.entries, len(weighed))
            return diagram if fits and plain - cost > costs.least_gain else None
        assert copies is not None
        numbers = list(suited)
        share = max(1, int(_SHARE * len(rules)))
        blamed = [numbers[i] for i, _ in copies.most_common(share + 1)]
        weighed |= {i for i in blamed if i != default}
    return None


def _built(
    builder: Builder,
    program: FilterProgram,
    shapes: Mapping[int, Shape],
    weighed: tuple[int, ...],
    limit: int,
) -> Diagram | None:
    """The diagram of the rules in `shapes`; None when they ask nothing of a packet."""
    rules = list(shapes)
    contents = [
        (program.rules[i].output, program.rules[i].rule) if i < len(program.rules) else None
        for i in rules
    ]
    root, numbers = builder.build(list(shapes.values()), contents, limit)
    if root < 0:
        return None
    return number_nodes(builder, root, dict(zip(numbers, rules, strict=True)), weighed)

"""Lay a switch's units out over its pipeline: slots, segments, recirculation, exits.

A segment is a straight run of units in pipeline order. Where the pipeline cannot serve an order in
one pass (a router before an access list), the frame is sent to this switch itself and enters it
anew: tagged, recirculated, and visible in the explanation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import networkx as nx

from orchestrator.errors import DoesNotFit
from orchestrator.model.builds import Slot
from orchestrator.model.cuts import Arc, Unit
from orchestrator.model.elements import COPY, FilterProgram
from orchestrator.model.refs import SegmentRef
from orchestrator.targets.block import gated
from orchestrator.targets.pipelines import Pipeline, footprint
from orchestrator.walks import walk

EXIT_PREFIX = "->"
_NOT_NAMED = SegmentRef("")
_INGRESS = re.compile(r"@[^~]*")
"""In a step's name. Segments go without it: the same element is the same on every switch."""


@dataclass(slots=True)
class LayoutStep:
    """A unit in its slot, or an exit (`unit` None) to the unit `target` on another device."""

    name: str
    unit: Unit | None
    target: str
    slot: Slot | None = None
    position: int = 0
    segment: SegmentRef = _NOT_NAMED
    next: dict[str, str] = field(default_factory=dict[str, str])
    """Output -> name of the step that follows on this switch."""

    @property
    def is_exit(self) -> bool:
        """Whether it only hands over to another device."""
        return self.unit is None

    @property
    def delivers(self) -> bool:
        """Whether it finds the host."""
        return self.unit is not None and self.unit.element is None


class TableNeed(NamedTuple):
    """Entries that an NF may need in a table of an instance of a block; `position` of that in the
    pipeline."""

    nf: str
    instance: str
    table: str
    entries: int
    position: int


@dataclass(frozen=True, slots=True)
class Layout:
    """`steps` by name; `entered` are the units that frames enter from elsewhere, by a tag; `segments`
    are in the order of the pipeline."""

    switch: str
    steps: dict[str, LayoutStep]
    entered: tuple[str, ...]
    recirculated: tuple[tuple[str, str], ...]
    segments: tuple[SegmentRef, ...]

    def exits(self, start: str) -> tuple[str, ...]:
        """Targets on other devices (or here again) that a frame entering `start` can leave for."""
        steps = map(self.steps.__getitem__, walk([start], lambda at: self.steps[at].next.values()))
        return tuple(dict.fromkeys(step.target for step in steps if step.is_exit))

    def held(self, pipeline: Pipeline) -> Counter[str]:
        """Entries that its units may need, by table (an upper bound)."""
        held: Counter[str] = Counter()
        for part in self.parts(pipeline):
            held[f"{part.instance}.{part.table}"] += part.entries
        return held

    def parts(self, pipeline: Pipeline) -> list[TableNeed]:
        """What each NF may need of each table."""
        return [
            TableNeed(step.unit.nf, step.slot.instance, table, count, step.position)
            for step in self.steps.values()
            if step.unit is not None and step.slot is not None
            for (_, table), count in footprint(step.unit, [pipeline]).items()
        ]


def lay_out(
    switch: str,
    pipeline: Pipeline,
    units: Sequence[Unit],
    arcs: Iterable[Arc],
    entered: Iterable[str],
    first: Iterable[str],
    taken: Counter[str] | None = None,
    slot_of: Mapping[str, str] | None = None,
) -> Layout:
    """Layout of the units of one switch; DoesNotFit when a table is full.

    `arcs` are those out of these units; `entered` the units reached from other devices, `first` those
    reached from this switch's own hosts (which may be on other devices: then an exit is made);
    `taken` the entries of other graphs by table. Slots are chosen for few recirculations; where that
    ends in a dead end, units take those of `slot_of`, which placement has seen to have room.
    """
    arcs, entered, first = tuple(arcs), tuple(entered), tuple(first)
    try:
        return _laid_out(switch, pipeline, units, arcs, entered, first, taken, {})
    except DoesNotFit:
        if not slot_of:
            raise
        return _laid_out(switch, pipeline, units, arcs, entered, first, taken, slot_of)


def _laid_out(
    switch: str,
    pipeline: Pipeline,
    units: Sequence[Unit],
    arcs: Iterable[Arc],
    entered: Iterable[str],
    first: Iterable[str],
    taken: Counter[str] | None,
    slot_of: Mapping[str, str],
) -> Layout:
    here = {unit.id: unit for unit in units}
    steps = {unit.id: LayoutStep(unit.id, unit, "") for unit in units}
    tagged = dict.fromkeys(entered)

    def exit_to(target: str) -> str:
        name = EXIT_PREFIX + target
        steps.setdefault(name, LayoutStep(name, None, target))
        return name

    for arc in arcs:
        steps[arc.source].next[arc.output] = (
            arc.target if arc.target in here else exit_to(arc.target)
        )
    for target in first:
        if target not in here:
            exit_to(target)
    free = Counter(pipeline.table_sizes)
    free.subtract(taken or {})
    recirculated = _assign_slots(switch, pipeline, free, steps, tagged, exit_to, slot_of)
    from_hosts = {name if name in here else EXIT_PREFIX + name for name in first}
    recirculated += _separate_straight(steps, tagged, from_hosts, exit_to)
    segments = _name_segments(steps, {*tagged, *from_hosts})
    return Layout(switch, steps, tuple(tagged), tuple(recirculated), segments)


def _order(steps: dict[str, LayoutStep]) -> nx.DiGraph[str]:
    graph = nx.DiGraph()
    graph.add_nodes_from(steps)
    graph.add_edges_from((s.name, n) for s in steps.values() for n in s.next.values())
    return graph


def _assign_slots(
    switch: str,
    pipeline: Pipeline,
    free: Counter[str],
    steps: dict[str, LayoutStep],
    tagged: dict[str, None],
    exit_to: Callable[[str], str],
    slot_of: Mapping[str, str],
) -> list[tuple[str, str]]:
    """Give each unit the first slot behind its predecessors' that holds it; or recirculate to it."""
    recirculated: list[tuple[str, str]] = []
    behind = len(pipeline.slots)
    for name in list(nx.lexicographical_topological_sort(_order(steps))):
        step = steps[name]
        if step.is_exit or step.delivers:
            step.position = behind
            continue
        assert step.unit is not None
        assert step.unit.element is not None
        block = step.unit.element.program.block
        need = {table: count for (_, table), count in footprint(step.unit, [pipeline]).items()}
        options = [
            i
            for i, slot in enumerate(pipeline.slots)
            if slot.block == block
            and slot.nf in ("", step.unit.nf)
            and slot.instance == slot_of.get(name, slot.instance)
            and all(free[f"{slot.instance}.{table}"] >= count for table, count in need.items())
        ]
        if not options:
            counts = ", ".join(f"{n} entries of {table}" for table, n in sorted(need.items()))
            raise DoesNotFit(
                f"{switch}: pipeline {pipeline.name} has no {block} block that holds {name} beside "
                f"what is there ({counts})",
                step.unit.nf,
            )
        before = [p for p in steps.values() if name in p.next.values()]
        earliest = max((_behind(p, name) for p in before), default=0)
        fitting = [i for i in options if i >= earliest]
        if not fitting:
            fitting = options
            for source in before:
                if _behind(source, name) <= fitting[0]:
                    continue
                recirculated.append((source.name, name))
                tagged[name] = None
                for output, following in source.next.items():
                    if following == name:
                        source.next[output] = exit_to(name)
                        steps[exit_to(name)].position = behind
        step.position = fitting[0]
        step.slot = pipeline.slots[fitting[0]]
        free.subtract({f"{step.slot.instance}.{table}": n for table, n in need.items()})
    return recirculated


def _behind(source: LayoutStep, name: str) -> int:
    """The first position at which a follower of a step may be."""
    outputs = [output for output, following in source.next.items() if following == name]
    anew = all(_begins_anew(source, output) for output in outputs)
    return 0 if anew else source.position + 1


def _begins_anew(step: LayoutStep, output: str) -> bool:
    """Whether packets that leave by this output pass the pipeline from its beginning."""
    if step.unit is None or step.unit.element is None:
        return False
    program = step.unit.element.program
    return program.restarts or (program.copies and output == COPY)


def _separate_straight(
    steps: dict[str, LayoutStep],
    tagged: dict[str, None],
    from_hosts: set[str],
    exit_to: Callable[[str], str],
) -> list[tuple[str, str]]:
    """A program that cannot go to a segment has its follower in its own.

    A follower that others reach, too, is copied when it is an exit or a delivery, which cost next to
    nothing; an element is recirculated to, so that its entries are there once.
    """
    recirculated: list[tuple[str, str]] = []
    doors = {*tagged, *from_hosts}
    for step in list(steps.values()):
        if step.unit is None or step.unit.element is None:
            continue
        if step.unit.element.program.branches:
            continue
        for output, follower in list(step.next.items()):
            if _begins_anew(step, output) or not _shared(follower, step, steps, doors):
                continue
            if steps[follower].slot is not None:
                recirculated.append((step.name, follower))
                tagged[follower] = None
                doors.add(follower)
                follower = exit_to(follower)
            if _shared(follower, step, steps, doors):
                original = steps[follower]
                copy = LayoutStep(f"{follower}~{step.name}", original.unit, original.target)
                copy.position = original.position
                steps[copy.name] = copy
                follower = copy.name
            step.next[output] = follower
    return recirculated


def _shared(follower: str, step: LayoutStep, steps: dict[str, LayoutStep], doors: set[str]) -> bool:
    """Whether frames come to a follower of a step by another way, too."""
    others = (s for s in steps.values() if s is not step and follower in s.next.values())
    return follower in doors or next(others, None) is not None


def _name_segments(steps: dict[str, LayoutStep], doors: set[str]) -> tuple[SegmentRef, ...]:
    """A step stays in its predecessor's segment if it is that one's main way and has no other.

    A segment is named after its first step. `doors` are the steps at which frames enter, from hosts or
    by a tag. Returns all segments.
    """
    graph = _order(steps)
    runs: dict[str, list[LayoutStep]] = {}
    run_of: dict[str, str] = {}
    for name in nx.lexicographical_topological_sort(graph):
        before = list(graph.predecessors(name))
        if len(before) == 1 and name not in doors and main_way(steps[before[0]]) == name:
            first = run_of[before[0]]
        else:
            first = _INGRESS.sub("", name)
            first = name if first in runs else first
        run_of[name] = first
        runs.setdefault(first, []).append(steps[name])
    segments: list[SegmentRef] = []
    for first, run in runs.items():
        segments.append(SegmentRef(first, any(s.slot and gated(s.slot.block) for s in run)))
        for step in run:
            step.segment = segments[-1]
    return tuple(segments)


def main_way(step: LayoutStep) -> str | None:
    """The step that follows without a `go_to`: a filter's most frequent output, or the only one."""
    if step.unit is None or step.unit.element is None:
        return None
    program = step.unit.element.program
    if isinstance(program, FilterProgram):
        outputs = [rule.output for rule in program.rules] + [program.default]
        counts = {output: outputs.count(output) for output in step.next}
        best = max(counts, key=lambda output: counts[output], default=None)
        return step.next[best] if best is not None else None
    ways = (name for output, name in step.next.items() if not _begins_anew(step, output))
    return next(ways, None)

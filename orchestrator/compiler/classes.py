"""Traffic classes: every way that packets take through a synthesised graph, and which packets do.

A class is followed by boxes in the headers with which packets enter (rewrites on the way are taken
back) beside those that they have got to. Behind a server NF headers may be anything, so what a filter
decides there does not narrow the class. Sets are samples where they would be large: `whole` says so.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from orchestrator.compiler.first_match import MOST_PIECES, FirstMatch
from orchestrator.compiler.flow import UNTOUCHED, HeaderFlow
from orchestrator.compiler.headerspace import (
    EVERYTHING,
    NUMBER,
    SHAPES_OF_VERSION,
    Box,
    address_box,
    box_of,
    random_point,
)
from orchestrator.compiler.narrowing import narrow
from orchestrator.memo import Memo
from orchestrator.model.cuts import SERVER, Cuts, Unit
from orchestrator.model.elements import DROP, RewriteProgram
from orchestrator.model.graph import ServiceGraph

MOST_BOXES = 48
"""Boxes of a class that are kept at every step."""
MOST_CLASSES_TOLD = 2000
_TRIES = 400
_TOLD = 3


@dataclass(frozen=True, slots=True)
class Decision:
    """What a unit did with a class: by which output it left, because of which rules (some of them)."""

    unit: str
    output: str
    rules: tuple[str, ...]
    more_rules: int = 0


@dataclass(frozen=True, slots=True)
class WayClass:
    """Packets of a traffic that take one way from an ingress switch. `end` is where it ends, in words.

    `boxes` are in ingress headers; unless `whole` they are only some of the class.
    """

    name: str
    traffic: str
    ingress: str
    way: tuple[Decision, ...]
    end: str
    boxes: tuple[Box, ...]
    whole: bool


@dataclass(slots=True)
class _Part:
    """Packets on their way: (as they entered, as they are now)."""

    boxes: list[tuple[Box, Box]]
    whole: bool
    touched: frozenset[int] = frozenset()
    """Fields that are no longer as they entered."""
    unknown: bool = False
    """A server NF was passed: headers may be anything."""
    rules: dict[str, None] = field(default_factory=dict[str, None])
    """Names of those that sent it here."""


def traffic_classes(cuts: Cuts, graph: ServiceGraph) -> tuple[WayClass, ...]:
    """The classes of a graph, in the order of its traffics and ways; at most MOST_CLASSES_TOLD."""
    classes: list[WayClass] = []
    for cls in _Classes(cuts, graph).all():
        classes.append(cls)
        if len(classes) == MOST_CLASSES_TOLD:
            break
    return tuple(classes)


class _Classes:
    def __init__(self, cuts: Cuts, graph: ServiceGraph) -> None:
        self.cuts, self.graph = cuts, graph
        self.arcs = {(arc.source, arc.output): arc.target for arc in cuts.arcs}
        self.flow = HeaderFlow(cuts.units, self.arcs, cuts.entries, {}, Memo())

    def all(self) -> Iterator[WayClass]:
        earlier: dict[str, list[Box]] = {}
        for traffic in self.graph.traffic:
            box = box_of(traffic.match)
            before = earlier.setdefault(traffic.ingress, [])
            if box is None:
                continue
            left = [box]
            for other in before:
                left = [piece for mine in left for piece in mine.subtract(other)]
            before.append(box)
            number = 0
            for entry in self.cuts.entries:
                if entry.endpoint != traffic.ingress or not left:
                    continue
                part = _Part([(piece, piece) for piece in left], True)
                for way, end, boxes, whole in self._ways(entry.target, part):
                    number += 1
                    name = f"{traffic.name}.{number}"
                    yield WayClass(name, traffic.name, entry.switch, way, end, boxes, whole)

    def _ways(
        self, name: str, part: _Part
    ) -> Iterator[tuple[tuple[Decision, ...], str, tuple[Box, ...], bool]]:
        unit = self.cuts.units[name]
        if unit.endpoint:
            yield (Decision(name, "", ()),), f"hosts of {unit.endpoint}", *_packets(part)
            return
        for output, rest in self._leaving(name, part):
            names = tuple(rest.rules)
            done = Decision(name, output, names[:_TOLD], max(0, len(names) - _TOLD))
            target = self.arcs.get((name, output))
            if target is not None:
                for way, end, boxes, whole in self._ways(target, rest):
                    yield (done, *way), end, boxes, whole
                continue
            yield (done,), f"dropped by {_dropper(unit, output, done)}", *_packets(rest)

    def _leaving(self, name: str, part: _Part) -> Iterator[tuple[str, _Part]]:
        """What leaves a unit, by output."""
        unit = self.cuts.units[name]
        program = unit.element.program if unit.element else None
        if unit.kind == SERVER or program is None:
            for source, output in self.arcs:
                if source == name:
                    yield output, replace(part, unknown=True, rules={})
            return
        assert unit.element is not None
        if isinstance(program, RewriteProgram):
            yield unit.element.outputs[0], self._rewritten(program, part)
            return
        rules = self.flow.rules(program)
        if rules is not None:
            yield from self._decided(unit, rules, part)
            return
        untouched = isinstance(program, UNTOUCHED)
        for output in unit.element.outputs:
            if output != DROP:
                yield (
                    output,
                    replace(part, unknown=part.unknown or not untouched, rules={}, whole=False),
                )

    def _rewritten(self, program: RewriteProgram, part: _Part) -> _Part:
        rewriting, boxes, whole = self.flow.rewrite(program), list[tuple[Box, Box]](), part.whole
        for entered, now in part.boxes:
            hits = rewriting.cut(now)
            whole = whole and hits is not None
            for before, after in hits or [(now, now)]:
                boxes.append((_narrowed(entered, before, part.touched), after))
        touched = part.touched | {NUMBER[program.field]}
        return replace(part, boxes=boxes, whole=whole, touched=touched, rules={})

    def _decided(self, unit: Unit, rules: FirstMatch, part: _Part) -> Iterator[tuple[str, _Part]]:
        if part.unknown:
            versions = frozenset(
                version
                for version, shapes in SHAPES_OF_VERSION.items()
                if any(entered.shapes & shapes for entered, _ in part.boxes)
            )
            possible = narrow(unit.element, versions)
            for output in (output for output, having in possible.items() if having):
                names = [n for n, o in zip(rules.names, rules.outputs, strict=True) if o == output]
                names += [rules.default_name] if rules.default == output else []
                yield output, replace(part, rules=dict.fromkeys(names))
            return
        parts: dict[str, _Part] = {}
        for entered, now in part.boxes:
            for number, piece, exact in _takers(rules, now):
                out = rules.output(number)
                into = parts.setdefault(out, _Part([], part.whole, part.touched))
                into.whole = into.whole and exact
                into.rules[rules.name(number)] = None
                if len(into.boxes) < MOST_BOXES:
                    into.boxes.append((_narrowed(entered, piece, part.touched), piece))
                else:
                    into.whole = False
        order = dict.fromkeys((*rules.outputs, rules.default))
        for output in order:
            if output in parts:
                yield output, parts[output]


def _dropper(unit: Unit, output: str, done: Decision) -> str:
    """Of NFs that are merged, the last one of a rule decides."""
    if output != DROP:
        return f"{unit.nf}: nothing is connected to its output {output}"
    before, _, last = done.rules[0].rpartition(" & ") if done.rules else ("", "", "")
    return last.partition(": ")[0] if before else unit.nf


def _takers(rules: FirstMatch, box: Box) -> Iterator[tuple[int, Box, bool]]:
    """(rule, a piece that it takes, whether the pieces told are all of them): -1 is the default."""
    met = rules.index.meeting(box)
    for number in met:
        rule = rules.boxes[number]
        assert rule is not None
        hit = box.intersect(rule)
        if hit is not None:
            yield from ((number, *piece) for piece in _without(rules, hit, number))
    yield from ((-1, *piece) for piece in _without(rules, box, len(rules.boxes)))


def _without(rules: FirstMatch, box: Box, number: int) -> Iterator[tuple[Box, bool]]:
    """The part of a box that no rule before a number takes; a packet of it if it is too ragged."""
    left = [box]
    before = [n for n in rules.index.meeting(box) if n < number]
    for n in before:
        rule = rules.boxes[n]
        assert rule is not None
        left = [piece for mine in left for piece in mine.subtract(rule)]
        if len(left) > MOST_PIECES:
            break
    else:
        yield from ((piece, True) for piece in left)
        return
    chance = random.Random(number)
    for _ in range(_TRIES):
        packet = random_point(box, chance)
        if not any(n < number for n in rules.index.meeting(packet)):
            yield packet, False
            return


def _narrowed(entered: Box, piece: Box, touched: frozenset[int]) -> Box:
    """The packets, as they entered, that are a piece of what they are now."""
    low = tuple(entered.low[n] if n in touched else end for n, end in enumerate(piece.low))
    high = tuple(entered.high[n] if n in touched else end for n, end in enumerate(piece.high))
    return Box(piece.shapes, low, high, piece.flags)


def _packets(part: _Part) -> tuple[tuple[Box, ...], bool]:
    return tuple(entered for entered, _ in part.boxes), part.whole


def likely(boxes: tuple[Box, ...], hosts: Mapping[str, list[tuple[int, int]]]) -> dict[str, int]:
    """A packet of some boxes: from and to hosts' (version, address) where it can be."""
    candidates = list(boxes)
    for name in ("dst", "src"):
        nearer = [
            hit
            for box in candidates
            for address in hosts.get(name, [])
            if (hit := box.intersect(address_box(name, *address))) is not None
        ]
        candidates = nearer or candidates
    ordinary = [box.sample() for box in candidates[:MOST_BOXES]] or [EVERYTHING.sample()]
    return max(ordinary, key=lambda packet: "src_port" in packet)

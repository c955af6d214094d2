"""Where packets can come from and what becomes of them: questions of header space to a cut graph.

Answers are safe: whatever would take too long to find out counts as "packets arrive" and "not
dropped". Nothing is asked across a server, an encapsulation or a copy: what left there may be anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from orchestrator.compiler.first_match import MOST_PIECES, FirstMatch, Undecided, first_match
from orchestrator.compiler.headerspace import (
    ADDRESS_SHIFT,
    ALL_SHAPES,
    EVERYTHING,
    NUMBER,
    OTHER,
    SHAPES_OF_VERSION,
    Box,
)
from orchestrator.memo import Memo
from orchestrator.model.cuts import SERVER, Arc, Ingress, Unit
from orchestrator.model.elements import (
    DROP,
    DscpProgram,
    ElementProgram,
    FilterProgram,
    RewriteProgram,
    RouteProgram,
    TtlProgram,
)

UNTOUCHED = (DscpProgram, TtlProgram, RouteProgram)
"""Programs that change nothing that a match asks about."""
_MOST_STEPS = 2000
_IP = ALL_SHAPES & ~OTHER


class Arcs(dict[tuple[str, str], str]):
    """Where the outputs of units lead: target by (source, output), and by output of a source."""

    def __init__(self, arcs: Iterable[Arc]) -> None:
        super().__init__()
        self._of: dict[str, dict[str, str]] = {}
        for arc in arcs:
            self[arc.source, arc.output] = arc.target

    def __setitem__(self, key: tuple[str, str], target: str) -> None:
        super().__setitem__(key, target)
        self._of.setdefault(key[0], {})[key[1]] = target

    def __delitem__(self, key: tuple[str, str]) -> None:
        super().__delitem__(key)
        del self._of[key[0]][key[1]]

    def of(self, source: str) -> dict[str, str]:
        """The connected outputs of a unit and where they lead."""
        return dict(self._of.get(source, {}))


class HeaderFlow:
    """A cut graph that may change between questions: `units` and `arcs` are the caller's."""

    def __init__(
        self,
        units: Mapping[str, Unit],
        arcs: Mapping[tuple[str, str], str],
        entries: Sequence[Ingress],
        traffic: Mapping[str, Sequence[Box]],
        memo: Memo,
    ) -> None:
        """`traffic` by endpoint: what may enter there."""
        self.units, self.arcs, self.traffic = units, arcs, traffic
        self.memo = memo
        self.entries: dict[str, list[Ingress]] = {}
        for entry in entries:
            self.entries.setdefault(entry.target, []).append(entry)
        self._lists: dict[int, tuple[ElementProgram, FirstMatch | None]] = {}
        self._images: dict[int, tuple[RewriteProgram, _Rewrite]] = {}
        self._before: dict[str, list[Arc]] = {}
        self._steps = 0
        self.blamed: dict[str, None] = {}
        """Rules that took packets elsewhere while the last question was answered."""
        self.changed()

    def changed(self) -> None:
        """To be called when arcs have changed."""
        self._before = {}
        for (source, output), target in self.arcs.items():
            self._before.setdefault(target, []).append(Arc(source, output, target))

    def before(self, unit: str) -> list[Arc]:
        """Arcs into a unit."""
        return self._before.get(unit, [])

    def rules(self, program: ElementProgram) -> FirstMatch | None:
        """A program as a first-match list; None when it is none or is not looked into."""
        if not isinstance(program, FilterProgram | RouteProgram):
            return None
        remembered = self._lists.get(id(program))
        if remembered is None:
            remembered = self._lists[id(program)] = (program, first_match(program, self.memo))
        return remembered[1]

    def know(self, program: ElementProgram, rules: FirstMatch) -> None:
        """Be told what `rules` would find out."""
        self._lists[id(program)] = (program, rules)

    def rewrite(self, program: RewriteProgram) -> _Rewrite:
        """A rewrite by its addresses."""
        remembered = self._images.get(id(program))
        if remembered is None:
            remembered = self._images[id(program)] = (program, _Rewrite(program))
        return remembered[1]

    def arrives(self, unit: str, box: Box) -> bool:
        """Whether a packet of a box (its headers when it gets there) may arrive at a unit."""
        self._steps, self.blamed = 0, {}
        try:
            return self._arrives(unit, box)
        except Undecided:
            return True

    def dropped(self, unit: str, box: Box) -> bool:
        """Whether every packet of a box that enters a unit is dropped by switches from there on."""
        self._steps, self.blamed = 0, {}
        try:
            return self._dropped(unit, box)
        except Undecided:
            return False

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise Undecided

    def _arrives(self, unit: str, box: Box) -> bool:
        self._step()
        for entry in self.entries.get(unit, ()):
            if any(box.intersect(wanted) is not None for wanted in self.traffic[entry.endpoint]):
                return True
        return any(
            self._arrives(arc.source, piece)
            for arc in self.before(unit)
            for piece in self._origins(arc, box)
        )

    def _origins(self, arc: Arc, box: Box) -> Iterator[Box]:
        """Boxes, as packets enter an arc's source, of which some may leave it as part of a box."""
        source = self.units[arc.source]
        program = source.element.program if source.element else None
        if source.kind == SERVER or program is None:
            raise Undecided
        if isinstance(program, RewriteProgram):
            yield from self.rewrite(program).origins(box)
            return
        if not isinstance(program, (FilterProgram, *UNTOUCHED)):
            raise Undecided
        if isinstance(program, RouteProgram | TtlProgram) and not box.shapes & _IP:
            if isinstance(program, TtlProgram):
                yield box
            return
        rules = self.rules(program)
        if rules is None:
            yield box
            return
        for piece, number in rules.split(box):
            if rules.output(number) == arc.output:
                yield piece
            elif len(self.blamed) < 4:
                self.blamed[f"{source.nf}: {rules.name(number)}"] = None

    def _dropped(self, name: str, box: Box) -> bool:
        self._step()
        unit = self.units[name]
        program = unit.element.program if unit.element else None
        if unit.kind == SERVER or program is None:
            return False
        if isinstance(program, RewriteProgram):
            return all(
                self._follow(name, output, piece)
                for output in unit.element.outputs  # type: ignore[union-attr]
                for piece in self.rewrite(program).images(box)
            )
        rules = self.rules(program)
        if rules is None:
            return isinstance(program, UNTOUCHED) and all(
                self._follow(name, output, box)
                for output in unit.element.outputs  # type: ignore[union-attr]
                if output != DROP
            )
        for piece, number in rules.split(box):
            output = rules.output(number)
            if not self._follow(name, output, piece):
                return False
            if (output == DROP or (name, output) not in self.arcs) and len(self.blamed) < 4:
                self.blamed[f"{unit.nf}: {rules.name(number)}"] = None
        return True

    def _follow(self, name: str, output: str, box: Box) -> bool:
        target = self.arcs.get((name, output))
        return output == DROP or target is None or self._dropped(target, box)


class _Rewrite:
    """Pairs of a rewrite by their addresses, for boxes that hold few of them."""

    def __init__(self, program: RewriteProgram) -> None:
        self.field = NUMBER[program.field]
        self.pairs = [
            (SHAPES_OF_VERSION[v], old << ADDRESS_SHIFT[v], new << ADDRESS_SHIFT[v], v)
            for v, old, new in program.pairs
        ]

    def origin_box(self, pair: int) -> Box:
        """The packets that a pair rewrites."""
        shapes, old, _, version = self.pairs[pair]
        n, width = self.field, (1 << ADDRESS_SHIFT[version]) - 1
        low, high = EVERYTHING.low, EVERYTHING.high
        return Box(
            shapes,
            (*low[:n], old, *low[n + 1 :]),
            (*high[:n], old | width, *high[n + 1 :]),
            (0, 0),
        )

    def cut(self, box: Box) -> list[tuple[Box, Box]] | None:
        """The pieces of a box, before and after; None when there are too many."""
        left, pieces = [box], list[tuple[Box, Box]]()
        for number, (shapes, old, new, version) in enumerate(self.pairs):
            n, width = self.field, (1 << ADDRESS_SHIFT[version]) - 1
            if not shapes & box.shapes or not box.low[n] <= old <= box.high[n]:
                continue
            asked = self.origin_box(number)
            for piece in left:
                hit = piece.intersect(asked)
                if hit is not None:
                    low = (*hit.low[:n], new, *hit.low[n + 1 :])
                    high = (*hit.high[:n], new | width, *hit.high[n + 1 :])
                    pieces.append((hit, hit._replace(low=low, high=high)))
            left = [rest for piece in left for rest in piece.subtract(asked)]
            if len(left) > MOST_PIECES:
                return None
        return [*((piece, piece) for piece in left), *pieces]

    def images(self, box: Box) -> Iterator[Box]:
        """What a box's packets become: at least that."""
        yield from self._moved(box, forward=True)

    def origins(self, box: Box) -> Iterator[Box]:
        """The packets that become one of a box's: at least those."""
        yield from self._moved(box, forward=False)

    def _moved(self, box: Box, *, forward: bool) -> Iterator[Box]:
        n, left = self.field, True
        count = 0
        for shapes, old, new, version in self.pairs:
            if not shapes & box.shapes:
                continue
            width = (1 << ADDRESS_SHIFT[version]) - 1
            at, to = (old, new) if forward else (new, old)
            if box.low[n] == old and box.high[n] == old | width and not box.shapes & ~shapes:
                left = False  # all of the box has an address that no packet keeps
            if not (box.low[n] <= at and at | width <= box.high[n]):
                continue
            count += 1
            if count > MOST_PIECES:
                raise Undecided
            yield Box(
                box.shapes & shapes,
                (*box.low[:n], to, *box.low[n + 1 :]),
                (*box.high[:n], to | width, *box.high[n + 1 :]),
                box.flags,
            )
        if left:
            yield box

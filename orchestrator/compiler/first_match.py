"""First-match lists as header space: which rule takes which packets, and which rules take none."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import compress

from orchestrator.alignment import common_ends
from orchestrator.compiler.box_index import BoxIndex, PacketPoint, corner, row_of
from orchestrator.compiler.headerspace import Box, box_of
from orchestrator.memo import Memo
from orchestrator.model.elements import DROP, FilterProgram, RouteProgram
from orchestrator.model.match import Match

MOST_PIECES = 64
"""A box is cut into at most so many pieces before the question is left open."""
MOST_ROUTES = 4096
"""Larger routing tables are not looked into: that would cost more than it can save."""
_FEW = 8
_MOST_REPLACED = 64
"""Beyond so many rules that are new or gone a list is looked at as a whole."""
_UNDERSTOOD = {
    *("ether_type", "version", "src", "dst", "protocol", "src_port", "dst_port", "tcp_flags"),
    *("later_fragment", "icmp_type", "icmp_code", "vlan"),
}
_UNKNOWN = "unknown"
_STRANGE = tuple(field.name for field in fields(Match) if field.name not in _UNDERSTOOD)


class Undecided(Exception):
    """A question that would take too many pieces to answer."""


def understood(match: Match) -> bool:
    """Whether header space knows every condition of a match."""
    return all(getattr(match, name) is None for name in _STRANGE)


def _box_of(match: Match) -> Box | str | None:
    """The packets of a match (None: there are none), or that header space does not know them."""
    return box_of(match) if understood(match) else _UNKNOWN


@dataclass(frozen=True, eq=False)
class FirstMatch:
    """Rules in order: their boxes, outputs and names; what none takes leaves by `default`.

    `rows` are what an index is told of the boxes, where that is known.
    """

    boxes: tuple[Box | None, ...]
    outputs: tuple[str, ...]
    names: tuple[str, ...]
    default: str
    default_name: str = "default"
    rows: tuple[bytes | None, ...] | None = None

    @cached_property
    def index(self) -> BoxIndex:
        """Made when it is first asked."""
        return BoxIndex(self.boxes, self.rows)

    def without(self, gone: Iterable[int]) -> FirstMatch:
        """The same without some rules."""
        stays = bytearray(b"\1" * len(self.boxes))
        for number in gone:
            stays[number] = 0
        return FirstMatch(
            tuple(compress(self.boxes, stays)),
            tuple(compress(self.outputs, stays)),
            tuple(compress(self.names, stays)),
            self.default,
            self.default_name,
            None if self.rows is None else tuple(compress(self.rows, stays)),
        )

    def only(self, boxes: Sequence[Box | None], memo: Memo) -> FirstMatch:
        """The same, of what these boxes have of each rule's."""
        rows = memo.each("row of a box", boxes, row_of)
        return replace(self, boxes=tuple(boxes), rows=tuple(rows))

    def split(self, box: Box) -> Iterator[tuple[Box, int]]:
        """The pieces of a box with the rule that takes each, -1 for the default; lazily."""
        left = [box]
        for number in self.index.meeting(box):
            rule = self.boxes[number]
            assert rule is not None
            rest: list[Box] = []
            for piece in left:
                hit = piece.intersect(rule)
                if hit is None:
                    rest.append(piece)
                else:
                    yield hit, number
                    rest += piece.subtract(rule)
            left = rest
            if not left:
                return
            if len(left) > MOST_PIECES:
                raise Undecided
        yield from ((piece, -1) for piece in left)

    def output(self, number: int) -> str:
        """Where a rule sends what it takes."""
        return self.default if number < 0 else self.outputs[number]

    def name(self, number: int) -> str:
        """A rule's name."""
        return self.default_name if number < 0 else self.names[number]


def first_match(program: FilterProgram | RouteProgram, memo: Memo) -> FirstMatch | None:
    """A filter's rules, or routes with the longest prefix first; None when that is not known."""
    if isinstance(program, RouteProgram):
        return memo.of("routes first to match", program, _routes)
    return memo.of("first match", program, lambda program: _rules(program, memo))


def _rules(program: FilterProgram, memo: Memo) -> FirstMatch | None:
    boxes = boxes_of(program, memo)
    if boxes is None:
        return None
    return FirstMatch(
        tuple(boxes),
        tuple([rule.output for rule in program.rules]),
        tuple([rule.rule for rule in program.rules]),
        program.default,
        program.default_rule,
        tuple(memo.each("row of a box", boxes, row_of)),
    )


def boxes_of(program: FilterProgram, memo: Memo) -> list[Box | None] | None:
    """The packets that each rule asks for (None: there are none); None when that is not known."""
    boxes = memo.each("box of a match", program.matches, _box_of)
    return None if _UNKNOWN in boxes else boxes  # type: ignore[return-value]


def _routes(program: RouteProgram) -> FirstMatch | None:
    if len(program.routes) > MOST_ROUTES or program.tells:  # TTL and length are no headers of a box
        return None
    routes = sorted(program.routes, key=lambda route: -route.prefix.length)
    return FirstMatch(
        tuple(
            box_of(Match(version=r.prefix.version, dst=r.prefix if r.prefix.length else None))
            for r in routes
        ),
        tuple(route.output for route in routes),
        tuple(route.rule for route in routes),
        DROP,
        "no route",
    )


@dataclass(frozen=True, slots=True)
class Shadows:
    """`by`: rules that never match first, and those before them that take their packets. `free`: of
    others a packet that none before takes, where one was found."""

    by: dict[int, tuple[int, ...]]
    free: dict[int, PacketPoint]


def shadowed(rules: FirstMatch, memo: Memo, where: Hashable = None) -> dict[int, tuple[int, ...]]:
    """Rules that never match first, with the rules before them that take their packets.

    `where` names the place of the list: what was found there in the last round still holds for rules
    that meet none of those that are new or gone since.
    """
    place = ("shadowed", where)
    last = memo.last(place) if where is not None else None
    shadows = _still_shadowed(last[0], last[1], rules) if last is not None else None
    if shadows is None:  # once a list: an access list at a thousand ingress switches is one
        shadows = memo.of("shadows", rules, lambda rules: _shadows(rules, range(len(rules.boxes))))
    if where is not None:
        memo.keep(place, (rules, shadows))
    return shadows.by


def _shadows(rules: FirstMatch, numbers: Iterable[int]) -> Shadows:
    shadows = Shadows({}, {})
    for number in numbers:
        box = rules.boxes[number]
        if box is None:
            shadows.by[number] = ()
            continue
        before = [n for n in rules.index.meeting(box) if n < number]
        covering = _covering(rules, number, box, before)
        if isinstance(covering, PacketPoint):
            shadows.free[number] = covering
        elif covering is not None:
            shadows.by[number] = covering
    return shadows


def _still_shadowed(old: FirstMatch, was: Shadows, rules: FirstMatch) -> Shadows | None:
    """`shadowed`, from what it was before one run of rules was replaced; None when that is no gain."""
    first, behind = common_ends(old.boxes, rules.boxes)
    shift = len(rules.boxes) - len(old.boxes)
    fresh = range(first, len(rules.boxes) - behind)
    gone = [box for box in old.boxes[first : len(old.boxes) - behind] if box is not None]
    if len(fresh) + len(gone) > _MOST_REPLACED:
        return None
    new = [box for n in fresh if (box := rules.boxes[n]) is not None]

    def kept(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
        for number in numbers:
            if number < first:
                yield number, number
            elif number >= len(old.boxes) - behind:
                yield number, number + shift

    by = {n: tuple(now for _, now in kept(was.by[at])) for at, n in kept(was.by)}
    free = dict(was.free) if not shift else {n: was.free[at] for at, n in kept(was.free)}
    asked = set(fresh)
    for box in new:
        for n in rules.index.meeting(box):
            if n >= fresh.stop and (n not in free or free[n].may_be_in(box)):
                asked.add(n)
    for box in gone:  # with rules less, a rule that was not shadowed is not
        asked.update(n for n in rules.index.meeting(box) if n in by)
    again = _shadows(rules, sorted(asked))
    by = {n: covering for n, covering in by.items() if n not in asked} | again.by
    for n in asked:
        free.pop(n, None)
    return Shadows(dict(sorted(by.items())), free | again.free)


def _covering(
    rules: FirstMatch, number: int, box: Box, before: Sequence[int]
) -> tuple[int, ...] | PacketPoint | None:
    """The fewest rules, as far as that is easily found, that take all of a box; or a packet that none
    takes; None: they do not, as far as is known."""
    if not before:
        return corner(box)
    whole = rules.index.container(box, before)
    if whole is not None:
        return (whole,)
    if len(before) > _FEW:
        free = rules.index.free_point(box, before, random.Random(number))
        if free is not None:
            return free
    left, used = [box], list[int]()
    for n in before:
        rule = rules.boxes[n]
        assert rule is not None
        rest = [piece for mine in left for piece in mine.subtract(rule)]
        if rest != left:
            used.append(n)
        left = rest
        if len(left) > MOST_PIECES:
            return None
    return tuple(used) if not left else corner(left[0])

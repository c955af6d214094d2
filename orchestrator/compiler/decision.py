"""Build a decision diagram from ordered rules.

A node takes one word of the packet (model/decision.py) and splits its rules by the longest prefix:
as HyperCuts (Singh et al., SIGCOMM 2003) and hierarchical set pruning do, but over a whole word at
once, since LPM tables are what a switch offers. Three things bound the explosion of set pruning: a rule
that an earlier one of the node hides is left out; nodes with the same rules left are one node (hash
consing, as in Bryant's decision diagrams); and words that none of the rules asks for are skipped.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import prod

import numpy as np

from orchestrator.alignment import differing
from orchestrator.compiler.numbering import Numbering, Plan
from orchestrator.memo import Memo
from orchestrator.model.decision import WORDS, Branch
from orchestrator.model.match import Match, PortRange, range_prefixes

Prefix = tuple[int, int]
"""(value, length) of a 32-bit word."""
Shape = tuple[tuple[Prefix, ...], ...]
"""What a rule asks of each word, in the order of WORDS: one of these prefixes; nothing: anything."""

SRC, DST, SERVICE, SRC_PORT, FLAGS = range(len(WORDS))
_TCP, _UDP, _ICMP = 6, 17, 1
_PORTS, _LATER, _ICMP_KIND = 1, 2, 4  # p4src/shared/metadata.p4
_FLAG_ORDER = (1, 4, 2, 0, 7, 6, 5, 3)  # p4src/blocks/tree.p4
ANYTHING: Shape = ((),) * len(WORDS)
_ROW = struct.Struct("=5q")


def shape_of(match: Match) -> Shape | None:
    """What an IPv4 match asks of each word; None when that is no short list of prefixes."""
    icmp = match.icmp_type is not None or match.icmp_code is not None
    ports = match.src_port is not None or match.dst_port is not None
    flags = match.tcp_flags is not None
    if match.vlan is not None:
        return None
    no_prefix = match.later_fragment is False or (match.later_fragment and match.protocol is None)
    if no_prefix and not (ports or flags or icmp):
        return None
    kind = _PORTS if ports or flags else _ICMP_KIND if icmp else None
    if match.later_fragment:
        kind = _LATER
    protocols: tuple[int, ...] = ()
    if match.protocol is not None:
        protocols = (match.protocol,)
    elif flags or icmp or ports:
        protocols = (_TCP,) if flags else (_ICMP,) if icmp else (_TCP, _UDP)
    low = _range(match.dst_port, match.icmp_code)
    service = [p for protocol in protocols for p in _service(protocol, kind, low)]
    src_port = _range(match.src_port, match.icmp_type)
    return (
        ((match.src.value, match.src.length),) if match.src and match.src.length else (),
        ((match.dst.value, match.dst.length),) if match.dst and match.dst.length else (),
        tuple(service),
        tuple((v << 16, n) for v, n in range_prefixes(*src_port)) if src_port else (),
        _flags(*match.tcp_flags) if match.tcp_flags else (),
    )


def _range(ports: PortRange | None, value: int | None) -> tuple[int, int] | None:
    if value is not None:
        return value, value
    if ports is None or (ports.low, ports.high) == (0, 65535):
        return None
    return ports.low, ports.high


def _service(protocol: int, kind: int | None, ports: tuple[int, int] | None) -> Iterator[Prefix]:
    if kind is None:
        yield protocol << 24, 8
    elif ports is None:
        yield protocol << 24 | kind << 16, 16
    else:
        for value, length in range_prefixes(*ports):
            yield protocol << 24 | kind << 16 | value, 16 + length


def _flags(value: int, mask: int) -> tuple[Prefix, ...]:
    asked = [place for place, bit in enumerate(_FLAG_ORDER) if mask >> bit & 1]
    length = asked[-1] + 1 if asked else 0
    wanted = [(length - 1 - place, value >> _FLAG_ORDER[place] & 1) for place in asked]
    return tuple(
        (word << 32 - length, length)
        for word in range(1 << length if asked else 0)
        if all(word >> at & 1 == bit for at, bit in wanted)
    )


# Which word first: each a way that pays for some rule sets and explodes for others.

Choice = Callable[[Sequence[Shape], tuple[int, ...]], int]


def in_order(*words: int) -> Choice:
    """The first of these words that is asked for."""
    rank = {word: i for i, word in enumerate(words)}
    return lambda shapes, asked: min(asked, key=lambda word: rank[word])


def fewest_pairs(shapes: Sequence[Shape], asked: tuple[int, ...]) -> int:
    """The word that leaves the least work: rules of a branch, squared, summed."""

    def work(word: int) -> int:
        own: Counter[Prefix] = Counter(prefix for shape in shapes for prefix in shape[word])
        wild = sum(not shape[word] for shape in shapes)
        return sum((count + wild) ** 2 for count in own.values()) + wild * wild

    return min(asked, key=lambda word: (work(word), word))


CHOICES: tuple[Choice, ...] = (in_order(DST, SRC, SERVICE, FLAGS, SRC_PORT), fewest_pairs)


def copies(shapes: Sequence[Shape], memo: Memo) -> list[int]:
    """About how many branches each rule would be in: pairs of address prefixes, times its ports'."""
    packed = b"".join(memo.each("packed shape", shapes, _packed))
    copied, *addresses = np.frombuffer(packed, np.int64).reshape(-1, 5).T
    for value, length in (addresses[:2], addresses[2:]):
        asked = np.unique(value << 6 | length) >> 6
        values = asked[asked >= 0]
        inside = np.searchsorted(values, value + (1 << 32 - length)) - np.searchsorted(
            values, value
        )
        copied = copied * np.where(value >= 0, inside, len(values) + 1)
    return copied.tolist()


def _packed(shape: Shape) -> bytes:
    """Choices of ports; (value, length) of source and destination. A rule has one prefix or none."""
    ports = prod(len(shape[word]) or 1 for word in (SERVICE, SRC_PORT))
    src, dst = ((shape[word] or ((-1, 0),))[0] for word in (SRC, DST))
    return _ROW.pack(ports, *src, *dst)


class TooLarge(Exception):
    """A diagram would have more branches than wanted."""


class TakesTooLong(TooLarge):
    """It would take longer to build than wanted."""


_KEPT = 400_000
"""Nodes that a builder remembers, at most: of a dozen large access lists."""
MOST_LOOKED_AT = 1_500_000
"""Rules looked at while a diagram is built, at most, some seconds' work; acl1_10k takes 0.5 million."""

_Ref = int


@dataclass(slots=True)
class _Listed:
    """A list of rules, and the numbers of their shapes and of shape and content."""

    shapes: list[Shape] = field(default_factory=list[Shape])
    contents: list[object] = field(default_factory=list[object])
    kinds: list[int] = field(default_factory=list[int])
    numbers: list[int] = field(default_factory=list[int])


@dataclass(slots=True)
class Builder:
    """Makes diagrams with one choice of words; nodes of the last ones are kept and used again.

    Rules are numbered by content here, the verdict of rule n is -1 - n.
    """

    choice: Choice
    numbering: Numbering = field(default_factory=Numbering)
    _listed: _Listed = field(default_factory=_Listed)
    _kinds: dict[Shape, int] = field(default_factory=dict[Shape, int])
    _numbers: dict[tuple[int, object], int] = field(default_factory=dict[tuple[int, object], int])
    _memo: dict[tuple[object, ...], _Ref] = field(default_factory=dict[tuple[object, ...], _Ref])
    _lists: dict[tuple[object, ...], int] = field(default_factory=dict[tuple[object, ...], int])
    _below: dict[tuple[int, tuple[int, ...]], _Ref] = field(
        default_factory=dict[tuple[int, tuple[int, ...]], _Ref]
    )
    """Nodes by the lists that their rules come from, so that equal ones need not be joined."""
    _found: dict[Plan, _Ref] = field(default_factory=dict[Plan, _Ref])
    _shapes: dict[int, tuple[Shape, int]] = field(default_factory=dict[int, tuple[Shape, int]])
    _was_too_large: bool = False
    _reached: set[_Ref] = field(default_factory=set[_Ref])
    """Where the last diagram was too large: the nodes of this one, so far."""
    _branches: int = 0
    _looked_at: int = 0
    _limit: int = 0

    def build(
        self, shapes: list[Shape], contents: list[object], limit: int
    ) -> tuple[_Ref, list[int]]:
        """(root, content number of each rule) of rules that match first; the last asks nothing.

        `contents` tell apart rules of the same shape. TooLarge beyond `limit` branches. A root below 0
        is a verdict: the rules ask nothing.
        """
        if len(self._memo) + len(self._below) > _KEPT:
            self._forget()
        listed = self._listed = self._numbered(shapes, contents)
        # Of rules of one shape the first counts, and none behind one for everything.
        behind = range(len(shapes) - 1, -1, -1)
        first = dict(zip(reversed(listed.kinds), behind, strict=True))
        last = first[self._kinds[ANYTHING]]
        kept = sorted(at for at in first.values() if at <= last)
        self._branches, self._looked_at, self._limit = 0, len(shapes), limit
        self._reached.clear()
        try:
            root = self._of(shapes, listed.numbers, kept, tuple(range(len(WORDS))))
            if root >= 0 and self.numbering.size(root) > limit:
                raise TooLarge
        except TakesTooLong:
            self._forget()
            raise
        except TooLarge:
            self._was_too_large = True
            raise
        self._was_too_large = False
        return root, listed.numbers

    def _numbered(self, shapes: list[Shape], contents: list[object]) -> _Listed:
        """Most rules are where they were in the last list."""
        before = self._listed
        numbered = _Listed(shapes, contents, [0] * len(shapes), [0] * len(shapes))
        places: Iterable[int] = range(len(shapes))
        if len(before.shapes) == len(shapes):
            numbered.kinds, numbered.numbers = list(before.kinds), list(before.numbers)
            places = {*differing(before.shapes, shapes), *differing(before.contents, contents)}
        for at in places:
            kind = numbered.kinds[at] = self._kind(shapes[at])
            content = kind, contents[at]
            numbered.numbers[at] = self._numbers.setdefault(content, len(self._numbers))
        return numbered

    def _kind(self, shape: Shape) -> int:
        """Equal shapes have one number; to look them up by value is slow, so objects are known, too."""
        remembered = self._shapes.get(id(shape))
        if remembered is None:
            kind = self._kinds.setdefault(shape, len(self._kinds))
            remembered = self._shapes[id(shape)] = shape, kind
        return remembered[1]

    def _forget(self) -> None:
        self._was_too_large = False
        self.numbering = Numbering()
        self._listed = _Listed()
        self._kinds.clear()
        self._shapes.clear()
        self._numbers.clear()
        self._memo.clear()
        self._lists.clear()
        self._below.clear()
        self._found.clear()

    def _node(
        self, shapes: Sequence[Shape], numbers: list[int], rules: list[int], words: tuple[int, ...]
    ) -> _Ref:
        self._looked_at += len(rules)
        if self._looked_at > MOST_LOOKED_AT:
            raise TakesTooLong
        asked_before = (words, *map(numbers.__getitem__, rules))
        remembered = self._memo.get(asked_before)
        if remembered is None:
            remembered = self._memo[asked_before] = self._reduced(shapes, numbers, rules, words)
        return remembered

    def _reduced(
        self, shapes: Sequence[Shape], numbers: list[int], rules: list[int], words: tuple[int, ...]
    ) -> _Ref:
        kept: list[int] = []
        seen: set[Shape] = set()
        for rule in rules:  # what an earlier rule hides, or a rule for everything ends
            shape = shapes[rule]
            rest = tuple([shape[word] for word in words])
            if rest in seen:
                continue
            seen.add(rest)
            kept.append(rule)
            if not any(rest):
                break
        return self._of(shapes, numbers, kept, words)

    def _of(
        self, shapes: Sequence[Shape], numbers: list[int], rules: list[int], words: tuple[int, ...]
    ) -> _Ref:
        """The node of rules of which none hides another one."""
        asked = tuple(word for word in words if any(shapes[rule][word] for rule in rules))
        if not asked:
            return -1 - numbers[rules[0]]
        key = (asked, *map(numbers.__getitem__, rules))
        node = self._memo.get(key)
        if node is None:
            node = self._memo[key] = self._split(shapes, numbers, rules, asked)
        return node

    def _split(
        self, shapes: Sequence[Shape], numbers: list[int], rules: list[int], asked: tuple[int, ...]
    ) -> _Ref:
        word = self.choice([shapes[rule] for rule in rules], asked)
        rest = tuple(other for other in asked if other != word)
        own: dict[Prefix, list[int]] = {}
        wild: list[int] = []
        for rule in rules:
            prefixes = shapes[rule][word]
            if not prefixes:
                wild.append(rule)
            for prefix in prefixes:
                own.setdefault(prefix, []).append(rule)

        def below(outer: int, lists: tuple[list[int], ...]) -> tuple[int, _Ref]:
            """(number of the rules in some lists, their node), given the number of all but the last."""
            last = lists[-1]
            key = (outer, tuple(last), *map(numbers.__getitem__, last))
            ident = self._lists.setdefault(key, len(self._lists))
            to = self._below.get((ident, rest))
            if to is None:
                inner = sorted(chain.from_iterable(lists))
                to = self._below[ident, rest] = self._node(shapes, numbers, inner, rest)
            if self._was_too_large:
                self._reach(to)
            return ident, to

        ident, to = below(-1, (wild,))
        branches = [Branch(0, 0, to)]
        around: list[tuple[int, int, tuple[list[int], ...], int, _Ref]]
        around = [(0, 0, (wild,), ident, to)]
        for value, length in sorted(own):
            while around[-1][0] ^ value >> 32 - around[-1][1] if around[-1][1] else 0:
                around.pop()
            _, _, outer, outer_ident, outer_to = around[-1]
            lists = (*outer, own[value, length])
            ident, to = below(outer_ident, lists)
            if to != outer_to:
                branches.append(Branch(value, length, to))
            around.append((value >> 32 - length, length, lists, ident, to))
        plan = (word, tuple(branches))
        ref = self._found.get(plan)
        if ref is None:
            ref = self._found[plan] = self.numbering.add(plan)
            if not self._was_too_large:
                self._count(len(branches))
        return ref

    def _reach(self, ref: _Ref) -> None:
        """Count the branches of a node and of those below it, each once.

        Where the last diagram was too large most of this one's nodes are known: to count only new ones
        would find out late, or never, that it is too large, too.
        """
        todo = [ref]
        while todo:
            at = todo.pop()
            if at >= 0 and at not in self._reached:
                self._reached.add(at)
                self._count(self.numbering.branches(at))
                todo += self.numbering.below(at)

    def _count(self, branches: int) -> None:
        self._branches += branches
        if self._branches > self._limit:
            raise TooLarge

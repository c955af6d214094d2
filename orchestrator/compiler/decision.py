"""Build a decision diagram from ordered rules.

A node takes one word of the packet (model/decision.py) and splits its rules by the longest prefix:
as HyperCuts (Singh et al., SIGCOMM 2003) and hierarchical set pruning do, but over a whole word at
once, since LPM tables are what a switch offers. Three things bound the explosion of set pruning: a rule
that an earlier one of the node hides is left out; nodes with the same rules left are one node (hash
consing, as in Bryant's decision diagrams); and words that none of the rules asks for are skipped.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import prod

import numpy as np

from orchestrator.model.decision import LEVELS, WORDS, Branch, Diagram, Node
from orchestrator.model.match import Match, PortRange
from orchestrator.recall import current

Prefix = tuple[int, int]
"""(value, length) of a 32-bit word."""
Shape = tuple[tuple[Prefix, ...], ...]
"""What a rule asks of each word, in the order of WORDS: one of these prefixes; nothing: anything."""

SRC, DST, SERVICE, SRC_PORT, FLAGS = range(len(WORDS))
_TCP, _UDP, _ICMP = 6, 17, 1
_PORTS, _LATER, _ICMP_KIND = 1, 2, 4  # p4src/shared/metadata.p4
_FLAG_ORDER = (1, 4, 2, 0, 7, 6, 5, 3)  # p4src/blocks/tree.p4
ANYTHING: Shape = ((),) * len(WORDS)
_WAY = struct.Struct("!IIB")
_ROW = struct.Struct("=5q")


def shape_of(match: Match) -> Shape | None:
    """What an IPv4 match asks of each word; None when that is no short list of prefixes."""
    icmp = match.icmp_type is not None or match.icmp_code is not None
    ports = match.src_port is not None or match.dst_port is not None
    flags = match.tcp_flags is not None
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


def range_prefixes(low: int, high: int, bits: int = 16) -> Iterator[Prefix]:
    """The fewest prefixes (value, length) of a number that cover low..high."""
    end = high + 1
    while low < end:
        size = low & -low or 1 << bits
        while size > end - low:
            size >>= 1
        yield low, bits - size.bit_length() + 1
        low += size


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


def copies(shapes: Sequence[Shape]) -> list[int]:
    """About how many branches each rule would be in: pairs of address prefixes, times its ports'."""
    packed = b"".join(current().each(_packed, shapes, _packed))
    found, *addresses = np.frombuffer(packed, np.int64).reshape(-1, 5).T
    for value, length in (addresses[:2], addresses[2:]):
        asked = np.unique(value << 6 | length) >> 6
        values = asked[asked >= 0]
        inside = np.searchsorted(values, value + (1 << 32 - length)) - np.searchsorted(
            values, value
        )
        found = found * np.where(value >= 0, inside, len(values) + 1)
    return found.tolist()


def _packed(shape: Shape) -> bytes:
    """Choices of ports; (value, length) of source and destination. A rule has one prefix or none."""
    ports = prod(len(shape[word]) or 1 for word in (SERVICE, SRC_PORT))
    src, dst = ((shape[word] or ((-1, 0),))[0] for word in (SRC, DST))
    return _ROW.pack(ports, *src, *dst)


class TooLarge(Exception):
    """A diagram would have more branches, or take longer to build, than wanted."""


_KEPT = 400_000
"""Nodes that a builder remembers, at most: of a dozen large access lists."""
MOST_LOOKED_AT = 1_500_000
"""Rules looked at while a diagram is built, at most, some seconds' work; acl1_10k takes 0.5 million."""

_Ref = int
_Plan = tuple[int, tuple[Branch, ...]]
_Ways = tuple[tuple[int, int, _Ref], ...]
"""(value, length, node) of the first branch to each of the nodes that a node leads to."""


@dataclass(slots=True)
class Builder:
    """Makes diagrams with one choice of words; nodes of the last ones are kept and used again.

    Rules are numbered by content here (`_number`), the verdict of rule n is -1 - n.
    """

    choice: Choice
    _kinds: dict[Shape, int] = field(default_factory=dict[Shape, int])
    _numbers: dict[tuple[int, object], int] = field(default_factory=dict[tuple[int, object], int])
    _memo: dict[tuple[object, ...], _Ref] = field(default_factory=dict[tuple[object, ...], _Ref])
    _lists: dict[tuple[object, ...], int] = field(default_factory=dict[tuple[object, ...], int])
    _below: dict[tuple[int, tuple[int, ...]], _Ref] = field(
        default_factory=dict[tuple[int, tuple[int, ...]], _Ref]
    )
    """Nodes by the lists that their rules come from, so that equal ones need not be joined."""
    _found: dict[_Plan, int] = field(default_factory=dict[_Plan, int])
    _plans: list[_Plan] = field(default_factory=list[_Plan])
    _ways: list[_Ways] = field(default_factory=list[_Ways])
    _shapes: dict[int, tuple[Shape, int]] = field(default_factory=dict[int, tuple[Shape, int]])
    _order: tuple[_Ref, list[_Ref]] = (-1, [])
    _places: dict[_Ref, tuple[int, int]] = field(default_factory=dict[_Ref, tuple[int, int]])
    _nodes: dict[_Ref, Node] = field(default_factory=dict[_Ref, Node])
    _rules: dict[int, int] = field(default_factory=dict[int, int])
    _made: int = 0
    _looked_at: int = 0
    _limit: int = 0

    def build(
        self, shapes: Sequence[Shape], contents: Sequence[object], limit: int
    ) -> tuple[_Ref, list[int]]:
        """(root, content number of each rule) of rules that match first; the last asks nothing.

        `contents` tell apart rules of the same shape. TooLarge beyond `limit` branches. A root below 0
        is a verdict: the rules ask nothing.
        """
        if len(self._memo) + len(self._below) > _KEPT:
            self._forget()
        kinds = self._shape_numbers(shapes)
        numbers = [
            self._numbers.setdefault(item, len(self._numbers))
            for item in zip(kinds, contents, strict=True)
        ]
        self._made = self._looked_at = 0
        self._limit = limit
        try:
            root = self._node(shapes, numbers, list(range(len(shapes))), tuple(range(len(WORDS))))
        except TooLarge:
            self._forget()
            raise
        if root >= 0 and self._size(root) > limit:
            raise TooLarge
        return root, numbers

    def _shape_numbers(self, shapes: Sequence[Shape]) -> list[int]:
        """Equal shapes have one number; to look them up by value is slow, so objects are known, too."""
        found: list[int] = []
        known = self._shapes
        for shape in shapes:
            entry = known.get(id(shape))
            if entry is None:
                entry = known[id(shape)] = (shape, self._kinds.setdefault(shape, len(self._kinds)))
            found.append(entry[1])
        return found

    def _forget(self) -> None:
        self._kinds.clear()
        self._shapes.clear()
        self._order = (-1, [])
        self._places.clear()
        self._numbers.clear()
        self._memo.clear()
        self._lists.clear()
        self._below.clear()
        self._found.clear()
        self._plans.clear()
        self._ways.clear()
        self._nodes.clear()
        self._rules.clear()

    def _size(self, root: _Ref) -> int:
        return sum(map(self.size, self.order(root)))

    def order(self, root: _Ref) -> list[_Ref]:
        """Nodes below and with a root, before those that they lead to."""
        if self._order[0] != root:
            self._order = root, _topological(self, root)
        return self._order[1]

    def size(self, ref: _Ref) -> int:
        """Branches of a node."""
        return len(self._plans[ref][1])

    def ways(self, ref: _Ref) -> _Ways:
        """The first branch to each node."""
        return self._ways[ref]

    def nodes(
        self,
        refs: Sequence[_Ref],
        place: dict[_Ref, tuple[int, int]],
        rule_of: Mapping[int, int],
    ) -> list[Node]:
        """The nodes at their places (level, id); those of the last diagram again where they are equal.

        `rule_of` are the numbers of the rules in their list, by number of content.
        """
        if any(number in self._rules for number, _ in rule_of.items() - self._rules.items()):
            self._nodes.clear()
            self._rules.clear()
        self._rules.update(rule_of)
        moved = {ref for ref, _ in place.items() - self._places.items()}
        self._places = place
        known = self._nodes
        anew = moved | (place.keys() - known.keys())
        if moved:
            anew |= {ref for ref in refs for _, _, to in self._ways[ref] if to in moved}
        for ref in anew:
            known[ref] = self._node_at(ref, place, rule_of)
        return list(map(known.__getitem__, refs))

    def _node_at(
        self, ref: _Ref, place: Mapping[_Ref, tuple[int, int]], rule_of: Mapping[int, int]
    ) -> Node:
        word, branches = self._plans[ref]
        below = tuple(
            Branch(value, length, place[to][1], WORDS[self._plans[to][0]])
            if to >= 0
            else Branch(value, length, -1 - rule_of[-1 - to])
            for value, length, to, _ in branches
        )
        return Node(WORDS[word], *place[ref], below)

    def _node(
        self, shapes: Sequence[Shape], numbers: list[int], rules: list[int], words: tuple[int, ...]
    ) -> _Ref:
        self._looked_at += len(rules)
        if self._looked_at > MOST_LOOKED_AT:
            raise TooLarge
        asked_before = (words, *map(numbers.__getitem__, rules))
        known = self._memo.get(asked_before)
        if known is None:
            known = self._memo[asked_before] = self._reduced(shapes, numbers, rules, words)
        return known

    def _reduced(
        self, shapes: Sequence[Shape], numbers: list[int], rules: list[int], words: tuple[int, ...]
    ) -> _Ref:
        kept: list[int] = []
        seen: set[Shape] = set()
        whole = len(words) == len(WORDS)
        for rule in rules:  # what an earlier rule hides, or a rule for everything ends
            shape = shapes[rule]
            rest = shape if whole else tuple([shape[word] for word in words])
            if rest in seen:
                continue
            seen.add(rest)
            kept.append(rule)
            if not any(rest):
                break
        asked = tuple(word for word in words if any(shapes[rule][word] for rule in kept))
        if not asked:
            return -1 - numbers[kept[0]]
        key = (asked, *map(numbers.__getitem__, kept))
        found = self._memo.get(key)
        if found is None:
            found = self._memo[key] = self._split(shapes, numbers, kept, asked)
        return found

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
            ref = self._found[plan] = len(self._plans)
            self._plans.append(plan)
            first = {b.to: (b.value, b.length, b.to) for b in reversed(branches) if b.to >= 0}
            self._ways.append(tuple(reversed(first.values())))
            self._made += len(branches)
            if self._made > self._limit:
                raise TooLarge
        return ref


def number_nodes(
    builder: Builder, root: _Ref, rule_of: Mapping[int, int], weighed: tuple[int, ...]
) -> Diagram:
    """The diagram below a root: levels by the longest way, ids by the first."""
    order = builder.order(root)
    level, name = {root: 1}, {root: 0}
    taken = {0}
    sizes: Counter[int] = Counter()
    for ref in order:
        sizes[level[ref]] += builder.size(ref)
        mine, below = name[ref], level[ref] + 1
        for value, length, to in builder.ways(ref):
            if level.get(to, 0) < below:
                level[to] = below
            if to not in name:
                found = zlib.crc32(_WAY.pack(mine, value, length))
                while found in taken:
                    found = found + 1 & 0xFFFFFFFF
                name[to] = found
                taken.add(found)
    nodes = builder.nodes(order, {ref: (level[ref], name[ref]) for ref in order}, rule_of)
    return Diagram(tuple(nodes), weighed, tuple(sizes[i + 1] for i in range(LEVELS)))


def _topological(builder: Builder, root: _Ref) -> list[_Ref]:
    """Nodes before those that they lead to."""
    done: set[_Ref] = set()
    order: list[_Ref] = []

    def visit(ref: _Ref) -> None:  # at most as deep as there are words
        done.add(ref)
        for _, _, to in reversed(builder.ways(ref)):
            if to not in done:
                visit(to)
        order.append(ref)

    visit(root)
    return order[::-1]

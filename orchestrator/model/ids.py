"""The numbers by which devices know the parts of a graph. Nothing else knows how their bits lie.

    segment, 24 bits            graph 10 | gated 1 | own number 13
    service path (SPI), 24      graph 10 | own number 14
    multicast group, 16         graph 10 | own number 6

p4src/shared/metadata.p4 says the same to the switches. 0 is no graph, and a number that is 0 below the
graph names nothing.
"""

from __future__ import annotations

import re
from typing import NamedTuple

GRAPH_IDS = range(1, 1 << 10)


class NumberLayout(NamedTuple):
    """Numbers of one kind: a graph's id above `below` bits that the graph gives out itself."""

    below: int

    def pack(self, graph_id: int, own: int) -> int:
        """The number; ValueError when the graph's id or its own part does not fit."""
        if graph_id not in GRAPH_IDS or not 0 <= own < self.size:
            raise ValueError(f"{own} of graph {graph_id} does not fit {self.below} bits")
        return graph_id << self.below | own

    @property
    def size(self) -> int:
        """How many own numbers there are, with 0."""
        return 1 << self.below

    def graph(self, number: int) -> int:
        """The graph that a number belongs to."""
        return number >> self.below

    def numbers(self, graph_id: int) -> range:
        """All numbers of a graph."""
        return range(graph_id << self.below, graph_id + 1 << self.below)

    def moved(self, number: int, by: int) -> int:
        """The same of the graph whose id is higher by so much; 0 names nothing and stays."""
        return number and number + (by << self.below)


GRAPH, SEGMENT, PATH, GROUP = NumberLayout(0), NumberLayout(14), NumberLayout(14), NumberLayout(6)

GATE_BIT = 13
GATED = 1 << GATE_BIT
"""In a segment's own number: packets of such a segment come to gated blocks (targets/block.py)."""

_SEGMENT_WORDS = re.compile(r"(\d{1,4})\.(\d{1,5})(g?)", re.ASCII)


def is_gated(segment: int) -> bool:
    """Whether a segment's packets come to gated blocks."""
    return bool(segment & GATED)


def segment_words(segment: int) -> str:
    """`1.3`: segment 3 of graph 1; `1.3g`: the one of the same number that is gated."""
    own = segment & SEGMENT.size - 1
    return f"{SEGMENT.graph(segment)}.{own & ~GATED}{'g' if is_gated(segment) else ''}"


def parse_segment(text: str) -> int | None:
    """The segment that `segment_words` says so; None when it would not say that."""
    match = _SEGMENT_WORDS.fullmatch(text)
    if match is None or int(match[1]) >= GRAPH_IDS.stop:
        return None
    own = int(match[2]) | (GATED if match[3] else 0)
    segment = int(match[1]) << SEGMENT.below | own
    return segment if segment_words(segment) == text else None


class PathPosition(NamedTuple):
    """A service path and the position on it (RFC 8300, 2.3): 24 and 8 bits, as NSH has them."""

    spi: int
    si: int

    @property
    def number(self) -> int:
        """Both as the 32 bits of NSH's service path header."""
        return self.spi << 8 | self.si


def hop(number: int) -> PathPosition:
    """The hop of a service path header."""
    return PathPosition(number >> 8, number & 0xFF)


class TreeNode(NamedTuple):
    """A node of the decision tree of a segment: 24 and 32 bits."""

    segment: int
    node: int

    @property
    def number(self) -> int:
        """Both as one number, which no device sees."""
        return self.segment << 32 | self.node


MOST_TREE_NODES = (1 << 32) - 1
"""The largest id of a tree's node, below the number of its segment."""


def tree_node(number: int) -> TreeNode:
    """The node of such a number."""
    return TreeNode(number >> 32, number & MOST_TREE_NODES)

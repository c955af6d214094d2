"""A filter's rules as a decision diagram: what a switch executes by exact and LPM lookups alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from orchestrator.model.elements import FilterProgram

LEVELS = 5
WORDS = ("src", "dst", "service", "src_port", "flags")
"""What a node can look at, 32 bits each, a smaller field in the upper ones: p4src/blocks/tree.p4.

service: protocol (8 bits), L4 kind (8), destination port or ICMP code (16); src_port: or ICMP type;
flags: TCP's, those that rules ask for most in front.
"""


class Branch(NamedTuple):
    """For words that begin with the first `length` bits of `value` (the longest such branch wins).

    `to` is the id of a node, which looks at `word`, or, below 0, the verdict of rule -1 - `to`; the rule
    behind the last one is the default.
    """

    value: int
    length: int
    to: int
    word: str = ""


class DecisionNode(NamedTuple):
    """Looks at a word in the tables of a level (from 1). `id` tells it from others of its segment.

    The id comes from the ways by which the node is reached, so that a change of a rule hardly renames
    what it does not touch; nor does it make a new object of it (compiler/numbering.py).
    """

    word: str
    level: int
    id: int
    branches: tuple[Branch, ...]


class Diagram(NamedTuple):
    """`nodes[0]` is the root. Rules in `weighed` (ascending) are left out: they stay ternary.

    `sizes` are the branches of each level.
    """

    nodes: tuple[DecisionNode, ...]
    weighed: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def entries(self) -> int:
        """Branches of all nodes."""
        return sum(self.sizes)

    @property
    def levels(self) -> int:
        """Lookups of a packet, at most."""
        return sum(size > 0 for size in self.sizes)


@dataclass(frozen=True, kw_only=True)
class DecidedProgram(FilterProgram):
    """A filter whose rules on IPv4 are decided by a diagram, as a target runs it faster.

    The other kinds of packet and the weighed rules keep their ternary entries.
    """

    diagram: Diagram

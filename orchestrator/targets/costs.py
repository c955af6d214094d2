"""What lookups cost on a target: by these figures lowering chooses the form of an access list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class FilterCosts(Protocol):
    """Costs of a filter's forms, in a unit of the target's own; lower is better."""

    @property
    def ranges(self) -> bool:
        """Whether ternary tables know ranges; else a range is expanded into prefixes."""
        ...

    @property
    def least_gain(self) -> float:
        """A plain ternary table is left for no less."""
        ...

    def plain(self, entries: int) -> float:
        """All rules in a ternary table, for so many entries."""
        ...

    def decided(self, levels: int, branches: int, weighed: int) -> float:
        """A tree of so many levels, and so many weighed entries beside it in the ternary table."""
        ...


@dataclass(frozen=True, slots=True)
class LookupCosts:
    """A software switch: microseconds a packet.

    `ternary_entry`: each entry of a ternary table, hit or not. `tree`: handing a packet over to the
    tree, its root and the verdict. `level`: a lookup in one level. `branch`: what a branch is held to
    cost, though no packet waits for it, so that a tree must pay for its size: 100,000 take BMv2 0.7 s to
    write, and 45 MiB.
    """

    ternary_entry: float
    tree: float
    level: float
    branch: float = 1e-5
    least_gain: float = 2.0
    ranges: bool = True

    def plain(self, entries: int) -> float:
        return entries * self.ternary_entry

    def decided(self, levels: int, branches: int, weighed: int) -> float:
        lookups = self.tree + levels * self.level
        return lookups + weighed * self.ternary_entry + branches * self.branch

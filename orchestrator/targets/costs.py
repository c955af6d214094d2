"""What lookups cost on a target: by these figures lowering chooses the form of an access list."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from orchestrator.targets.tofino import TofinoCosts


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


BMV2 = LookupCosts(ternary_entry=0.008, tree=2.5, level=1.2)
"""CPU time a packet of simple_switch_grpc (2026-11, optimised build, 2 cores) on the shipped edge
pipeline: no rules 22.3 us; acl1_10k ternary 88 to 103 us (6.7 to 8.2 ns an entry), acl1_1k 32 us (10 ns
an entry); as trees of four levels 29.5 and 28.5 us (tests/bench/filters.py). Of the ternary table the
lower figures are taken, so that a tree is chosen only where it surely pays: from some 1,200 rules on."""

SOFTSWITCH = LookupCosts(ternary_entry=0.0, tree=2.5, level=1.2)
"""Its ternary lookup is a tuple-space search behind a memo and does not grow with the rules: acl1_10k
costs 0.6 us a packet of a known flow (a tree: 4.8 us), 10 us one of a new flow (7 us)."""

_BY_TARGET: dict[str, FilterCosts] = {
    "bmv2": BMV2,
    "softswitch": SOFTSWITCH,
    "auto": BMV2,
    "tofino": TofinoCosts(),
}


def filter_costs(targets: Iterable[str]) -> FilterCosts | None:
    """The costs by which a network of these targets is lowered; None when none is known.

    A unit is lowered before it is known on which switch: in a mixed network the target decides that
    suffers most from a long ternary table.
    """
    known = [_BY_TARGET[target] for target in sorted(set(targets)) if target in _BY_TARGET]
    return max(known, key=lambda costs: costs.plain(10_000), default=None)

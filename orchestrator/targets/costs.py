"""What lookups cost on a target: by these figures lowering chooses the form of an access list.

Measured with tests/bench/filters.py on the shipped edge pipeline; the sources are with the figures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FilterCosts:
    """Microseconds a packet.

    `ternary_entry`: each entry of a ternary table, hit or not. `tree`: handing a packet over to the
    tree, its root and the verdict. `level`: a lookup in one level. `installed`: what an entry is held
    to cost that no packet waits for, so that a tree must pay for its size. `least_gain`: a form is
    changed for more than this.
    """

    ternary_entry: float
    tree: float
    level: float
    installed: float = 1e-5
    least_gain: float = 2.0

    def plain(self, rules: int) -> float:
        """All rules in a ternary table."""
        return rules * self.ternary_entry

    def decided(self, levels: int, entries: int, weighed: int) -> float:
        """A tree, and the weighed rules beside it in the ternary table."""
        return (
            self.tree
            + levels * self.level
            + weighed * self.ternary_entry
            + entries * self.installed
        )


BMV2 = FilterCosts(ternary_entry=0.027, tree=3.0, level=1.2)
SOFTSWITCH = FilterCosts(ternary_entry=0.0, tree=3.0, level=1.2)
_BY_TARGET = {"bmv2": BMV2, "softswitch": SOFTSWITCH, "auto": BMV2}


def filter_costs(targets: Iterable[str]) -> FilterCosts | None:
    """The costs by which a network of these targets is lowered; None: forms stay plain.

    A network of several kinds is lowered for the first of them that trees help.
    """
    known = [_BY_TARGET[target] for target in sorted(set(targets)) if target in _BY_TARGET]
    return max(known, key=lambda costs: costs.ternary_entry, default=None)

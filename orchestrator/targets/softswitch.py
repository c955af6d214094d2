"""The softswitch that comes with the orchestrator (orchestrator/softswitch)."""

from __future__ import annotations

from typing import ClassVar

from orchestrator.targets.costs import FilterCosts, LookupCosts
from orchestrator.targets.target import Engine, target
from orchestrator.targets.v1model import V1Model

COSTS = LookupCosts(ternary_entry=0.0, tree=2.5, level=1.2)
"""Its ternary lookup is a tuple-space search behind a memo and does not grow with the rules: acl1_10k
costs 0.6 us a packet of a known flow (a tree: 4.8 us), 10 us one of a new flow (7 us)."""


@target("softswitch")
class Softswitch(V1Model):
    """`auto` takes it where nothing else is installed."""

    costs: ClassVar[FilterCosts] = COSTS
    engine: ClassVar[Engine | None] = Engine("softswitch", "the softswitch")
    choice: ClassVar[int | None] = 9

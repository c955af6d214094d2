"""BMv2's `simple_switch_grpc`."""

from __future__ import annotations

from typing import ClassVar

from orchestrator.targets.costs import FilterCosts, LookupCosts
from orchestrator.targets.target import Engine, target
from orchestrator.targets.v1model import V1Model

COSTS = LookupCosts(ternary_entry=0.008, tree=2.5, level=1.2)
"""CPU time a packet of simple_switch_grpc (2026-11, optimised build, 2 cores) on the shipped edge
pipeline: no rules 22.3 us; acl1_10k ternary 88 to 103 us (6.7 to 8.2 ns an entry), acl1_1k 32 us (10 ns
an entry); as trees of four levels 29.5 and 28.5 us (tests/bench/filters.py). Of the ternary table the
lower figures are taken, so that a tree is chosen only where it surely pays: from some 1,200 rules on."""


@target("bmv2")
class Bmv2(V1Model):
    """`auto` takes it wherever it is installed."""

    costs: ClassVar[FilterCosts] = COSTS
    engine: ClassVar[Engine | None] = Engine(
        "simple_switch_grpc",
        "BMv2",
        executable="simple_switch_grpc",
        homepage="https://github.com/p4lang/behavioral-model",
        knows_writers=False,
    )
    choice: ClassVar[int | None] = 1

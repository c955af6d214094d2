"""Figures of header space and synthesis: what a rule set of 10,000 and 100,000 sets cost."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

from figures import Missing, Result, figure

CLASSBENCH = Path(__file__).resolve().parents[3] / "shared" / "data" / "classbench"
SETS = 100_000


def random_matches(count: int) -> list[Any]:
    """Prefix pairs with a port range, of all lengths, from a seed."""
    from orchestrator.model.match import Match, PortRange, Prefix

    chance = random.Random(1)
    matches: list[Any] = []
    for _ in range(count):
        ends: list[Prefix] = []
        for _ in range(2):
            length = chance.choice((8, 16, 24, 24, 28, 32, 32, 32))
            value = chance.getrandbits(32) >> (32 - length) << (32 - length)
            ends.append(Prefix(4, value, length))
        low = chance.randrange(65536)
        ports = PortRange(low, min(65535, low + chance.choice((0, 0, 100))))
        matches.append(Match(src=ends[0], dst=ends[1], protocol=6, dst_port=ports))
    return matches


@figure("headerspace_meets_per_second", unit="sets/s")
def meets() -> Result:
    """Each of 100,000 sets: which others it meets, exactly."""
    from orchestrator.compiler.box_index import BoxIndex
    from orchestrator.compiler.headerspace import box_of

    boxes = [box_of(match) for match in random_matches(SETS)]
    started = time.perf_counter()
    index = BoxIndex(boxes)
    built = time.perf_counter() - started
    pairs = sum(len(index.meeting(box)) for box in boxes if box is not None)
    seconds = time.perf_counter() - started
    return {
        "value": round(SETS / seconds),
        "sets": SETS,
        "index_s": round(built, 2),
        "pairs": pairs,
    }


@figure("synthesis_acl10k_seconds", unit="s", goal=4)
def synthesis() -> Result:
    """acl1_10k, an IDS and a NAPT both ways, from cut to synthesised cut."""
    return _synthesis("acl1_10k")


@figure("synthesis_fw1k_seconds", unit="s", goal=4)
def synthesis_fw() -> Result:
    return _synthesis("fw1_1k")


def _synthesis(name: str) -> Result:
    from networks import both_ways, ids, make_graph, napt

    from orchestrator.compiler.cuts import cut
    from orchestrator.compiler.merging import Costs
    from orchestrator.compiler.synthesis import synthesise
    from orchestrator.graph import functions_of
    from orchestrator.nfs.acl import AclConfig
    from orchestrator.nfs.files import Files

    if not (CLASSBENCH / f"{name}.rules").exists():
        raise Missing(f"{CLASSBENCH / name}.rules")
    nfs = {"acl": ("acl", {"rules_file": f"{name}.rules"}), "ids": ids(), "nat": napt()}
    graph = make_graph(nfs, both_ways("inside", "acl", "ids", "nat", "outside"))
    config = AclConfig(rules_file=f"{name}.rules").with_files(Files(CLASSBENCH))
    object.__setattr__(graph.nfs["acl"], "config", config)
    cuts = cut(graph, functions_of(graph), {"h1": "l1", "h2": "l1", "h3": "l2", "h4": "l2"})
    started = time.perf_counter()
    done = synthesise(cuts, graph, Costs())
    return {
        "value": round(time.perf_counter() - started, 2),
        "rules": len(config.all_rules),
        "removed": len(done.removed),
        "changes": len(done.changes),
    }

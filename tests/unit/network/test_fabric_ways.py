"""The ways of all switches at once. Oracle: the way from one switch to another, asked one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from networks import topology
from pods import pods

from orchestrator.model.topology import Topology
from orchestrator.network.fabric import Fabric
from orchestrator.placement.topologies import fat_tree


def in_two() -> Topology:
    """A network of which one switch has no way to the others."""
    whole = topology("leaf-spine")
    return replace(whole, links=tuple(x for x in whole.links if "leaf2" not in (x.a, x.b)))


@pytest.mark.parametrize("network", [pods(20), fat_tree(4), in_two()], ids=lambda net: net.name)
def test_each_pair_is_there_once_with_its_way(network: Topology) -> None:
    fabric, seen = Fabric(network), list[tuple[str, str]]()
    for at, choice, targets in fabric.ways():
        for target in targets:
            seen.append((at, target))
            for tree in range(network.trees):
                assert choice.neighbor(tree) == fabric.next_switch(at, target, tree)
    pairs = ((a, b) for a in network.switches for b in network.switches)
    assert sorted(seen) == sorted((a, b) for a, b in pairs if a != b and fabric.connected(a, b))

"""Tables put together by longest prefix say what one entry a key said, and no more.

Oracle: a lookup of the longest prefix against the values that were given, key by key; for the fabric,
the paths that it offers.
"""

from __future__ import annotations

from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.compiler.fabric_program import fabric_programs
from orchestrator.compiler.prefixes import KeyPrefix, fewest, runs_of
from orchestrator.model.entries import Lpm, TableEntry
from orchestrator.model.topology import Topology
from orchestrator.network.fabric import Fabric
from orchestrator.placement.topologies import fat_tree, load_topology
from servernf.wire.addresses import device_mac

pytestmark = pytest.mark.slow

BITS = 6


def looked_up(prefixes: list[KeyPrefix], key: int, bits: int = BITS) -> int:
    covering = [p for p in prefixes if (key ^ p.key) >> bits - p.length == 0]
    return max(covering, key=lambda p: p.length).value if covering else 0


@given(st.lists(st.integers(0, 3), min_size=1 << BITS, max_size=1 << BITS))
def test_every_key_has_its_value_or_none(values: list[int]) -> None:
    prefixes = fewest(list(runs_of(range(1 << BITS), values)), BITS)
    assert [looked_up(prefixes, key) for key in range(1 << BITS)] == values
    assert len({(p.key, p.length) for p in prefixes}) == len(prefixes) <= sum(map(bool, values))


@pytest.mark.parametrize("values", [*product((1, 2, 3), repeat=4)])
def test_no_table_is_smaller(values: tuple[int, ...]) -> None:
    """Against every table of fewer prefixes of two bits."""
    count = len(fewest(list(runs_of(range(4), values)), 2))
    every = [KeyPrefix(key << 2 - n, n, 0) for n in range(3) for key in range(1 << n)]
    for places in combinations(every, count - 1):
        for given_values in product((1, 2, 3), repeat=count - 1):
            table = [p._replace(value=v) for p, v in zip(places, given_values, strict=True)]
            assert [looked_up(table, key, 2) for key in range(4)] != list(values)


def test_an_exception_costs_one_prefix() -> None:
    values = [1] * 64
    values[37] = 2
    assert fewest(list(runs_of(range(64), values)), BITS) == [
        KeyPrefix(0, 0, 1),
        KeyPrefix(37, 6, 2),
    ]


def lookup(entries: list[TableEntry], mac: int) -> TableEntry | None:
    matching: list[tuple[int, TableEntry]] = []
    for entry in entries:
        key = dict(entry.keys)["device"]
        assert isinstance(key, Lpm)
        if (mac ^ key.value) >> 48 - key.length == 0:
            matching.append((key.length, entry))
    return max(matching, key=lambda f: f[0])[1] if matching else None


@pytest.mark.parametrize("topology", [fat_tree(4), fat_tree(6), load_topology("leaf-spine")])
def test_the_fabrics_entries_are_its_paths(topology: Topology) -> None:
    fabric = Fabric(topology)
    most = 0
    for switch, program in fabric_programs(fabric).items():
        entries = [e for e in program.entries if e.table == "fabric.devices"]
        most = max(most, len(entries))
        for tree in range(topology.trees):
            for device in (*topology.switches, *topology.servers):
                entry = lookup(entries, device_mac(fabric.device_id(device), core=3, tree=tree))
                assert entry is not None
                port = dict(entry.params).get("port")
                if device == switch:
                    assert entry.action == "fabric.recirculate_here"
                elif fabric.access(device) == switch:
                    assert (entry.action, port) == (
                        "fabric.to_server",
                        fabric.attachments[device].port,
                    )
                else:
                    way = fabric.path(switch, device, tree)
                    assert (entry.action, port) == (
                        "fabric.forward",
                        fabric.neighbors[switch][way[1]][0],
                    )
            assert lookup(entries, device_mac(60_000, tree=tree)) is None
    every = (len(topology.switches) + len(topology.servers)) * topology.trees
    assert most < every

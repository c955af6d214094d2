"""Bundles on C switches do what the unsplit graph does: examples, rule sets, random graphs.

Oracle: the reference interpreter of the original graph. Blind spot: ports and sockets (tests/emulated).
`make exhaustive` sends a million.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "verification"))

from hypothesis import HealthCheck, given, settings
from test_random_graphs import PACKETS, agree, compiled, graphs
from test_rule_sets import data

from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.equivalence import compare
from orchestrator.graph import load_graph, load_topology
from orchestrator.graph.importers import acl_graph, import_classbench
from orchestrator.model.graph import ServiceGraph
from orchestrator.oracle import Driver
from orchestrator.resources import shipped
from orchestrator.simulation import devices
from orchestrator.softswitch.fast.building import compiler
from orchestrator.softswitch.fast.switch import FastSwitch
from orchestrator.softswitch.switch import SoftSwitch

pytestmark = [
    pytest.mark.skipif(compiler() is None, reason="no C compiler (cc) is installed"),
    pytest.mark.slow,
]

SAMPLE, MANY = 1500, 12_500
SEEDS = 10
"""Many packets are many campaigns: in a long one IP ids of fragments come again."""
EXAMPLES = ("campus_edge", "web_service", "branch_office", "service_edge")
RULE_SETS = ("acl1_1k", "fw1_1k", "ipc1_1k", "acl1_10k")


def _many(names: tuple[str, ...], sampled: int) -> list[Any]:
    """(name, packets, seeds): the first ones with a sample, all with an eighth of a million."""
    seeds = range(1, 1 + SEEDS)
    return [
        *((name, SAMPLE, range(1, 2)) for name in names[:sampled]),
        *(pytest.param(name, MANY, seeds, marks=pytest.mark.exhaustive) for name in names),
    ]


@pytest.fixture
def switches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FastSwitch]]:
    """Those of networks in memory, which are C from now on."""
    made: list[FastSwitch] = []

    def fast(ident: int, cpu: int, clock: Callable[[], int], *, name: str) -> FastSwitch:
        made.append(FastSwitch(ident, cpu, clock, name=name))
        return made[-1]

    monkeypatch.setattr(devices, "SoftSwitch", fast)
    yield made
    for switch in made:
        switch.close()


def check(graph: ServiceGraph, packets: int, seed: int, switches: list[FastSwitch]) -> None:
    """No difference but of fragments whose IP ids came again, which Python's switches have, too."""
    driver = campaign(graph, packets, seed)
    assert driver.packets >= packets
    assert driver.delivered > packets // 20
    assert sum(switch.counters().received for switch in switches) > packets, "they were C"
    while switches:
        switches.pop().close()
    differences = [str(difference) for difference in driver.differences]
    if differences:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(devices, "SoftSwitch", SoftSwitch)
            python = campaign(graph, packets, seed)
        assert differences == [str(difference) for difference in python.differences]
        assert all("(fragments " in told for told in differences), differences[:5]


def campaign(graph: ServiceGraph, packets: int, seed: int) -> Driver:
    topology = load_topology("leaf-spine")
    bundle = compile_graph(CompileRequest(graph, topology)).bundle
    return compare(graph, topology, bundle, packets, seed=seed)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("example", "packets", "seeds"), _many(EXAMPLES, 2))
def test_examples(example: str, packets: int, seeds: range, switches: list[FastSwitch]) -> None:
    graph = load_graph(Path(shipped("examples")) / example / "graph.json").graph
    for seed in seeds:
        check(graph, packets, seed, switches)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("name", "packets", "seeds"), _many(RULE_SETS, 1))
def test_rule_sets(
    name: str, packets: int, seeds: range, switches: list[FastSwitch], tmp_path: Path
) -> None:
    raw = acl_graph("rules", import_classbench(data(f"classbench/{name}.rules"), "permit")[0])
    raw["nfs"]["acl"]["config"] |= {"default": "deny"}
    (tmp_path / "graph.json").write_text(json.dumps(raw))
    graph = load_graph(tmp_path / "graph.json").graph
    for seed in seeds:
        check(graph, packets, seed, switches)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("count", [5, pytest.param(300, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("topology", ["leaf-spine", "single"])
def test_random_graphs(
    topology: str, count: int, switches: list[FastSwitch], tmp_path: Path
) -> None:
    @settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(graphs())
    def look(raw: dict[str, Any]) -> None:
        graph, network, bundle = compiled(raw, topology, tmp_path)
        agree(compare(graph, network, bundle, PACKETS), raw)
        assert sum(switch.counters().received for switch in switches) > PACKETS // 2, "they were C"
        while switches:
            switches.pop().close()

    look()

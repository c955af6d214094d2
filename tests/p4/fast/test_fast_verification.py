"""Bundles on C switches do what the unsplit graph does: examples and rule sets, several switches.

Oracle: the reference interpreter of the original graph. Blind spot: ports and sockets (tests/emulated),
random graphs beyond these (tests/verification, on the Python engine). `make exhaustive` sends a million.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "verification"))

from test_equivalence import assert_equivalent
from test_rule_sets import data

from orchestrator.graph import load_graph, load_topology
from orchestrator.graph.importers import acl_graph, import_classbench
from orchestrator.resources import shipped
from orchestrator.simulation import devices
from orchestrator.softswitch.fast.building import compiler
from orchestrator.softswitch.fast.switch import FastSwitch

pytestmark = [
    pytest.mark.skipif(compiler() is None, reason="no C compiler (cc) is installed"),
    pytest.mark.slow,
]

SAMPLE, MANY = 1500, 125_000
EXAMPLES = ("campus_edge", "web_service", "branch_office", "service_edge")
RULE_SETS = ("acl1_1k", "fw1_1k", "ipc1_1k", "acl1_10k")


def _many(names: tuple[str, ...], sampled: int) -> list[Any]:
    """(name, packets): the first ones with a sample, all with an eighth of a million."""
    return [
        *((name, SAMPLE) for name in names[:sampled]),
        *(pytest.param(name, MANY, marks=pytest.mark.exhaustive) for name in names),
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


def check(graph: Any, packets: int, switches: list[FastSwitch]) -> None:
    driver = assert_equivalent(graph, load_topology("leaf-spine"), packets)
    assert driver.packets >= packets
    assert driver.delivered > packets // 20
    assert sum(switch.counters().received for switch in switches) > packets, "they were C"


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("example", "packets"), _many(EXAMPLES, 2))
def test_examples(example: str, packets: int, switches: list[FastSwitch]) -> None:
    graph = load_graph(Path(shipped("examples")) / example / "graph.json").graph
    check(graph, packets, switches)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("name", "packets"), _many(RULE_SETS, 1))
def test_rule_sets(name: str, packets: int, switches: list[FastSwitch], tmp_path: Path) -> None:
    raw = acl_graph("rules", import_classbench(data(f"classbench/{name}.rules"), "permit")[0])
    raw["nfs"]["acl"]["config"] |= {"default": "deny"}
    (tmp_path / "graph.json").write_text(json.dumps(raw))
    check(load_graph(tmp_path / "graph.json").graph, packets, switches)

"""State that moves under load between a server of runtime python and one of runtime dpdk, both ways, and
between cores of the latter.

Oracle: every datagram has a number, the TCP transfer a digest. Blind spot: rates near what a worker can.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import orchestrator_json
from live import NEEDS_DPDK, NEEDS_EMULATION, Live, network
from move_load import moving, open_flows
from test_moves import GRAPH, core, is_whole
from update_load import POOL, Load

pytestmark = [NEEDS_EMULATION, NEEDS_DPDK, pytest.mark.slow]

TOPOLOGY = Path(__file__).parents[2] / "topologies" / "leaf-spine.json"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    topology = json.loads(TOPOLOGY.read_text())
    topology["servers"]["server2"]["runtime"] = "dpdk"
    file = tmp_path_factory.mktemp("topology") / "both.json"
    file.write_text(json.dumps(topology))
    with network(str(file), "softswitch", "both") as started:
        (started.folder / "graph.json").write_text(json.dumps(moving()))
        orchestrator_json("deploy", str(started.folder / "graph.json"), "-n", started.name)
        yield started


def test_a_graph_moves_between_runtimes_and_nothing_is_lost(live: Live) -> None:
    told: list[str] = []
    with Load(live.state, 250, POOL) as load:
        open_flows(live.state, 1_000)
        ways = [
            (GRAPH, "--runtime", "dpdk"),
            (f"{GRAPH}/nat", "--to", "server2.2"),
            (f"{GRAPH}/nat", "--runtime", "python"),
        ]
        for way in ways if core(live).server == "server1" else [ways[2], *ways]:
            done = orchestrator_json("move", *way, "-n", live.name)
            (moved,) = done["graphs"].values()
            told += moved["state_moved"]
            assert moved["state_lost"] == []
    is_whole(load.report)
    assert core(live).server == "server1"
    assert any("records" in line for line in told)

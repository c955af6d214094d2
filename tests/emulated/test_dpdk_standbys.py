"""A worker of runtime dpdk is killed under load while one of either runtime follows it.

Oracle: every datagram has a number and each flow one NAPT port, the TCP transfer a digest. Blind spot:
as test_standbys.py, and a C process that ends while its worker lives: its state is gone then.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import orchestrator_json
from live import NEEDS_DPDK, NEEDS_EMULATION, Live, network
from move_load import moving, open_flows
from support import eventually
from test_devices_die import watching
from test_standbys import GRAPH
from update_load import POOL, Load

from orchestrator.placement.running import running_of

pytestmark = [NEEDS_EMULATION, NEEDS_DPDK, pytest.mark.slow]

TOPOLOGY = Path(__file__).parents[2] / "topologies" / "leaf-spine.json"
NAME = "doubled-c"


@pytest.fixture(params=["python", "dpdk"])
def live(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Live]:
    """`server1` is of runtime dpdk, the standbys' server of the one that is asked for."""
    topology = json.loads(TOPOLOGY.read_text())
    topology["servers"]["server1"]["runtime"] = "dpdk"
    topology["servers"]["server2"]["runtime"] = request.param
    file = tmp_path / "topology.json"
    file.write_text(json.dumps(topology))
    graph = moving()
    for nf in graph["nfs"].values():
        if nf["type"] != "router":
            nf["state"] = {"standby": "per_packet", "on": "server2"}
    with network(str(file), "softswitch", NAME) as started:
        (started.folder / "graph.json").write_text(json.dumps(graph))
        orchestrator_json("deploy", str(started.folder / "graph.json"), "-n", NAME)
        yield started


def standbys() -> list[str]:
    """How they follow, by `status`."""
    status = orchestrator_json("status", "-n", NAME)
    return [standby["state"] for standby in status["standbys"]]


def test_what_was_open_outlives_a_killed_worker(live: Live) -> None:
    assert standbys() == ["following"] * 3
    (primary,) = running_of(live.network.journal.deployed()[GRAPH].bundle).cores_of["nat"]
    assert primary.server == "server1"
    name = live.network.worker_name(primary)
    with watching(live) as watch, Load(live.state, 100, POOL) as load:
        open_flows(live.state, 500)
        time.sleep(1)
        os.kill(next(w.pid for w in live.state.workers if w.name == name), signal.SIGKILL)
        placed = watch.comes("placement", graph=GRAPH)
        assert any("its standby takes over" in move for move in placed["moves"]), placed
        time.sleep(5)  # what was lost by TCP is sent again
    report = load.report
    assert report is not None
    assert (report.misrouted, report.repeated) == (0, 0), report
    assert report.sources == 1, "the same NAPT port for all of a flow"
    assert report.tcp_intact, report
    assert report.lost < report.sent / 2, "packets go on"
    eventually(lambda: standbys() == ["following"] * 3, what="a new standby", timeout=60)

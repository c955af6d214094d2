"""A worker is killed under load while a standby follows it: what was open stays open.

Oracle: every datagram has a number and each flow one NAPT port, the TCP transfer a digest. Blind spot:
how many packets are lost until it is noticed (tests/bench/failover.py).
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from commands import orchestrator_json
from live import NEEDS_EMULATION, Live, network
from move_load import moving, open_flows
from support import eventually
from test_devices_die import watching
from update_load import POOL, Load

from orchestrator.placement.running import running_of

pytestmark = [NEEDS_EMULATION, pytest.mark.slow]

GRAPH = "updated"


@contextmanager
def doubled(topology: str, name: str) -> Iterator[Live]:
    """A network on which every NF with state has a standby on `server2`."""
    graph = moving()
    for nf in graph["nfs"].values():
        if nf["type"] != "router":
            nf["state"] = {"standby": "per_packet", "on": "server2"}
    with network(topology, "softswitch", name) as started:
        (started.folder / "graph.json").write_text(json.dumps(graph))
        orchestrator_json("deploy", str(started.folder / "graph.json"), "-n", name)
        yield started


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with doubled("leaf-spine", "doubled") as started:
        yield started


def standbys(live: Live) -> list[str]:
    """How they follow, by `status`."""
    told = orchestrator_json("status", "-n", live.name)
    return [standby["state"] for standby in told["standbys"]]


def kill_the_primary(live: Live) -> None:
    """Under load; what was open goes on, and another standby follows."""
    assert standbys(live) == ["following"] * 3
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
    eventually(lambda: standbys(live) == ["following"] * 3, what="a new standby", timeout=60)


def test_what_was_open_outlives_a_killed_worker(live: Live) -> None:
    kill_the_primary(live)

"""update_lost_packets: 50 updates of a live graph under load, on every kind of switch there is."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from figures import Result, figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import rig
from update_load import Load, version, write_version

from orchestrator.deployment.live import LiveNetwork
from orchestrator.deployment.operations import deploy_graph
from orchestrator.emulation.state import inventory_of
from orchestrator.graph import load_graph
from orchestrator.runtimes import DEFAULT

UPDATES = 50
RATE = 1000
"""Datagrams a second, each way."""


@figure("update_lost_packets", unit="packets", goal=0)
def softswitch() -> Result:
    """Numbered UDP both ways and a TCP transfer through 50 updates: lost in any of them."""
    return measure("softswitch")


@figure("update_lost_packets_bmv2", unit="packets", goal=0)
def bmv2() -> Result:
    """The same on BMv2."""
    return measure("bmv2")


@figure("engine_update_lost_packets", unit="packets", goal=0)
def dpdk() -> Result:
    """The same on C and DPDK."""
    return measure("dpdk")


def measure(
    switch: str,
    updates: int = UPDATES,
    rate: int = RATE,
    runtime: str = DEFAULT,
    of: Callable[[int], dict[str, Any]] = version,
    files: Sequence[Path] = (),
) -> Result:
    """The load, first without updates for as long as they take, then with them; versions are `of` a
    number, and name `files`."""
    with rig.network(switch, deploy=False, runtime=runtime) as state:
        network = LiveNetwork(inventory_of(state))
        folder = Path(state.run_dir)
        for file in files:
            shutil.copy(file, folder)
        deploy_graph(load_graph(write_version(folder, 0, of)).graph, network)
        spent: list[float] = []
        in_place = 0
        with Load(state, rate) as load:
            for number in range(1, updates + 1):
                graph = load_graph(write_version(folder, number, of)).graph
                started = time.monotonic()
                done = deploy_graph(graph, network)
                spent.append(time.monotonic() - started)
                in_place += bool(done.summary) and not done.summary.switched_over
        assert load.report is not None
        with Load(state, rate) as idle:
            time.sleep(load.report.seconds / 4)
        assert idle.report is not None
    spent.sort()
    return {
        "value": load.report.lost,
        "compared_with": {"without updates": idle.report.lost},
        "switch": switch,
        "runtime": runtime,
        "updates": updates,
        "in_place": in_place,
        "rate_pps_each_way": rate,
        **{k: v for k, v in asdict(load.report).items() if k != "lost"},
        "update_seconds_median": round(spent[len(spent) // 2], 2),
        "idle_seconds": idle.report.seconds,
    }

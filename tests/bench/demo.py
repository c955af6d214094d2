"""The demo graph's figures: one switch, one worker, one deployment."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time

from figures import Missing, Result, figure
from rig import (
    GRAPH,
    ROOT,
    Tagged,
    alone,
    echo,
    flows,
    highest_rate,
    network,
    orchestrator,
    received,
    sender,
    tagged_flows,
)

from orchestrator.emulation import NetworkState


@figure("softswitch_demo_pps", unit="packets/s", goal=8000)
def softswitch_demo_pps() -> Result:
    """64-byte UDP of 1,024 flows enters leaf1 from h1 and leaves it tagged, to the server or a spine."""
    value, entries = _switch_rate("softswitch")
    try:
        compared = {"BMv2 on one core": _switch_rate("bmv2")[0]}
    except Missing as missing:
        compared = {"BMv2 on one core": str(missing)}
    return {"value": value, "compared_with": compared, "flows": 1024, "entries": entries}


def _switch_rate(switch: str) -> tuple[int, int]:
    with network(switch) as state:
        entries = json.loads(
            orchestrator("tables", "leaf1", "--network", "bench", "--limit", "0", "--json")
        )
        leaf = state.switches["leaf1"]
        tagged = tagged_flows(state)
        port, pid = _far_end(state, tagged)
        with alone(state, leaf.pid), sender(state, "h1", "eth0", flows()) as send:
            return highest_rate(send, received(port, pid)), len(entries)


def _far_end(state: NetworkState, tagged: Tagged) -> tuple[str, int | None]:
    """The interface where leaf1's frames to the worker come out, and whose namespace it is in."""
    if tagged.switch.name == "leaf1":
        server = state.servers[tagged.worker.server]
        return server.interface, server.pid
    before = {spine: received(i) for spine, i in _from_leaf1(state).items()}
    counts = {spine: count() for spine, count in before.items()}
    with sender(state, "h1", "eth0", flows()) as send:
        send(500, 0.5)
        time.sleep(0.5)
    busy = max(counts, key=lambda spine: before[spine]() - counts[spine])
    return _from_leaf1(state)[busy], None


def _from_leaf1(state: NetworkState) -> dict[str, str]:
    """Each neighbour switch's interface towards leaf1."""
    interfaces: dict[str, str] = {}
    for link in state.topology.links:
        for here, port, there in ((link.a, link.a_port, link.b), (link.b, link.b_port, link.a)):
            if there == "leaf1" and here in state.switches:
                interfaces[here] = state.switches[here].interfaces[port]
    return interfaces


@figure("worker_napt_pps", unit="packets/s", goal=25_000)
def worker_napt_pps() -> Result:
    """The same flows, tagged by leaf1, through edge_ids and edge_nat of one worker and out again."""
    with network("softswitch") as state:
        tagged = tagged_flows(state)
        count = received(tagged.port)
        with alone(state, tagged.worker.pid), sender(state, "", tagged.port, tagged.frames) as send:
            value = highest_rate(send, count)
        other = next(
            w for w in state.servers[tagged.worker.server].workers if w.pid != tagged.worker.pid
        )
        turned = [other.mac.to_bytes(6, "big") + frame[6:] for frame in tagged.frames]
        with (
            alone(state, 0),
            echo(state, other),
            sender(state, "", tagged.port, turned) as send,
        ):
            plain = highest_rate(send, count)
    return {
        "value": value,
        "compared_with": {"a Python process that only sends back": plain},
        "flows": len(tagged.frames),
    }


@figure("deploy_demo_seconds", unit="s", goal=5)
def deploy_demo_seconds() -> Result:
    """The whole command on a fresh network, interpreter start included: the median of three."""
    runs: list[float] = []
    delays: dict[str, object] = {}
    for _ in range(3):
        with network("softswitch", deploy=False):
            started = time.monotonic()
            shown = orchestrator("deploy", str(GRAPH), "--network", "bench", "--json")
            runs.append(round(time.monotonic() - started, 2))
            delays = json.loads(shown)
    start = _seconds([sys.executable, "-c", "pass"])
    imports = "import orchestrator.cli, orchestrator.deployment.operations, orchestrator.compile"
    return {
        "value": statistics.median(runs),
        "compared_with": {
            "Python's start": start,
            "the imports": _seconds([sys.executable, "-c", imports]),
        },
        "runs": runs,
        "delays": {k: v for k, v in delays.items() if k.endswith("_s")},
        "entries": sum(
            sum(tables.values())
            for tables in dict(delays["entries"]).values()  # type: ignore[call-overload]
        ),
    }


def _seconds(argv: list[str]) -> float:
    started = time.monotonic()
    subprocess.run(argv, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return round(time.monotonic() - started, 2)

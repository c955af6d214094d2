"""Figures of deployment: write rate, memory, reconciliation. Of BMv2 where it is on PATH.

Where it is not, the softswitch stands in, and each line says so (`switch`). Each job runs in a process
of its own, so that its peak memory is its own; the switch is another one.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from figures import Result, figure
from finsy.proto import p4r, p4r_grpc

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from networks import topology  # noqa: E402
from processes import BMV2, ProcessNetwork, processes  # noqa: E402

from orchestrator.clients.p4info import Schema  # noqa: E402
from orchestrator.compile import CompileRequest, compile_graph  # noqa: E402
from orchestrator.deployment.execution import Executed  # noqa: E402
from orchestrator.deployment.journal import Deployed, now  # noqa: E402
from orchestrator.deployment.operations import undeploy_graph  # noqa: E402
from orchestrator.deployment.planning import ENTRIES  # noqa: E402
from orchestrator.deployment.reconciling import inspect, reconcile  # noqa: E402
from orchestrator.deployment.recovery import carry_out, changing  # noqa: E402
from orchestrator.graph import load_graph  # noqa: E402
from orchestrator.model.bundle import Bundle  # noqa: E402
from orchestrator.targets.pipelines import SHIPPED, p4info  # noqa: E402

SWITCH = "switch1"
BATCHES = (100, 250, 500, 1000, 2000, 4000)
RUNS = 3


def _kind() -> str:
    return "bmv2" if BMV2 else "softswitch"


def _alone(job: str) -> dict[str, Any]:
    """What a job of this module prints, run in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, __file__, job, folder],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "XDG_STATE_HOME": folder},
        )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return {"switch": _kind(), **json.loads(done.stdout)}


@figure("deploy_write_rate_ratio", unit="ratio", goal=0.8)
def write_rate() -> Result:
    """Entries a second of a deployment's write phase, against a plain client's best batch size.

    Both have serialised or made their messages before: the deployment for its journal.
    """
    return _alone("rate")


@figure("deploy_500k_peak_mib", unit="MiB", goal=1024)
def memory() -> Result:
    """Peak resident memory of the controller that loads, compiles and deploys 500,000 routes."""
    return _alone("memory")


@figure("reconcile_1000_seconds", unit="s", goal=5)
def reconcile_seconds() -> Result:
    """50,000 entries, 1,000 of them deleted or altered by another client: found and repaired."""
    return _alone("reconcile")


def routes_graph(folder: Path, count: int) -> Path:
    """A router of so many /24 routes between hosts of one switch, one way, as a graph file."""
    prefixes = (f"{i >> 16}.{i >> 8 & 255}.{i & 255}.0/24" for i in range(1 << 16, 1 << 24))
    lines = [
        f"{prefix} 198.51.100.{13 + i % 2} outside\n"
        for i, prefix in enumerate(islice(prefixes, count))
    ]
    (folder / "routes.txt").write_text("".join(lines))
    graph = {
        "name": "routes",
        "endpoints": {"inside": {"hosts": ["h1", "h2"]}, "outside": {"hosts": ["h3", "h4"]}},
        "nfs": {"router": {"type": "router", "config": {"routes_file": "routes.txt"}}},
        "edges": [
            {"from": "inside", "to": "router.inside"},
            {"from": "router.outside", "to": "outside"},
        ],
        "traffic": [
            {"name": "out", "from": "inside", "to": "outside", "rate": "100Mbit/s"},
        ],
    }
    file = folder / "graph.json"
    file.write_text(json.dumps(graph))
    return file


def deploy(network: ProcessNetwork, folder: Path, count: int) -> tuple[Bundle, Executed]:
    """Load, compile and deploy a graph of so many routes, as `orchestrator deploy` does."""

    graph = load_graph(routes_graph(folder, count)).graph
    bundle = compile_graph(CompileRequest(graph, network.live.topology)).bundle
    del graph
    with changing(network.live) as lead:
        return bundle, carry_out(network.live, lead, "routes", Deployed(bundle, None, now()))


def plain_rate(network: ProcessNetwork, updates: Sequence[p4r.Update], batch: int) -> float:
    """Entries a second of one Write after another, all messages made before."""

    built = SHIPPED.build("edge", "bmv2")
    with network.live.device(SWITCH) as client:
        client.set_pipeline(p4info(built), built.device_config, built.cookie)
        stub: p4r_grpc.P4RuntimeStub = client._stub  # type: ignore[reportPrivateUsage]
        election = client._election_id()  # type: ignore[reportPrivateUsage]
        requests = [
            p4r.WriteRequest(
                device_id=client.device_id, election_id=election, updates=updates[i : i + batch]
            )
            for i in range(0, len(updates), batch)
        ]
        started = time.perf_counter()
        for request in requests:
            stub.Write(request)
        seconds = time.perf_counter() - started
        client.set_pipeline(p4info(built), built.device_config, built.cookie)
        return len(updates) / seconds


def rate(network: ProcessNetwork, folder: Path) -> dict[str, Any]:
    """Alternating, best of RUNS each."""

    schema = Schema(p4info(SHIPPED.build("edge", "bmv2")))
    ours: list[float] = []
    plain: dict[int, float] = {}
    for _ in range(RUNS):
        bundle, executed = deploy(network, folder, 50_000)
        entries = bundle.programs[SWITCH].entries
        ours.append(len(entries) / executed.seconds[ENTRIES])
        undeploy_graph("routes", network.live)
        updates = [u.message() for u in schema.updates(entries, "routes", p4r.Update.INSERT)]
        for batch in BATCHES:
            per_second = plain_rate(network, updates, batch)
            plain[batch] = max(plain.get(batch, 0.0), per_second)
    best = max(plain, key=lambda batch: plain[batch])
    return {
        "value": round(max(ours) / plain[best], 3),
        "compared_with": {f"plain client, {best} updates a Write": round(plain[best])},
        "deployment": round(max(ours)),
        "plain": {batch: round(per_second) for batch, per_second in plain.items()},
    }


def peak(network: ProcessNetwork, folder: Path) -> dict[str, Any]:
    started = time.perf_counter()
    _, executed = deploy(network, folder, 500_000)
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "value": round(mib),
        "seconds": round(time.perf_counter() - started, 1),
        "entries": sum(executed.entries.values()),
        "stages": {title: round(spent, 2) for title, spent in executed.seconds.items()},
    }


def drift(network: ProcessNetwork, folder: Path) -> dict[str, Any]:

    bundle, _ = deploy(network, folder, 50_000)
    entries = bundle.programs[SWITCH].entries
    routes = [entry for entry in entries if entry.table == "route.ipv4"][::50]
    with network.live.device(SWITCH) as other:
        other.pipeline_cookie()
        assert other.schema is not None
        wrong = [e._replace(action="route.ipv4.unreachable", params=()) for e in routes[1::2]]
        other.write(other.schema.updates(routes[::2], "routes", p4r.Update.DELETE))
        other.write(other.schema.updates(wrong, "", p4r.Update.MODIFY))
    started = time.perf_counter()
    drifts = reconcile(network.live)
    seconds = time.perf_counter() - started
    (switch,) = drifts.devices
    left = inspect(network.live)
    if len(switch.difference) != len(routes) or left:
        raise RuntimeError(f"{len(switch.difference)} changes were found, {bool(left)} are left")
    return {"value": round(seconds, 2), "entries": len(entries), "changes": len(routes)}


JOBS: dict[str, Callable[[ProcessNetwork, Path], dict[str, Any]]] = {
    "rate": rate,
    "memory": peak,
    "reconcile": drift,
}


def main(job: str, folder: str) -> None:
    """Run one job on a network of its own."""

    with processes(topology("single"), _kind(), Path(folder)) as network:
        print(json.dumps(JOBS[job](network, Path(folder))))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A live network driven by the real command line, as a user does it; nothing of it is left behind."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from commands import ROOT, orchestrator, orchestrator_json
from support import eventually

from orchestrator.clients.vnf import WorkerClient
from orchestrator.deployment.live import LiveNetwork
from orchestrator.emulation import NetworkState, load_state, net_down, run_in_host
from orchestrator.emulation.environment import require_emulation
from orchestrator.emulation.state import inventory_of, load_handle
from orchestrator.errors import EnvironmentMissing, NetworkError, ServerError
from orchestrator.network.folders import list_networks
from orchestrator.targets import lookup

TRAFFIC = ROOT / "mininet" / "traffic.py"
FRAMES = Path(__file__).with_name("frames.py")
CAMPUS_EDGE = ROOT / "examples" / "campus_edge" / "graph.json"


def emulation_missing() -> str:
    """What live tests lack on this machine; empty when nothing."""
    try:
        require_emulation()
    except EnvironmentMissing as e:
        return str(e)
    return ""


NEEDS_EMULATION = pytest.mark.skipif(bool(emulation_missing()), reason=emulation_missing())
NO_DPDK = lookup("dpdk").engine.missing()
NEEDS_DPDK = pytest.mark.skipif(bool(NO_DPDK), reason=NO_DPDK)
SWITCHES = [
    "softswitch",
    pytest.param(
        "bmv2",
        marks=pytest.mark.skipif(
            not shutil.which("simple_switch_grpc"), reason="BMv2: not installed"
        ),
    ),
    pytest.param("dpdk", marks=(pytest.mark.exhaustive, NEEDS_DPDK)),
]
OWN_SWITCHES = [SWITCHES[0], SWITCHES[-1]]
"""Those that are this project's."""


def device_logs(most: int = 4000) -> str:
    """The ends of the logs of all networks in this test's folders, `most` characters each."""
    logs: list[str] = []
    for name in list_networks():
        with suppress(NetworkError, OSError):
            for log in sorted(Path(load_handle(name).run_dir).glob("**/*.log")):
                if end := log.read_text(errors="replace")[-most:].strip():
                    logs.append(f"--- {name}: {log.name}\n{end}")
    return "\n".join(logs)


@contextmanager
def own_folders() -> Iterator[Path]:
    """State and sockets of this test alone, under a short path; every network in them is removed."""
    base = Path(tempfile.mkdtemp(prefix="net-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(base / "state"))
        patch.setenv("XDG_RUNTIME_DIR", str(base))
        try:
            yield base
        except BaseException:
            # Of a network that does not come up nothing is left to look at later.
            print(device_logs())
            raise
        finally:
            for name in list_networks():
                net_down(name)
            shutil.rmtree(base)


@dataclass(frozen=True)
class Live:
    """One running network and how tests talk to it."""

    name: str
    state: NetworkState
    folder: Path

    @property
    def network(self) -> LiveNetwork:
        """Sessions with its devices."""
        return LiveNetwork(inventory_of(self.state))

    def traffic(self, host: str, *words: str) -> dict[str, Any]:
        """What `mininet/traffic.py WORDS` says inside a host."""
        done = run_in_host(
            self.state, host, [sys.executable, str(TRAFFIC), *words], timeout=240, check=False
        )
        assert done.returncode == 0, f"{host}: {words}: {done.stdout}{done.stderr}"
        return json.loads(done.stdout)

    def frames(self, place: str, *words: str, lines: Sequence[bytes] = ()) -> list[bytes]:
        """Run `frames.py WORDS` inside a host or server, fed with frames; the frames it prints."""
        done = run_in_host(
            self.state,
            place,
            [sys.executable, str(FRAMES), *words],
            timeout=240,
            check=False,
            input="".join(f"{frame.hex()}\n" for frame in lines),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, f"{place}: {words}: {done.stdout}{done.stderr}"
        return [bytes.fromhex(line) for line in done.stdout.split()]

    def pings(self, source: str, target: str, count: int = 2, *, wait: float = 2) -> bool:
        """Whether every echo request is answered."""
        done = run_in_host(
            self.state, source, ["ping", "-c", str(count), "-i", "0.1", "-W", str(wait), target]
        )
        return f" {count} received" in done.stdout

    def comes_to_ping(self, source: str, target: str) -> None:
        """A ping gets through, soon."""
        eventually(lambda: self.pings(source, target, 1), what=f"ping {source} -> {target}")

    def tables(self, switch: str, *words: str) -> list[dict[str, Any]]:
        """`orchestrator tables SWITCH WORDS --json`."""
        return orchestrator_json("tables", switch, *words, "--network", self.name)

    def status(self) -> dict[str, Any]:
        """`orchestrator status --json`."""
        return orchestrator_json("status", "--network", self.name)

    def worker_metrics(self) -> dict[str, dict[str, int]]:
        """queryMetrics of every worker that answers."""
        metrics: dict[str, dict[str, int]] = {}
        for worker in self.state.workers:
            with WorkerClient(worker.name, worker.api) as session, suppress(ServerError):
                metrics[worker.name] = session.metrics()
        return metrics

    def counted(self, what: str) -> int:
        """A counter summed over the workers."""
        return sum(values.get(what, 0) for values in self.worker_metrics().values())


@contextmanager
def network(topology: str, switch: str, name: str) -> Iterator[Live]:
    """A network started by `orchestrator net up`, in folders of its own."""
    with own_folders() as folder:
        orchestrator("net", "up", topology, "--switch", switch, "--name", name)
        yield Live(name, load_state(name), folder)
        orchestrator("net", "down", name)
        assert list_networks() == []


IDS = {
    "type": "ids",
    "config": {
        "signatures": [{"id": 1, "content": "evil", "protocol": "tcp", "ports": ["80"]}],
    },
}
"""Of pings it sees nothing: they stay in the switches."""
FIREWALL = {"type": "stateful_firewall", "config": {"default": "permit"}}
"""It tracks pings, too: they come to its worker."""


def guard_graph(folder: Path, watch: Mapping[str, Any] = IDS) -> str:
    """The file of a graph: an NF on a server between the two leaves, and a router on the way out."""
    routes = ["10.0.1.0/24", "198.51.100.0/24"]
    file = folder / "graph.json"
    file.write_text(
        json.dumps(
            {
                "name": "guard",
                "endpoints": {"in": {"hosts": ["h1", "h2"]}, "out": {"hosts": ["h3", "h4"]}},
                "nfs": {
                    "watch": watch,
                    "route": {
                        "type": "router",
                        "config": {"routes": [{"prefix": p} for p in routes]},
                    },
                },
                "edges": [
                    {"from": a, "to": b}
                    for a, b in (
                        ("in", "watch.inside"),
                        ("watch.outside", "route.inside"),
                        ("route.outside", "out"),
                        ("out", "watch.outside"),
                        ("watch.inside", "in"),
                    )
                ],
                "traffic": [
                    {
                        "name": name,
                        "from": a,
                        "to": b,
                        "rate": "100 Mbit/s",
                        "packet_size": 800,
                    }
                    for name, a, b in (("up", "in", "out"), ("down", "out", "in"))
                ],
            }
        )
    )
    return str(file)


def chain_graph(name: str, nfs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """inside, the NFs in their order, outside, and back the same way."""
    there = ["inside", *nfs, "outside"]

    def port(node: str, side: str) -> str:
        return f"{node}.{side}" if node in nfs else node

    edges = [{"from": port(a, "outside"), "to": port(b, "inside")} for a, b in pairwise(there)]
    edges += [{"from": port(b, "inside"), "to": port(a, "outside")} for a, b in pairwise(there)]
    ends = {"inside": ["h1", "h2"], "outside": ["h3", "h4"]}
    return {
        "name": name,
        "endpoints": {end: {"hosts": hosts} for end, hosts in ends.items()},
        "nfs": nfs,
        "edges": edges,
        "traffic": [
            {"name": a, "from": a, "to": b, "rate": "10Mbit/s"}
            for a, b in (("inside", "outside"), ("outside", "inside"))
        ],
    }

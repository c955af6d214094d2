"""failover_ratio: how soon new flows pass after a device died, in deployments of the same change.

Ten times each a worker, a server and a spine are killed, a link is cut and a worker stopped (SIGSTOP),
in a network that `reconcile --watch` keeps. An outage is the time from the death to the first datagram
behind the last one that was lost. It is divided by the detection interval and twice the time that
`deploy` takes for the same change, measured in turn on the same network with nobody watching. (For a
worker that is stopped `deploy` would first wait for an answer: a killed one's time counts.) Flows of a
graph that needs none of the devices must lose nothing, and graphs must be where `whatif` foresaw them.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rig
from figures import Result, figure

from orchestrator.deployment.journal import Journal
from orchestrator.deployment.live import LiveNetwork
from orchestrator.emulation import NetworkState, host_argv, load_state, run_in_host
from orchestrator.emulation.state import inventory_of
from orchestrator.model.bundle import Bundle
from orchestrator.observation.conditions import recorded
from orchestrator.observation.liveness import DOWN, UP
from orchestrator.placement.running import running_of
from orchestrator.upkeep.foresight import failing, foresee

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support import eventually

PROBE = Path(__file__).with_name("flow_probe.py")
NAME = "bench"
ROUNDS = int(os.environ.get("ROUNDS", "10"))
INTERVAL_S = 0.5
RATE = 50
"""New flows a second, of each graph."""
WARM_S = 5.0
"""Until a watch that begins has compared everything and compiled each graph once."""
FIREWALL = {"type": "stateful_firewall", "config": {"default": "permit"}}
"""On a server: all packets come to its worker."""
ACL = {
    "type": "acl",
    "config": {
        "rules": [{"protocol": "tcp", "dst_port": 23, "action": "deny"}],
        "default": "permit",
    },
}
"""In a switch."""
CALM_S = 1.0
"""Observed before a death, and after all is well again."""


@dataclass(frozen=True, slots=True)
class Death:
    """An event: what dies (the words of `whatif --fail`), how, and how it is brought back."""

    fails: str
    strike: Callable[[], None]
    restore: Callable[[], None]
    placed_anew: bool = True


@figure("failover_ratio", unit="ratio", goal=1)
def failover_ratio() -> Result:
    """The worst of all outages over its bound; by event: seconds, and what they are compared with."""
    with rig.network("softswitch", deploy=False) as state:
        bench = Bench(state)
        events: dict[str, list[dict[str, Any]]] = {name: [] for name in bench.deaths}
        deploys: dict[str, list[float]] = {name: [] for name in bench.deaths}
        for _ in range(ROUNDS):
            for name in bench.deaths:
                if name != "worker stopped":
                    deploys[name].append(bench.deployed_around(name))
                events[name].append(bench.survived(name))
    deploys["worker stopped"] = deploys["worker killed"]
    by_event: dict[str, Any] = {}
    for name, outages in events.items():
        bound = INTERVAL_S + 2 * statistics.median(deploys[name])
        seconds = sorted(outage["seconds"] for outage in outages)
        by_event[name] = {
            "ratio": round(seconds[-1] / bound, 2),
            "ratio_median": round(statistics.median(seconds) / bound, 2),
            "outage_s": [round(s, 2) for s in seconds],
            "deploy_s": [round(s, 2) for s in sorted(deploys[name])],
            "others_lost": sum(outage["others_lost"] for outage in outages),
            "as_foreseen": all(outage["as_foreseen"] for outage in outages),
        }
    return {
        "value": max(event["ratio"] for event in by_event.values()),
        "compared_with": {"interval_s": INTERVAL_S, "rounds": ROUNDS},
        "events": by_event,
    }


@figure("failover_takeover_s", unit="s", goal=None)
def takeover() -> Result:
    """A worker is killed that a standby follows (`per_packet`): the worst outage of new flows, and how
    much of it is until the worker is taken for down."""
    doubled = {**FIREWALL, "state": {"standby": "per_packet", "on": "server2"}}
    with rig.network("softswitch", deploy=False) as state:
        bench = Bench(state, doubled)
        takeovers = [bench.survived("worker killed") for _ in range(ROUNDS)]
    outages = sorted(outage["seconds"] for outage in takeovers)
    detected = sorted(outage["detected_s"] for outage in takeovers)
    return {
        "value": round(outages[-1], 2),
        "median_s": round(statistics.median(outages), 2),
        "outage_s": [round(s, 2) for s in outages],
        "detected_s": [round(s, 2) for s in detected],
        "others_lost": sum(outage["others_lost"] for outage in takeovers),
        "compared_with": {"interval_s": INTERVAL_S, "rounds": ROUNDS},
    }


class Bench:
    """The network, two graphs on it, and the ways to die; `nf` is that of the guarded one."""

    def __init__(self, state: NetworkState, nf: Mapping[str, Any] = FIREWALL) -> None:
        self.state = state
        self.folder = Path(state.run_dir)
        self.guard = self._graph("guard", ["h1"], ["h3"], "198.51.100.0/24", "10.0.1.11/32", nf)
        beside = self._graph("beside", ["h2"], ["h1"], "10.0.1.11/32", "10.0.1.12/32", ACL)
        for host, other in (("h1", "10.0.1.12"), ("h2", "10.0.1.11")):
            route = ["ip", "route", "add", f"{other}/32", "via", "10.0.1.1"]
            run_in_host(state, host, route, check=True)
        rig.orchestrator("deploy", str(beside), "-n", NAME)
        rig.orchestrator("deploy", str(self.guard), "-n", NAME)
        worker = self._worker()
        server = worker.rpartition(".")[0]
        spine = self._spine()
        workers = [w.name for w in state.workers if w.server == server]
        link = next(x for x in state.topology.links if {x.a, x.b} == {"leaf1", spine})
        port = state.switches["leaf1"].interfaces[link.a_port if link.a == "leaf1" else link.b_port]
        self.deaths = {
            "worker killed": Death(
                f"node:{worker}", lambda: self._kill(worker), lambda: self._start(worker), False
            ),
            "worker stopped": Death(
                f"node:{worker}",
                lambda: self._kill(worker, number=signal.SIGSTOP),
                lambda: None,
                False,
            ),
            "server killed": Death(
                f"node:{server}", lambda: self._kill(*workers), lambda: self._start(*workers)
            ),
            "spine killed": Death(
                f"node:{spine}", lambda: self._kill(spine), lambda: self._start(spine)
            ),
            "link cut": Death(
                f"link:{link.a}-{link.b}", lambda: _link(port, "down"), lambda: _link(port, "up")
            ),
        }

    # -- one death -------------------------------------------------------------------------------

    def deployed_around(self, name: str) -> float:
        """Seconds that `deploy` takes around a death, with nobody watching."""
        death = self.deaths[name]
        death.strike()
        time.sleep(CALM_S)
        started = time.monotonic()
        rig.orchestrator("deploy", str(self.guard), "-n", NAME)
        seconds = time.monotonic() - started
        self._as_before(death)
        return seconds

    def survived(self, name: str) -> dict[str, Any]:
        """What a death did while the network was kept."""
        death = self.deaths[name]
        wanted = self._foreseen(death.fails) if death.placed_anew else self._bundle()
        with watching(self.state), self._flows() as ended:
            time.sleep(CALM_S)
            struck = time.monotonic()
            death.strike()
            eventually(self._is_noticed, interval=0.01, what=f"a condition after {name}")
            detected = time.monotonic() - struck
            eventually(self._reaches, what=f"flows after {name}")
            time.sleep(CALM_S)
            mine, others = ended()
        placed = self._bundle().plan
        same = (placed.device_of, placed.cores_of, placed.hops) == (
            *(wanted.plan.device_of, wanted.plan.cores_of),
            wanted.plan.hops,
        )
        self._as_before(death)
        return {
            "seconds": _outage(*mine, struck),
            "detected_s": detected,
            "others_lost": _lost(*others),
            "as_foreseen": same,
        }

    # -- what it is made of ----------------------------------------------------------------------

    def _graph(
        self, name: str, inside: list[str], outside: list[str], there: str, back: str, nf: Any
    ) -> Path:
        """The file of a graph with one NF between two hosts."""
        edges = [
            ("in", "nf.inside"),
            ("nf.outside", "out"),
            ("out", "nf.outside"),
            ("nf.inside", "in"),
        ]
        ways = [("up", "in", "out", there), ("down", "out", "in", back)]
        rates = {"rate": "100 Mbit/s", "packet_size": 800}
        file = self.folder / f"{name}.json"
        document = {
            "name": name,
            "endpoints": {"in": {"hosts": inside}, "out": {"hosts": outside}},
            "nfs": {"nf": nf},
            "edges": [{"from": a, "to": b} for a, b in edges],
            "traffic": [
                {"name": n, "from": a, "to": b, "match": {"dst": dst}, **rates}
                for n, a, b, dst in ways
            ],
        }
        file.write_text(json.dumps(document))
        return file

    def _bundle(self) -> Bundle:
        return Journal(NAME).deployed()["guard"].bundle

    def _worker(self) -> str:
        (core,) = running_of(self._bundle()).cores_of["nf"]
        return str(core)

    def _spine(self) -> str:
        """The one between the leaves that the graph's packets to h3 cross."""
        fabric_trees = {
            h.tree for h in self._bundle().plan.hops if h.target in ("leaf2", "server2")
        }
        return f"spine{min(fabric_trees, default=0) % 2 + 1}"

    def _foreseen(self, fails: str) -> Bundle:
        network = LiveNetwork(inventory_of(load_state(NAME)))
        workers = {network.worker_name(core): core for core in network.cores}
        return foresee(network, failing(network.topology, workers, [fails]))["guard"].bundle

    def _kill(self, *devices: str, number: signal.Signals = signal.SIGKILL) -> None:
        state = load_state(NAME)
        pids = {w.name: w.pid for w in state.workers} | {
            s.name: s.pid for s in state.switches.values()
        }
        for device in devices:
            os.kill(pids[device], number)

    def _start(self, *devices: str) -> None:
        state = load_state(NAME)
        pids = {w.name: w.pid for w in state.workers} | {
            s.name: s.pid for s in state.switches.values()
        }
        for device in devices:
            if not state.process(pids[device]).is_alive:
                rig.orchestrator("net", "restart", device, "-n", NAME)

    def _as_before(self, death: Death) -> None:
        """All devices run, and the graph is where it was first."""
        death.restore()
        rig.orchestrator("reconcile", NAME)
        rig.orchestrator("undeploy", "guard", "-n", NAME)
        rig.orchestrator("deploy", str(self.guard), "-n", NAME)
        eventually(self._reaches, what="flows before the next death")

    def _is_noticed(self) -> bool:
        return any(c.state == DOWN for c in recorded(self.state.run_dir).values())

    def _reaches(self) -> bool:
        done = run_in_host(
            self.state, "h1", ["ping", "-c", "2", "-i", "0.1", "-W", "1", "198.51.100.13"]
        )
        return " 2 received" in done.stdout

    @contextmanager
    def _flows(self) -> Generator[Callable[[], list[Any]]]:
        """New flows of both graphs; the function ends them and returns (sent, heard) of each."""
        words = [
            ("h3", "hear", "7000"),
            ("h1", "hear", "7001"),
            ("h1", "send", "198.51.100.13", "7000", "20000", str(RATE)),
            ("h2", "send", "10.0.1.11", "7001", "20000", str(RATE)),
        ]
        running = [self._inside(*each) for each in words]

        def end() -> list[Any]:
            for process in running[2:]:
                assert process.stdin is not None
                process.stdin.close()
            time.sleep(CALM_S)  # the last ones arrive
            for process in running[:2]:
                assert process.stdin is not None
                process.stdin.close()
            told = [json.loads(p.stdout.read()) for p in running if p.stdout]
            return [(told[2], told[0]), (told[3], told[1])]

        try:
            yield end
        finally:
            for process in running:
                process.kill()
                process.wait()

    def _inside(self, host: str, *words: str) -> subprocess.Popen[str]:
        argv = host_argv(load_state(NAME), host, [sys.executable, str(PROBE), *words])
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process


@contextmanager
def watching(state: NetworkState) -> Generator[None]:
    """`reconcile --watch`, from when it knows all devices to be up."""
    words = ["reconcile", NAME, "--watch", "--json", "--interval", f"{INTERVAL_S:g}"]
    log = Path(state.run_dir) / "watch.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", *words],
            stdout=file,
            stderr=file,
            env={**os.environ, "PYTHONPATH": str(rig.ROOT)},
        )
    count = len(state.switches) + len(state.workers) + len(state.topology.links)
    with process:
        try:
            eventually(
                lambda: [c.state for c in recorded(state.run_dir).values()] == [UP] * count,
                what="all are up",
            )
            time.sleep(WARM_S)  # it compares, and compiles once
            yield
        finally:
            process.send_signal(signal.SIGINT)


def _outage(sent: dict[str, float], heard: dict[str, float], struck: float) -> float:
    """From the death until the datagram behind the last one that was lost was sent; 0: none was."""
    lost = [at for number, at in sent.items() if number not in heard and at >= struck]
    if not lost:
        return 0.0
    after = [at for at in sent.values() if at > max(lost)]
    return min(after, default=max(sent.values())) - struck


def _lost(sent: dict[str, float], heard: dict[str, float]) -> int:
    return len(sent.keys() - heard.keys())


def _link(interface: str, state: str) -> None:
    subprocess.run(["ip", "link", "set", interface, state], check=True)

"""Whether plans are true of this machine: planned saturation and latency of chains beside measured ones.

Profile and check take turns on one worker, which is alone on a CPU; packets come from another one.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

from figures import Result, figure

sys.path.append(str(Path(__file__).parents[1]))
from networks import make_graph, one_way

from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.placement.topologies import resolve_topology
from orchestrator.profiles import FOLDER, RuntimeProfile, dumped
from orchestrator.profiling.frames import SIZES
from orchestrator.profiling.rig import BURST
from orchestrator.profiling.servers import NfRow, Rig, configure, measure_runtime, tagged
from orchestrator.profiling.workloads import WORKLOADS, datagrams

GRAPHS = (("napt",), ("stateful_firewall", "dnat"), ("flow_monitor", "stateful_firewall", "napt"))
ROUNDS, TRIAL_S, LONE = 8, 0.5, 400
FIRST_SPI = 1000


@dataclass
class Check:
    """A chain at a size: CPU time of a packet under overload, latency at half load."""

    nfs: tuple[str, ...]
    size: int
    chain: NfRow
    ns: float = 0.0
    pps: float = 0.0
    latency_us: list[float] = field(default_factory=list[float])
    """The median of each round."""
    served: bool = False

    @property
    def name(self) -> str:
        return f"{'+'.join(self.nfs)}@{self.size}"

    def frames(self) -> list[bytes]:
        return tagged(self.chain, datagrams(BURST, self.size, 0))


def _checks() -> list[Check]:
    checks: list[Check] = []
    for nfs in GRAPHS:
        for size in SIZES:
            spi = FIRST_SPI + len(checks)
            named = [(f"{nf}{spi}.{k}", nf, WORKLOADS[nf].config) for k, nf in enumerate(nfs)]
            checks.append(Check(nfs, size, NfRow(named, WORKLOADS["napt"], spi)))
    return checks


def _arrived() -> int:
    """Frames that came back, by the kernel's count."""
    for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "far":
            return int(numbers.split()[1])
    raise RuntimeError("there is no interface far")


def _overload(rig: Rig, check: Check) -> None:
    """More than it carries, for a while."""
    endless = cycle(check.frames())
    rig.far.sender.send_batch(list(islice(endless, BURST)))
    time.sleep(0.05)
    arrived, spent, began = _arrived(), rig.device.cpu_ns(), time.monotonic()
    while time.monotonic() - began < TRIAL_S:
        rig.far.sender.send_batch(list(islice(endless, 32)))
        rig.far.receiver.recv_batch()
    came, seconds = _arrived() - arrived, time.monotonic() - began
    ns = (rig.device.cpu_ns() - spent) / came
    check.ns = min(check.ns or ns, ns)
    check.pps = max(check.pps, came / seconds)
    quiet = 0
    while quiet < 5:  # what is still queued belongs to no other trial
        quiet = 0 if rig.far.drain() else quiet + 1
        time.sleep(0.05)


def _half(rig: Rig, check: Check, seed: int) -> None:
    """At random times, half of what it carries; they come back in order."""
    chance, frames = random.Random(seed), cycle(check.frames())
    sent: list[float] = []
    latency: list[float] = []
    due = time.monotonic()
    got = 0
    end = due + 2.0
    while got < LONE and time.monotonic() < end:
        now = time.monotonic()
        if len(sent) < LONE and now >= due:
            sent.append(now)
            rig.far.sender.send_batch([next(frames)])
            due += chance.expovariate(check.pps / 2)
        for _ in rig.far.receiver.recv_batch()[: len(sent) - got]:
            latency.append((time.monotonic() - sent[got]) * 1e6)
            got += 1
    if latency:
        check.latency_us.append(median(latency))
    while rig.far.received(1):
        rig.far.drain()


def measured(rounds: int = ROUNDS) -> tuple[RuntimeProfile, list[Check]]:
    """The profile of the NFs and the chains' truth, in turns."""
    checks = _checks()

    def meanwhile(rig: Rig, number: int) -> None:
        for check in checks:
            if not check.served:
                configure(rig, check.chain)
                check.served = True
            _overload(rig, check)
            if number:
                _half(rig, check, number)

    only = sorted({nf for nfs in GRAPHS for nf in nfs} | {"vlan_pop"})
    return measure_runtime("python", only, rounds=rounds, meanwhile=meanwhile), checks


@contextmanager
def planning_with(profile: RuntimeProfile) -> Iterator[None]:
    before = os.environ.get(FOLDER)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, f"{profile.name}.json").write_text(dumped(profile))
        os.environ[FOLDER] = folder
        try:
            yield
        finally:
            os.environ.pop(FOLDER)
            if before is not None:
                os.environ[FOLDER] = before


def planned(check: Check, pps: float) -> tuple[float, float]:
    """Packets/s at which the plan has a core full, and us at its server, of a rate of packets."""
    nfs: dict[str, Any] = {f"n{k}": (nf, WORKLOADS[nf].config) for k, nf in enumerate(check.nfs)}
    graph = make_graph(nfs, one_way("inside", *nfs, "outside"), name="truth")
    rate = int(pps * 8 * check.size)
    traffic = tuple(replace(t, rate=rate, packet_bytes=check.size) for t in graph.traffic)
    topology = resolve_topology("leaf-spine")
    switches = {n: replace(s, packets_per_second=10**9) for n, s in topology.switches.items()}
    request = CompileRequest(replace(graph, traffic=traffic), replace(topology, switches=switches))
    plan = compile_graph(request).plan
    (note,) = [n for n in plan.notes if n.startswith("latency of ")]
    words = note.replace(",", "").split()
    server, queue = (float(words[words.index(w) - 2]) for w in ("servers", "their"))
    return pps / sum(plan.core_load.values()), server + queue


@figure("predicted_saturation_error", unit="share", goal=0.20)
def predicted_saturation_error() -> Result:
    """The worst of three chains at three sizes; the latency at half of it, planned over measured."""
    profile, checks = measured()
    errors: dict[str, float] = {}
    latencies: dict[str, float] = {}
    shown: dict[str, Any] = {}
    with planning_with(profile):
        for check in checks:
            truth = 1e9 / check.ns
            most, latency = planned(check, truth / 4)
            least = min(check.latency_us)  # of the round that other processes disturbed least
            errors[check.name] = round(most / truth - 1, 3)
            latencies[check.name] = latency / least
            shown[check.name] = {
                "planned_pps": round(most),
                "pps_of_cpu": round(truth),
                "pps": round(check.pps),
                "planned_us": round(latency),
                "median_us": round(least),
            }
    return {
        "value": max(map(abs, errors.values())),
        "compared_with": shown,
        "errors": errors,
        "latency_ratio": {name: round(ratio, 3) for name, ratio in latencies.items()},
        "latency_worst_factor": round(max(max(r, 1 / r) for r in latencies.values()), 2),
        "profile": str(profile.measured),
    }

"""Whether the NF that limits a chain is named: trials on a real worker, with one NF slowed or none."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

from figures import Result, figure

from orchestrator.observation.bottleneck import Bottleneck
from orchestrator.observation.health import CoreReading, Reading
from orchestrator.placement.topologies import resolve_topology
from orchestrator.presenters.bottleneck import found_between
from orchestrator.profiling.rig import BURST
from orchestrator.profiling.servers import NfRow, Rig, configure, tagged, worker
from orchestrator.profiling.workloads import WORKLOADS, datagrams

SLOWED = Path(__file__).with_name("slowed.py")
NFS = ("flow_monitor", "stateful_firewall", "napt")
TRIALS, APART_S = 20, 1.0
SIZE, SPI = 64, 7


def _reading(rig: Rig) -> Reading:
    core = CoreReading("server1", 1, ("profile7",), "", rig.client.metrics())
    return Reading(time.monotonic(), (), (core,), {})


def _sending(rig: Rig, frames: list[bytes], pps: float, over: threading.Event) -> None:
    endless, sent, began = cycle(frames), 0, time.monotonic()
    while not over.is_set():
        due = int((time.monotonic() - began) * pps) - sent
        if due > 0:
            sent += rig.far.sender.send_batch(list(islice(endless, min(due, 64))))
            sent += max(0, due - 4096)  # who was away for long does not make up for it
        else:
            time.sleep(0.0005)


def _trial(rig: Rig, chain: NfRow, pps: float) -> tuple[list[Bottleneck], float]:
    """What is named at a rate, and after how many seconds of packets."""
    frames = tagged(chain, datagrams(BURST, SIZE, 0))
    over = threading.Event()
    sender = threading.Thread(target=_sending, args=(rig, frames, pps, over))
    sender.start()
    began = time.monotonic()
    try:
        time.sleep(0.3)
        before = _reading(rig)
        time.sleep(APART_S)
        bottlenecks = found_between(resolve_topology("leaf-spine"), before, _reading(rig))
        return bottlenecks, time.monotonic() - began
    finally:
        over.set()
        sender.join()


def _carried(rig: Rig, frames: list[bytes]) -> float:
    """Packets/s that the healthy chain carries: what it sends back while it gets too much."""
    over = threading.Event()
    sender = threading.Thread(target=_sending, args=(rig, frames, 1e6, over))
    sender.start()
    time.sleep(0.3)
    before = rig.client.metrics()["frames_out"]
    time.sleep(APART_S)
    carried = (rig.client.metrics()["frames_out"] - before) / APART_S
    over.set()
    sender.join()
    while rig.far.received(1):
        rig.far.drain()
    return carried


@contextmanager
def _chain(slowed: str, us: float) -> Iterator[tuple[Rig, NfRow]]:
    """The chain on a worker; one NF of it takes so much longer."""
    named = [(f"{nf}.0", nf, WORKLOADS[nf].config) for nf in NFS]
    chain = NfRow(named, WORKLOADS["napt"], SPI)
    argv = [str(SLOWED), f"profile{SPI}/{slowed}.0", str(us)]
    with tempfile.TemporaryDirectory() as folder, worker("python", Path(folder), argv) as rig:
        configure(rig, chain)
        yield rig, chain


@figure("bottleneck_named", unit="trials", goal=TRIALS)
def bottleneck_named() -> Result:
    """Of 20 slowed chains how many are named rightly; of 20 healthy ones none should be."""
    chance, named, false, seconds = random.Random(20), 0, 0, 0.0
    wrong: list[str] = []
    with _chain(NFS[0], 0) as (rig, chain):
        frames = tagged(chain, datagrams(BURST, SIZE, 0))
        carried = _carried(rig, frames)
        for _ in range(TRIALS):
            bottlenecks, _ = _trial(rig, chain, carried * chance.uniform(0.1, 0.4))
            false += bool(bottlenecks)
            wrong += [f"healthy: {one.name}: {'; '.join(one.evidence)}" for one in bottlenecks]
    for _ in range(TRIALS):
        slowed, pps = chance.choice(NFS), carried * chance.uniform(0.1, 0.4)
        with _chain(slowed, 3e6 / pps) as (rig, chain):
            bottlenecks, took = _trial(rig, chain, pps)
            names = [one.name for one in bottlenecks]
            right = [f"profile{SPI}/{slowed}.0 on server1.2"] == names
            named += right
            seconds = max(seconds, took)
            wrong += [] if right else [f"{slowed}: {names}"]
    return {
        "value": named,
        "compared_with": {"healthy ones named": false},
        "seconds": round(seconds, 2),
        "wrong": wrong,
        "carried_pps": round(carried),
    }

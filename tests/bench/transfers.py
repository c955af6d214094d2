"""State that moves: what is lost on a live network, and how long packets wait for it by variant."""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from figures import Result, figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "servernf"))

import rig
from move_load import moving, open_flows
from test_transfer_calls import BEGIN, FINISH, METADATA, STATUS, Node, nodes
from transfer_support import HERE, SWITCH
from update_load import POOL, Load

from orchestrator.deployment.execution import QUIET_S
from orchestrator.deployment.live import LiveNetwork
from orchestrator.deployment.operations import deploy_graph
from orchestrator.deployment.relocating import move
from orchestrator.emulation.state import inventory_of
from orchestrator.graph import load_graph
from orchestrator.model.plan import Core
from orchestrator.placement.running import Moving, running_of
from servernf.proto import vnf_pb2 as vnf
from servernf.python.variants import VARIANTS
from servernf.wire import nsh

MOVES, RATE, FLOWS = 100, 1_000, 10_000
TARGETS = [Core("server1", 0), Core("server2", 1), Core("server1", 2), Core("server2", 0)]
ROUNDS = 5
GAP_S = 0.0005
"""Between packets while state moves."""


@figure("transfer_lost_packets", unit="packets", goal=0)
def lost() -> Result:
    """Numbered UDP both ways and a TCP transfer through 100 moves between two servers."""
    return lost_through(MOVES)


def lost_through(moves: int) -> Result:
    """The same through so many."""
    with rig.network("softswitch", deploy=False) as state:
        network = LiveNetwork(inventory_of(state))
        file = Path(state.run_dir) / "graph.json"
        file.write_text(json.dumps(moving()))
        name = deploy_graph(load_graph(file).graph, network).bundle.graph
        told: list[str] = []
        with Load(state, RATE, POOL) as load:
            now = running_of(network.journal.deployed()[name].bundle).cores_of["nat"][0]
            targets = (t for t in cycle(TARGETS) if t != now)
            for turn, target in enumerate(islice(targets, moves)):
                if turn % 5 == 0:
                    open_flows(state, FLOWS)
                told += move(network, name, Moving("nat", target)).applied.moved
        assert load.report is not None
    return {
        "value": load.report.lost,
        "moves": moves,
        "flows": FLOWS,
        "rate_pps_each_way": RATE,
        "drained_by_time": sum("drained by time" in line for line in told),
        **{k: v for k, v in asdict(load.report).items() if k != "lost"},
    }


@figure("transfer_pause", unit="marker round trips", goal=None)
def pause() -> Result:
    """How long packets wait while 10,000 flows move from worker to worker, by variant in turn."""
    waited: dict[str, list[float]] = {variant: [] for variant in VARIANTS["transfer"]}
    trips: list[float] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, nodes(Path(folder)) as both:
        _open(both[0])
        turn = 0
        for _ in range(ROUNDS):
            for variant, measured in waited.items():
                source, target = both[turn % 2], both[1 - turn % 2]
                measured.append(_moved(source, target, variant, f"m{turn}", trips))
                turn += 1
    trip = median(trips)
    pauses = {variant: median(measured) for variant, measured in waited.items()}
    shortest = sorted(pauses, key=lambda variant: pauses[variant])
    declared = sorted(pauses, key=lambda v: -VARIANTS["transfer"][v].performance)
    return {
        "value": round(pauses["order_preserving"] / trip, 1),
        "compared_with": {v: round(p / trip, 1) for v, p in pauses.items()},
        "marker_round_trip_ms": round(trip * 1e3, 2),
        "pause_ms": {variant: round(waited_s * 1e3, 2) for variant, waited_s in pauses.items()},
        "flows": FLOWS,
        "as_declared": shortest == declared,
    }


def _open(node: Node) -> None:
    for number in range(FLOWS):
        node.send(0x0A010000 + number, 0)
        if number % 64 == 63:
            time.sleep(0.02)
            _emptied(node)
    time.sleep(0.5)
    _emptied(node)


def _emptied(node: Node) -> None:
    node.wire.setblocking(False)
    try:
        while True:
            node.wire.recv(65536)
    except BlockingIOError:
        node.wire.setblocking(True)


@contextmanager
def _talking(source: Node, target: Node, is_over: threading.Event) -> Generator[None]:
    """Packets to the old owner, then to the new one."""
    ends = threading.Event()

    def talk() -> None:
        number = 0
        while not ends.is_set():
            node = target if is_over.is_set() else source
            node.send(0x0A010000 + number % FLOWS, number)
            _emptied(node)
            number += 7
            time.sleep(GAP_S)

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        yield
    finally:
        ends.set()
        talker.join()


def _moved(source: Node, target: Node, variant: str, name: str, trips: list[float]) -> float:
    """How long packets waited (s) while everything moved."""
    request = vnf.TransferRequest(id=name, nfs=["g/napt"], variant=variant, phase=BEGIN)
    request.scope.key, request.scope.of = "inside_address", 64
    request.scope.buckets.extend(range(64))
    request.destination = target.expects(request)
    flipped = threading.Event()
    with _talking(source, target, flipped):
        begun = source.stub.transfer(request, metadata=METADATA)
        flipped.set()
        if variant == "loss_free":
            time.sleep(QUIET_S)
        else:
            began = time.perf_counter()
            source.wire.send(nsh.marker(HERE + source.index, SWITCH, begun.marker, 0))
            request.phase = STATUS
            while not source.stub.transfer(request, metadata=METADATA).markers:
                pass
            trips.append(time.perf_counter() - began)
        request.phase = FINISH
        done = source.stub.transfer(request, metadata=METADATA)
        assert done.state == "done", done
        time.sleep(0.05)
    _emptied(source)
    _emptied(target)
    return done.waited_us / 1e6

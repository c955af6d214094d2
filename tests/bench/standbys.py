"""State that is doubled: what it costs packets, by variant in turn, and what dies with a primary."""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, median

from figures import Result, figure

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "servernf"))

from test_replicate import NAPT, Play
from test_transfer_calls import METADATA, Node, nodes

from servernf.proto import vnf_pb2 as vnf
from servernf.python.packet import PacketView
from servernf.python.variants import VARIANTS, Measures
from servernf.wire import nsh

KILLS = 100
ROUNDS, BURSTS, BURST = 3, 40, 320
"""Packets that come at once; one burst in four has a new flow."""
GAP_S = 0.03
FLOWS = 1_000
ALIKE = 0.1
"""Two runs of the same differ by so much."""


@figure("failover_broken_connections", unit="connections", goal=0)
def broken() -> Result:
    """Conversations through a NAPT with `per_packet`, whose worker dies at a random instant."""
    failed = 0
    for seed in range(KILLS):
        rng = random.Random(seed)
        play = Play(NAPT, seed)
        play.run(rng.randrange(1, 120))
        play.killed(is_told=rng.random() < 0.5)
        try:
            play.run(50)
        except AssertionError:
            failed += 1
    return {"value": failed, "kills": KILLS}


@figure("replicate_variants", unit="pairs out of order", goal=0)
def variants() -> Result:
    """Three measures of each variant, in the order that getVariants declares or not: how long a packet
    takes, flows that the standby does not know when a burst has left, records sent a packet."""
    names = list(VARIANTS["replicate"])
    measured: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, nodes(Path(folder)) as both:
        talk = _Talk(both[0])
        for number in range(FLOWS):
            talk.send(number)
        talk.received(1.0)
        for turn in range(ROUNDS):
            for name in names:
                measured[name].append(_measured(both, talk, name, f"{name} {turn}"))
    told = {name: tuple(map(median, zip(*measured[name], strict=True))) for name in names}
    declared = VARIANTS["replicate"]
    # Less time and less that is unknown are better; more that is sent is more.
    better = {name: (-ms, -unknown, sent) for name, (ms, unknown, sent) in told.items()}
    wrong = [
        f"{one} and {other}: {field}"
        for at, field in enumerate(Measures._fields)
        for one in names
        for other in names
        if declared[one][at] < declared[other][at]
        and better[one][at] > better[other][at] + ALIKE * abs(better[other][at])
    ]
    return {
        "value": len(wrong),
        "wrong": wrong,
        "compared_with": {
            name: {"ms": round(ms * 1e3, 2), "flows_unknown": lost, "records_a_packet": round(n, 2)}
            for name, (ms, lost, n) in told.items()
        },
    }


class _Talk:
    """Numbered datagrams to a worker, and when they come out of it."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._sent: list[float] = []
        self.flows = FLOWS
        self._view = PacketView()

    def send(self, flow: int) -> None:
        self._sent.append(time.perf_counter())
        self._node.send(0x0A010000 + flow, len(self._sent) - 1)

    def received(self, wait_s: float, count: int = 1 << 30) -> list[float]:
        """How long each has taken (s)."""
        delays: list[float] = []
        self._node.wire.settimeout(wait_s)
        try:
            while len(delays) < count:
                _, frame = nsh.decode(self._node.wire.recv(65536)) or (None, b"")
                now = time.perf_counter()
                assert self._view.load(frame)
                at = self._view.l4 + 8
                number = int.from_bytes(self._view.data[at : at + 8], "big")
                delays.append(now - self._sent[number])
        except TimeoutError:
            pass
        return delays


def _measured(
    both: tuple[Node, Node], talk: _Talk, variant: str, name: str
) -> tuple[float, float, float]:
    primary, standby = both
    request = vnf.ReplicateRequest(id=name, nfs=["g/napt"], variant=variant)
    request.scope.key, request.scope.of = "inside_address", 64
    request.scope.buckets.extend(range(64))
    request.secret = bytes(32)
    expected = vnf.ExpectStateRequest(
        id=name, secret=request.secret, nfs=request.nfs, scope=request.scope
    )
    request.destination = standby.stub.expectState(expected, metadata=METADATA).address
    request.phase = vnf.ReplicateRequest.START
    before = primary.stub.replicate(request, metadata=METADATA)
    assert before.state == "following", before
    rng, times, unknown = random.Random(1), list[float](), 0
    for turn in range(BURSTS):
        burst = [rng.randrange(FLOWS) for _ in range(BURST)]
        if turn % 4 == 0:
            burst[0] = talk.flows = talk.flows + 1
        for flow in burst:
            talk.send(flow)
        times += talk.received(2.0, len(burst))
        has = primary.worker.tables.instances["g/napt"].nf.state.tables["mappings"]
        unknown += len(has.table.records) - len(standby.worker.replicas.standbys.all[name].kept)
        time.sleep(GAP_S)
    request.phase = vnf.ReplicateRequest.STATUS
    told = primary.stub.replicate(request, metadata=METADATA)
    assert told.state == "following", told
    request.phase = vnf.ReplicateRequest.STOP
    primary.stub.replicate(request, metadata=METADATA)
    return mean(times), unknown, (told.records - before.records) / len(times)

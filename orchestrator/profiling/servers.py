"""What NFs cost a server's core: one worker that has them all, each point measured in turns."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.clients.vnf import WorkerClient
from orchestrator.errors import NetworkError
from orchestrator.model.entries import ChainHop, ServerChain
from orchestrator.profiles import CostPoint, NfCost, RuntimeProfile, between
from orchestrator.profiling.frames import SIZES
from orchestrator.profiling.machine import measured_now
from orchestrator.profiling.rig import (
    BURST,
    Far,
    FramesLost,
    MeasuredDevice,
    alone_us,
    ip,
    link,
    out_of_the_way,
    own_network,
    spent_ns,
)
from orchestrator.profiling.workloads import MANY, WORKLOADS, OpenedConnections, Workload
from orchestrator.runtimes import runtime
from servernf.host.packetio import PacketSocket
from servernf.wire import nsh
from servernf.wire.addresses import mac_text

GRAPH = "profile"
MAC, BACK = 0x0200_0001_0001, 0x0200_0002_0000
_BASE = "vlan_pop"
"""Measured once alone and once behind itself: the difference is the NF, the rest is the frame."""
_LONE = 200
"""Frames of which the latency is taken."""


@dataclass
class NfRow:
    """NFs in a row under a path of their own; `work` is the packets'."""

    nfs: list[tuple[str, str, Any]]
    """(name, type, configuration)"""
    work: Workload
    spi: int
    connections: OpenedConnections | None = None


@dataclass
class _Point:
    """What is measured of a chain: the least of the rounds."""

    chain: NfRow
    size: int
    entries: int = 0
    fresh: bool = False
    ns: float = 0.0
    said: str = ""
    last: list[bytes] = field(default_factory=list[bytes])

    def take(self, ns: float) -> None:
        """One round's."""
        self.ns = min(self.ns, ns) if self.ns else ns


def measure_runtime(
    name: str,
    only: Sequence[str] = (),
    *,
    rounds: int = 15,
    tell: Callable[[str], None] = lambda _: None,
    meanwhile: Callable[[Rig, int], None] = lambda rig, number: None,
) -> RuntimeProfile:
    """The profile of a runtime; `only`: of these NFs. `meanwhile` is called behind each round, with the
    worker that it measures and the round's number."""
    wanted = {*only, _BASE} if only else set(WORKLOADS)
    has = [nf for nf in runtime(name).nf_types if nf in wanted]
    for nf in list(has):
        if (source := WORKLOADS[nf].of) and source not in has:
            has.insert(has.index(nf), source)
    with (
        tempfile.TemporaryDirectory(prefix="profile-") as folder,
        worker(name, Path(folder)) as rig,
    ):
        points = list(_points(rig, has, Path(folder)))
        for number in range(rounds):
            tell(f"{name}: round {number + 1} of {rounds}")
            for point in points:
                _measure(rig, point, number)
            meanwhile(rig, number)
        base = [p for p in points if p.chain.nfs[0][1] == _BASE and not p.entries and not p.fresh]
        frame = {p.size: 2 * p.ns - _twice(points, p.size) for p in base if len(p.chain.nfs) == 1}
        lone = next(p for p in base if len(p.chain.nfs) == 1 and p.size == SIZES[0])
        alone = alone_us(rig.device, rig.far, tagged(lone.chain, _frames(lone, 0))[:_LONE])
    costs: dict[str, NfCost] = {}
    for nf in has:
        mine = [p for p in points if p.chain.nfs[0][1] == nf and len(p.chain.nfs) == 1 and p.ns]
        costs[nf] = NfCost(points=tuple(_told(p, frame) for p in mine))
    return RuntimeProfile(
        name=name,
        measured=measured_now(_with(name)),
        frame_ns={size: round(ns) for size, ns in frame.items()},
        alone_us=round(max(0.0, alone - lone.ns / 1000), 1),
        nfs=costs,
    )


def _told(point: _Point, frame: Mapping[int, float]) -> CostPoint:
    """Without what its frame costs."""
    ns = round(max(1.0, point.ns - between(frame, point.size)))
    return CostPoint(bytes=point.size, entries=point.entries, fresh=point.fresh, ns=ns)


def _twice(points: list[_Point], size: int) -> float:
    return next(p.ns for p in points if len(p.chain.nfs) == 2 and p.size == size)


def _with(name: str) -> str:
    return f"runtime {name} on Python {sys.version.split()[0]}"


@dataclass
class Rig:
    client: WorkerClient
    device: MeasuredDevice
    far: Far
    encrypted: dict[int, list[bytes]] = field(default_factory=dict[int, list[bytes]])


@contextmanager
def worker(name: str, folder: Path, program: Sequence[str] = ()) -> Generator[Rig]:
    """A worker of a runtime on one end of a veth pair; `program` instead of the runtime's module."""
    api = f"unix:{folder}/w.sock"
    argv = [sys.executable, *(program or ("-m", f"servernf.{name}")), "--name", "w"]
    with ExitStack() as stack:
        stack.enter_context(own_network())
        stack.enter_context(link("near", "far"))
        ip("link", "set", "near", "address", mac_text(MAC))
        worker = subprocess.Popen(
            [*argv, "--interface", "near", "--api", api],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        stack.callback(_end, worker)
        assert worker.stdout is not None
        assert worker.stderr is not None
        ready = worker.stdout.readline()
        if not ready:
            raise NetworkError(f"the worker has not started: {worker.stderr.read().strip()}")
        port = stack.enter_context(PacketSocket("far", rcvbuf=16 << 20))
        client = stack.enter_context(WorkerClient("w", json.loads(ready)["api"]))
        device = MeasuredDevice(worker.pid)
        stack.enter_context(out_of_the_way())
        yield Rig(client, device, Far(port, port))


def _end(worker: subprocess.Popen[str]) -> None:
    worker.terminate()
    with suppress(subprocess.TimeoutExpired):
        worker.wait(5)
    worker.kill()
    worker.wait()


def _points(rig: Rig, nfs: Sequence[str], folder: Path) -> Iterator[_Point]:
    """Configure a chain for every point, of each NF with few and with many entries."""
    spi = 0
    for nf in nfs:
        work = WORKLOADS[nf]
        for file, text in work.files.items():
            (folder / file).write_text(text)
        variants = [(work.config, 0, 1)] + ([(work.many, MANY, 1)] if work.many else [])
        if nf == _BASE:
            variants.append((work.config, 0, 2))
        for config, entries, count in variants:
            told = json.loads(json.dumps(config).replace("{folder}", str(folder)))
            for size in work.sizes if not entries else work.sizes[:1]:
                for fresh in (False, True) if work.state and size == SIZES[0] else (False,):
                    spi += 1
                    names = [(f"{nf}{spi}.{k}", nf, told) for k in range(count)]
                    chain = NfRow(names, work, spi)
                    configure(rig, chain)
                    yield _Point(chain, size, entries, fresh)


def configure(rig: Rig, chain: NfRow) -> None:
    work = chain.work
    graph = f"{GRAPH}{chain.spi}"
    rig.client.configure(graph, {name: (kind, config) for name, kind, config in chain.nfs}, None)
    for enters, leaves, si in ((work.port, work.out_port, 255), (work.out_port, work.port, 254)):
        hops = [ChainHop(name, enters) for name, _, _ in chain.nfs]
        exits = ChainHop(mac=BACK, spi=chain.spi, si=10)
        rig.client.service_chain(
            graph, ServerChain(chain.spi, si, (*hops, exits), (leaves,) * len(chain.nfs))
        )
    if "mirror" in {kind for _, kind, _ in chain.nfs}:
        name = chain.nfs[0][0]
        rig.client.service_chain(
            graph,
            ServerChain(
                chain.spi,
                255,
                (ChainHop(name), ChainHop(mac=BACK, spi=chain.spi, si=9)),
                ("mirror",),
            ),
        )


def tagged(chain: NfRow, frames: Sequence[bytes], si: int = 255) -> list[bytes]:
    tag = nsh.Tag(MAC, BACK, chain.spi, si)
    return [nsh.encode(tag, frame) for frame in frames]


def _frames(point: _Point, number: int) -> list[bytes]:
    """The packets of a round."""
    work, chain = point.chain.work, point.chain
    if chain.connections is not None:
        return chain.connections.data(BURST, point.size, work.begins, work.ends)
    anew = point.fresh or chain.nfs[0][1] == "dedup"
    return work.frames(BURST, point.size, number * BURST if anew else 0)


def _measure(rig: Rig, point: _Point, number: int) -> None:
    chain = point.chain
    work = chain.work
    if work.connections is not None and chain.connections is None:
        chain.connections = work.connections()
        for port, frame in chain.connections.opening():
            rig.far.sender.send_batch(tagged(chain, [frame], 255 if port == work.port else 254))
        rig.far.received(3 * 64)
    if work.of:
        sealed = rig.encrypted.get(point.size)
        if not sealed:
            return
        frames = [decoded[1] for one in sealed if (decoded := nsh.decode(one))]
    else:
        frames = _frames(point, number)
    keep: list[bytes] | None = [] if chain.nfs[0][1] == "aes_encrypt" else None
    try:
        ns = spent_ns(rig.device, rig.far, tagged(chain, frames), work.copies * len(frames), keep)
    except FramesLost as error:
        point.said = str(error)
        return
    if keep is not None:
        rig.encrypted[point.size] = keep
    # The first round finds no flow and no memory yet.
    if number or point.fresh:
        point.take(ns)

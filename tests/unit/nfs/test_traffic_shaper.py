"""traffic_shaper: when packets leave, what is dropped; the runtime, its worker and its loop."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from nf_bench import Bench, ether
from nf_specs import spec
from pydantic import ValidationError
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from orchestrator.model.packet import Packet
from orchestrator.nfs.base import lookup
from servernf.python.network_function import create
from servernf.python.packet import PacketView
from servernf.python.runtime.chain import ChainScope, ExitHop
from servernf.python.runtime.loop import run
from servernf.python.runtime.moving import delete_state, export_state, import_state
from servernf.python.runtime.tables import SampledLabels
from servernf.python.runtime.worker import Worker
from servernf.python.scope import EVERYTHING
from servernf.wire import nsh
from servernf.wire.errors import InputError

MAC = 0x0200_0001_0001
# A frame of 1,000 bytes lasts a millisecond at 8 Mbit/s.
CONFIG: dict[str, Any] = {"rate": "8Mbit/s", "burst": 2000, "queue": 3000}


def frame(number: int = 0, size: int = 1000) -> bytes:
    packet = ether(IP(src="10.0.1.11", dst="198.51.100.13", id=number) / UDP(sport=1, dport=2))
    return bytes(packet / Raw(bytes(size - len(packet))))


class Timed:
    """Frames in at times, frames out with the time they left, of the reference."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.bench = Bench("traffic_shaper", config)
        self.left: list[tuple[int, str, bytes]] = []

    def until(self, now_us: int) -> None:
        reference = self.bench.reference
        while (due := reference.due_us()) is not None and due <= now_us:
            port, packet = reference.release()
            self.left.append((due, port, packet.to_bytes()))
        self.bench.env.now_us = now_us

    def send(self, now_us: int, port: str, data: bytes) -> None:
        self.until(now_us)
        for left, packet in self.bench.reference.process(Packet.parse(data), port, self.bench.env):
            self.left.append((now_us, left, packet.to_bytes()))


def test_a_burst_passes_then_packets_leave_at_the_rate_then_they_are_dropped() -> None:
    timed = Timed(CONFIG)
    for number in range(7):
        timed.send(5, "inside", frame(number))
    timed.until(10**9)
    assert [at for at, _, _ in timed.left] == [5, 5, 1005, 2005, 3005]
    assert [data for _, _, data in timed.left] == [frame(n) for n in range(5)], "in order"
    timed.send(10**9, "inside", frame())
    timed.send(10**9, "outside", frame())
    assert [at for at, _, _ in timed.left[5:]] == [10**9, 10**9], "the bucket is full again"
    timed.send(10**9, "inside", frame(size=2001))
    assert len(timed.left) == 7, "what is larger than the bucket never leaves"


def test_directions_are_apart() -> None:
    timed = Timed(CONFIG)
    for port in ("inside", "outside", "inside", "outside"):
        timed.send(0, port, frame())
    assert {(at, left) for at, left, _ in timed.left} == {(0, "outside"), (0, "inside")}
    assert len(timed.left) == 4


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"rate": "999bit/s"},
        {"rate": "2Tbit/s"},
        {"rate": "8 apples"},
        {**CONFIG, "burst": 1000},
        {**CONFIG, "queue": 0},
    ],
)
def test_bad_configs(config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        lookup("traffic_shaper").Config.model_validate(config)
    assert not lookup("traffic_shaper").replicable


@pytest.mark.parametrize("rate", [8_000_000, 7_777_777, 999_983])
@pytest.mark.slow
def test_the_runtime_does_the_same(rate: int) -> None:
    timed = Timed({**CONFIG, "rate": rate, "queue": 6000})
    nf = create("traffic_shaper", "g/nf", timed.bench.function.runtime_config())
    rng, now_us = random.Random(4), 0
    got: list[tuple[int, str, bytes]] = []
    for number in range(3000):
        now_us += rng.choice((0, 1, 333, 900, 2500, 40_000 if rng.random() < 0.02 else 0))
        port = rng.choice(("inside", "outside"))
        data = frame(number, rng.choice((64, 500, 1500, 2001 if rng.random() < 0.1 else 1000)))
        timed.send(now_us, port, data)
        view = PacketView()
        assert view.load(data)
        left = nf.process(view, port, now_us)
        if left is not None:
            got.append((now_us, left, bytes(view.data)))
        got += [(held.at_us, held.port, held.frame) for held in nf.emitted]
        nf.emitted.clear()
    timed.until(1 << 60)
    assert sorted(got) == sorted(timed.left)
    assert sum(nf.drops.values()) > 50
    assert nf.metrics()["delayed"] > 500


def shaping_worker(clock: Any, *, watched: bool = False) -> Worker:
    worker = Worker("w", MAC, clock, wall_clock=lambda: 1) if clock else Worker("w", MAC)
    config = lookup("traffic_shaper").Config.model_validate(CONFIG).model_dump(mode="json")
    manifest = SampledLabels(1, 2, 1 << 32) if watched else None
    worker.configure("g", [spec("g/s", "traffic_shaper", config)], manifest=manifest)
    worker.service_chain("g/s", ChainScope(5, 254, "inside"), [ExitHop(0x0200_0009_0000, 5, 253)])
    return worker


def tagged(number: int) -> bytes:
    return nsh.encode(nsh.Tag(MAC, 0x0200_0009_0000, 5, 254, label=number), frame(number))


def labels(frames: Sequence[bytes]) -> list[int]:
    decoded = [nsh.decode(data) for data in frames]
    assert all(one is not None and one[1] == frame(one[0].label) for one in decoded)
    return [one[0].label for one in decoded if one is not None]


def test_a_worker_holds_frames_with_their_tag_until_they_are_due() -> None:
    now = [0]
    worker = shaping_worker(lambda: now[0], watched=True)
    assert worker.wait_us() is None
    assert labels(worker.process([tagged(n) for n in range(6)])) == [0, 1]
    assert worker.wait_us() == 1000
    now[0] = 999
    assert worker.process(()) == []
    now[0] = 2000
    assert worker.wait_us() == 0
    assert labels(worker.process([tagged(7)])) == [2, 3], "what was held comes first"
    now[0] = 9000
    assert labels(worker.process(())) == [4, 7]
    samples, _, _ = worker.read_samples()
    seen = [(s.label, s.direction) for s in samples]
    assert [n for n, way in seen if way == "out"] == [0, 1, 2, 3, 4, 7]
    assert [n for n, way in seen if way == "drop"] == [5]
    assert worker.metrics("g/s")["g/s.drop.queue_full"] == 1


def test_what_is_held_for_an_nf_that_is_removed_is_dropped() -> None:
    now = [0]
    worker = shaping_worker(lambda: now[0])
    worker.process([tagged(n) for n in range(4)])
    worker.remove_graph("g")
    now[0] = 5000
    assert worker.process(()) == []
    assert worker.drops == {"nf_removed": 2}


def exported(worker: Worker) -> list[bytes]:
    return export_state(worker.instances["g/s"], worker.held, EVERYTHING, worker.now_us())


def entered(worker: Worker, batches: list[bytes]) -> int:
    held, steps = worker.held, worker.steps
    return import_state(worker.instances["g/s"], held, steps, batches, worker.now_us())


def test_what_is_held_moves_to_another_worker_and_leaves_there_when_it_is_due() -> None:
    now = [0]
    here, there = shaping_worker(lambda: now[0]), shaping_worker(lambda: now[0] + 10**9)
    assert labels(here.process([tagged(n) for n in range(6)])) == [0, 1]
    now[0] = 400
    assert entered(there, exported(here)) == 2 + 3, "queues, and frames 2, 3 and 4"
    assert delete_state(here.instances["g/s"], here.held, EVERYTHING) == 0
    assert here.wait_us() is None
    assert there.wait_us() == 600
    now[0] = 2000
    assert labels(there.process([tagged(7)])) == [2, 3]
    now[0] = 9000
    assert labels(there.process(())) == [4, 7]
    assert here.process(()) == []


def test_what_is_held_needs_its_chain() -> None:
    now = [0]
    here, there = shaping_worker(lambda: now[0]), shaping_worker(lambda: now[0])
    here.process([tagged(n) for n in range(4)])
    there.service_chain("g/s", ChainScope(5, 254, "inside"), (), update=True)
    with pytest.raises(InputError, match=r"held\[0\]: no chain of SPI 5, SI 254"):
        entered(there, exported(here))
    assert there.wait_us() is None
    assert there.metrics("g/s")["g/s.waiting_bytes"] == 0


class _Sockets:
    """A pair of datagram sockets as the loop's frame socket."""

    batch = 64

    def __init__(self) -> None:
        self.here, self.there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

    def fileno(self) -> int:
        return self.here.fileno()

    def recv_batch(self) -> list[bytes]:
        return [self.here.recv(4096)]

    def send_batch(self, frames: Sequence[bytes]) -> int:
        return sum(self.here.send(data) > 0 for data in frames)


def test_the_loop_wakes_for_what_is_held() -> None:
    worker, frames = shaping_worker(None), _Sockets()
    wake, waker = socket.socketpair()
    with frames.here, frames.there, wake, waker:
        thread = threading.Thread(target=run, args=(worker, frames, wake.fileno()))
        thread.start()
        for number in range(4):
            frames.there.send(tagged(number))
        frames.there.settimeout(60)
        received = [frames.there.recv(4096) for _ in range(4)]
        waker.send(b"x")
        thread.join(20)
    assert labels(received) == [0, 1, 2, 3]
    assert not thread.is_alive()

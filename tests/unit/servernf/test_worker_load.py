"""What workers say of their load: times of NFs, batches, the receive queue; in C, of its bursts.

Blind spot: how long something takes in truth; `orchestrator profile` and the benches tell that.
"""

from __future__ import annotations

import socket
import threading
from collections import deque

import pytest
from dpdk_support import NEEDS_COMPILER, NEXT, running
from dpdk_support import tagged as to_worker
from nf_specs import spec
from servernf_support import tagged, udp
from support import eventually

from servernf.host.framepipe import FramePipe
from servernf.python.runtime.chain import ChainScope, ExitHop, NfHop
from servernf.python.runtime.load import RECENT, NfTimes
from servernf.python.runtime.loop import run
from servernf.python.runtime.worker import Worker

MAC = 0x0200_0001_0001
FRAME = udp("10.0.0.7", 4000, "198.51.100.9", 53)
PASSES = {"rules": [], "default": "permit"}


class Ticks:
    """A clock that goes on by as much as it is told, whenever it is read."""

    def __init__(self, *steps: int) -> None:
        self.now, self.steps = 0, deque(steps)

    def __call__(self) -> int:
        self.now += self.steps.popleft() if self.steps else 0
        return self.now


def worker(ticks: Ticks, clock_us: int = 0) -> Worker:
    made = Worker("w", MAC, lambda: clock_us, ticks=ticks)
    made.configure("g", [spec("g/a", "acl", PASSES), spec("g/b", "acl", PASSES)])
    made.service_chain(
        "g/a", ChainScope(5, 254, "inside"), (NfHop("g/b", "inside"), ExitHop(9, 6, 253))
    )
    return made


def test_one_packet_of_a_batch_is_timed_in_each_nf():
    made = worker(Ticks(0, 300, 0, 700))
    made.process([tagged(MAC, FRAME) for _ in range(64)])
    metrics = made.metrics()
    assert metrics["g/a.packets"] == metrics["g/b.packets"] == 64
    assert (metrics["g/a.timed"], metrics["g/a.timed_ns"]) == (1, 300)
    assert (metrics["g/b.timed"], metrics["g/b.timed_ns"]) == (1, 700)


def test_an_nf_without_packets_has_no_delay():
    assert not any("delay" in name or "timed" in name for name in worker(Ticks()).metrics())


def test_a_new_configuration_goes_on_with_the_times():
    made = worker(Ticks(0, 300, 0, 700))
    made.process([tagged(MAC, FRAME)])
    made.configure("g", [spec("g/a", "acl", {"rules": [], "default": "deny"})])
    assert made.metrics()["g/a.timed_ns"] == 300


def test_percentiles_are_of_the_last_times():
    times = NfTimes()
    for spent in range(1, 101):
        times.add(spent)
    metrics = times.metrics("g/a")
    assert (metrics["g/a.delay_p50_ns"], metrics["g/a.delay_p99_ns"]) == (50, 99)
    for _ in range(RECENT):
        times.add(7)
    metrics = times.metrics("g/a")
    assert (metrics["g/a.delay_p50_ns"], metrics["g/a.delay_p99_ns"]) == (7, 7)
    assert metrics["g/a.timed"] == 100 + RECENT


def test_a_full_batch_has_not_emptied_the_queue():
    made = worker(Ticks())
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    wake, waker = socket.socketpair()
    for _ in range(5):
        theirs.send(tagged(MAC, FRAME))
    with FramePipe(ours, batch=4) as pipe, theirs, wake, waker:
        path = threading.Thread(target=run, args=(made, pipe, wake.fileno()))
        path.start()
        eventually(lambda: made.metrics()["frames_in"] == 5)
        metrics = made.metrics()
        waker.send(b"\0")
        path.join()
    assert (metrics["batches"], metrics["full_batches"]) == (2, 1)
    assert metrics["busy_ns"] > 0
    assert "busy_ns" not in made.metrics()


@pytest.mark.slow
@NEEDS_COMPILER
def test_in_c_a_burst_is_timed():
    with running() as made:
        made.configure("g", [spec("g/a", "acl", PASSES)])
        made.service_chain("g/a", ChainScope(40, 255, "inside"), (ExitHop(NEXT, 50, 7),))
        assert len(made.process([to_worker(FRAME, 40)] * 3)) == 3
        metrics = made.metrics()
        assert metrics["g/a.timed"] == 3
        assert metrics["g/a.timed_ns"] >= metrics["g/a.delay_p50_ns"] > 0
        assert {"busy_ns", "batches", "full_batches"} <= metrics.keys()

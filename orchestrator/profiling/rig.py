"""A device alone on a CPU, another one for its packets, both in a network namespace of their own.

Frames are laid into the device's receive queue while it is stopped; what it spends from then on until
all have left is what they cost it when it is busy. That is CPU time, so it hardly depends on what else
the machine does, and no rate needs to be found.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from orchestrator.errors import EnvironmentMissing, NetworkError
from servernf.host.packetio import PacketSocket

BURST = 256
"""Frames of one measurement: every runtime's queue holds so many."""
_CLONE_NEWNET = 0x40000000
_QUIET_S = 1.0
"""Frames that have not left after so long are lost."""


@cache
def cpus() -> tuple[int, int]:
    """(the packets', the device's)."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        raise EnvironmentMissing("a profile needs two CPUs: one for packets, one for the device")
    return available[0], available[1]


@contextmanager
def own_network() -> Generator[None]:
    """The calling thread, and what it starts meanwhile, is in a network namespace of its own."""
    if os.geteuid():
        raise EnvironmentMissing("a profile needs root (veth pairs in a network namespace)")
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as before:
        if libc.unshare(_CLONE_NEWNET):
            raise EnvironmentMissing(
                f"a profile needs a network namespace: {os.strerror(ctypes.get_errno())}"
            )
        try:
            ip("link", "set", "lo", "up")
            yield
        finally:
            libc.setns(before.fileno(), _CLONE_NEWNET)


@contextmanager
def in_network(pid: int) -> Generator[None]:
    """The calling thread is in the network namespace of a process."""
    libc = ctypes.CDLL(None, use_errno=True)
    with (
        Path("/proc/thread-self/ns/net").open() as mine,
        Path(f"/proc/{pid}/ns/net").open() as theirs,
    ):
        if libc.setns(theirs.fileno(), _CLONE_NEWNET):
            raise NetworkError(f"namespace of process {pid}: {os.strerror(ctypes.get_errno())}")
        try:
            yield
        finally:
            libc.setns(mine.fileno(), _CLONE_NEWNET)


def ip(*words: str) -> None:
    """Run ip(8)."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NetworkError(f"ip {' '.join(words)}: {done.stderr.strip()}")


@contextmanager
def link(near: str, far: str) -> Generator[None]:
    """A veth pair that says nothing by itself."""
    ip("link", "add", near, "type", "veth", "peer", "name", far)
    try:
        for name in (near, far):
            for key, value in (("disable_ipv6", "1"), ("addr_gen_mode", "1")):
                with suppress(OSError):
                    Path(f"/proc/sys/net/ipv6/conf/{name}/{key}").write_text(value)
            with suppress(OSError):  # what segments are joined to would be other packets
                subprocess.run(
                    ["ethtool", "-K", name, "gro", "off", "gso", "off", "tso", "off", "tx", "off"],
                    capture_output=True,
                    check=False,
                )
            ip("link", "set", name, "mtu", "2000", "up")
        yield
    finally:
        with suppress(NetworkError):
            ip("link", "del", near)


@contextmanager
def out_of_the_way() -> Generator[None]:
    """The calling thread, and what it starts meanwhile, is on the packets' CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpus()[0]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class MeasuredDevice:
    """A process, and those that it has started."""

    def __init__(self, pid: int) -> None:
        self.pids = tuple(_family(pid))
        cpu = {cpus()[1]}
        for one in self.pids:
            for task in os.listdir(f"/proc/{one}/task"):
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(int(task), cpu)

    def stop(self) -> None:
        """Nothing runs until `go`."""
        for pid in self.pids:
            os.kill(pid, signal.SIGSTOP)

    def go(self) -> None:
        """On."""
        for pid in reversed(self.pids):
            os.kill(pid, signal.SIGCONT)

    def cpu_ns(self) -> int:
        """CPU time so far (first field of /proc/PID/task/TID/schedstat)."""
        total = 0
        for pid in self.pids:
            for task in os.listdir(f"/proc/{pid}/task"):
                with suppress(OSError):
                    total += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
        return total


def _family(pid: int) -> Iterator[int]:
    yield pid
    for task in os.listdir(f"/proc/{pid}/task"):
        for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
            yield from _family(int(child))


class FramesLost(NetworkError):
    """Not all frames came through a device."""


class Far:
    """The other ends of a device's links: `sender` sends to it, `receiver` hears what leaves it."""

    def __init__(self, sender: PacketSocket, receiver: PacketSocket) -> None:
        self.sender, self.receiver = sender, receiver

    def drain(self) -> int:
        """Forget what has come; how many frames that was."""
        count = 0
        while batch := self.receiver.recv_batch():
            count += len(batch)
        return count

    def received(self, count: int, *, keep: list[bytes] | None = None) -> int:
        """Wait until so many frames have come; how many did."""
        got, end = 0, time.monotonic() + _QUIET_S
        while got < count and time.monotonic() < end:
            batch = self.receiver.recv_batch()
            if batch:
                got, end = got + len(batch), time.monotonic() + _QUIET_S
                if keep is not None:
                    keep += batch
            else:
                time.sleep(0.0005)
        return got


def spent_ns(
    device: MeasuredDevice,
    far: Far,
    frames: Sequence[bytes],
    leave: int,
    keep: list[bytes] | None = None,
) -> float:
    """CPU time of one of these frames, of which so many leave; Lost if they do not."""
    far.drain()
    device.stop()
    try:
        before = device.cpu_ns()
        far.sender.send_batch(frames)
    finally:
        device.go()
    got = far.received(leave, keep=keep)
    if got < leave:
        raise FramesLost(f"{got} of {leave} frames have left the device")
    return (device.cpu_ns() - before) / len(frames)


def alone_us(device: MeasuredDevice, far: Far, frames: Iterable[bytes]) -> float:
    """From sending a frame to having it back, one at a time: that of the fastest tenth (the machine has
    other things to do)."""
    times: list[float] = []
    for one in frames:
        far.drain()
        began = time.monotonic()
        far.sender.send_batch([one])
        while not far.receiver.recv_batch():
            if time.monotonic() - began > _QUIET_S:
                raise FramesLost("a frame has not left the device")
        times.append((time.monotonic() - began) * 1e6)
        time.sleep(0.002)
    times.sort()
    return times[len(times) // 10]

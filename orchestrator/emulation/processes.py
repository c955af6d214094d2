"""Which processes are a network's: those that its supervisor recorded, and what is in its namespaces.

A pid alone proves nothing (pids are reused), nor does anything that a process says of itself, like its
environment: whoever may start a process can say it, too. So a process is its pid and its start, both
as the kernel tells them, written down by who started it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from orchestrator.errors import NetworkError

_ENDED = ("Z", "X")
"""States (proc(5)) of processes that only wait to be reaped."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process for good: `started` is empty where it is not known, and then nobody's."""

    pid: int
    started: str
    """Boot id, and clock ticks since the boot (proc(5), starttime)."""

    @property
    def is_alive(self) -> bool:
        """Whether this very process runs."""
        return bool(self.started) and _start_of(self.pid) == self.started


def process_of(pid: int) -> Process:
    """The process that has a pid now."""
    return Process(pid, _start_of(pid))


def namespace_of(pid: int) -> int:
    """The inode of a process's network namespace, 0 when it is gone."""
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return 0


def members(namespaces: Collection[int]) -> set[int]:
    """The live processes in some network namespaces, never in this process's or the machine's own."""
    wanted = set(namespaces) - {0, namespace_of(1), namespace_of(os.getpid())}
    return {pid for pid in _pids() if namespace_of(pid) in wanted and _start_of(pid)}


def kill_all(
    recorded: Collection[Process], namespaces: Collection[int], *, timeout: float = 10.0
) -> None:
    """SIGKILL recorded processes, and all that is in the namespaces; NetworkError if some stay."""
    deadline = time.monotonic() + timeout
    ours = {process.pid: process for process in recorded if process.pid != os.getpid()}
    while True:
        living = [process.pid for process in ours.values() if process.is_alive]
        guests = members(namespaces) - {os.getpid()}
        if not living and not guests:
            return
        if time.monotonic() > deadline:
            listed = ", ".join(map(str, sorted({*living, *guests})))
            raise NetworkError(f"processes {listed} do not end")
        for pid in living:
            _kill(pid, lambda p: ours[p].is_alive)
        for pid in guests:
            _kill(pid, lambda p: p in members(namespaces))
        time.sleep(0.01)


def _kill(pid: int, is_ours: Callable[[int], bool]) -> None:
    """SIGKILL a process, if it still is ours: its number may have been given to another one."""
    with suppress(ProcessLookupError):
        held = os.pidfd_open(pid)
        try:
            if is_ours(pid):
                signal.pidfd_send_signal(held, signal.SIGKILL)
        finally:
            os.close(held)


def _start_of(pid: int) -> str:
    """Boot and start time of a live process, empty when there is none."""
    if pid <= 0:
        return ""
    try:
        # The name, in parentheses, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    state, started = fields[0], fields[19]
    return "" if state in _ENDED else f"{_boot()}/{started}"


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())

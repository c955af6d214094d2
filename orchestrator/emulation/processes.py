"""Which processes are a network's: those that its supervisor recorded, and what is in its namespaces."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import suppress

from orchestrator.errors import NetworkError
from servernf.host.processes import Process, start_of


def namespace_of(pid: int) -> int:
    """The inode of a process's network namespace, 0 when it is gone."""
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return 0


def members(namespaces: Collection[int]) -> set[int]:
    """The live processes in some network namespaces, never in this process's or the machine's own."""
    wanted = set(namespaces) - {0, namespace_of(1), namespace_of(os.getpid())}
    return {pid for pid in _pids() if namespace_of(pid) in wanted and start_of(pid)}


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
            ours[pid].signal(signal.SIGKILL)
        for pid in guests:
            _kill_guest(pid, namespaces)
        time.sleep(0.01)


def _kill_guest(pid: int, namespaces: Collection[int]) -> None:
    """SIGKILL a process, if it is in the namespaces: its number may have been given to another one."""
    with suppress(ProcessLookupError):
        held = os.pidfd_open(pid)
        try:
            if pid in members(namespaces):
                signal.pidfd_send_signal(held, signal.SIGKILL)
        finally:
            os.close(held)


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())

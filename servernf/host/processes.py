"""Processes of ours, told apart from those that have their numbers later.

A pid alone proves nothing (pids are reused), nor does anything that a process says of itself, like its
environment: whoever may start a process can say it, too. So a process is its pid and its start, both
as the kernel tells them, written down by who started it.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from functools import cache
from pathlib import Path

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
        return bool(self.started) and start_of(self.pid) == self.started

    def signal(self, number: int) -> None:
        """Send a signal to this very process; nothing when it has ended."""
        try:
            held = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            # Asked again once its number is held: it may have been given to another one before.
            if self.is_alive:
                signal.pidfd_send_signal(held, number)
        finally:
            os.close(held)


def process_of(pid: int) -> Process:
    """The process that has a pid now."""
    return Process(pid, start_of(pid))


def start_of(pid: int) -> str:
    """Boot and start time of a live process, empty when there is none."""
    if pid <= 0:
        return ""
    try:
        # The name, in parentheses, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    state, started = fields[0], fields[19]
    return "" if state in _ENDED else f"{boot_id()}/{started}"


@cache
def boot_id() -> str:
    """Another text after each boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()

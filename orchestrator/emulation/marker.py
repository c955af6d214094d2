"""Which processes are a network's: all carry its id in their environment, as do their children.

A pid alone proves nothing (pids are reused), and a crashed start may have recorded none.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from orchestrator.errors import NetworkError

VARIABLE = "ORCHESTRATOR_NETWORK"


def marked(network_id: str) -> set[int]:
    """The live processes of a network (zombies have no environment, so they do not count)."""
    return {pid for pid in _pids() if is_marked(pid, network_id)}


def is_marked(pid: int, network_id: str) -> bool:
    return pid > 0 and _mark(pid) == network_id


def marked_ids() -> set[str]:
    """The ids of all networks that have a live process."""
    return {mark for pid in _pids() if (mark := _mark(pid)) is not None}


def namespace_of(pid: int) -> int:
    """The inode of a process's network namespace, 0 when it is gone."""
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return 0


def kill_network(network_id: str, *, timeout: float = 10.0) -> None:
    """SIGKILL every process of the network and every other one in its namespaces."""
    deadline = time.monotonic() + timeout
    while victims := _victims(network_id):
        if time.monotonic() > deadline:
            listed = ", ".join(map(str, sorted(victims)))
            raise NetworkError(f"processes {listed} of network {network_id} do not end")
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _victims(network_id: str) -> set[int]:
    ours = marked(network_id) - {os.getpid()}
    # The switches run in the namespace of the machine (see `sweep.check_namespace`).
    namespaces = {namespace_of(pid) for pid in ours} - {namespace_of(1), namespace_of(os.getpid())}
    if namespaces <= {0}:
        return ours
    # A user's own `mnexec -a` shell would keep a namespace alive. The kernel gives a freed number
    # to the next namespace at once, so what another network marks is never a guest.
    guests = {pid for pid in _pids() if namespace_of(pid) in namespaces - {0}}
    return ours | {pid for pid in guests if _mark(pid) is None}


def _mark(pid: int) -> str | None:
    prefix = f"{VARIABLE}=".encode()
    for variable in _environment(pid):
        if variable.startswith(prefix):
            return variable.removeprefix(prefix).decode(errors="replace")
    return None


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []

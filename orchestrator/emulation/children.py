"""Switch and worker processes as the supervisor sees them: start all, then wait for all."""

from __future__ import annotations

import ctypes
import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from orchestrator.errors import NetworkError

START_TIMEOUT = 60.0
_START_TIMEOUT_EACH = 5.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Child:
    """A started process. Without `address` it announces itself by a JSON line on its output."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    address: str = ""
    ready: Mapping[str, object] | None = None

    @property
    def pid(self) -> int:
        return self.process.pid


def spawn(
    name: str, argv: Sequence[str], log: Path, *, env: Mapping[str, str], address: str = ""
) -> Child:
    """Start a process that dies with this one, even when this one is killed.

    Its output goes to the log, never to a pipe that nobody would empty later.
    """
    with log.open("wb") as file:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=dict(env),
            preexec_fn=_die_with_parent,
        )
    return Child(name, process, log, address)


def wait_ready(children: Sequence[Child], *, timeout: float | None = None) -> None:
    """Until every child listens; NetworkError with the log's end when one ends or is late."""
    if timeout is None:
        # Many Python processes on few cores start one after the other.
        timeout = max(START_TIMEOUT, _START_TIMEOUT_EACH * len(children))
    deadline = time.monotonic() + timeout
    while waiting := [child for child in children if child.ready is None]:
        for child in waiting:
            child.ready = _answer(child)
            if child.ready is None and child.process.poll() is not None:
                raise NetworkError(f"{child.name} did not start{log_end(child.log)}")
        if time.monotonic() > deadline:
            late = waiting[0]
            raise NetworkError(f"{late.name} is not ready after {timeout:.0f} s{log_end(late.log)}")
        time.sleep(0.02)


def stop(children: Sequence[Child], *, timeout: float = 3.0) -> None:
    """SIGTERM to all, then SIGKILL to those that are left."""
    for child in children:
        child.process.terminate()
        child.process.send_signal(signal.SIGCONT)  # one that was stopped hears it only then
    deadline = time.monotonic() + timeout
    for child in children:
        try:
            child.process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()


def report_dead(children: Sequence[Child], report: Callable[[str], None]) -> list[Child]:
    """Reap and report those that ended; the others are returned."""
    alive: list[Child] = []
    for child in children:
        code = child.process.poll()
        if code is None:
            alive.append(child)
        else:
            cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            report(f"{child.name} ended: {cause}")
    return alive


class FreePorts:
    """Free TCP ports on 127.0.0.1 that nobody else is given while this object lives.

    A bound socket with SO_REUSEPORT keeps the kernel from handing its port out, yet lets gRPC
    servers (which set it, too) listen there.
    """

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def hold(self) -> int:
        """A port for a gRPC server."""
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        self._held.append(holder)
        return holder.getsockname()[1]

    @staticmethod
    def spare() -> int:
        """A port that is free now, for servers without SO_REUSEPORT."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]


def log_end(log: Path, lines: int = 6) -> str:
    """The end of a log as part of an error message."""
    try:
        text = log.read_text(errors="replace").strip()
    except OSError:
        return ""
    return ":\n" + "\n".join(text.splitlines()[-lines:]) if text else ""


def _answer(child: Child) -> Mapping[str, object] | None:
    if child.address:
        return {} if _listens(child.address) else None
    for line in child.log.read_bytes().splitlines():
        try:
            answer = json.loads(line)
        except ValueError:
            continue
        if isinstance(answer, dict) and cast("dict[str, object]", answer).get("ready") is True:
            return cast("dict[str, object]", answer)
    return None


def _listens(address: str) -> bool:
    if path := address.partition("unix:")[2]:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(path) == 0
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

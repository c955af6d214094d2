"""Changes of a network by controllers in processes of their own, which may be killed (-9) at any step.

A step is a commit to the journal, a Write, a pipeline load or a change of a worker; a controller can be
killed right before each, and right after it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc

from orchestrator.bundle.codec import dump, load
from orchestrator.clients import p4runtime
from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.clients.vnf import WorkerClient
from orchestrator.deployment.access import Access
from orchestrator.deployment.journal import Deployed, now
from orchestrator.deployment.live import LiveNetwork
from orchestrator.deployment.recovery import Recovered, carry_out, changing, recover
from orchestrator.deployment.store import _SqliteLeadership
from orchestrator.errors import ReportedError
from orchestrator.model.bundle import Bundle
from orchestrator.model.manifest import SamplingSecret
from orchestrator.network.inventory import Inventory
from servernf.proto import vnf_pb2

MANIFEST = SamplingSecret(1, 1 << 30, 0x01234567, 0x89ABCDEF)
"""The same in every run, so that states can be compared."""

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


@dataclass(frozen=True)
class Job:
    """What a controller is to do: make `graph` that bundle (None: gone), or without graph: recover."""

    inventory: Inventory
    graph: str = ""
    new: bytes | None = None
    store: str = ""

    @classmethod
    def change(cls, inventory: Inventory, graph: str, new: Bundle | None, store: str = "") -> Job:
        return cls(inventory, graph, None if new is None else dump(new), store)


def do(job: Job) -> Recovered | None:
    """Do it in this process."""
    network = LiveNetwork(job.inventory, Access(store=job.store))
    if not job.graph:
        with network.leading() as lead:
            return recover(network, lead)
    new = job.new and Deployed(load(job.new, "job"), MANIFEST, now())
    with changing(network) as lead:
        carry_out(network, lead, job.graph, new or None)
    return None


def run(job: Job, kill_at: int = 0, victim: int = 0) -> int | None:
    """Do it in a process of its own; how many steps it took, None: it was killed at step `kill_at`, or
    did not get over the death of process `victim` there.
    """
    ours, theirs = _context.Pipe(duplex=False)
    home = os.environ["XDG_STATE_HOME"]
    process = _context.Process(target=_main, args=(job, kill_at, victim, home, theirs))
    process.start()
    theirs.close()
    steps: int | None = None
    with suppress(EOFError):
        steps = ours.recv()
    process.join()
    ours.close()
    assert victim or process.exitcode == (0 if steps is not None else -signal.SIGKILL)
    return steps


class _Steps:
    def __init__(self, kill_at: int, victim: int) -> None:
        self.done = 0
        self._kill_at = kill_at
        self._victim = victim or os.getpid()
        self._lock = threading.Lock()

    def take(self) -> None:
        with self._lock:
            self.done += 1
            if self.done == self._kill_at:
                os.kill(self._victim, signal.SIGKILL)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*given: Any, **options: Any) -> Any:
            if _only_asks(given[-1]):
                return function(*given, **options)
            self.take()
            try:
                return function(*given, **options)
            finally:
                self.take()

        return stepped

    def around_write(self, write_all: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(send: Callable[[bytes], Any], *given: Any, **options: Any) -> Any:
            def sent(parts: bytes) -> Any:
                self.take()
                answer = send(parts)
                self.take()  # on its way: nobody knows whether the switch has it
                with suppress(grpc.RpcError):
                    answer.result()
                self.take()
                return answer

            return write_all(sent, *given, **options)

        return stepped


def _only_asks(request: Any) -> bool:
    """How far a transfer is, which is asked as often as it takes."""
    return (
        isinstance(request, vnf_pb2.TransferRequest)
        and request.phase == vnf_pb2.TransferRequest.STATUS
    )


def _main(job: Job, kill_at: int, victim: int, home: str, told: Connection) -> None:
    os.environ["XDG_STATE_HOME"] = home
    steps = _Steps(kill_at, victim)
    p4runtime.write_all = steps.around_write(p4runtime.write_all)
    for owner, name in (
        (SwitchClient, "set_pipeline"),
        (WorkerClient, "_change"),
        (WorkerClient, "expect_state"),
        (WorkerClient, "transfer"),
        (_SqliteLeadership, "commit"),
    ):
        setattr(owner, name, steps.around(getattr(owner, name)))
    with suppress(*([ReportedError] if victim else [])):
        do(job)
        told.send(steps.done)


def state_home(folder: Path) -> str:
    """A folder for journals of these tests only."""
    home = folder / "state"
    home.mkdir(exist_ok=True)
    return str(home)

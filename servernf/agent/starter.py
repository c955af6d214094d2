"""One start of one worker: its interface, its bounds, its process, until it says that it is ready."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from servernf.agent import interfaces
from servernf.agent.bounds import Bounds
from servernf.agent.config import UNIX, Config
from servernf.agent.errors import DoesNotStart
from servernf.agent.runtimes import runtimes
from servernf.agent.specs import WorkerSpec

READY_SECONDS = 60.0
_POLL_SECONDS = 0.02
_MOST_LOG = 1 << 16
CHILD = Path(__file__).with_name("child.py")
"""What becomes a worker."""


class Starter:
    """Starts worker processes as the agent's configuration has them."""

    def __init__(self, config: Config, bounds: Bounds) -> None:
        self._config = config
        self._bounds = bounds
        self._runtimes = runtimes()

    def log(self, spec: WorkerSpec) -> Path:
        """The file with what the worker has said since its last start."""
        return self._config.folder / f"{spec.name}.log"

    def place(self, spec: WorkerSpec) -> str:
        """What a worker's frames come from: an interface, or its core's device."""
        runtime = self._runtimes.get(spec.runtime)
        device = runtime.device(spec, self._config.workers) if runtime else None
        return spec.device if device is None else device.name

    def cpu(self, spec: WorkerSpec) -> int | None:
        """The one CPU that a worker runs on, None for any of the configuration's."""
        workers = self._config.workers
        if spec.cpu is None and workers.pin:
            return workers.cpus[spec.core] if spec.core < len(workers.cpus) else None
        return spec.cpu

    def start(self, spec: WorkerSpec) -> subprocess.Popen[bytes]:
        """Start the process, from the thread that waits for its end; DoesNotStart when it cannot be."""
        runtime = self._runtimes.get(spec.runtime)
        if runtime is None:
            raise DoesNotStart(f"runtime '{spec.runtime}' is not installed here (any more)")
        api = self._config.workers.api(spec.core)
        if _listens(api):
            raise DoesNotStart(f"{api}: something else listens there")
        if spec.macvlan_on and runtime.device(spec, self._config.workers) is None:
            interfaces.make_macvlan(spec.device, spec.macvlan_on, spec.mac, self._whose(spec))
        cpu = self.cpu(spec)
        cpus = self._config.workers.cpus if cpu is None else (cpu,)
        bound = self._bounds.make(spec.name, spec.memory_bytes, cpus)
        bounds = {
            "parent": os.getpid(),
            "cpus": list(cpus),
            "groups": bound.groups,
            "data_bytes": bound.data_bytes,
        }
        argv = [sys.executable, "-I", "-S", str(CHILD), json.dumps(bounds)]
        argv += runtime.argv(spec, self._config.workers, cpu)
        if self._config.cle is not None:
            argv += ["--records", str(self._config.rings / f"{spec.name}.ring")]
        # Not a pipe, which nobody would empty while the agent is busy.
        with self.log(spec).open("wb") as log:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",  # whence `python -m` would import
                start_new_session=True,
            )

    def wait_ready(
        self, spec: WorkerSpec, process: subprocess.Popen[bytes], unwanted: Callable[[], bool]
    ) -> bool:
        """Until the worker says that it is ready, or false: it has ended, or is unwanted by now.

        DoesNotStart when it does neither.
        """
        deadline = time.monotonic() + READY_SECONDS
        while process.poll() is None and not unwanted():
            if self._says_ready(spec):
                return True
            if time.monotonic() > deadline:
                raise DoesNotStart(f"not ready after {READY_SECONDS:.0f} s{self._log_end(spec)}")
            time.sleep(_POLL_SECONDS)
        return False

    def why_ended(self, spec: WorkerSpec, code: int) -> str:
        """Why a worker has ended, in words."""
        if code < 0 and self._bounds.killed(spec.name):
            return f"killed: it needed more than its {spec.memory_bytes} bytes of memory"
        cause = _signal_name(-code) if code < 0 else f"exit code {code}"
        return f"ended: {cause}{self._log_end(spec)}"

    def clean(self, spec: WorkerSpec) -> None:
        """Remove what was made for a worker that has ended; its log stays."""
        if spec.macvlan_on:
            interfaces.remove_macvlan(spec.device, self._whose(spec))
        self._bounds.remove(spec.name)

    def _whose(self, spec: WorkerSpec) -> str:
        return interfaces.owner(self._config.name, spec.name)

    def _says_ready(self, spec: WorkerSpec) -> bool:
        for line in self._said(spec).splitlines():
            try:
                told = json.loads(line)
            except ValueError:
                continue
            if isinstance(told, dict) and cast("dict[str, object]", told).get("ready") is True:
                return True
        return False

    def _log_end(self, spec: WorkerSpec, lines: int = 6) -> str:
        told = self._said(spec).decode(errors="replace").splitlines()
        told = [line for line in told if line.strip() and not line.startswith('{"ready"')]
        return ": " + "\n".join(told[-lines:]) if told else ""

    def _said(self, spec: WorkerSpec) -> bytes:
        try:
            with self.log(spec).open("rb") as log:
                log.seek(max(os.fstat(log.fileno()).st_size - _MOST_LOG, 0))
                return log.read(_MOST_LOG)
        except OSError:
            return b""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals
        return f"signal {number}"


def _listens(api: str) -> bool:
    """Whether something accepts connections there."""
    if api.startswith(UNIX):
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(api.removeprefix(UNIX)) == 0
    host, _, port = api.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), 1.0).close()
    except OSError:
        return False
    return True

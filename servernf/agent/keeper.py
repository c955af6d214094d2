"""A keeper: the thread that starts one worker, waits for its end, and starts it again.

The kernel ends a worker when the thread that started it ends (child.py), so one thread does both.
"""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from servernf.agent.specs import WorkerSpec
from servernf.agent.starter import Starter
from servernf.wire.errors import ReportedError

PAUSES_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Before each start again; the last one for good. A worker that was ready for longer begins anew."""
_GRACE_S = 3.0


class RunState(Enum):
    """The states of a worker (agent.proto, WorkerState)."""

    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class WorkerCondition:
    """How a worker is. `pid` 0: no process; `since_us`: wall clock of the last change of state."""

    state: RunState
    since_us: int
    reason: str = ""
    pid: int = 0
    restarts: int = 0


class WorkerKeeper:
    """Keeps one worker running until `end`. Any thread may call it.

    `has_run`: whether the worker has been ready at least once.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        starter: Starter,
        *,
        restarts: bool,
        log: Callable[[str], None],
        has_run: bool = False,
    ) -> None:
        self.spec = spec
        self.has_run = has_run
        self._starter = starter
        self._restarts = restarts
        self._log = log
        self._changed = threading.Condition()
        self._condition = WorkerCondition(RunState.STARTING, _now_us())
        self._process: subprocess.Popen[bytes] | None = None
        self._again = False
        self._ending = False
        self._thread = threading.Thread(target=self._run, name=spec.name, daemon=True)
        self._thread.start()

    @property
    def condition(self) -> WorkerCondition:
        """How the worker is now."""
        return self._condition

    def settled(self) -> WorkerCondition:
        """How the worker is when it no longer is `STARTING`."""
        with self._changed:
            self._changed.wait_for(lambda: self._condition.state is not RunState.STARTING)
            return self._condition

    def restart(self) -> None:
        """End the worker, if it lives, and start it at once; `settled` says how that went."""
        with self._changed:
            if self._ending:
                return
            self._again = True
            self._become(RunState.STARTING)
        self._end_process()

    def end(self) -> None:
        """End the worker for good, and remove what was made for it."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._end_process()
        self._thread.join()

    def _run(self) -> None:
        # A first start that fails is for whoever asked for it to repeat, so that is not done at once.
        failures = 1
        while not self._ending:
            began, is_first = time.monotonic(), not self.has_run
            reason = self._live()
            if (is_first and self.has_run) or time.monotonic() - began > PAUSES_S[-1]:
                failures = 0
            with self._changed:
                if self._ending:
                    break
                if self._again:
                    failures = 0
                    self._again = False
                    continue
                self._log(f"{self.spec.name}: {reason}")
                self._pause(failures, reason)
                failures += 1
        with self._changed:
            self._become(RunState.FAILED, "it was stopped")
        self._starter.clean(self.spec)

    def _pause(self, failures: int, reason: str) -> None:
        """Wait for the time of the next start, or for an order."""
        state = RunState.RESTARTING if self._restarts else RunState.FAILED
        self._become(state, reason)
        pause = PAUSES_S[min(failures, len(PAUSES_S) - 1)] if self._restarts else None
        self._changed.wait_for(lambda: self._again or self._ending, pause)
        if self._again:
            self._again = False
        elif self._restarts:
            self._condition = replace(self._condition, restarts=self._condition.restarts + 1)

    def _live(self) -> str:
        """One life of the worker; why it ended."""
        try:
            process = self._starter.start(self.spec)
        except (ReportedError, OSError) as error:
            return str(error)
        try:
            return self._watch(process)
        except (ReportedError, OSError) as error:
            return str(error)
        finally:
            process.kill()
            process.wait()
            with self._changed:
                self._process = None
                self._condition = replace(self._condition, pid=0)
                self._changed.notify_all()

    def _watch(self, process: subprocess.Popen[bytes]) -> str:
        """Until a worker's process ends: why it did."""
        with self._changed:
            self._process = process
            self._condition = replace(self._condition, pid=process.pid)
        if self._unwanted():  # since before there was a process to end
            process.kill()
        if self._starter.wait_ready(self.spec, process, self._unwanted):
            with self._changed:
                self.has_run = True
                if not self._unwanted():
                    self._become(RunState.RUNNING)
        return self._starter.why_ended(self.spec, process.wait())

    def _unwanted(self) -> bool:
        return self._again or self._ending

    def _become(self, state: RunState, reason: str = "") -> None:
        """Change the state; the caller holds `_changed`."""
        self._condition = replace(self._condition, state=state, reason=reason, since_us=_now_us())
        self._changed.notify_all()

    def _end_process(self) -> None:
        """SIGTERM, and SIGKILL to who does not heed it; the keeper's thread sees the end."""
        process = self._process
        if process is None:
            return
        process.terminate()
        process.send_signal(signal.SIGCONT)  # who was stopped hears of it, too
        with self._changed:
            if not self._changed.wait_for(lambda: self._process is not process, _GRACE_S):
                process.kill()


def _now_us() -> int:
    return time.time_ns() // 1000

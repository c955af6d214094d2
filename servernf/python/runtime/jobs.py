"""What other threads have the thread of the data path do, between two batches of packets."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from servernf.python.runtime.errors import Unreachable

T = TypeVar("T")
JOB_S = 20.0
"""So long a job may wait for its turn."""


class Jobs:
    """Work that waits for the data path's thread; without one, who asks does it at once."""

    def __init__(self) -> None:
        self.turn = threading.RLock()
        """Held by who treats packets where no thread of its own does."""
        self._waiting: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._wake: Callable[[], None] | None = None

    def attend(self, wake: Callable[[], None] | None) -> None:
        """From now on a thread calls `run` when it is woken; None: it has ended."""
        self._wake = wake
        while wake is None and self._waiting:
            self._waiting.popleft()[1].set_exception(Unreachable("the worker ends"))

    @property
    def has_thread(self) -> bool:
        """Whether a thread does the work."""
        return self._wake is not None

    def do(self, work: Callable[[], T]) -> T:
        """Have it done, and wait for what it answers."""
        wake = self._wake
        if wake is None:
            with self.turn:
                return work()
        done: Future[T] = Future()
        self._waiting.append((work, done))
        wake()
        return done.result(JOB_S)

    def run(self) -> None:
        """Do one, so that packets need not wait for more; the rest is woken for again."""
        if not self._waiting:
            return
        work, done = self._waiting.popleft()
        if self._waiting and self._wake is not None:
            self._wake()
        if not done.set_running_or_notify_cancel():
            return
        try:
            done.set_result(work())
        except Exception as error:  # it is who asked that has to know
            done.set_exception(error)

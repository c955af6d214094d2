"""How busy a worker is, and how long its NFs take: what says that a core is full before it loses frames.

Of each batch one packet is timed, another one from batch to batch, so a busy worker spends nothing on it
and an idle one times everything. A batch that is not full has emptied the receive queue.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

RECENT = 256
"""So many of the last times are kept of an NF; percentiles are of these."""


class NfTimes:
    """How long packets were in an NF, ns."""

    __slots__ = ("count", "recent", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.recent: deque[int] = deque(maxlen=RECENT)

    def add(self, spent_ns: int) -> None:
        """One more packet's."""
        self.count += 1
        self.total += spent_ns
        self.recent.append(spent_ns)

    def metrics(self, name: str) -> dict[str, int]:
        """By the names that queryMetrics tells; called from another thread."""
        recent = sorted(self.recent.copy())
        if not recent:
            return {}
        last = len(recent) - 1
        return {
            f"{name}.timed": self.count,
            f"{name}.timed_ns": self.total,
            f"{name}.delay_p50_ns": recent[last * 50 // 100],
            f"{name}.delay_p99_ns": recent[last * 99 // 100],
        }


class Load:
    """Counts of a data path's loop; it alone writes them."""

    def __init__(self) -> None:
        self.batches = 0
        self.full_batches = 0
        self.queue: Callable[[], tuple[int, int] | None] = lambda: None
        """Bytes that wait in the receive queue, and how many it holds; None: not known."""
        self._clock: int | None = None

    def attend(self) -> None:
        """The calling thread is the data path."""
        self._clock = time.pthread_getcpuclockid(threading.get_ident())

    def leave(self) -> None:
        """It ends."""
        self._clock = None

    def took(self, frames: int, most: int) -> None:
        """A batch of so many frames has come, of at most so many."""
        self.batches += 1
        self.full_batches += frames == most

    def metrics(self) -> dict[str, int]:
        """By the names that queryMetrics tells; called from another thread."""
        metrics = {"batches": self.batches, "full_batches": self.full_batches}
        if self._clock is not None:
            metrics["busy_ns"] = time.clock_gettime_ns(self._clock)
        if (queue := self.queue()) is not None:
            metrics["receive_queue_bytes"], metrics["receive_queue_limit"] = queue
        return metrics

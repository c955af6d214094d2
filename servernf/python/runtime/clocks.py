"""The clocks of a worker, microseconds."""

from __future__ import annotations

import time


def monotonic_us() -> int:
    """The default clock of the data path."""
    return time.monotonic_ns() // 1000


def wall_us() -> int:
    """The default clock of samples and events: since 1970."""
    return time.time_ns() // 1000

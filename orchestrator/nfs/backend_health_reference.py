"""The reference of passive health checks (docs/functions/l4_load_balancer.md)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Backend:
    """Since the last frame that came from it."""

    opened_us: list[int] = field(default_factory=list[int])
    """The oldest connections, as many as misses take it down, that have had no answer yet."""
    missed: int = 0
    was_down: bool = False
    down_until_us: int = 0


class HealthReference:
    """Of the backends of one load balancer; `misses` 0: all are up. Times in microseconds."""

    def __init__(self, misses: int, timeout_us: int, retry_us: int) -> None:
        self._misses, self._timeout_us, self._retry_us = misses, timeout_us, retry_us
        self._backends: defaultdict[Hashable, _Backend] = defaultdict(_Backend)

    def is_up(self, backend: Hashable, now_us: int) -> bool:
        """Whether new connections may go to it."""
        health = self._backends.get(backend)
        if health is None:
            return True
        for opened_us in list(health.opened_us):
            if now_us - opened_us >= self._timeout_us and opened_us in health.opened_us:
                health.opened_us.remove(opened_us)
                self._missed(health, opened_us + self._timeout_us)
        return health.down_until_us <= now_us

    def opened(self, backend: Hashable, now_us: int) -> None:
        """A client's SYN has been sent to it."""
        health = self._backends[backend]
        if len(health.opened_us) < self._misses:
            health.opened_us.append(now_us)
        if health.was_down:  # nobody else tries it before this one is answered or given up
            health.down_until_us = max(health.down_until_us, now_us + self._timeout_us)

    def refused(self, backend: Hashable, now_us: int) -> None:
        """It has answered a SYN with a reset."""
        health = self._backends[backend]
        if health.opened_us:
            del health.opened_us[0]
            self._missed(health, now_us)

    def heard(self, backend: Hashable) -> None:
        """It has sent something else."""
        self._backends.pop(backend, None)

    def _missed(self, health: _Backend, at_us: int) -> None:
        health.missed += 1
        if health.was_down or health.missed == self._misses:
            health.opened_us.clear()
            health.missed, health.was_down = 0, True
            health.down_until_us = at_us + self._retry_us

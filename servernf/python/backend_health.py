"""Whether backends answer: passive checks, on the connections of clients.

A backend *misses* when it lets a SYN that opened a connection go unanswered for `timeout_us`, or resets
it. `misses` of these in a row, with no other frame from the backend in between, and it is *down* for
`retry_us`: new connections go elsewhere. Then one connection tries it; the others follow when it has
answered, and without an answer it is down again. A frame from it brings it up at once.

So strangers whose SYNs no backend answers (a wrong checksum, a TTL that ends on the way) take none
down that talks to anybody. Where all backends are down they are all taken for up.
"""

from __future__ import annotations

from servernf.wire.fields import Fields

MISSES, TIMEOUT_S, RETRY_S = 3, 2, 10


class HealthChecks:
    """How backends are judged; `misses` 0: not at all."""

    def __init__(self, fields: Fields) -> None:
        self.misses = fields.integer("misses", 0, 100, MISSES)
        self.timeout_us = fields.seconds("timeout_s", TIMEOUT_S)
        self.retry_us = fields.seconds("retry_s", RETRY_S)
        fields.only_known()


class BackendHealth:
    """What is known of one backend."""

    __slots__ = ("_checks", "_down_until_us", "_missed", "_waiting", "doubtful", "unheard")

    def __init__(self, checks: HealthChecks) -> None:
        self._checks = checks
        self._waiting: list[int] = []
        """When connections were opened that nothing from the backend has followed; the first ones."""
        self._missed = 0
        self.doubtful = False
        """It has been down and not answered since: one connection at a time tries it."""
        self._down_until_us: int | None = None
        self.unheard = False
        """Whether a frame from it would tell anything new: `heard` need not be called otherwise."""

    def judged_by(self, checks: HealthChecks) -> None:
        """Another configuration: what is known stays."""
        self._checks = checks

    @property
    def known(self) -> tuple[int, bool, bool, int | None, list[int]]:
        """Misses, doubtful, unheard, until when it is down, and which SYNs wait."""
        return self._missed, self.doubtful, self.unheard, self._down_until_us, self._waiting

    @known.setter
    def known(self, health: tuple[int, bool, bool, int | None, list[int]]) -> None:
        self._missed, self.doubtful, self.unheard, self._down_until_us, self._waiting = health

    def is_up(self, now_us: int) -> bool:
        """Whether new connections may go to it."""
        timeout_us = self._checks.timeout_us
        while self._waiting and self._waiting[0] + timeout_us <= now_us:
            self._miss(self._waiting.pop(0) + timeout_us)
        return self._down_until_us is None or now_us >= self._down_until_us

    def opened(self, now_us: int) -> None:
        """A SYN goes to it."""
        self.unheard = True
        if len(self._waiting) < self._checks.misses:
            self._waiting.append(now_us)
        if self.doubtful:
            self._down_until_us = max(self._down_until_us or 0, now_us + self._checks.timeout_us)

    def heard(self) -> None:
        """A frame came from it."""
        self._waiting.clear()
        self._missed, self._down_until_us = 0, None
        self.doubtful = self.unheard = False

    def refused(self, now_us: int) -> None:
        """It has reset a connection instead of answering its SYN."""
        if self._waiting:
            self._waiting.pop(0)
            self._miss(now_us)

    def _miss(self, at_us: int) -> None:
        self._missed += 1
        if self.doubtful or self._missed >= self._checks.misses:
            self._waiting.clear()
            self._missed, self.doubtful = 0, True
            self._down_until_us = at_us + self._checks.retry_us

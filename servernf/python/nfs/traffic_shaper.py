"""Traffic shaper: a token bucket for each direction, and a bounded queue in front of it.

When a packet leaves is known when it comes, so the worker holds it until then and nothing polls here.
Tokens are counted in bits times 10^6: what `rate` bit/s give in a microsecond is a whole number.
"""

from __future__ import annotations

from collections import deque
from typing import Self

from servernf.python.network_function import (
    INSIDE,
    OTHER,
    OUTSIDE,
    Emitted,
    NetworkFunction,
    network_function,
)
from servernf.python.packet import PacketView
from servernf.wire.fields import Fields

_PER_BYTE = 8_000_000


class _Queue:
    __slots__ = ("bytes", "last_us", "leaving", "tokens")

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        """At `last_us`, when the packet that came last leaves."""
        self.last_us = 0
        self.bytes = 0
        self.leaving: deque[tuple[int, int]] = deque()
        """(when, bytes) of the packets that wait."""

    def forget(self, now_us: int) -> None:
        """What has left waits no more."""
        leaving = self.leaving
        while leaving and leaving[0][0] <= now_us:
            self.bytes -= leaving.popleft()[1]


@network_function("traffic_shaper")
class TrafficShaper(NetworkFunction):
    """Delays; drops what finds the queue full."""

    def setup(self, config: Fields) -> None:
        self._rate = config.integer("rate", 1000, 10**12)
        self._burst = config.integer("burst", 1514, 1 << 30, 15_140)
        self._queue_bytes = config.integer("queue", 1514, 1 << 30, 151_400)
        self._full = self._burst * _PER_BYTE
        self._queues = {INSIDE: _Queue(self._full), OUTSIDE: _Queue(self._full)}
        self._counts = {"delayed": 0}

    def continue_from(self, before: Self) -> bool:
        self._queues, self._counts = before._queues, before._counts
        return True

    def metrics(self) -> dict[str, int]:
        waiting = sum(queue.bytes for queue in self._queues.values())
        return {"waiting_bytes": waiting, **self._counts}

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        queue, size = self._queues[port], len(packet.data)
        if size > self._burst:
            return self.drop("larger_than_burst")
        queue.forget(now_us)
        tokens, at_us = queue.tokens, queue.last_us
        if now_us > at_us:
            tokens += (now_us - at_us) * self._rate
            at_us = now_us
            if tokens > self._full:
                tokens = self._full
        tokens -= size * _PER_BYTE
        if tokens < 0:
            wait = (-tokens + self._rate - 1) // self._rate
            tokens += wait * self._rate
            at_us += wait
        if at_us > now_us:
            if queue.bytes + size > self._queue_bytes:
                return self.drop("queue_full")
            queue.bytes += size
            queue.leaving.append((at_us, size))
            self._counts["delayed"] += 1
            self.emitted.append(Emitted(OTHER[port], bytes(packet.data), at_us))
        queue.tokens, queue.last_us = tokens, at_us
        return None if at_us > now_us else OTHER[port]

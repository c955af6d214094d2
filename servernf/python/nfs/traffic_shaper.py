"""Traffic shaper: a token bucket for each direction, and a bounded queue in front of it.

When a packet leaves is known when it comes, so the worker holds it until then and nothing polls here.
Tokens are counted in bits times 10^6: what `rate` bit/s give in a microsecond is a whole number.
"""

from __future__ import annotations

import struct
from collections import deque

from servernf.python.network_function import (
    INSIDE,
    OTHER,
    OUTSIDE,
    Emitted,
    NetworkFunction,
    network_function,
)
from servernf.python.packet import PacketView
from servernf.python.state import TableKind
from servernf.python.tables import Fixed
from servernf.wire.errors import InputError
from servernf.wire.fields import Fields
from servernf.wire.state import RecordField

_PER_BYTE = 8_000_000


class _Queue:
    __slots__ = ("bytes", "last_us", "leaving", "tokens")

    def __init__(self, tokens: int = 0) -> None:
        self.tokens = tokens
        """At `last_us`, when the packet that came last leaves."""
        self.last_us = 0
        self.bytes = 0
        self.leaving: deque[tuple[int, int]] = deque()
        """(when, bytes) of the packets that wait."""

    @property
    def leaving_us(self) -> list[int]:
        """When those that wait leave."""
        return [at_us for at_us, _ in self.leaving]

    @leaving_us.setter
    def leaving_us(self, times: list[int]) -> None:
        self.leaving = deque((at_us, 0) for at_us in times)

    @property
    def sizes(self) -> bytes:
        """How large they are: u32 each."""
        return struct.pack(f"!{len(self.leaving)}I", *(size for _, size in self.leaving))

    @sizes.setter
    def sizes(self, raw: bytes) -> None:
        if len(raw) != 4 * len(self.leaving):
            raise InputError("state of queues: as many sizes as times are valid")
        sizes = struct.unpack(f"!{len(self.leaving)}I", raw)
        self.leaving = deque(
            (at_us, size) for (at_us, _), size in zip(self.leaving, sizes, strict=True)
        )
        self.bytes = sum(sizes)

    def forget(self, now_us: int) -> None:
        """What has left waits no more."""
        leaving = self.leaving
        while leaving and leaving[0][0] <= now_us:
            self.bytes -= leaving.popleft()[1]


_MOST = 1 << 20
_QUEUES = TableKind(
    "queues",
    _Queue,
    (
        RecordField("tokens", "i64"),
        RecordField("last_us", "age"),
        RecordField("leaving_us", "ages", _MOST),
        RecordField("sizes", "bytes", 4 * _MOST),
    ),
    key=(RecordField("inside", "bool"),),
)


@network_function("traffic_shaper")
class TrafficShaper(NetworkFunction):
    """Delays; drops what finds the queue full."""

    _table: Fixed[bool, _Queue]
    """By whether packets enter inside."""

    def setup(self, config: Fields) -> None:
        self._rate = config.integer("rate", 1000, 10**12)
        self._burst = config.integer("burst", 1514, 1 << 30, 15_140)
        self._queue_bytes = config.integer("queue", 1514, 1 << 30, 151_400)
        self._full = self._burst * _PER_BYTE
        queues = Fixed((inside, _Queue(self._full)) for inside in (True, False))
        self.state.declare("_table", _QUEUES, queues)
        self.state.counts |= {"delayed": 0}

    def bound(self) -> None:
        inside, outside = self._table.get(True), self._table.get(False)
        assert inside is not None
        assert outside is not None
        self._queues = {INSIDE: inside, OUTSIDE: outside}

    def metrics(self) -> dict[str, int]:
        waiting = sum(queue.bytes for queue in self._queues.values())
        return {"waiting_bytes": waiting, **self.state.counts}

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
            self.count("delayed")
            self.emitted.append(Emitted(OTHER[port], bytes(packet.data), at_us))
        queue.tokens, queue.last_us = tokens, at_us
        return None if at_us > now_us else OTHER[port]

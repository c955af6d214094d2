"""Cache observer: would a cache have had what an HTTP GET asks for? Packets carry the answer as a label.

Packets of the asking direction get the label of the last request that is complete with them, so the
segment that completes a request is the first. The cache that is thought of serves all clients.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Self

from servernf.python.http1 import NotHttp, Request, RequestStream
from servernf.python.network_function import OTHER, network_function
from servernf.python.packet import TCP, PacketView
from servernf.python.streams import StreamFunction
from servernf.python.tcp_stream import Direction
from servernf.wire.fields import Fields

_NONE, _HIT, _MISS = 0, 1, 2


class _Memory:
    __slots__ = ("answer", "stream")

    def __init__(self, stream: RequestStream) -> None:
        self.stream: RequestStream | None = stream
        self.answer = _NONE


@network_function("cache_observer")
class CacheObserver(StreamFunction):
    """Labels; drops only what no receiver takes."""

    strict = False

    def setup(self, config: Fields) -> None:
        labels = config.object("labels")
        hit = labels.integer("hit", 1, 0xFFFF_FFFF, 21)
        miss = labels.integer("miss", 1, 0xFFFF_FFFF, 22)
        self._labels = {_HIT: hit, _MISS: miss}
        labels.only_known()
        self.watched = config.port_set("ports")
        self._max = config.integer("max_objects", 1, 1 << 20, 65_536)
        self._fresh_us = config.seconds("fresh_s", 60)
        self._limit = config.integer("max_header_bytes", 64, 65_536, 8192)
        self._objects: OrderedDict[tuple[bytes, bytes, bytes], int] = OrderedDict()
        """By host, path and query: when it was cached; the longest unused first."""
        self._counts = {"hits": 0, "misses": 0}
        self._now_us = 0

    def continue_from(self, before: Self) -> bool:
        self._objects, self._counts = before._objects, before._counts
        return super().continue_from(before)

    def metrics(self) -> dict[str, int]:
        return {**super().metrics(), "objects": len(self._objects), **self._counts}

    def process(self, packet: PacketView, port: str, now_us: int) -> str | None:
        if packet.protocol != TCP or packet.source_port < 0:
            return OTHER[port]
        asks = bool(self.watched[packet.destination_port])
        if not asks and not self.watched[packet.source_port]:
            return OTHER[port]
        self._now_us = now_us
        if not self.passes(packet, port, now_us, is_judged=asks):
            return None
        memory: _Memory | None = self.memory_of(packet)
        if memory is not None and memory.answer:
            packet.context = self._labels[memory.answer]
        return OTHER[port]

    def judge(self, packet: PacketView, stream: Direction, ready: bytes) -> str:
        memory: _Memory | None = stream.memory
        if memory is None:
            memory = stream.memory = _Memory(RequestStream(self._limit))
        if memory.stream is None:
            return ""
        memory.stream.limit = self._limit
        requests: list[Request] = []
        is_http = True
        try:
            memory.stream.add(ready, requests)
        except NotHttp:
            is_http = False
        for request in requests:
            memory.answer = self._look_up(request)
        if not is_http:
            memory.stream, memory.answer = None, _NONE
        return ""

    def _look_up(self, request: Request) -> int:
        if request.method != b"GET":
            return _NONE
        key = (request.host, request.path, request.query)
        objects = self._objects
        cached_us = objects.get(key)
        if cached_us is not None and self._now_us < cached_us + self._fresh_us:
            objects.move_to_end(key)
            self._counts["hits"] += 1
            return _HIT
        while cached_us is None and len(objects) >= self._max:
            objects.popitem(last=False)
        objects[key] = self._now_us
        objects.move_to_end(key)
        self._counts["misses"] += 1
        return _MISS

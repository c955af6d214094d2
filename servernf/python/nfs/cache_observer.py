"""Cache observer: would a cache have had what an HTTP GET asks for? Packets carry the answer as a label.

Packets of the asking direction get the label of the last request that is complete with them, so the
segment that completes a request is the first. The cache that is thought of serves all clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from servernf.python.http1 import NotHttp, Request, RequestStream
from servernf.python.network_function import OTHER, network_function
from servernf.python.packet import TCP, PacketView
from servernf.python.state import TableKind
from servernf.python.streams import StreamFunction
from servernf.python.tables import Recent
from servernf.python.tcp_stream import Direction
from servernf.wire.fields import Fields
from servernf.wire.state import RecordField

_NONE, _HIT, _MISS = 0, 1, 2


class _Memory:
    __slots__ = ("answer", "stream")

    def __init__(self, stream: RequestStream | None, answer: int = _NONE) -> None:
        self.stream = stream
        self.answer = answer

    def written(self) -> list[bytes]:
        """The answer, then the stream."""
        return [bytes((self.answer,)), *([] if self.stream is None else self.stream.written())]


_Name = tuple[bytes, bytes, bytes]
"""Host, path and query."""


class _Cached:
    __slots__ = ("at_us",)

    def __init__(self, at_us: int = 0) -> None:
        self.at_us = at_us


_OBJECTS = TableKind(
    "objects",
    _Cached,
    (RecordField("at_us", "age"),),
    key=tuple(RecordField(name, "bytes", 65_536) for name in ("host", "path", "query")),
)


@network_function("cache_observer")
class CacheObserver(StreamFunction):
    """Labels; drops only what no receiver takes."""

    strict = False
    _objects: Recent[_Name, _Cached]

    def setup(self, config: Fields) -> None:
        self.declare_streams()
        labels = config.object("labels")
        hit = labels.integer("hit", 1, 0xFFFF_FFFF, 21)
        miss = labels.integer("miss", 1, 0xFFFF_FFFF, 22)
        self._labels = {_HIT: hit, _MISS: miss}
        labels.only_known()
        self.watched = config.port_set("ports")
        self._max = config.integer("max_objects", 1, 1 << 20, 65_536)
        self._fresh_us = config.seconds("fresh_s", 60)
        self._limit = config.integer("max_header_bytes", 64, 65_536, 8192)
        self.state.declare("_objects", _OBJECTS, Recent[_Name, _Cached](self._max))
        self.state.counts |= {"hits": 0, "misses": 0}
        self._now_us = 0

    def metrics(self) -> dict[str, int]:
        counts = {name: self.state.counts[name] for name in ("hits", "misses")}
        return {**super().metrics(), "objects": len(self._objects), **counts}

    def read_memory(self, written: Sequence[bytes]) -> Any:
        answer, *stream = written
        if answer not in (b"\0", b"\1", b"\2"):
            raise ValueError(f"answer {answer!r} is not known")
        return _Memory(RequestStream.of(self._limit, stream) if stream else None, answer[0])

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
        cached = objects.get(key)
        if cached is not None and self._now_us < cached.at_us + self._fresh_us:
            objects.use(key)
            self.count("hits")
            return _HIT
        if cached is None:
            objects.size = self._max
            objects.add(key, _Cached(self._now_us))
        else:
            cached.at_us = self._now_us
            objects.use(key)
        self.count("misses")
        return _MISS

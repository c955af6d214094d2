"""cache_observer: tells whether a cache would have had what HTTP GETs ask for, and labels the packets.

It only observes. The label (hit or miss) goes with the packet, so that a later NF can decide by it: the
example of the southbound paper (4.1), whose proxy labels 21 for a hit and 22 for a miss.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from orchestrator.model.elements import CostProfile, ElementGraph, FilterProgram
from orchestrator.model.headers import TCP
from orchestrator.model.match import PortRange
from orchestrator.model.packet import Packet
from orchestrator.nfs.base import (
    Environment,
    NetworkFunction,
    NfConfig,
    Output,
    Reference,
    Talk,
    network_function,
)
from orchestrator.nfs.http_reference import HttpReader, HttpRequest, MalformedRequest
from orchestrator.nfs.inspecting import (
    OPPOSITE,
    PASS,
    ServedPorts,
    inspected,
    port_rules,
    ports_left_out,
    within,
)
from orchestrator.nfs.label_filter import Label
from orchestrator.nfs.streams import Direction, Streams


class CacheLabels(NfConfig):
    """What packets of a request are labelled with."""

    hit: Label = 21
    miss: Label = 22


class CacheObserverConfig(NfConfig):
    """The cache that is thought of: how many objects, and how long one is fresh."""

    ports: ServedPorts = (PortRange(80, 80),)
    labels: CacheLabels = CacheLabels()
    max_objects: Annotated[int, Field(ge=1, le=1 << 20, strict=True)] = 65_536
    fresh_s: Annotated[int, Field(gt=0, strict=True)] = 60
    max_header_bytes: Annotated[int, Field(ge=64, le=65_536, strict=True)] = 8192


@network_function("cache_observer")
class CacheObserver(NetworkFunction[CacheObserverConfig]):
    """Elements of each port: `prefilter` (stateless: TCP from or to one of the ports), `observe`."""

    Config = CacheObserverConfig
    replicable = False
    """All clients share what is cached."""
    keeps_state_when_changed = frozenset(
        {"ports", "labels", "max_objects", "fresh_s", "max_header_bytes"}
    )
    cost = CostProfile(
        6994,
        0.0,
        "our estimate: reads requests as Lemur's UrlFilter, 1500 B at 1.7 GHz",
        state_entry_bytes=2230,  # 1206 measured (CPython 3.11, tracemalloc), and its part of 64 MiB
    )

    @property
    def state_entries(self) -> int:
        return 65_536  # servernf.python.streams.MAX_CONNECTIONS

    def elements(self, port: str) -> ElementGraph:
        rules = port_rules(("tcp", TCP), self.config.ports, "observe")
        prefilter = "prefilter", FilterProgram(tuple(rules), PASS)
        return inspected(prefilter, ("observe", "remembers what was asked for"), (OPPOSITE[port],))

    @classmethod
    def state_lost(cls, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
        left_out = ports_left_out(before["ports"], after["ports"])
        return super().state_lost(before, after) or left_out

    def reference(self) -> Reference:
        return CacheObserverReference(self.config)

    def talk(self, protocol: int, rng: random.Random) -> Talk | None:
        if protocol != TCP:
            return None
        said = b"".join(
            b"%b /%d HTTP/1.1\r\nHost: cached.example\r\n\r\n"
            % (rng.choice((b"GET", b"GET", b"HEAD")), rng.randrange(6))
            for _ in range(rng.randrange(1, 3))
        )
        return Talk(rng.choice(self.config.ports).low, said)


Object = tuple[bytes, bytes, bytes]
"""Host, path, query."""


@dataclass(slots=True)
class _Asking:
    """One direction: its reader (None: no HTTP), and the label of the last request."""

    reader: HttpReader | None
    label: int = 0


class CacheObserverReference(Reference):
    """`cached`: object -> when it came, the longest unused first."""

    def __init__(self, config: CacheObserverConfig) -> None:
        self.config = config
        self.cached: OrderedDict[Object, int] = OrderedDict()
        self._now_us = 0
        self._streams: Streams[_Asking] = Streams(self._read, self._asks, strict=False)

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        ports, passes = self.config.ports, True
        if packet.is_tcp and (within(ports, packet.src_port) or within(ports, packet.dst_port)):
            self._now_us = env.now_us
            passes = self._streams.verdict(packet, port, env.now_us).passes
            asking = self._streams.memory(packet) if passes else None
            if asking is not None and asking.label:
                packet.context = asking.label
        return ((OPPOSITE[port], packet),) if passes else ()

    def _asks(self, packet: Packet) -> bool:
        return within(self.config.ports, packet.dst_port)

    def _read(self, packet: Packet, direction: Direction[_Asking], new: bytes) -> bool:
        if direction.memory is None:
            direction.memory = _Asking(HttpReader(self.config.max_header_bytes))
        asking = direction.memory
        try:
            for request in asking.reader.feed(new) if asking.reader else ():
                asking.label = self._label(request)
        except MalformedRequest:
            asking.reader, asking.label = None, 0
        return False

    def _label(self, request: HttpRequest) -> int:
        if request.method != b"GET":
            return 0
        key = request.host, request.path, request.query
        since = self.cached.get(key)
        if since is not None and self._now_us - since < self.config.fresh_s * 1_000_000:
            self.cached.move_to_end(key)
            return self.config.labels.hit
        self.cached.pop(key, None)
        self.cached[key] = self._now_us
        if len(self.cached) > self.config.max_objects:
            self.cached.popitem(last=False)
        return self.config.labels.miss

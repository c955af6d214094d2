"""traffic_shaper: a token bucket with a bounded queue: packets wait instead of being dropped.

Departures are decided on arrival in whole numbers: the bucket holds bits times 10^6, so that a rate in
bit/s times microseconds needs no rounding, and a departure is rounded up to a microsecond.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Self

from pydantic import Field, model_validator

from orchestrator.model.elements import (
    CostProfile,
    Element,
    ElementGraph,
    Leave,
    Relation,
    StatefulProgram,
)
from orchestrator.model.packet import Packet
from orchestrator.nfs.base import (
    Environment,
    NetworkFunction,
    NfConfig,
    Output,
    Reference,
    network_function,
)
from orchestrator.nfs.inspecting import OPPOSITE
from orchestrator.units import Rate

MAX_RATE = 10**12
Bytes = Annotated[int, Field(ge=1514, le=1 << 30, strict=True)]
"""At least a frame of the usual size."""


class TrafficShaperConfig(NfConfig):
    """Each direction has a bucket and a queue of its own."""

    rate: Rate
    burst: Bytes = 15_140
    queue: Bytes = 151_400

    @model_validator(mode="after")
    def _rate_in_range(self) -> Self:
        if not 1000 <= self.rate <= MAX_RATE:
            raise ValueError(f"rate {self.rate}: must be 1 kbit/s to 1 Tbit/s")
        return self


@network_function("traffic_shaper")
class TrafficShaper(NetworkFunction[TrafficShaperConfig]):
    """One element each port: `shape`."""

    Config = TrafficShaperConfig
    replicable = False
    relation = Relation(
        "tolerance", "exact in virtual time; a worker's timer is late by 1 ms and a batch at most"
    )
    keeps_state_when_changed = frozenset({"rate", "burst", "queue"})
    cost = CostProfile(20, 0.0, "Lemur (CoNEXT'20), TrafficShaper, 1500 B at 1.7 GHz")

    def elements(self, port: str) -> ElementGraph:
        left = OPPOSITE[port]
        shape = Element("shape", StatefulProgram("delays packets in a queue"), (left,))
        return ElementGraph("shape", {"shape": shape}, {("shape", left): Leave(left)})

    def reference(self) -> Reference:
        return TrafficShaperReference(self.config)


@dataclass(slots=True)
class _Bucket:
    """`tokens` were there at `at_us`, when the last packet left or will leave."""

    tokens: int
    at_us: int = 0
    waiting: deque[tuple[int, Packet]] = field(default_factory=deque[tuple[int, Packet]])


class TrafficShaperReference(Reference):
    """A bucket for each port entered."""

    def __init__(self, config: TrafficShaperConfig) -> None:
        self.config = config
        self._full = config.burst * 8_000_000
        self._buckets = {port: _Bucket(self._full) for port in OPPOSITE}

    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        bucket, size = self._buckets[port], len(packet.data)
        if size > self.config.burst:
            return ()
        start = max(env.now_us, bucket.at_us)
        tokens = min(self._full, bucket.tokens + self.config.rate * (start - bucket.at_us))
        missing = max(0, size * 8_000_000 - tokens)
        wait = -(-missing // self.config.rate)
        leaves = start + wait
        if leaves > env.now_us:
            queued = sum(len(held.data) for at, held in bucket.waiting if at > env.now_us)
            if queued + size > self.config.queue:
                return ()
            bucket.waiting.append((leaves, packet))
        bucket.tokens = tokens + self.config.rate * wait - size * 8_000_000
        bucket.at_us = leaves
        return () if leaves > env.now_us else ((OPPOSITE[port], packet),)

    def due_us(self) -> int | None:
        return min((b.waiting[0][0] for b in self._buckets.values() if b.waiting), default=None)

    def release(self) -> Output:
        port, bucket = min(
            ((p, b) for p, b in self._buckets.items() if b.waiting),
            key=lambda item: item[1].waiting[0][0],
        )
        return OPPOSITE[port], bucket.waiting.popleft()[1]

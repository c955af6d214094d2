"""The shim around every NF (vNFO, 4.2): what goes in and what comes out of it, of watched packets.

The NF is called in the same way whether its packet is watched or not. Samples lie in a bounded
ring; a reader holds a cursor and learns how many it has missed.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from time import perf_counter_ns
from typing import IO

from servernf.network_function import Emitted
from servernf.packet import PacketView
from servernf.runtime.tables import Step

RING = 65_536
DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Sample:
    """One observation. `timestamp_us` is wall clock, `digest` BLAKE2b-128 of the untagged frame."""

    graph: str
    nf: str
    worker: str
    label: int
    spi: int
    si: int
    direction: str
    """in, out or drop"""
    port: str
    timestamp_us: int
    spent_ns: int
    length: int
    digest: bytes
    reason: str = ""


class Shim:
    """Calls NFs on watched packets and keeps the samples."""

    def __init__(self, worker: str, wall_clock_us: Callable[[], int], ring: int = RING) -> None:
        self._worker = worker
        self._wall_clock_us = wall_clock_us
        self._ring: deque[Sample] = deque(maxlen=ring)
        self.recorded = 0
        """How many samples there have been."""
        self._lock = threading.Lock()
        self._file: IO[str] | None = None

    def write_to(self, path: Path) -> None:
        """Write every sample to a file, too, one JSON object a line."""
        self._file = path.open("a", encoding="utf-8")

    def flush(self) -> None:
        """Hand what was written to the system."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def call(
        self, step: Step, packet: PacketView, path: int, label: int, now_us: int
    ) -> str | None:
        """Call the step's NF and record in and out (or drop)."""
        self._record(step, packet.data, path, label, "in", step.port, 0, "")
        started = perf_counter_ns()
        port = step.process(packet, step.port, now_us)
        spent = perf_counter_ns() - started
        if port is None and any(emitted.at_us > now_us for emitted in step.emitted):
            return None  # held: `left` records when it leaves
        if port is None:
            reason = step.instance.nf.last_drop
            self._record(step, packet.data, path, label, "drop", "", spent, reason)
        else:
            self._record(step, packet.data, path, label, "out", port, spent, "")
        return port

    def left(self, step: Step, emitted: Emitted, path: int, label: int) -> None:
        """Record that a packet which the NF has held leaves."""
        self._record(step, emitted.frame, path, label, "out", emitted.port, 0, "")

    def _record(
        self,
        step: Step,
        frame: bytes | bytearray,
        path: int,
        label: int,
        direction: str,
        port: str,
        spent_ns: int,
        reason: str,
    ) -> None:
        sample = Sample(
            graph=step.instance.graph,
            nf=step.instance.name,
            worker=self._worker,
            label=label,
            spi=path >> 8,
            si=path & 0xFF,
            direction=direction,
            port=port,
            timestamp_us=self._wall_clock_us(),
            spent_ns=spent_ns,
            length=len(frame),
            digest=blake2b(frame, digest_size=DIGEST_BYTES).digest(),
            reason=reason,
        )
        with self._lock:
            self._ring.append(sample)
            self.recorded += 1
        if self._file is not None:
            line = asdict(sample) | {"digest": sample.digest.hex()}
            self._file.write(json.dumps(line) + "\n")

    def read(self, cursor: int = 0, limit: int = 1000) -> tuple[list[Sample], int, int]:
        """Samples from a cursor on, the cursor for the next call, and how many were lost."""
        with self._lock:
            oldest = self.recorded - len(self._ring)
            start = min(max(cursor, oldest), self.recorded)
            found = list(islice(self._ring, start - oldest, start - oldest + limit))
        return found, start + len(found), max(0, start - cursor)

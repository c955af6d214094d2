"""The shim around every NF (vNFO, 4.2): what goes in and what comes out of it, of watched packets.

The NF is called in the same way whether its packet is watched or not. What is noted on the packet's
way is time and a copy; digests are made behind it, so that no time stamp contains the shim's own work.
Samples lie in a bounded ring; a reader holds a cursor and learns how many it has missed.
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

from servernf.python.network_function import Emitted
from servernf.python.packet import PacketView
from servernf.python.runtime.tables import Step

RING = 65_536
PENDING = 256
"""Observations that wait for their digest at most; then it is made on the packets' way after all."""
FILE_BYTES = 64 << 20
"""A samples file ends there; what is not written is counted."""
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


_Seen = tuple[Step, int, int, str, str, int, int, str, bytes]
"""Step, path, label, direction, port, time, time spent, reason, frame."""


class Shim:
    """Calls NFs on watched packets and keeps the samples."""

    def __init__(self, worker: str, wall_clock_us: Callable[[], int], ring: int = RING) -> None:
        self._worker = worker
        self._wall_clock_us = wall_clock_us
        self._ring: deque[Sample] = deque(maxlen=ring)
        self.recorded = 0
        """How many samples there have been."""
        self._pending: deque[_Seen] = deque()
        self._lock = threading.Lock()
        self._file: IO[str] | None = None
        self._file_left = 0
        self.unwritten = 0
        """Samples that the file had no room for."""

    def write_to(self, path: Path, most: int = FILE_BYTES) -> None:
        """Write samples to a file, too, one JSON object a line, until it has so many bytes."""
        self._file = path.open("a", encoding="utf-8")
        self._file_left = most - path.stat().st_size

    def flush(self) -> None:
        """Hand what was written to the system."""
        self.settle()
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self.settle()
        if self._file is not None:
            self._file.close()
            self._file = None

    def call(
        self, step: Step, packet: PacketView, path: int, label: int, now_us: int
    ) -> str | None:
        """Call the step's NF and record in and out (or drop)."""
        self._see(step, packet.data, path, label, "in", step.port, 0, "")
        started = perf_counter_ns()
        port = step.process(packet, step.port, now_us)
        spent = perf_counter_ns() - started
        if port is None and any(emitted.at_us > now_us for emitted in step.emitted):
            return None  # held: `left` records when it leaves
        if port is None:
            reason = step.instance.nf.last_drop
            self._see(step, packet.data, path, label, "drop", "", spent, reason)
        else:
            self._see(step, packet.data, path, label, "out", port, spent, "")
        return port

    def left(self, step: Step, emitted: Emitted, path: int, label: int) -> None:
        """Record that a packet which the NF has held leaves."""
        self._see(step, emitted.frame, path, label, "out", emitted.port, 0, "")

    def _see(
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
        at_us = self._wall_clock_us()
        seen = step, path, label, direction, port, at_us, spent_ns, reason, bytes(frame)
        self._pending.append(seen)
        if len(self._pending) >= PENDING:
            self.settle()

    def settle(self) -> None:
        """Make samples of what was seen; called when the packets are gone, and before a reading."""
        if not self._pending:
            return
        with self._lock:
            while self._pending:
                sample = self._sample(self._pending.popleft())
                self._ring.append(sample)
                self.recorded += 1
                if self._file is not None:
                    self._write(self._file, sample)

    def _sample(self, seen: _Seen) -> Sample:
        step, path, label, direction, port, at_us, spent_ns, reason, frame = seen
        return Sample(
            graph=step.instance.graph,
            nf=step.instance.name,
            worker=self._worker,
            label=label,
            spi=path >> 8,
            si=path & 0xFF,
            direction=direction,
            port=port,
            timestamp_us=at_us,
            spent_ns=spent_ns,
            length=len(frame),
            digest=blake2b(frame, digest_size=DIGEST_BYTES).digest(),
            reason=reason,
        )

    def _write(self, file: IO[str], sample: Sample) -> None:
        line = json.dumps(asdict(sample) | {"digest": sample.digest.hex()}) + "\n"
        self._file_left -= len(line)
        if self._file_left < 0:
            self._file_left = 0  # nor does a shorter one go behind the gap
            self.unwritten += 1
        else:
            file.write(line)

    def read(self, cursor: int = 0, limit: int = 1000) -> tuple[list[Sample], int, int]:
        """Samples from a cursor on, the cursor for the next call, and how many were lost."""
        self.settle()
        with self._lock:
            oldest = self.recorded - len(self._ring)
            start = min(max(cursor, oldest), self.recorded)
            found = list(islice(self._ring, start - oldest, start - oldest + limit))
        return found, start + len(found), max(0, start - cursor)

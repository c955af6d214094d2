"""What the CLE takes from points, and what not: whole records, in order, once, and not too many.

Each point's records are numbered within a boot, and a boot ends when the next one begins: what comes
late of an earlier one is refused, so nobody adds to a past that is over. Missing numbers are taken as
they are: they show.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from orchestrator.errors import InputError, ReportedError, StoreError
from orchestrator.verification.cle.seals import Head
from orchestrator.verification.cle.segments import Entry, Log
from servernf.wire import records
from servernf.wire.records import HEADER, Record, event, point_id

NAME = "cle"
"""The CLE's own point: it tells of clocks, floods and full disks."""
RATE = 200_000.0
"""Records a second of one point on the long run; four seconds of that at once."""
WAITING = 256
"""Batches that wait for the disk at most."""
_JUMP_US = 1_000_000
"""How far the wall clock may move beside the monotonic one within a batch, before it is told."""
_TOLD_S = 1.0


class TooMuch(ReportedError):
    """A point tells more than it may, or there is no room. Exit code 10."""

    exit_code = 10


@dataclass(slots=True)
class _Stream:
    """What has come of a point: of this boot all below `next`; earlier boots are over."""

    boot: int
    next: int
    before: set[int]
    tokens: float = 4 * RATE
    at: float = 0.0
    told_at: float = -_TOLD_S


@dataclass(frozen=True, slots=True)
class _Waiting:
    payload: bytes
    answer: Future[Head]


class Intake:
    """Puts batches into a log: many threads give them, one writes, and what waits is sealed together."""

    def __init__(
        self,
        log: Log,
        *,
        rate: float = RATE,
        wall_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._rate = rate
        self._wall_us, self._monotonic = wall_us, monotonic
        self._streams: dict[int, _Stream] = {}
        self._waiting: deque[_Waiting] = deque()
        self._turn = threading.Condition()
        self._ending = False
        self._sequence = 0
        self._boot = time.time_ns()
        self._clock = wall_us(), monotonic()
        self.on_head: Callable[[Head], None] = lambda head: None
        """Called with every head, before its batches are acknowledged."""
        self._thread = threading.Thread(target=self._write, name="cle", daemon=True)

    def start(self, known: list[Entry]) -> None:
        """Begin to write; `known` is what the log has already."""
        for entry in known:
            for data in records.split(entry.payload):
                self._advance(*HEADER.unpack_from(data)[4:7])
        self.tell({"event": "boot", "point": NAME})
        self._thread.start()

    @property
    def head(self) -> Head:
        """The newest."""
        return self._log.head

    def put(self, payload: bytes) -> Future[Head]:
        """Records of one point; the head that seals them, once it is on the disk.

        InputError for what is no such batch, TooMuch for what has no room.
        """
        parts = list(records.split(payload))
        if not parts:
            raise InputError("a batch has no record")
        found = [records.read(data) for data in parts]
        if len({(record.point, record.boot) for record in found}) > 1:
            raise InputError("a batch has records of one boot of one point")
        if any(later.sequence <= one.sequence for one, later in pairwise(found)):
            raise InputError("the records of a batch are not in their order")
        with self._turn:
            if self._ending:
                raise TooMuch("the CLE ends")
            if len(self._waiting) >= WAITING:
                raise TooMuch(f"{WAITING} batches wait for the disk; send it again later")
            known = self._known(found[0], len(found))
            at = next((at for at, one in enumerate(found) if one.sequence >= known), len(found))
            # What the log has already is acknowledged when all before it is on the disk.
            waiting = _Waiting(payload if not at else b"".join(parts[at:]), Future())
            self._advance(found[-1].point, found[-1].boot, found[-1].sequence)
            self._waiting.append(waiting)
            self._turn.notify()
        return waiting.answer

    def tell(self, said: dict[str, Any]) -> None:
        """A record of the CLE's own."""
        with self._turn:
            self._tell(said)

    def end(self) -> None:
        """Write what waits, and end."""
        with self._turn:
            self._ending = True
            self._turn.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _tell(self, said: dict[str, Any]) -> None:
        made = event(point_id(NAME), self._boot, self._sequence, self._wall_us(), said)
        self._sequence += 1
        self._waiting.append(_Waiting(made.pack(), Future()))
        self._turn.notify()

    def _known(self, first: Record, count: int) -> int:
        """Below which number a point's records are here; InputError for a boot that is over."""
        stream = self._streams.get(first.point)
        if stream is None:
            return 0
        if first.boot in stream.before:
            raise InputError(
                f"point {first.point:016x}: boot {first.boot:016x} is over: what comes late is not taken"
            )
        self._afford(first.point, count)
        return stream.next if stream.boot == first.boot else 0

    def _advance(self, point: int, boot: int, sequence: int) -> None:
        stream = self._streams.get(point)
        if stream is None:
            stream = self._streams[point] = _Stream(
                boot, 0, set(), 4 * self._rate, self._monotonic()
            )
        if boot != stream.boot:
            stream.before.add(stream.boot)
            stream.boot, stream.next = boot, 0
        stream.next = max(stream.next, sequence + 1)

    def _afford(self, point: int, count: int) -> None:
        """Refuse what is above a point's rate; that is told, at most once a second."""
        stream = self._streams.get(point)
        if stream is None:
            return
        now = self._monotonic()
        stream.tokens = min(4 * self._rate, stream.tokens + (now - stream.at) * self._rate)
        stream.at = now
        if stream.tokens >= count:
            stream.tokens -= count
            return
        if now - stream.told_at >= _TOLD_S:
            stream.told_at = now
            self._tell({"event": "flood", "point_id": f"{point:016x}", "refused": count})
        raise TooMuch(f"point {point:016x} tells more than {self._rate:g} records/s; send it later")

    def _write(self) -> None:
        while True:
            with self._turn:
                while not self._waiting and not self._ending:
                    self._turn.wait()
                if not self._waiting:
                    return
                self._look_at_clock()
                batch = list(self._waiting)
                self._waiting.clear()
            payloads = [one.payload for one in batch if one.payload]
            try:
                if payloads:
                    self.on_head(self._log.append(payloads, self._wall_us()))
            except (StoreError, OSError) as error:
                self._refuse(batch, TooMuch(f"the log cannot be written: {error}"))
            else:
                for one in batch:
                    one.answer.set_result(self._log.head)

    def _refuse(self, batch: list[_Waiting], why: TooMuch) -> None:
        """Nothing of it is in the log, so nothing that came behind it is taken: who sent it sends it
        again, from the same number."""
        with self._turn:
            batch += self._waiting
            self._waiting.clear()
            for one in batch:
                if not one.payload:
                    continue
                point, boot, sequence = HEADER.unpack_from(one.payload)[4:7]
                stream = self._streams.get(point)
                if stream is not None and stream.boot == boot:
                    stream.next = min(stream.next, sequence)
        for one in batch:
            one.answer.set_exception(why)

    def _look_at_clock(self) -> None:
        wall, at = self._wall_us(), self._monotonic()
        before, then = self._clock
        self._clock = wall, at
        jumped = round(wall - before - (at - then) * 1e6)
        if abs(jumped) > _JUMP_US:
            self._tell({"event": "clock", "jumped_us": jumped})

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
from orchestrator.verification.cle.segments import Log, LogEntry
from servernf.wire import records
from servernf.wire.records import HEADER, Record, RecordKind, event, point_id

NAME = "cle"
"""The CLE's own point: it tells of clocks, floods and full disks."""
RATE = 200_000.0
"""Records a second of one point on the long run; four seconds of that at once."""
FAR = "so far"
"""The events by which a segment begins."""
BOOTS = 1024
"""Earlier boots of a point that are remembered."""
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
    before: dict[int, None]
    """In their order; as many as are remembered."""
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

    def start(self, entries: list[LogEntry]) -> None:
        """Begin to write; `known` is what the log has already."""
        for entry in entries:
            for data in records.split(entry.payload):
                self._advance(*HEADER.unpack_from(data)[4:7])
            for said in _how_far(entry):
                self._take_up(said)
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
        batch = [records.read(data) for data in parts]
        if len({(record.point, record.boot) for record in batch}) > 1:
            raise InputError("a batch has records of one boot of one point")
        if batch[0].point == point_id(NAME):
            raise InputError(f"point '{NAME}' is the CLE's own, and it speaks for itself")
        if any(later.sequence <= one.sequence for one, later in pairwise(batch)):
            raise InputError("the records of a batch are not in their order")
        with self._turn:
            if self._ending:
                raise TooMuch("the CLE ends")
            if len(self._waiting) >= WAITING:
                raise TooMuch(f"{WAITING} batches wait for the disk; send it again later")
            taken = self._known(batch[0], len(batch))
            at = next((at for at, one in enumerate(batch) if one.sequence >= taken), len(batch))
            # What the log has already is acknowledged when all before it is on the disk.
            waiting = _Waiting(payload if not at else b"".join(parts[at:]), Future())
            self._advance(batch[-1].point, batch[-1].boot, batch[-1].sequence)
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
        self._waiting.append(_Waiting(self._event(said), Future()))
        self._turn.notify()

    def _event(self, said: dict[str, Any]) -> bytes:
        made = event(point_id(NAME), self._boot, self._sequence, self._wall_us(), said)
        self._sequence += 1
        return made.pack()

    def _standing(self) -> bytes:
        """How far the records of all points are taken, for the beginning of a segment."""
        told: list[bytes] = []
        for point, stream in self._streams.items():
            if point == point_id(NAME):
                continue
            said = {
                "event": FAR,
                "of": f"{point:016x}",
                "boot": f"{stream.boot:016x}",
                "next": stream.next,
                "before": [f"{boot:016x}" for boot in stream.before],
            }
            told.append(self._event(said))
        told.append(self._event({"event": FAR, "points": len(told)}))
        return b"".join(told)

    def _take_up(self, said: dict[str, Any]) -> None:
        if "of" in said:
            before = dict.fromkeys(int(boot, 16) for boot in said["before"])
            stream = _Stream(int(said["boot"], 16), int(said["next"]), before, 4 * self._rate)
            stream.at = self._monotonic()
            self._streams[int(said["of"], 16)] = stream

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
            stream = self._streams[point] = _Stream(boot, 0, {}, 4 * self._rate, self._monotonic())
        if boot != stream.boot:
            stream.before[stream.boot] = None
            if len(stream.before) > BOOTS:
                del stream.before[next(iter(stream.before))]
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
                said = any(one.payload for one in batch)
                begins = [self._standing()] if said and self._log.begins else []
            payloads = begins + [one.payload for one in batch if one.payload]
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


def says_how_far(entry: LogEntry) -> bool:
    """Whether an entry tells how far all points' records are taken."""
    return any("points" in said for said in _how_far(entry))


def _how_far(entry: LogEntry) -> list[dict[str, Any]]:
    """What the CLE said of that; nobody else's word counts."""
    told = (records.read(data) for data in records.split(entry.payload) if _is_own(data))
    said = (record.event() for record in told if record.kind is RecordKind.EVENT)
    return [document for document in said if document.get("event") == FAR]


def _is_own(data: bytes) -> bool:
    return HEADER.unpack_from(data)[4] == point_id(NAME)

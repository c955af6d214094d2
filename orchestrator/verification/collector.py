"""The collector: switches' reports (`servernf.wire.reports`) become records for the CLE's log.

It is the CLE's own: who made a report it knows by the key that the CLE has told that switch only. What
is no report of a switch of the graph is refused, and told in a record of the collector's: in the verdict
that is somebody who speaks in a switch's name. Frames of one switch may overtake each other, so they are
kept for `HELD_US` and told in the order of their numbers; what comes later than that is missing.

Keys change with the epochs: a switch's go forward only, and for an overlap the one before is taken, too,
since frames are under way. A boot or a key that is new is an event, as is what did not get so far.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from heapq import heappop, heappush

from servernf.wire import reports
from servernf.wire.errors import InputError
from servernf.wire.records import CUT, Record, event, frame_digest, point_id
from servernf.wire.reports import Report

NAME = "collector"
COLLECTOR = point_id(NAME)
"""The collector's own point."""
REFUSED = "refused"
"""Its event: `why` is one of the reasons below, `count` how many since the last time."""
KEYED = "key"
"""Its event: `switch` reports since `boot` by the key of `epoch`."""
LOST = "lost"
"""Its event: `count` frames or records of anybody's are gone since the last time, `why`."""
FORGED, REPLAYED, STRANGE = "forged", "replayed", "strange"
APART_US = 500_000
"""How far a switch's clock may come apart from the collector's, before what it shows is set anew."""
HELD_US = 50_000
"""How long a report waits for one with a lower number."""
_REMEMBERED = 1 << 16
"""Numbers of a boot below the newest one that are told apart from those that come again."""
_KEYS = 256


@dataclass(slots=True)
class _Stream:
    """A switch's reports since a boot: numbers below `next` were told or are given up."""

    boot: int
    epoch: int
    """Whose key its reports have; the one before (`earlier`) is taken until `until_us`."""
    earlier: int = 0
    until_us: int = 0
    began_us: int = 0
    """What the collector's clock showed when the switch's showed 0."""
    next: int = 0
    seen: set[int] = field(default_factory=set[int])
    held: list[tuple[int, int, Report]] = field(default_factory=list[tuple[int, int, Report]])
    """A heap of (number, when it came, report)."""


class Collector:
    """Of one graph. `points` are its switches by id, `key` gives a switch's key by its name, a boot and
    an epoch, `overlap_us` is how long an earlier key is taken, `headers` how much of a frame is kept (0:
    all); `sink` takes records in their order, a point's at a time. A record's time is the switch's own
    clock, set by `wall_us` when its first report came: so times of one switch can be compared, whatever
    became of its reports on their way."""

    def __init__(
        self,
        graph_id: int,
        points: Mapping[int, str],
        key: Callable[[str, int, int], tuple[int, int]],
        wall_us: Callable[[], int],
        sink: Callable[[bytes], object],
        *,
        boot: int,
        overlap_us: int,
        headers: int = 0,
    ) -> None:
        self._graph_id, self._points, self._key = graph_id, dict(points), lru_cache(_KEYS)(key)
        self._overlap_us = overlap_us
        self._wall_us, self._sink, self._headers = wall_us, sink, headers
        self._streams: dict[int, _Stream] = {}
        self._boot, self._sequence = boot, 0
        self.refused: Counter[str] = Counter()
        """What was no report, by why."""
        self.lost: Counter[str] = Counter()
        """What did not get here, or not on from here, by why: of frames and of records."""
        self._told: dict[str, Counter[str]] = {REFUSED: Counter(), LOST: Counter()}
        self._tell({"event": "boot", "point": NAME})

    def take(self, frame: bytes) -> None:
        """A frame that came; what is no report, or of another graph, is nobody's business here."""
        if not reports.is_report(frame):
            return
        try:
            report = reports.decode(frame)
        except InputError:
            self.refused[STRANGE] += 1
            return
        if report.graph != self._graph_id:
            return
        name = self._points.get(report.switch)
        if name is None:
            self.refused[STRANGE] += 1
            return
        stream = self._streams.get(report.switch)
        current = stream if stream is not None and stream.boot == report.boot else None
        epoch = self._epoch(frame, report, name, current)
        if epoch is None:
            self.refused[FORGED] += 1
            return
        if stream is not None and report.boot < stream.boot:
            self.refused[REPLAYED] += 1
            return
        if current is None:
            if stream is not None:
                self._release(report.switch, stream, None)
            current = self._streams[report.switch] = _Stream(report.boot, epoch)
            self._keyed(name, current)
        elif report.number in current.seen or report.number < current.next - _REMEMBERED:
            self.refused[REPLAYED] += 1
            return
        elif epoch > current.epoch:
            current.earlier, current.epoch = current.epoch, epoch
            current.until_us = self._wall_us() + self._overlap_us
            self._keyed(name, current)
        current.seen.add(report.number)
        if report.number >= current.next:
            now_us = self._wall_us()
            if abs(now_us - current.began_us - report.arrival_us) > APART_US:
                current.began_us = now_us - report.arrival_us
            heappush(current.held, (report.number, now_us, report))

    def _epoch(self, frame: bytes, report: Report, name: str, stream: _Stream | None) -> int | None:
        """The epoch by whose key a report is known; None: somebody else made it up.

        A packet is watched by the newest epoch of its switch, or by the one before; while the switch is
        told both entries, one after the other, its key may be one behind that.
        """
        near = [report.epoch, report.epoch + 1, report.epoch - 1]
        if stream is not None:
            epochs = [stream.epoch]
            if self._wall_us() < stream.until_us:
                epochs.append(stream.earlier)
            near = epochs + [number for number in near if number > stream.epoch]
        for number in near:
            if number >= 0 and reports.is_authentic(frame, self._key(name, report.boot, number)):
                return number
        return None

    def _keyed(self, name: str, stream: _Stream) -> None:
        self._tell({"event": KEYED, "switch": name, "boot": stream.boot, "epoch": stream.epoch})

    def settle(self, *, ended: bool = False) -> None:
        """Tell what need not be held longer (`ended`: all), and what was refused or lost since the last
        time."""
        until = None if ended else self._wall_us() - HELD_US
        for switch, stream in self._streams.items():
            self._release(switch, stream, until)
        for event_name, counts in ((REFUSED, self.refused), (LOST, self.lost)):
            before = self._told[event_name]
            for why, count in (counts - before).items():
                self._tell({"event": event_name, "why": why, "count": count})
                before[why] += count

    def _release(self, switch: int, stream: _Stream, until: int | None) -> None:
        """Records of those that came until a time (None: all), and of those with lower numbers."""
        due = [number for number, at, _ in stream.held if until is None or at <= until]
        last = max(due, default=-1)
        point = point_id(self._points[switch])
        while stream.held and (stream.held[0][0] <= last or stream.held[0][0] == stream.next):
            number, _, report = heappop(stream.held)
            stream.next = number + 1
            at_us = stream.began_us + report.arrival_us
            self._sink(_cut(report.record(point, at_us), self._headers).pack())
        if len(stream.seen) > 2 * _REMEMBERED:
            stream.seen = {n for n in stream.seen if n >= stream.next - _REMEMBERED}

    def _tell(self, said: dict[str, object]) -> None:
        made = event(COLLECTOR, self._boot, self._sequence, self._wall_us(), said)
        self._sequence += 1
        self._sink(made.pack())


def _cut(record: Record, headers: int) -> Record:
    if not headers or len(record.frame) <= headers:
        return record
    digest = frame_digest(record.frame)
    return replace(record, flags=CUT, digest=digest, frame=record.frame[:headers])

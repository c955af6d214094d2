"""Completeness and path: what was told, beside what the manifest and the bundle say should be.

*Path*: every watched packet met the intended NFs in their order, in an intended configuration, on
devices that were meant to have it, unchanged between them; nothing else was told of it. One record to
the contrary is a violation.

*Completeness*: every point that should have reported a watched packet did, and packets that came in
came out or were dropped by somebody who said so, but for the share that the manifest grants (the loss
bound), by exact binomial tails at a family-wise level.

Only packets whose entry was told are followed. Of packets in the middle of an overlap of epochs only
those are asked for that every point watched (`asked`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from orchestrator.verification.collector import COLLECTOR, REFUSED
from orchestrator.verification.intended import Intended, IntendedCall, WorkerExit
from orchestrator.verification.manifest import VerificationManifest
from orchestrator.verification.statistics import FAMILY_WISE, too_many
from orchestrator.verification.trajectories import BEFORE, Trajectory, words
from servernf.wire.addresses import parse_mac
from servernf.wire.records import Record, RecordKind, point_id
from servernf.wire.witness import Epoch

SET_BACK_US = 1_000_000
"""How far a point's clock may be set back; what was made up later than that shows."""
MOST_EVIDENCE = 5
"""Packets that a finding names."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that contradicts what was agreed; `evidence` are records, as point, boot and number."""

    verdict: str
    what: str
    count: int
    of: int
    evidence: tuple[str, ...]


def asked(
    trajectories: Iterable[Trajectory],
    manifest: VerificationManifest,
    key: bytes,
    settle_us: int = 0,
) -> list[Trajectory]:
    """Trajectories of packets that every point watched: by the epoch that was in force everywhere when
    they came in. Those of the last `settle_us` may be under way yet, and are left for the next time."""
    trajectories = list(trajectories)
    newest = max((r.wall_us for t in trajectories for r in t.records), default=0)
    epochs: dict[int, Epoch] = {}
    kept: list[Trajectory] = []
    for trajectory in trajectories:
        wall_us = trajectory.records[0].wall_us
        number = manifest.settled_at(datetime.fromtimestamp(wall_us / 1e6, UTC))
        if number is None or wall_us > newest - settle_us:
            continue
        if number not in epochs:
            epochs[number] = manifest.epoch(key, number)
        if epochs[number].watches(*trajectory.packet, trajectory.records[0].flow):
            kept.append(trajectory)
    return kept


@dataclass(frozen=True, slots=True)
class Judged:
    """How much was looked at, and what was found."""

    packets: int
    records: int
    findings: tuple[Finding, ...]


@dataclass
class _Seen:
    """Violations by what they are, and counts of what may be missing now and then."""

    points: frozenset[int]
    """Who is to tell."""
    wrong: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))
    expected: Counter[int] = field(default_factory=Counter)
    """Reports that should be there, by point."""
    skipped: dict[int, list[Record]] = field(default_factory=lambda: defaultdict(list))
    """Packets that later points saw and this one did not."""
    vanished: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))
    """Packets that nobody saw again behind their last record."""
    followed: int = 0
    strangers: list[Record] = field(default_factory=list)
    """Of packets that never came in."""


def judge(
    trajectories: Sequence[Trajectory],
    told: Told,
    intended: Intended,
    manifest: VerificationManifest,
    level: float = FAMILY_WISE,
) -> Judged:
    """Judge trajectories (`asked`) of what was told.

    Where the manifest names no switch among the points, nobody says what comes in: packets are followed
    from the first worker that tells of them, and as far as workers tell.
    """
    points = frozenset(map(point_id, manifest.points))
    edges = bool(points - intended.workers)
    seen = _Seen(points)
    for record in told.stories:
        seen.wrong["a point told two stories under one number"].append(record)
    for record in told.backdated:
        seen.wrong["was told after what came later, with an earlier time"].append(record)
    for record in told.records:
        if record.point == COLLECTOR and record.event().get("event") == REFUSED:
            why = record.event().get("why")
            seen.wrong[f"somebody speaks in a switch's name: reports were {why}"].append(record)
    for trajectory in trajectories:
        if trajectory.entries:
            _Walk(trajectory, intended, seen).walk()
        elif edges:
            seen.strangers += trajectory.records[:1]
        else:
            _Walk(trajectory, intended, seen).walk_from_worker()
    findings = [
        Finding("path", what, len(records), seen.followed, _evidence(records, intended))
        for what, records in sorted(seen.wrong.items())
    ]
    findings += _missing(seen, told.gaps, intended, manifest.loss_bound, level)
    return Judged(len(trajectories), sum(len(t.records) for t in trajectories), tuple(findings))


def _missing(
    seen: _Seen,
    gaps: Sequence[tuple[int, int, int]],
    intended: Intended,
    bound: float,
    level: float,
) -> Iterable[Finding]:
    """What is missing more often than the loss bound grants."""
    came_in = seen.followed + len(seen.strangers)
    lost = sum(map(len, seen.vanished.values()))
    questions: list[tuple[str, int, int, Sequence[Record]]] = [
        (f"{intended.name(point)} did not report packets that later points saw",
         len(seen.skipped[point]), of, seen.skipped[point])
        for point, of in sorted(seen.expected.items())
    ]  # fmt: skip
    vanished = [record for records in seen.vanished.values() for record in records]
    worst = max(seen.vanished, key=lambda where: len(seen.vanished[where]), default="")
    questions += [
        (f"packets vanish, most of them behind {worst}", lost, seen.followed, vanished),
        ("packets are seen that never came in", len(seen.strangers), came_in, seen.strangers),
    ]
    questions += [
        (f"{intended.name(point)}: numbers of records are missing", missing, missing + told, ())
        for point, missing, told in gaps
    ]
    each = level / max(len(questions), 1)
    for what, count, of, records in questions:
        if of and too_many(count, of, bound, each):
            yield Finding("completeness", what, count, of, _evidence(records, intended))


def _evidence(records: Sequence[Record], intended: Intended) -> tuple[str, ...]:
    return tuple(
        f"{intended.name(r.point)} boot {r.boot:016x} #{r.sequence}: "
        f"label {r.label:#010x} at {r.ingress_us}: {words(r)}"
        for r in records[:MOST_EVIDENCE]
    )


class _Walk:
    """One packet, from where it came in."""

    def __init__(self, trajectory: Trajectory, intended: Intended, seen: _Seen) -> None:
        self._trajectory, self._intended, self._seen = trajectory, intended, seen
        self._over = False
        """Whether something is wrong with it already: what follows from that is not told, too."""
        self._left: dict[tuple[int | None, int], list[Record]] = defaultdict(list)
        """Records that were not come to yet, by point and path."""
        for record in trajectory.records:
            self._left[record.point, record.path].append(record)

    def walk(self) -> None:
        entries = [r for r in self._trajectory.records if r.kind is RecordKind.ENTRY]
        if len(entries) > 1:
            return  # equal packets of one microsecond: whose record is whose nobody knows
        self._seen.followed += 1
        self._take(entries[0])
        self._onward(entries[0])
        for record in [record for records in self._left.values() for record in records]:
            self._wrong("is reported where it was not meant to be", record)

    def walk_from_worker(self) -> None:
        """Nobody says how it came in; its first worker says that it was there."""
        first = self._trajectory.records[0]
        if first.kind is not RecordKind.IN or not self._intended.takes(first.point, first.path):
            self._wrong("is reported where it was not meant to be", first)
            return
        self._seen.followed += 1
        self._at_worker(first, first.point, first.path)
        for record in [record for records in self._left.values() for record in records]:
            self._wrong("is reported where it was not meant to be", record)

    def _onward(self, came: Record) -> None:
        """What a switch made of what came to it, and on from there."""
        left = self._left[came.point, came.path]
        made, left[:] = left[:], []
        if not made:
            self._missing(came, came.point, came.si or BEFORE)
        for record in made:
            if record.kind is RecordKind.OUT and not record.nf:
                self._from(record)
            elif record.kind in (RecordKind.ENTRY, RecordKind.HOP):
                self._wrong("came to a switch twice", record)
            elif record.kind not in (RecordKind.EXIT, RecordKind.DROP):
                self._wrong("a switch tells what only workers do", record)

    def _from(self, record: Record) -> None:
        """Go on from a switch's record to where it sent the packet."""
        try:
            mac_text, _, rest = record.port_out.partition(" ")
            spi, _, si = rest.partition("/")
            mac, path = parse_mac(mac_text), int(spi) << 8 | int(si)
        except ValueError:
            self._wrong("a switch says no next device", record)
            return
        self._to(record, mac, path)

    def _to(self, before: Record, mac: int, path: int) -> None:
        point = self._intended.point_at(mac)
        if point is None or not self._intended.takes(point, path):
            self._wrong("was sent to a device that is not meant to have it", before)
            return
        if point not in self._seen.points:
            self._left.clear()  # nobody tells how it goes on
            return
        self._seen.expected[point] += 1
        here = self._left.get((point, path), [])
        if not here:
            self._missing(before, point, path & 0xFF)
        elif point in self._intended.workers:
            self._at_worker(before, point, path)
        else:
            self._at_switch(before, here[0])

    def _at_switch(self, before: Record, record: Record) -> None:
        if record.kind is not RecordKind.HOP:
            self._seen.skipped[record.point].append(record)  # it did not report what came to it
            self._onward(record)
            return
        self._take(record)
        self._carried(before, record)
        self._onward(record)

    def _at_worker(self, before: Record, point: int, path: int) -> None:
        """Through the NFs of a worker: in, what became of it, in, ..., and out of it."""
        steps: Sequence[IntendedCall | WorkerExit] = self._intended.first.get((point, path), ())
        last = before
        first = True
        while calls := self._calls(steps, point, path):
            record = self._pop(point, path)
            if record is None:
                self._missing(last, point, path & 0xFF)
                return
            if record.kind is RecordKind.LOST:
                self._carried(last, record)
                return
            if record.kind is not RecordKind.IN or _call(record) not in calls:
                self._wrong(f"'{calls[-1].nf}' was to have it next", record)
                return
            if first:
                self._carried(last, record)
            self._configured(record)
            result = self._pop(point, path)
            if result is None:
                self._wrong("an NF has it and nothing becomes of it", record)
                return
            if result.nf != record.nf or result.branch != record.branch:
                self._wrong("an NF answers for another", result)
                return
            self._beside(point, path, result.nf)
            if result.kind is not RecordKind.OUT:
                return
            last, first = result, False
            steps = self._intended.then.get((point, path, result.nf, result.port_out), ())
        exits = [step for step in steps if isinstance(step, WorkerExit)]
        if not exits:
            lost = self._pop(point, path)
            if lost is None or lost.kind is not RecordKind.LOST:
                self._wrong("left an NF by a port that nothing follows", last)
            return
        there = [
            out for out in exits if self._left.get((self._intended.point_at(out.mac), out.path))
        ]
        out = (there or exits)[-1]
        self._to(last, out.mac, out.path)

    def _calls(
        self, steps: Sequence[IntendedCall | WorkerExit], point: int, path: int
    ) -> list[IntendedCall]:
        """The NFs of which one is next; none where another version has the packet leave, and it did."""
        calls = [step for step in steps if isinstance(step, IntendedCall)]
        here = self._left.get((point, path))
        came = bool(here) and _call(here[0]) in calls
        return calls if came or len(calls) == len(steps) else []

    def _beside(self, point: int, path: int, nf: str) -> None:
        """What an NF sends beside the packet is not followed: copies, resets, what was held."""
        here = self._left.get((point, path), [])
        here[:] = [record for record in here if not record.branch]

    def _configured(self, record: Record) -> None:
        digests = self._intended.digests.get(record.nf)
        if digests is not None and record.configuration not in digests:
            self._wrong("an NF had another configuration", record)

    def _carried(self, before: Record, record: Record) -> None:
        """Between two devices a packet stays as it is."""
        if record.whole_digest != before.whole_digest:
            self._wrong("was changed on its way", record)

    def _missing(self, before: Record, point: int, si: int) -> None:
        """Nothing is told where it should be: skipped if it is seen later, else it has vanished."""
        if self._over:
            return
        self._over = True
        later = [r for records in self._left.values() for r in records if r.si < si]
        if later:
            self._seen.skipped[point].append(before)
            self._left.clear()
        else:
            self._seen.vanished[self._intended.name(before.point)].append(before)

    def _wrong(self, what: str, record: Record) -> None:
        if self._over:
            return
        self._over = True
        self._seen.wrong[what].append(record)
        self._left.clear()

    def _pop(self, point: int, path: int) -> Record | None:
        here = self._left.get((point, path))
        return here.pop(0) if here else None

    def _take(self, record: Record) -> None:
        self._left[record.point, record.path].remove(record)


def _call(record: Record) -> IntendedCall:
    return IntendedCall(record.nf, record.port_in)


@dataclass(frozen=True, slots=True)
class Told:
    """Records, each once; `gaps` are (point, numbers missing within its boots, numbers told), `stories`
    those that have the number of another one, `backdated` those that were told behind later ones."""

    records: tuple[Record, ...]
    gaps: tuple[tuple[int, int, int], ...]
    stories: tuple[Record, ...]
    backdated: tuple[Record, ...] = ()


def once(records: Iterable[Record]) -> Told:
    """What was told, without what was sent twice; records come in the order of the log.

    A point numbers records as it makes them, and the log takes no number that is below one it has. So
    who makes up a record later has only a late number for it, and its time gives it away.
    """
    numbers: dict[tuple[int, int], dict[int, Record]] = defaultdict(dict)
    stories: list[Record] = []
    backdated: list[Record] = []
    latest: dict[int, int] = {}
    for record in records:
        by_sequence = numbers[record.point, record.boot].setdefault(record.sequence, record)
        if by_sequence is not record:
            stories += [record] if by_sequence != record else []
            continue
        before = latest.setdefault(record.point, record.wall_us)
        if record.wall_us < before - SET_BACK_US:
            backdated.append(record)
        latest[record.point] = max(before, record.wall_us)
    missing: Counter[int] = Counter()
    there: Counter[int] = Counter()
    for (point, _), by_sequence in numbers.items():
        missing[point] += max(by_sequence) + 1 - len(by_sequence)
        there[point] += len(by_sequence)
    kept = tuple(record for by_sequence in numbers.values() for record in by_sequence.values())
    gaps = tuple((point, missing[point], there[point]) for point in sorted(there))
    return Told(kept, gaps, tuple(stories), tuple(backdated))

"""The shim around every NF (vNFO, 4.2): what goes in and what comes out of it, of watched packets.

All packets of a graph that has a manifest or a witness go one way, and all are noted (`noting`): times
and copies. Behind them, `settle` asks which are watched, makes samples (an operator's manifest) and
records (a witness) of these, with their digests, and forgets the rest. It runs by the clock of the loop,
not of packets, so no sender's packet is late because the one before it was watched.

Samples lie in a bounded ring; a reader holds a cursor and learns how many it has missed. Records go
where `record_to` says; each has a number, so what found no room there shows.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import IO, Any

from servernf.python.runtime.noting import FAILED, LET_GO, Batch, Call, Note
from servernf.python.runtime.tables import Instance, Manifest
from servernf.python.runtime.tag import TAG_BYTES
from servernf.wire import sampling
from servernf.wire.configs import config_digest
from servernf.wire.records import CUT, Kind, event, frame_digest, packed, point_id, text_bytes
from servernf.wire.witness import Witness

RING = 65_536
PENDING = 1024
"""Frames whose notes wait at most; then all are settled on the packets' way, watched or not."""
FILE_BYTES = 64 << 20
"""A samples file ends there; what is not written is counted."""
DIGEST_BYTES = 16
_NONE = bytes(DIGEST_BYTES)
_SETTLE_US = 5_000
"""How long notes wait, whatever is in them."""


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
    """Notes packets, and keeps samples and hands out records of those that are watched.

    `wall_clock_us`, `ticks` (ns, monotonic) and `cpu` (ns of this thread) are the point's clocks.
    """

    def __init__(
        self,
        worker: str,
        wall_clock_us: Callable[[], int],
        ring: int = RING,
        *,
        ticks: Callable[[], int] = time.monotonic_ns,
        cpu: Callable[[], int] = time.thread_time_ns,
    ) -> None:
        self._worker = worker
        self._wall_clock_us, self._ticks, self._cpu = wall_clock_us, ticks, cpu
        self._ring: deque[Sample] = deque(maxlen=ring)
        self.recorded = 0
        """How many samples there have been."""
        self.notes: deque[Note] = deque()
        self._manifests: Mapping[str, Manifest] = {}
        self._witnesses: dict[str, Witness] = {}
        self._watching = False
        """Whether any rate is above 0."""
        self._lock = threading.Lock()
        self._file: IO[str] | None = None
        self._file_left = 0
        self.unwritten = 0
        """Samples that the file had no room for."""
        self._settle_ns = 0
        self._point = point_id(worker)
        self._boot = secrets.randbits(64)
        self._sequence = 0
        self._record: Callable[[bytes], bool] | None = None
        self.unrecorded = 0
        """Records that found no room."""
        self._texts = lru_cache(4096)(text_bytes)
        self._digests: dict[str, bytes] = {}
        """Of configurations that records are made of."""

    # -- what is watched -----------------------------------------------------------------------

    @property
    def witnesses(self) -> Mapping[str, Witness]:
        """What is witnessed, by graph."""
        return self._witnesses

    def use(self, manifests: Mapping[str, Manifest]) -> None:
        """The operator's manifests by graph, those that sample anything."""
        self._manifests = {graph: m for graph, m in manifests.items() if m.threshold}
        self._watch()

    def _watch(self) -> None:
        rates = [epoch.threshold for w in self._witnesses.values() for epoch in w.epochs]
        self._watching = bool(self._manifests) or any(rates)

    def witness(self, graph: str, witness: Witness | None) -> None:
        """A graph is witnessed from now on, or no longer; a record tells by which epochs."""
        self.settle()
        witnesses = dict(self._witnesses)
        if witness is None:
            witnesses.pop(graph, None)
        else:
            witnesses[graph] = witness
        if witnesses == self._witnesses:
            return
        self._witnesses = witnesses
        self._watch()
        epochs = [epoch.number for epoch in witness.epochs] if witness else []
        self.tell({"event": "witness", "graph": graph, "epochs": epochs})

    def record_to(self, sink: Callable[[bytes], bool]) -> None:
        """Where records go; the sink answers whether it took one."""
        self._record = sink
        self.tell({"event": "boot", "point": self._worker})

    def tell(self, said: dict[str, Any]) -> None:
        """A record of something that is no packet."""
        with self._lock:
            told = event(self._point, self._boot, self._sequence, self._wall_clock_us(), said)
            self._put(told.pack())

    def configured(self, graph: str, instances: Iterable[Instance], removed: Sequence[str]) -> None:
        """A record of what a witnessed graph has here now."""
        if graph in self._witnesses:
            nfs = {i.name: config_digest(i.config_json) for i in instances if i.graph == graph}
            self.tell({"event": "configured", "graph": graph, "nfs": nfs, "removed": [*removed]})

    def metrics(self) -> dict[str, int]:
        """What found no room."""
        counts = {"samples.unwritten": self.unwritten, "records.lost": self.unrecorded}
        return {name: count for name, count in counts.items() if count}

    # -- beside the packets --------------------------------------------------------------------

    def batch(self, now_us: int) -> Batch | None:
        """What packets that come now are noted with; None: nothing is watched here."""
        if not self._watching:
            return None
        return Batch(now_us, self._wall_clock_us(), self._ticks, self._cpu)

    def due_us(self) -> int | None:
        """How long until notes are to be settled; None: there are none."""
        if not self.notes:
            return None
        return max(0, self._settle_ns - self._ticks()) // 1000

    def settle_if_due(self) -> None:
        """Settle at the clock's step, or when too much waits."""
        now_ns = self._ticks()
        if now_ns >= self._settle_ns or len(self.notes) >= PENDING:
            self.settle()
            self._settle_ns = (now_ns // 1000 // _SETTLE_US + 1) * _SETTLE_US * 1000

    def settle(self) -> None:
        """Make samples and records of what was noted and is watched."""
        if not self.notes:
            return
        with self._lock:
            take = self.notes.popleft
            notes = [take() for _ in range(len(self.notes))]
            for graph, manifest in self._manifests.items():
                self._sampled(manifest, [note for note in notes if note[1] == graph])
            for graph, witness in self._witnesses.items():
                # Of what was lost before its graph was known, every witness hears.
                self._witnessed(witness, [n for n in notes if n[1] == graph or not n[1]])

    # -- samples -------------------------------------------------------------------------------

    def _sampled(self, manifest: Manifest, notes: list[Note]) -> None:
        labels = [note[3] for note in notes]
        answers = sampling.watched(manifest.key0, manifest.key1, manifest.threshold, labels)
        for note, answer in zip(notes, answers, strict=True):
            if not answer:
                continue
            for call in note[6]:
                for sample in self._samples(note, call):
                    self._ring.append(sample)
                    self.recorded += 1
                    if self._file is not None:
                        self._write(self._file, sample)

    def _samples(self, note: Note, call: Call) -> Iterator[Sample]:
        batch, graph, path, label = note[:4]
        step, given, skip, _, entered, left, port, after, _, reason, emitted = call

        def sample(direction: str, port: str, at_ns: int, frame: bytes, reason: str = "") -> Sample:
            at_us = batch.wall_us + (at_ns - batch.tick_ns) // 1000
            spent = left - entered if direction != "in" and entered != LET_GO else 0
            size, digest = len(frame), blake2b(frame, digest_size=DIGEST_BYTES).digest()
            name = step.instance.name
            return Sample(
                graph, name, self._worker, label, path >> 8, path & 0xFF, direction, port, at_us, spent,
                size, digest, reason,
            )  # fmt: skip

        if entered != LET_GO:
            yield sample("in", step.port, entered, given[skip:])
        if port is not None:
            yield sample("out", port, left, after or note[10][TAG_BYTES:])
        elif not reason.startswith(FAILED) and all(e.at_us <= batch.now_us for e in emitted):
            yield sample("drop", "", left, after, reason)

    # -- records -------------------------------------------------------------------------------

    def _witnessed(self, witness: Witness, notes: list[Note]) -> None:
        if self._record is None:
            return
        packets = [word for note in notes for word in (note[3], note[4])]
        watched: dict[int, int] = {}
        for epoch in reversed(witness.epochs):  # of several, the earliest is told
            answers = sampling.witnessed(epoch.key0, epoch.key1, epoch.threshold, packets)
            at = answers.find(1)
            while at >= 0:
                watched[at] = epoch.number
                at = answers.find(1, at + 1)
        for at in sorted(watched):
            for told in self._told(notes[at]):
                self._put(self._of_packet(notes[at], watched[at], witness.headers, *told))

    def _told(self, note: Note) -> Iterator[tuple[Kind, int, bytes, Call | None, str, int]]:
        """Kind, branch, frame, call, port or reason, and time, of every record that a note makes."""
        batch, branch, dropped = note[0], note[5], note[7]
        for call in note[6]:
            step, given, skip, _, entered, left, port, after, _, reason, emitted = call
            if entered != LET_GO:
                yield Kind.IN, branch, given[skip:], call, step.port, entered
            if port is not None:
                yield Kind.OUT, branch, after or note[10][TAG_BYTES:], call, port, left
            for number, some in enumerate(emitted, 1):
                if some.at_us <= batch.now_us:
                    yield Kind.OUT, branch + number, some.frame, call, some.port, left
            if reason.startswith(FAILED):
                yield Kind.ERROR, branch, given[skip:], call, reason, left
            elif port is None and any(some.at_us > batch.now_us for some in emitted):
                yield Kind.HELD, branch, b"", call, "", left
            elif port is None:
                yield Kind.DROP, branch, after, call, reason, left
        if dropped:
            yield Kind.LOST, branch, note[8][note[9] :], None, dropped, batch.tick_ns

    def _of_packet(
        self,
        note: Note,
        epoch: int,
        headers: int,
        kind: Kind,
        branch: int,
        frame: bytes,
        call: Call | None,
        word: str,
        at_ns: int,
    ) -> bytes:
        batch, _, path, label, ingress_us = note[:5]
        entered = left = at_ns
        context_in = context_out = 0
        nf = port_in = ""
        configuration = _NONE
        if call is not None:
            step, _, _, context_in, entered, left, _, _, context_out, _, _ = call
            nf, port_in = step.instance.name, step.port
            configuration = self._configuration(step.instance.config_json)
        kept = frame[:headers] if headers else frame
        port_out, reason = (word, "") if kind is Kind.OUT else ("", word)
        if kind is Kind.IN:
            reason = ""
        fields = (
            kind, self._point, self._boot, self._sequence, label, ingress_us, path, epoch, branch,
            CUT if len(kept) < len(frame) else 0, len(frame), max(entered, 0), left,
            batch.wall_us + (at_ns - batch.tick_ns) // 1000, batch.now_us,
            min(batch.cpu_ns, 0xFFFF_FFFF), batch.calls, context_in, context_out, configuration,
            frame_digest(frame),
        )  # fmt: skip
        return packed(fields, self._texts(nf, port_in, port_out, reason), kept)

    def _configuration(self, text: str) -> bytes:
        found = self._digests.get(text)
        if found is None:
            if len(self._digests) >= 1024:
                self._digests.clear()
            found = self._digests[text] = bytes.fromhex(config_digest(text))
        return found

    def _put(self, record: bytes) -> None:
        if self._record is None:
            return
        self._sequence += 1
        if not self._record(record):
            self.unrecorded += 1

    # -- the samples' file and readers ---------------------------------------------------------

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

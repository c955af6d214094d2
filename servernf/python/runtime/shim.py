"""The shim around every NF (vNFO, 4.2): what goes in and what comes out of it, of watched packets.

All packets of a graph that has a manifest or a witness go one way, and all are noted (`noting`): times
and copies. Once a batch is sent, all its packets are asked alike which of them are watched, and the
others' notes are forgotten while they lie in the caches. What takes longer, samples (an operator's
manifest) and records (a witness), `settle` makes by the clock of the loop, not of packets, so no
sender's packet is late because the one before it was watched.

Samples lie in a bounded ring; a reader holds a cursor and learns how many it has missed. Records go
where `record_to` says; each has a number, so what found no room there shows.
"""

from __future__ import annotations

import json
import secrets
import struct
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

from servernf.python.runtime.noting import (
    FAILED,
    BatchTimes,
    Call,
    LostFrame,
    NoteBatch,
    Plain,
)
from servernf.python.runtime.questions import WitnessQuestions
from servernf.python.runtime.slicing import Sliced
from servernf.python.runtime.surroundings import Surroundings
from servernf.python.runtime.tables import (
    CompiledCall,
    Instance,
    Process,
    SampledLabels,
    called_by,
)
from servernf.python.runtime.tag import TAG_BYTES, label_of
from servernf.wire import sampling, slices
from servernf.wire.configs import config_digest
from servernf.wire.records import (
    CUT,
    STATE_CUT,
    RecordKind,
    event,
    frame_digest,
    packed,
    point_id,
    text_bytes,
)
from servernf.wire.witness import Witness

RING = 65_536
PENDING = 1024
"""Frames whose notes wait at most, and watched packets; then all are settled on the packets' way."""
FILE_BYTES = 64 << 20
"""A samples file ends there; what is not written is counted."""
DIGEST_BYTES = 16
_NONE = bytes(DIGEST_BYTES)
_WORDS = struct.Struct("!2xHIII")
"""Of context words: flow, label, NF context, time of ingress."""
_LOOK_NS = 1_000_000_000
"""How often a socket is asked what it has dropped, and its link."""
_SETTLE_US = 5_000
"""How long notes of watched packets wait: code that seldom runs is slow, so several wait together."""


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
        self._wall_clock_us, self.ticks, self._cpu = wall_clock_us, ticks, cpu
        self._ring: deque[Sample] = deque(maxlen=ring)
        self.recorded = 0
        """How many samples there have been."""
        self._batches: deque[NoteBatch] = deque()
        self._waiting = 0
        """How many frames they are of."""
        self._is_unsettled = False
        """Whether anything was noted since the last settling."""
        self._sampled: list[tuple[NoteBatch, Call]] = []
        """What samples are to be made of."""
        self._witnessed: list[tuple[NoteBatch, Plain | Call | LostFrame, int, int]] = []
        """What records are to be made of, the epoch, and how many bytes of a frame."""
        self.current: NoteBatch | None = None
        """What packets are noted with now."""
        self._thread = self._cpu_ns = self._calls = 0
        """Who runs packets, what of its time was spent before what is settled next, and calls since."""
        self._manifests: Mapping[str, SampledLabels] = {}
        self._witnesses: dict[str, Witness] = {}
        self._asked_of_labels: list[tuple[str, Callable[[bytes], Sequence[int]]]] = []
        """By graph, which packets the operator's manifest samples."""
        self._asked: list[WitnessQuestions] = []
        """Which the witnesses watch."""
        self._watching = False
        """Whether any rate is above 0."""
        self._lock = threading.Lock()
        self._file: IO[str] | None = None
        self._file_left = 0
        self.unwritten = 0
        """Samples that the file had no room for."""
        self._settle_ns = self._look_ns = 0
        self.surroundings = Surroundings(self.tell)
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

    @property
    def manifests(self) -> Mapping[str, SampledLabels]:
        """The operator's, by graph: those that sample anything."""
        return self._manifests

    def use(self, manifests: Mapping[str, SampledLabels]) -> None:
        """The operator's manifests by graph, those that sample anything."""
        self._manifests = {graph: m for graph, m in manifests.items() if m.threshold}
        self._watch()

    def _watch(self) -> None:
        asks, label = sampling.places, sampling.LABEL
        self._asked_of_labels = [
            (graph, asks(m.key0, m.key1, m.threshold, label))
            for graph, m in self._manifests.items()
        ]
        self._asked = (
            [WitnessQuestions(*item) for item in self._witnesses.items()] if self._record else []
        )
        rates = [e.threshold or e.flows for w in self._witnesses.values() for e in w.epochs]
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
        self._watch()
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

    def process_of(self, instance: Instance) -> Process:
        """What an instance is called by; where its graph's witness wants state, that is noted, too."""
        witness = self._witnesses.get(instance.graph)
        if witness is None or not witness.state or instance.watching is not None:
            return called_by(instance)
        return Sliced(instance.nf, self).process

    # -- beside the packets --------------------------------------------------------------------

    def batch(self, now_us: int, steps: Mapping[int, CompiledCall]) -> NoteBatch | None:
        """What packets that come now, and go by `steps`, are noted with; None: nothing is watched."""
        if not self._watching:
            self.current = None
            return None
        if not self._thread:
            self._thread, self._cpu_ns = threading.get_ident(), self._cpu()
        self.current = NoteBatch(steps, BatchTimes(now_us, self._wall_clock_us(), self.ticks()))
        return self.current

    def noted(self, batch: NoteBatch | None, frames: int) -> None:
        """The batch of so many frames is through; its notes wait."""
        if batch is None:
            return
        self._waiting += frames
        self._is_unsettled = True
        self._batches.append(batch)
        if self._waiting >= PENDING:
            self.settle()

    def due_us(self) -> int | None:
        """How long until what was noted is to be settled, watched or not; None: nothing was."""
        if not self._is_unsettled:
            return None
        return max(0, self._settle_ns - self.ticks()) // 1000

    def settle_if_due(self) -> None:
        """Once a batch is sent: forget what is not watched, settle at the clock's step."""
        if self._batches:
            with self._lock:
                self._sift()
        now_ns = self.ticks()
        if now_ns >= self._settle_ns or len(self._witnessed) >= PENDING:
            self.settle()
            self._settle_ns = (now_ns // 1000 // _SETTLE_US + 1) * _SETTLE_US * 1000
            if self._watching and now_ns >= self._look_ns:
                self._look_ns = now_ns + _LOOK_NS
                self.surroundings.look()

    def follow(self, steps: Mapping[int, CompiledCall]) -> None:
        """Packets come by these paths from now on."""
        self.settle()
        self.surroundings.follow(self._witnesses, steps)

    def settle(self) -> None:
        """Make samples and records of what was noted and is watched."""
        if not self._is_unsettled:
            return
        with self._lock:
            self._is_unsettled = False
            self._sift()
            self._account()
            sampled, self._sampled = self._sampled, []
            witnessed, self._witnessed = self._witnessed, []
            for batch, call in sampled:
                self._sample(batch.times, call)
            for batch, noted, epoch, headers in witnessed:
                self._tell(batch, noted, epoch, headers)

    def _sift(self) -> None:
        """Of what was noted keep what is watched."""
        while self._batches:
            batch = self._batches.popleft()
            contexts = batch.contexts
            self._calls += len(contexts) >> 4
            for graph, places in self._asked_of_labels:
                for at in places(contexts):
                    call = batch.call(at)
                    if call.graph == graph:
                        self._sampled.append((batch, call))
            for asked in self._asked:
                if epochs := asked.of(contexts):
                    self._keep(asked, batch, epochs)
                if batch.lost:
                    self._keep_lost(asked, batch)
            batch.forget()
        self._waiting = 0

    def _keep(self, asked: WitnessQuestions, batch: NoteBatch, epochs: Mapping[int, int]) -> None:
        for at in sorted(epochs):
            call = None if asked.headers else batch.plain(at)
            call = call or batch.call(at)
            if call.step.instance.graph == asked.graph:
                self._witnessed.append((batch, call, epochs[at], asked.headers))

    def _keep_lost(self, asked: WitnessQuestions, batch: NoteBatch) -> None:
        """Of what was lost before its graph was known, every witness hears."""
        lost = [one for one in batch.lost if one.graph in ("", asked.graph)]
        for at, epoch in sorted(asked.of(b"".join([one.words for one in lost])).items()):
            self._witnessed.append((batch, lost[at], epoch, asked.headers))

    def _account(self) -> None:
        """Note what has been spent since the first call of what is settled now began, and for how many,
        if this thread runs the packets: no other can ask for its time."""
        thread, self._thread = self._thread, 0
        calls, self._calls = self._calls, 0
        if thread == threading.get_ident():
            spent = min(self._cpu() - self._cpu_ns, 0xFFFF_FFFF), calls
            for batch, *_ in self._witnessed:
                batch.spent = spent

    # -- samples -------------------------------------------------------------------------------

    def _sample(self, times: BatchTimes, call: Call) -> None:
        for sample in self._samples(times, call):
            self._ring.append(sample)
            self.recorded += 1
            if self._file is not None:
                self._write(self._file, sample)

    def _samples(self, times: BatchTimes, call: Call) -> Iterator[Sample]:
        step, entered, left = call.step, call.entered, call.left

        def sample(direction: str, port: str, at_ns: int, frame: bytes, reason: str = "") -> Sample:
            spent = left - entered if direction != "in" and call.given is not None else 0
            size, digest = len(frame), blake2b(frame, digest_size=DIGEST_BYTES).digest()
            return Sample(
                call.graph, step.instance.name, self._worker, label_of(call.words), step.path >> 8,
                step.path & 0xFF, direction, port, times.at(at_ns), spent, size, digest, reason,
            )  # fmt: skip

        if call.given is not None:
            yield sample("in", step.port, entered, call.given)
        if call.port is not None:
            yield sample("out", call.port, left, call.frame)
        elif not call.reason.startswith(FAILED) and not call.is_held(times.now_us):
            yield sample("drop", "", left, call.frame, call.reason)

    # -- records -------------------------------------------------------------------------------

    def _tell(
        self, batch: NoteBatch, noted: Plain | Call | LostFrame, epoch: int, headers: int
    ) -> None:
        if isinstance(noted, Plain):
            self._tell_plain(batch, noted, epoch)
        elif isinstance(noted, Call):
            self._tell_call(batch, noted, epoch, headers)
        else:
            self._tell_lost(batch, noted, epoch, headers)

    def _tell_plain(self, batch: NoteBatch, plain: Plain, epoch: int) -> None:
        """The two records of a call that most are: a tagged frame came, one leaves."""
        words, step, frame, entered, left, port, sent = plain
        name, configuration = step.instance.name, self._configuration(step.instance.config_json)
        point, boot, path, times = self._point, self._boot, step.path, batch.times
        flow, label, before, ingress = _WORDS.unpack(words)
        rest = times.now_us, *batch.spent, before, plain.context_out, configuration, _NONE
        given, gone = frame[TAG_BYTES:], sent[TAG_BYTES:]
        self._put(packed((
            RecordKind.IN, point, boot, self._sequence, label, ingress, path, epoch, 0, 0, flow,
            len(given), entered, left, times.at(entered), *rest,
        ), self._texts(name, step.port, "", ""), given))  # fmt: skip
        self._put(packed((
            RecordKind.OUT, point, boot, self._sequence, label, ingress, path, epoch, 0, 0, flow,
            len(gone), entered, left, times.at(left), *rest,
        ), self._texts(name, step.port, port, ""), gone))  # fmt: skip

    def _tell_call(self, batch: NoteBatch, call: Call, epoch: int, headers: int) -> None:
        step, left = call.step, call.left
        entered = 0 if call.given is None else call.entered
        configuration = self._configuration(step.instance.config_json)
        rest = call.context_in, call.context_out, configuration
        state = b"" if call.state is None else slices.pack(call.state)
        for kind, branch, frame, port, reason in call.outcomes(batch.times.now_us):
            at_ns = entered if kind is RecordKind.IN else left
            head = kind, call.words, step.path, epoch, branch, entered, left, at_ns
            texts = self._texts(step.instance.name, step.port, port, reason)
            is_outcome = kind is not RecordKind.IN and branch == call.branch
            self._packet(batch, head, rest, texts, frame, headers, state if is_outcome else b"")

    def _tell_lost(self, batch: NoteBatch, lost: LostFrame, epoch: int, headers: int) -> None:
        at_ns = batch.times.tick_ns
        head = (RecordKind.LOST, lost.words, lost.path, epoch, lost.branch, at_ns, at_ns, at_ns)
        texts = self._texts("", "", "", lost.reason)
        self._packet(batch, head, (0, 0, _NONE), texts, lost.frame, headers)

    def _packet(
        self,
        batch: NoteBatch,
        head: tuple[RecordKind, bytes, int, int, int, int, int, int],
        rest: tuple[int, int, bytes],
        texts: bytes,
        frame: bytes,
        headers: int,
        state: bytes = b"",
    ) -> None:
        """`head`: kind, context words, path, epoch, branch, entered, left, when; `rest`: contexts
        before and after, configuration."""
        kind, words, path, epoch, branch, entered, left, at_ns = head
        flow, label, _, ingress = _WORDS.unpack(words)
        cut = headers and headers < len(frame)
        flags = CUT if cut else 0
        if len(state) > slices.MOST_SLICE:
            state, flags = b"", flags | STATE_CUT
        fields = (
            kind, self._point, self._boot, self._sequence, label, ingress, path,
            epoch, branch, flags, flow, len(frame), entered, left, batch.times.at(at_ns),
            batch.times.now_us, *batch.spent, *rest, frame_digest(frame) if cut else _NONE,
        )  # fmt: skip
        self._put(packed(fields, texts, frame[:headers] if cut else frame, state))

    def _configuration(self, text: str) -> bytes:
        digest = self._digests.get(text)
        if digest is None:
            if len(self._digests) >= 1024:
                self._digests.clear()
            digest = self._digests[text] = bytes.fromhex(config_digest(text))
        return digest

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
            samples = list(islice(self._ring, start - oldest, start - oldest + limit))
        return samples, start + len(samples), max(0, start - cursor)

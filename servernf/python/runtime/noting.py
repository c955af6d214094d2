"""What is noted of packets where a graph has a witness or a manifest: of all of them, in one way.

Which of them are watched is asked behind the batch (`shim`), so nothing that happens to a packet tells:
neither its time, nor who calls the NF, nor what lies there. A note must cost next to nothing, since each
packet has one and most are thrown away: five references behind the others in one list, to what is
there anyway, and one reading of the clock. Nothing is copied but what an NF leaves for the next one in
the same worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from servernf.python.network_function import Emitted
from servernf.python.packet import PacketView
from servernf.python.runtime.tables import CompiledCall, CompiledExit
from servernf.python.runtime.tag import TAG_BYTES, Beside, Tagged
from servernf.wire.records import RecordKind
from servernf.wire.slices import StateSlice

SLOTS = 5
"""Of a note: the tag's context words, the worker's frame, when the NF was done (ns), the port, the frame
that an exit sent.

The frame is None where another NF of the worker had the packet before: then the note before is its.
The port is None where the NF answered none. Where no exit follows, (frame without tag, context, reason)
stands in the place of what was sent. What NFs sent beside a packet is in `NoteBatch.asides`, too."""
FAILED = "failed: "
"""Begins the reason of a call that ended in an exception."""


class BatchTimes(NamedTuple):
    """When a batch began, by three clocks: that of NFs, the wall's, and the point's (ns)."""

    now_us: int
    wall_us: int
    tick_ns: int

    def at(self, ticks_ns: int) -> int:
        """The wall clock's time (us) of one of the point's."""
        return self.wall_us + (ticks_ns - self.tick_ns) // 1000


class LostFrame(NamedTuple):
    """A frame that the worker itself dropped; without a step where no path led to one."""

    words: bytes
    step: CompiledCall | None
    path: int
    branch: int
    reason: str
    frame: bytes
    """Without tag."""

    @property
    def graph(self) -> str:
        """Whose packet it was; empty: nobody knows."""
        return self.step.instance.graph if self.step else ""


class Call(NamedTuple):
    """A note, read. Frames are without tag."""

    words: bytes
    step: CompiledCall
    branch: int
    given: bytes | None
    """None: a frame that was held is let go."""
    context_in: int
    entered: int
    """When the worker was done with what came before: it is the time that it spent on this."""
    left: int
    port: str | None
    frame: bytes
    context_out: int
    reason: str
    emitted: tuple[Emitted, ...]
    state: StateSlice | None = None
    """What it touched, where a witness wants that."""

    @property
    def graph(self) -> str:
        """Whose NF it is."""
        return self.step.instance.graph

    def is_held(self, now_us: int) -> bool:
        """Whether an NF that answers no port keeps the packet: it says no reason, or sends something
        later."""
        return not self.reason or any(some.at_us > now_us for some in self.emitted)

    def outcomes(self, now_us: int) -> Iterator[tuple[RecordKind, int, bytes, str, str]]:
        """Kind, branch, frame, port left and reason of every record that it makes."""
        given = self.given or b""
        if self.given is not None:
            yield RecordKind.IN, self.branch, given, "", ""
        if self.port is not None:
            yield RecordKind.OUT, self.branch, self.frame, self.port, ""
        for number, some in enumerate(self.emitted, 1):
            if some.at_us <= now_us:
                yield RecordKind.OUT, self.branch + number, some.frame, some.port, ""
        if self.reason.startswith(FAILED):
            yield RecordKind.ERROR, self.branch, given, "", self.reason
        elif self.port is None and self.is_held(now_us):
            yield RecordKind.HELD, self.branch, b"", "", ""
        elif self.port is None:
            yield RecordKind.DROP, self.branch, self.frame, "", self.reason


class Plain(NamedTuple):
    """The note of a call that is all of a packet's way through the worker. Frames have their tags."""

    words: bytes
    step: CompiledCall
    given: bytes
    entered: int
    left: int
    port: str
    sent: bytes

    @property
    def context_out(self) -> int:
        """The NF context label that it has left."""
        return _context(self.sent[22:38])


class Aside(NamedTuple):
    """What a note of a frame that was sent beside a packet, or later, does not say."""

    step: CompiledCall
    branch: int
    given: bytes | None
    """None: a frame that was held is let go."""
    context: int


class NoteBatch:
    """The notes of a batch of packets, which went by `steps`."""

    __slots__ = ("asides", "emitted", "lost", "notes", "slices", "spent", "steps", "times")

    def __init__(self, steps: Mapping[int, CompiledCall], times: BatchTimes) -> None:
        self.steps, self.times = steps, times
        self.notes: list[Any] = []
        self.emitted: dict[int, tuple[Emitted, ...]] = {}
        """What NFs sent beside, by where the note begins."""
        self.asides: dict[int, Aside] = {}
        """Of what was sent beside, by where the note begins."""
        self.slices: dict[int, StateSlice] = {}
        """The state that calls touched, by where the note begins (`slicing`)."""
        self.lost: list[LostFrame] = []
        self.spent: tuple[int, int] = (0, 0)
        """CPU time (ns) and how many calls of NFs it was for; 0, 0: not known."""

    @property
    def calls(self) -> int:
        """How many calls of NFs were noted."""
        return len(self.notes) // SLOTS

    @property
    def contexts(self) -> bytes:
        """The context words of all notes."""
        return b"".join(self.notes[::SLOTS])

    def forget(self) -> None:
        """All notes; what has been read of them, and when it was, stays."""
        for noted in (self.notes, self.emitted, self.asides, self.slices, self.lost):
            noted.clear()

    def let_go(self, held: Beside, tag: Tagged) -> None:
        """An NF lets a frame go that it has held until now."""
        step, emitted, context = held
        self.asides[len(self.notes)] = Aside(step, 1, None, context)
        self.notes += (
            tag.words,
            None,
            self.times.tick_ns,
            emitted.port,
            (emitted.frame, context, ""),
        )

    def beside(
        self,
        step: CompiledCall,
        packet: PacketView,
        words: bytes,
        branch: int,
        given: bytes,
        ticks: Callable[[], int],
    ) -> str | None:
        """Call an NF for a packet that was sent beside another; the port left. What fails goes on."""
        at = len(self.notes)
        self.asides[at] = Aside(step, branch, given, packet.context)
        try:
            port = step.process(packet, step.port, self.times.now_us)
        except Exception as error:
            after = packet.data, packet.context, FAILED + type(error).__name__
            self.notes += (words, None, ticks(), None, after)
            raise
        if step.emitted:
            self.emitted[at] = tuple(step.emitted)
        reason = step.instance.nf.last_drop if port is None else ""
        self.notes += (words, None, ticks(), port, (bytes(packet.data), packet.context, reason))
        return port

    def plain(self, number: int) -> Plain | None:
        """The note of a number, if the call was all of a packet's way through the worker."""
        at = number * SLOTS
        words, frame, left, port, sent = self.notes[at : at + SLOTS]
        if frame is None or isinstance(sent, tuple) or at in self.emitted or self.slices:
            return None
        step = self.steps[int.from_bytes(frame[18:22], "big")]
        return Plain(words, step, frame, self._entered(at), left, port, sent)

    def call(self, number: int) -> Call:
        """What the note of a number says."""
        at = number * SLOTS
        words, frame, left, port, after = self.notes[at : at + SLOTS]
        aside = self.asides.get(at)
        if aside is not None:
            step, branch, given, before = aside
        else:
            step, branch = self._step(at), 0
            if frame is None:
                given, before, _ = self.notes[at - 1]
            else:
                given, before = frame[TAG_BYTES:], _context(words)
        if isinstance(after, tuple):
            sent, context, reason = after
        else:
            sent, context, reason = after[TAG_BYTES:], _context(after[22:]), ""
        return Call(
            words, step, branch, given, before, self._entered(at), left, port, bytes(sent), context,
            reason, self.emitted.get(at, ()), self.slices.get(at),
        )  # fmt: skip

    def _entered(self, at: int) -> int:
        return int(self.notes[at - SLOTS + 2]) if at else self.times.tick_ns

    def _step(self, at: int) -> CompiledCall:
        """Which call a note of a packet itself is of: as from the packet's first."""
        first = at
        while self.notes[first + 1] is None:
            first -= SLOTS
        frame = self.notes[first + 1]
        step: CompiledCall | CompiledExit = self.steps[int.from_bytes(frame[18:22], "big")]
        for before in range(first, at, SLOTS):
            assert isinstance(step, CompiledCall)
            step = step.next[self.notes[before + 3]]
        assert isinstance(step, CompiledCall)
        return step


def _context(words: bytes) -> int:
    """The NF context label of context words."""
    return int.from_bytes(words[8:12], "big")

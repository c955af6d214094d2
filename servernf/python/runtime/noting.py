"""What is noted of packets where a graph has a witness or a manifest: of all of them, in one way.

Which of them are watched is asked behind the batch (`shim`), so nothing that happens to a packet tells:
neither its time, nor who calls the NF, nor what lies there. A note must cost next to nothing, since each
packet has one and most are thrown away: eight references behind the others in one list, to what is there
anyway. Nothing is copied but what an NF leaves for the next one in the same worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from servernf.python.network_function import Emitted
from servernf.python.packet import PacketView
from servernf.python.runtime.tables import Exit, Step
from servernf.python.runtime.tag import TAG_BYTES, Beside, Tagged
from servernf.wire.records import Kind

SLOTS = 8
"""Of a note: the tag's context words, the step, the frame that was given, entered and left (ns), the
port, what was left, the context after.

Given: the worker's frame with its tag; None: what the NF before left. The port is None where the NF
answered none; then what was left is (reason, frame), else the frame, with its tag where an exit
follows. Frames of what was sent beside a packet (`Batch.branches`) have no tag. Entered at LET_GO: a
frame that was held is let go."""
LET_GO = -1
"""No clock says so; one in virtual time may say 0."""
FAILED = "failed: "
"""Begins the reason of a call that ended in an exception."""


class Lost(NamedTuple):
    """A frame that the worker itself dropped; without a step where no path led to one."""

    words: bytes
    step: Step | None
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
    step: Step
    branch: int
    given: bytes
    context_in: int
    entered: int
    left: int
    port: str | None
    frame: bytes
    context_out: int
    reason: str
    emitted: tuple[Emitted, ...]

    @property
    def graph(self) -> str:
        """Whose NF it is."""
        return self.step.instance.graph

    def is_held(self, now_us: int) -> bool:
        """Whether the NF sends something later."""
        return any(some.at_us > now_us for some in self.emitted)

    def outcomes(self, now_us: int) -> Iterator[tuple[Kind, int, bytes, str, str]]:
        """Kind, branch, frame, port left and reason of every record that it makes."""
        if self.entered != LET_GO:
            yield Kind.IN, self.branch, self.given, "", ""
        if self.port is not None:
            yield Kind.OUT, self.branch, self.frame, self.port, ""
        for number, some in enumerate(self.emitted, 1):
            if some.at_us <= now_us:
                yield Kind.OUT, self.branch + number, some.frame, some.port, ""
        if self.reason.startswith(FAILED):
            yield Kind.ERROR, self.branch, self.given, "", self.reason
        elif self.port is None and self.is_held(now_us):
            yield Kind.HELD, self.branch, b"", "", ""
        elif self.port is None:
            yield Kind.DROP, self.branch, self.frame, "", self.reason


class Batch:
    """The notes of a batch of packets; `cpu_ns` is known at its end."""

    __slots__ = (
        "_cpu", "_cpu_ns", "branches", "cpu_ns", "emitted", "lost", "notes", "now_us", "tick_ns",
        "wall_us",
    )  # fmt: skip

    def __init__(self, now_us: int, wall_us: int, tick_ns: int, cpu: Callable[[], int]) -> None:
        self.now_us, self.wall_us, self.tick_ns = now_us, wall_us, tick_ns
        self.notes: list[Any] = []
        self.emitted: dict[int, tuple[Emitted, ...]] = {}
        """What NFs sent beside, by where the note begins."""
        self.branches: dict[int, tuple[int, int]] = {}
        """Branch and context before of what was sent beside, by where the note begins."""
        self.lost: list[Lost] = []
        self.cpu_ns = 0
        self._cpu = cpu
        self._cpu_ns = cpu()

    @property
    def calls(self) -> int:
        """How many calls of NFs were noted."""
        return len(self.notes) // SLOTS

    def end(self) -> None:
        """Its packets are through."""
        self.cpu_ns = self._cpu() - self._cpu_ns

    def let_go(self, held: Beside, tag: Tagged) -> None:
        """An NF lets a frame go that it has held until now."""
        step, emitted, context = held
        self.branches[len(self.notes)] = 1, context
        self.notes += (
            tag.words, step, b"", LET_GO, self.tick_ns, emitted.port, emitted.frame, context,
        )  # fmt: skip

    def beside(
        self,
        step: Step,
        packet: PacketView,
        words: bytes,
        branch: int,
        given: bytes,
        ticks: Callable[[], int],
    ) -> str | None:
        """Call an NF for a packet that was sent beside another; the port left. What fails goes on."""
        at = len(self.notes)
        self.branches[at] = branch, packet.context
        after: Any
        entered = ticks()
        try:
            port = step.process(packet, step.port, self.now_us)
        except Exception as error:
            after = FAILED + type(error).__name__, packet.data
            self.notes += (words, step, given, entered, ticks(), None, after, packet.context)
            raise
        left = ticks()
        if step.emitted:
            self.emitted[at] = tuple(step.emitted)
        after = (
            bytes(packet.data) if port is not None else (step.instance.nf.last_drop, packet.data)
        )
        self.notes += (words, step, given, entered, left, port, after, packet.context)
        return port

    def call(self, number: int) -> Call:
        """What the note of a number says."""
        at = number * SLOTS
        words, step, given, entered, left, port, after, context = self.notes[at : at + SLOTS]
        branch, before = self.branches.get(at, (0, 0))
        if given is None:
            given, before = self.notes[at - 2], self.notes[at - 1]
        elif not branch:
            given, before = given[TAG_BYTES:], int.from_bytes(words[8:12], "big")
        reason = ""
        if port is None:
            reason, after = after
        elif not branch and isinstance(step.next.get(port), Exit):
            after = after[TAG_BYTES:]
        emitted = self.emitted.get(at, ())
        return Call(
            words,
            step,
            branch,
            given,
            before,
            entered,
            left,
            port,
            bytes(after),
            context,
            reason,
            emitted,
        )


def located(batches: list[Batch], places: Iterable[int]) -> Iterator[tuple[Batch, int]]:
    """Batch and number in it of notes by their places among those of all batches, in order."""
    left = iter(batches)
    batch, first, end = None, 0, 0
    for place in places:
        while batch is None or place >= end:
            batch = next(left)
            first, end = end, end + batch.calls
        yield batch, place - first

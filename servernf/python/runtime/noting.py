"""What is noted of packets where a graph has a witness or a manifest: of all of them, in one way.

Which of them are watched is asked behind the batch (`shim`), so nothing that happens to a packet tells:
neither its time, nor who calls the NF, nor what lies there. Notes are plain tuples, since each packet
has one, and most are thrown away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from servernf.python.network_function import Emitted
from servernf.python.packet import PacketView
from servernf.python.runtime.tables import Exit, Step
from servernf.python.runtime.tag import Beside, Tagged

Call = tuple[Step, bytes, int, int, int, int, str | None, bytes, int, str, tuple[Emitted, ...]]
"""Step, frame that was given and where in it the packet begins, its context, entered and left (ns),
port, frame that was left (empty: what is sent), context after, reason of a drop, what was emitted.
Entered at LET_GO: a frame that was held is let go."""
LET_GO = -1
"""No clock says so; one in virtual time may say 0."""
Note = tuple["Batch", str, int, int, int, int, list[Call], str, bytes, int, bytes]
"""Batch, graph, path, label, ingress (us), branch, calls, reason of the worker's own drop, the frame and
where in it the packet begins, the tagged frame that is sent."""
FAILED = "failed: "
"""Begins the reason of a call that ended in an exception."""


class Batch:
    """What the packets of a batch have in common; `calls` and `cpu_ns` are known at its end."""

    __slots__ = ("_cpu", "_cpu_ns", "_ticks", "calls", "cpu_ns", "now_us", "tick_ns", "wall_us")

    def __init__(
        self,
        now_us: int,
        wall_us: int,
        ticks: Callable[[], int],
        cpu: Callable[[], int],
    ) -> None:
        self.now_us, self.wall_us = now_us, wall_us
        self._ticks, self._cpu = ticks, cpu
        self.calls = self.cpu_ns = 0
        self.tick_ns = ticks()
        self._cpu_ns = cpu()

    def end(self) -> None:
        """Its packets are through."""
        self.cpu_ns = self._cpu() - self._cpu_ns

    def walk(
        self,
        step: Step,
        packet: PacketView,
        given: bytes,
        skip: int,
        beside: list[Beside],
        calls: list[Call],
    ) -> tuple[str | None, Step | Exit | None]:
        """Run a packet through the NFs of this worker; the port left last and what follows.

        An exception of an NF is noted and goes on.
        """
        ticks, now_us = self._ticks, self.now_us
        while True:
            step.tally.packets += 1
            self.calls += 1
            context = packet.context
            nf = step.instance.nf
            entered = ticks()
            try:
                port = step.process(packet, step.port, now_us)
            except Exception as error:
                reason = FAILED + type(error).__name__
                failed = (
                    step, given, skip, context, entered, ticks(), None, b"", context, reason, (),
                )  # fmt: skip
                calls.append(failed)
                raise
            left = ticks()
            emitted: tuple[Any, ...] = ()
            if step.emitted:
                emitted = tuple(step.emitted)
                beside += [(step, some, packet.context) for some in emitted]
                step.emitted.clear()
            following = None if port is None else step.next.get(port)
            # What leaves the worker is in the frame that it sends (`sent`): that is copied anyway.
            after = b"" if isinstance(following, Exit) else bytes(packet.data)
            reason = nf.last_drop if port is None else ""
            done = (
                step, given, skip, context, entered, left, port, after, packet.context, reason, emitted,
            )  # fmt: skip
            calls.append(done)
            if port is None:
                nf.tell_drop(packet)
            if not isinstance(following, Step):
                return port, following
            step, given, skip = following, after, 0


def let_go(batch: Batch, held: Beside, tag: Tagged, lost: str) -> Note:
    """The note of a frame that an NF has held until now; `lost`: for what it is dropped instead."""
    step, emitted, context = held
    frame = emitted.frame
    call: Call = (
        step, b"", 0, context, LET_GO, batch.tick_ns, emitted.port, frame, context, "", (),
    )  # fmt: skip
    calls: list[Call] = [] if lost else [call]
    graph = step.instance.graph
    return batch, graph, tag.path, tag.label, tag.ingress_us, 1, calls, lost, frame, 0, b""

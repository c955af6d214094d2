"""The switch itself: a loaded program, its state, and packets in and out.

`SoftSwitch` is complete without gRPC and without ports: tests, the in-memory
network and `explain` use it directly. `engine` puts it behind the P4Runtime server, `ports`
on network interfaces. Whoever shares one between threads takes `locked()` around
a batch of packets or writes; the two sides alternate fairly.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from finsy.proto import p4i, p4r

from orchestrator.errors import SwitchError, UnsupportedFeature
from orchestrator.softswitch.entities.store import EntityStore
from orchestrator.softswitch.entity_errors import EntityError, WriteError
from orchestrator.softswitch.ir import program_of, read_program
from orchestrator.softswitch.ir.program import Json, P4Program
from orchestrator.softswitch.packetmeta import ControllerHeaders
from orchestrator.softswitch.pipeline import Run, RunningPipeline
from orchestrator.softswitch.state.pipeline import PipelineState
from orchestrator.softswitch.trace import Fault, TraceEvent, TraceRecorder

__all__ = ("Frame", "RunningPipeline", "SoftSwitch", "SwitchCounts", "TraceEvent")

Frame = tuple[int, bytes]
Again = tuple[int, bytes, int, Any]
"""A packet that passes ingress once more: port, data, mode (codegen's), what the mode needs."""

MAX_PASSES = 64
"""Passes through ingress that one received packet may cause (recirculation, resubmission)."""

MAX_PACKET_INS = 65_536
"""Packet-ins kept when nobody takes them (`on_packet_in`); older ones are forgotten."""


@dataclass(slots=True)
class SwitchCounts:
    """What the switch did, for status displays; nothing in it influences packets."""

    received: int = 0
    sent: int = 0
    loops_cut: int = 0
    faults: int = 0
    last_fault: str = ""


@contextmanager
def _within_limits() -> Generator[None]:
    """UnsupportedFeature for what CPython's own compiler or this machine cannot hold."""
    try:
        yield
    except (RecursionError, MemoryError, SyntaxError, OverflowError) as e:
        raise UnsupportedFeature(
            "BMv2 JSON: so large or so deeply nested a program is not implemented "
            f"({type(e).__name__})"
        ) from e


class SoftSwitch:
    """A v1model switch in memory.

    `clock` returns nanoseconds (monotonic); timestamps that a program sees are
    microseconds since construction. `on_packet_in` gets what leaves by
    `cpu_port`, as p4r.PacketIn with the controller header decoded; without it
    they collect in `packet_ins`. Likewise `on_digest` and `on_idle_timeout`.
    Who wants digests and idle timeouts in time calls `tick` now and then.
    """

    def __init__(
        self,
        device_id: int = 1,
        cpu_port: int = 510,
        clock: Callable[[], int] = time.monotonic_ns,
        *,
        drop_port: int = 511,
        queues: int = 1,
        name: str = "",
    ) -> None:
        self.device_id = device_id
        self.cpu_port = cpu_port
        self.drop_port = drop_port
        self.queues = queues
        self.name = name or f"device {device_id}"
        self.clock = clock
        self.start = clock()
        self.pipeline: RunningPipeline | None = None
        self.p4info = p4i.P4Info()
        self.headers = ControllerHeaders(self.p4info)
        self.counters = SwitchCounts()
        self.packet_ins: deque[p4r.PacketIn] = deque(maxlen=MAX_PACKET_INS)
        self.on_packet_in: Callable[[p4r.PacketIn], None] = self.packet_ins.append
        self.digest_lists: deque[p4r.DigestList] = deque(maxlen=MAX_PACKET_INS)
        self.on_digest: Callable[[p4r.DigestList], None] = self.digest_lists.append
        self.idle_timeouts: deque[p4r.IdleTimeoutNotification] = deque(maxlen=MAX_PACKET_INS)
        self.on_idle_timeout: Callable[[p4r.IdleTimeoutNotification], None] = (
            self.idle_timeouts.append
        )
        self.transmit: Callable[[list[Frame]], None] | None = None
        self.port_states: Callable[[], Mapping[int, bool]] | None = None
        self._entities: EntityStore | None = None
        self._lock = threading.RLock()
        self._gate = threading.Lock()

    @contextmanager
    def locked(self) -> Generator[None, None, None]:
        """Exclusive use of tables and packets; waiters get their turn after one batch."""
        # Who waits for the lock holds the gate, so that the owner, releasing
        # and coming back at once (the packet loop), queues behind them.
        with self._gate:
            self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def now(self) -> int:
        """Microseconds since the switch was made, as BMv2 counts."""
        return (self.clock() - self.start) // 1000

    def build(self, program: P4Program | Json) -> RunningPipeline:
        """Compile without installing; raises MalformedProgram, UnsupportedFeature or SwitchError."""
        with _within_limits():
            state = PipelineState(
                program if isinstance(program, P4Program) else read_program(program),
                self.now,
                clock=self.clock,
                send_digest=lambda message: self.on_digest(message),
            )
            return RunningPipeline(state, self.drop_port, self.queues)

    def prepare(self, config: p4r.ForwardingPipelineConfig) -> RunningPipeline:
        """Compile a configuration of anybody's; raises SwitchError in all that is wrong with it."""
        with _within_limits():
            program = program_of(config.p4_device_config)
        pipeline = self.build(program)
        # Only to see that the two belong together; installing makes its own.
        self.entity_store(pipeline, config.p4info)
        return pipeline

    def load(self, program: P4Program | Json, p4info: p4i.P4Info) -> None:
        """Install a program; all tables, groups and counters start empty."""
        self.install(self.build(program), p4info)

    @staticmethod
    def entity_store(pipeline: RunningPipeline, p4info: p4i.P4Info) -> EntityStore:
        """Entities for a pipeline; raises SwitchError if P4Info is another program's."""
        return EntityStore(pipeline.state, p4info)

    def install(self, pipeline: RunningPipeline, p4info: p4i.P4Info) -> None:
        store = self.entity_store(pipeline, p4info)
        with self.locked():
            self.pipeline = pipeline
            self.p4info = p4info
            self.headers = ControllerHeaders(p4info)
            self._entities = store

    def tick(self) -> None:
        """Send digests that have waited long enough and tell of entries that timed out."""
        store = self._entities
        if store is None:
            return
        if self.port_states is not None and store.profiles:
            for port, up in self.port_states().items():
                self.set_port_up(port, up)
        if not (store.digests or store.ages):
            return
        with self.locked():
            for queue in store.digests.values():
                queue.tick()
            entries = store.timed_out(self.now())
        if entries:
            self.on_idle_timeout(
                p4r.IdleTimeoutNotification(table_entry=entries, timestamp=self.clock())
            )

    def ack_digest(self, ack: p4r.DigestListAck) -> None:
        """The controller has a digest list; its samples may be sent again."""
        store = self._entities
        queue = None if store is None else store.digests.get(ack.digest_id)
        if queue is not None:
            with self.locked():
                queue.ack(ack.list_id)

    def set_port_up(self, port: int, up: bool) -> None:
        """Tell selectors a port's state: members that watch a port that is down are not picked."""
        pipeline, store = self.pipeline, self._entities
        if pipeline is None or store is None:
            return
        down = pipeline.state.ports_down
        if (port not in down) == up:
            return
        with self.locked():
            (down.discard if up else down.add)(port)
            for profile in store.profiles.values():
                profile.port_changed()

    def reconcile(self, pipeline: RunningPipeline, p4info: p4i.P4Info) -> None:
        """Install a pipeline and keep all entries; raises SwitchError if one does not fit it.

        Counters, meters' buckets and digests in flight start anew; counts that
        are stored with entries, registers and configurations stay.
        """
        if self._entities is None:
            self.install(pipeline, p4info)
            return
        store = self.entity_store(pipeline, p4info)
        with self.locked():
            for update in self._entities.snapshot():
                try:
                    function, arguments = store.decode(update)
                    function(*arguments)
                except EntityError as e:
                    raise SwitchError(
                        f"RECONCILE_AND_COMMIT: an entry does not fit the new pipeline: {e.message}"
                    ) from e
            store.commit()
            self.pipeline = pipeline
            self.p4info = p4info
            self.headers = ControllerHeaders(p4info)
            self._entities = store

    @property
    def entities(self) -> EntityStore:
        """Entities of the loaded pipeline; raises SwitchError when there is none."""
        if self._entities is None:
            raise SwitchError(f"{self.name}: no forwarding pipeline config is set")
        return self._entities

    def process(self, port: int, frame: bytes) -> list[Frame]:
        """One packet through the switch: what leaves, in order, packet-ins excluded."""
        out: list[Frame] = []
        self.process_into(port, frame, out)
        return self._deliver(out)

    def process_into(self, port: int, frame: bytes, out: list[Frame]) -> None:
        """Like `process`, but appends to `out` and leaves CPU-port frames in it."""
        pipeline = self.pipeline
        if pipeline is None:
            return
        self._pass(pipeline.run, pipeline.from_port, port, frame, out)

    def _pass(self, run: Run, mode: int, port: int, frame: bytes, out: list[Frame]) -> None:
        again: list[Again] = []
        self.counters.received += 1
        try:
            run(port, frame, mode, None, out, again)
            if again:
                self._again(run, out, again)
        except Exception as e:  # a packet must never stop the switch
            self._fault(e, port, frame)

    def _fault(self, e: Exception, port: int, frame: bytes) -> None:
        self.counters.faults += 1
        self.counters.last_fault = f"{type(e).__name__}: {e} (port {port}, {frame.hex()})"

    def process_batch(self, port: int, frames: Sequence[bytes]) -> list[Frame]:
        """`process` for many frames of one port."""
        out: list[Frame] = []
        pipeline = self.pipeline
        if pipeline is None:
            return out
        run, mode = pipeline.run, pipeline.from_port
        again: list[Again] = []
        for frame in frames:
            try:
                run(port, frame, mode, None, out, again)
                if again:
                    self._again(run, out, again)
            except Exception as e:  # a packet must never stop the switch
                self._fault(e, port, frame)
                again.clear()
        self.counters.received += len(frames)
        return self._deliver(out)

    def _again(self, run: Run, out: list[Frame], again: list[Again]) -> None:
        """What one packet sent through ingress once more, and what that sends; empties `again`."""
        for _ in range(1, MAX_PASSES):
            port, data, mode, aux = again.pop(0)
            run(port, data, mode, aux, out, again)
            if not again:
                return
        self.counters.loops_cut += 1
        again.clear()

    def _deliver(self, out: list[Frame]) -> list[Frame]:
        """Hand CPU-port frames to the controller; the rest is returned."""
        cpu = self.cpu_port
        rest = out
        for port, _ in out:
            if port == cpu:
                rest = [f for f in out if f[0] != cpu]
                for at, frame in out:
                    if at == cpu:
                        self.on_packet_in(self.headers.decode(frame))
                break
        self.counters.sent += len(rest)
        return rest

    # ---------------------------------------------------------------- entities

    def write(
        self, updates: Iterable[p4r.Update], admit: Callable[[], None] = lambda: None
    ) -> None:
        """Apply updates, each on its own (CONTINUE_ON_ERROR); raises WriteError if any failed.

        No packet sees a half of the batch. `admit` raises if it may not be applied (any more).
        """
        store = self.entities
        operations = store.decoded(updates)
        with self.locked():
            admit()
            if store is not self._entities:
                raise SwitchError(f"{self.name}: the pipeline was replaced during the write")
            errors = store.apply(operations)
        if any(errors):
            raise WriteError(errors)

    def read(self, *entities: p4r.Entity) -> Iterator[p4r.Entity]:
        """What the given entities select, as P4Runtime's wildcards say."""
        store = self.entities
        with self.locked():
            readings = [store.read(e) for e in entities]
        for items in readings:
            yield from items

    # ----------------------------------------------------------------- packets

    def packet_out(self, packet: p4r.PacketOut) -> list[Frame]:
        """A controller's packet enters at the CPU port; returns what leaves."""
        return self.process(self.cpu_port, self.headers.encode(packet))

    def trace(self, port: int, frame: bytes) -> tuple[list[Frame], list[TraceEvent]]:
        """One packet with every step recorded. It is a real packet: counters count it."""
        if self.pipeline is None:
            raise SwitchError(f"{self.name}: no pipeline is loaded, nothing to trace")
        with self.locked():
            recorder = TraceRecorder(self.pipeline.program, self.pipeline.state.tables)
            run = self.pipeline.traced(recorder)

            def traced(at: int, data: bytes, mode: int, aux: Any, out: Any, again: Any) -> None:
                recorder.received(at, mode, data)
                run(at, data, mode, aux, out, again)

            out: list[Frame] = []
            faults, cut = self.counters.faults, self.counters.loops_cut
            self._pass(traced, self.pipeline.from_port, port, frame, out)
            if self.counters.faults > faults:
                recorder.events.append(Fault(self.counters.last_fault))
            if self.counters.loops_cut > cut:
                recorder.events.append(Fault(f"{MAX_PASSES} passes through ingress: loop cut"))
            return self._deliver(out), recorder.events

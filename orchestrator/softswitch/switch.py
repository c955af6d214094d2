"""The switch itself: a loaded program, its state, and packets in and out.

`SoftSwitch` is complete without gRPC and without ports: tests, the in-memory
network and `explain` use it directly. `server` puts P4Runtime over it, `ports`
network interfaces. Whoever shares one between threads takes `locked()` around
a batch of packets or writes; the two sides alternate fairly.
"""

from __future__ import annotations

import random
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from finsy.proto import p4i, p4r

from orchestrator.errors import SwitchError, UnsupportedFeature
from orchestrator.softswitch import codegen, hashes
from orchestrator.softswitch.bmv2 import decode_program, read_program
from orchestrator.softswitch.digests import DigestQueue
from orchestrator.softswitch.entities.store import EntityStore
from orchestrator.softswitch.entity_errors import EntityError, WriteError
from orchestrator.softswitch.meters import MeterCells
from orchestrator.softswitch.packetmeta import ControllerHeaders
from orchestrator.softswitch.profiles import NO_MEMBER
from orchestrator.softswitch.program import Json, Program, Table
from orchestrator.softswitch.tables import MatchTable, make_table
from orchestrator.softswitch.trace import (
    SOURCES,
    Fault,
    Received,
    Recorder,
    TraceEvent,
    log_text,
)
from orchestrator.softswitch.valuesets import ValueSet

__all__ = ("Counters", "Frame", "Pipeline", "Replica", "SoftSwitch", "TraceEvent")

Frame = tuple[int, bytes]
Replica = tuple[int, int]
Again = tuple[int, bytes, int, Any]
"""A packet that passes ingress once more: port, data, mode (codegen's), what the mode needs."""

MAX_PASSES = 64
"""Passes through ingress that one received packet may cause (recirculation, resubmission)."""

MAX_MESSAGES = 1000
"""Texts of log_msg that are kept; older ones are forgotten."""

MAX_PACKET_INS = 65_536
"""Packet-ins kept when nobody takes them (`on_packet_in`); older ones are forgotten."""


@dataclass(slots=True)
class Counters:
    """What the switch did, for status displays; nothing in it influences packets."""

    received: int = 0
    sent: int = 0
    loops_cut: int = 0
    faults: int = 0
    last_fault: str = ""


class Pipeline:
    """A compiled program with its tables, counters and registers."""

    def __init__(
        self,
        program: Program,
        now: Callable[[], int],
        drop_port: int,
        *,
        queues: int = 1,
        clock: Callable[[], int] = time.monotonic_ns,
        send_digest: Callable[[p4r.DigestList], None] | None = None,
    ) -> None:
        self.program = program
        self.drop_port = drop_port
        self.queues = queues
        self.now = now
        self.clock = clock
        self.send_digest = send_digest or _ignore
        self.ports_down: set[int] = set()
        self.digest_queues: dict[int, DigestQueue] = {}
        self.messages: deque[str] = deque(maxlen=MAX_MESSAGES)
        self.meters = {
            m.name: MeterCells(m.size, m.packets, now)
            for m in program.meters.values()
            if m.table is None
        }
        self.value_sets = {name: ValueSet() for name in program.value_sets}
        self.tables: dict[str, MatchTable] = {}
        self.counters: dict[str, tuple[list[int], list[int]]] = {}
        self.registers: dict[str, list[int]] = {}
        self.groups: dict[int, tuple[Replica, ...]] = {}
        self.clone_sessions: dict[int, tuple[Replica, ...]] = {}
        self.random = random.Random(0)
        for table in program.tables():
            self.tables[table.name] = self._table(table)
        for counter in program.counters.values():
            self.counters[counter.name] = ([0] * counter.size, [0] * counter.size)
        for register in program.registers.values():
            self.registers[register.name] = [0] * register.size
        self._stateful = {
            c.name: hashes.STATEFUL[c.algo]()
            for c in program.calculations.values()
            if c.algo in hashes.STATEFUL
        }
        self.generated = codegen.generate(program, drop_port=drop_port, queues=queues)
        self.run = self._compile(self.generated, None)
        self._traced: Callable[..., None] | None = None
        self._sink: Callable[..., None] = _ignore

    @staticmethod
    def _table(t: Table) -> MatchTable:
        table = make_table(t.name, t.keys, t.size, t.rich)
        if t.profile is not None:
            table.miss.a, table.miss.args = -1, NO_MEMBER
        elif t.default_action >= 0:
            table.miss.a = t.action_index(t.default_action)
            table.miss.args = t.default_args
        highest = max((e.priority for e in t.entries), default=0)
        for const in t.entries:
            entry = table.make(t.action_index(const.action_id), const.args)
            # BMv2: the lowest number wins; P4Runtime and the tables here: the highest.
            table.add(const_match(table, const.matches, highest - const.priority + 1), entry)
        table.commit()
        return table

    def _compile(
        self, generated: codegen.Generated, trace: Callable[..., None] | None
    ) -> Callable[..., None]:
        scope: dict[str, Any] = {
            "now": self.now,
            "groups": self.groups,
            "clone_sessions": self.clone_sessions,
            "randint": self.random.randint,
            "gather": gather,
            "T": trace,
            "learn": self.learn,
            "log_msg": self.log,
        }
        for identifier, (kind, name) in generated.outside.items():
            scope[identifier] = self._outside(kind, name)
        exec(compile(generated.source, "<softswitch pipeline>", "exec"), scope)  # noqa: S102
        return scope["run"]

    def _outside(self, kind: str, name: str) -> Any:
        """What a global of the generated code is: see `codegen.Generated.outside`."""
        match kind:
            case "probe":
                return self.tables[name].probe
            case "search":
                return self.tables[name].search
            case "miss":
                return self.tables[name].miss
            case "packets":
                return self.counters[name][0]
            case "bytes":
                return self.counters[name][1]
            case "register":
                return self.registers[name]
            case "execute":
                return self.meters[name].execute
            case "contains":
                return self.value_sets[name].contains
            case "contains_masked":
                return self.value_sets[name].contains_masked
            case "hash":
                return hashes.ALGORITHMS[name]
            case "stateful":
                return self._stateful[name]
            case "pack":
                return struct.Struct(name).pack
            case _:
                return struct.Struct(name).unpack_from

    def learn(self, list_id: int, sample: tuple[int, ...]) -> None:
        """A packet's digest; without P4Info's word on it there is nobody to send it to."""
        queue = self.digest_queues.get(list_id)
        if queue is not None:
            queue.learn(sample)

    def log(self, text: str, values: tuple[int, ...]) -> None:
        """log_msg: kept, newest last, for whoever looks."""
        self.messages.append(log_text(text, values))

    def traced(self, trace: Callable[..., None]) -> Callable[..., None]:
        """`run` with a call of `trace(kind, ...)` at every step; same tables and state."""
        if self._traced is None:
            generated = codegen.generate(
                self.program, trace=True, drop_port=self.drop_port, queues=self.queues
            )
            self._traced = self._compile(generated, lambda *step: self._sink(*step))
        self._sink = trace
        return self._traced


def _ignore(*step: Any) -> None:
    return


def const_match(table: MatchTable, matches: Sequence[tuple[int, ...]], priority: int) -> Any:
    """The table's own form of a `const entries` match."""
    value = mask = 0
    ranges: list[tuple[int, int]] = []
    length = 0
    values: list[int] = []
    for key, shift, match in zip(table.keys, table.shifts, matches, strict=True):
        ones = (1 << key.width) - 1
        if key.kind == "range":
            ranges.append((match[0], match[1]))
            continue
        if key.kind == "lpm":
            length = match[1]
            m = ones >> (key.width - length) << (key.width - length) if length else 0
        elif key.kind in ("ternary", "optional"):
            m = match[1] & ones
        else:
            m = ones
        values.append(match[0])
        value |= (match[0] & m) << shift
        mask |= m << shift
    kinds = {k.kind for k in table.keys}
    if kinds & {"ternary", "range", "optional"}:
        return value, mask, tuple(ranges), priority
    if "lpm" in kinds:
        return value, length
    return values[0] if len(values) == 1 else tuple(values)


def gather(items: Sequence[tuple[Any, int, int]], tail: bytes) -> bytes:
    """Bytes of calculation inputs (valid?, value, bits), padded on the right, plus payload."""
    number = bits = 0
    for valid, value, width in items:
        if valid:
            number = number << width | value
            bits += width
    pad = -bits % 8
    return (number << pad).to_bytes((bits + pad) // 8, "big") + tail


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
        self.pipeline: Pipeline | None = None
        self.p4info = p4i.P4Info()
        self.headers = ControllerHeaders(self.p4info)
        self.counters = Counters()
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

    def build(self, bmv2_json: Json) -> Pipeline:
        """Compile without installing; raises MalformedProgram, UnsupportedFeature or SwitchError."""
        try:
            return Pipeline(
                read_program(bmv2_json),
                self.now,
                self.drop_port,
                queues=self.queues,
                clock=self.clock,
                send_digest=lambda message: self.on_digest(message),
            )
        except (RecursionError, MemoryError, SyntaxError, OverflowError) as e:
            # What CPython's own compiler or this machine cannot hold.
            raise UnsupportedFeature(
                f"BMv2 JSON: so large or so deeply nested a program is not implemented "
                f"({type(e).__name__})"
            ) from e

    def prepare(self, config: p4r.ForwardingPipelineConfig) -> Pipeline:
        """Compile a configuration of anybody's; raises SwitchError in all that is wrong with it."""
        pipeline = self.build(decode_program(config.p4_device_config))
        # Only to see that the two belong together; installing makes its own.
        self.entity_store(pipeline, config.p4info)
        return pipeline

    def load(self, bmv2_json: Json, p4info: p4i.P4Info) -> None:
        """Install a program; all tables, groups and counters start empty."""
        self.install(self.build(bmv2_json), p4info)

    @staticmethod
    def entity_store(pipeline: Pipeline, p4info: p4i.P4Info) -> EntityStore:
        """Entities for a pipeline; raises SwitchError if P4Info is another program's."""
        return EntityStore(pipeline, p4info)

    def install(self, pipeline: Pipeline, p4info: p4i.P4Info) -> None:
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
        if pipeline is None or store is None or (port not in pipeline.ports_down) == up:
            return
        with self.locked():
            (pipeline.ports_down.discard if up else pipeline.ports_down.add)(port)
            for profile in store.profiles.values():
                profile.port_changed()

    def reconcile(self, pipeline: Pipeline, p4info: p4i.P4Info) -> None:
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
        self._pass(pipeline.run, port, frame, out)

    def _pass(self, run: Callable[..., None], port: int, frame: bytes, out: list[Frame]) -> None:
        again: list[Again] = []
        self.counters.received += 1
        try:
            run(port, frame, codegen.NORMAL, None, out, again)
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
        run, mode = pipeline.run, codegen.NORMAL
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

    def _again(self, run: Callable[..., None], out: list[Frame], again: list[Again]) -> None:
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
        errors: list[EntityError | None] = []
        ready: list[tuple[Callable[..., None], tuple[Any, ...]] | None] = []
        for update in updates:
            try:
                ready.append(store.decode(update))
                errors.append(None)
            except EntityError as e:
                ready.append(None)
                errors.append(e)
        with self.locked():
            admit()
            if store is not self._entities:
                raise SwitchError(f"{self.name}: the pipeline was replaced during the write")
            for i, operation in enumerate(ready):
                if operation is not None:
                    try:
                        operation[0](*operation[1])
                    except EntityError as e:
                        errors[i] = e
            store.commit()
        if any(errors):
            raise WriteError(errors)

    def read(self, *entities: p4r.Entity) -> Iterator[p4r.Entity]:
        """What the given entities select, as P4Runtime's wildcards say."""
        store = self.entities
        with self.locked():
            found = [store.read(e) for e in entities]
        for items in found:
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
            recorder = Recorder(self.pipeline.program, self.pipeline.tables)
            run = self.pipeline.traced(recorder)

            def traced(at: int, data: bytes, mode: int, aux: Any, out: Any, again: Any) -> None:
                recorder.events.append(Received(at, SOURCES.get(mode, str(mode)), data))
                run(at, data, mode, aux, out, again)

            out: list[Frame] = []
            faults, cut = self.counters.faults, self.counters.loops_cut
            self._pass(traced, port, frame, out)
            if self.counters.faults > faults:
                recorder.events.append(Fault(self.counters.last_fault))
            if self.counters.loops_cut > cut:
                recorder.events.append(Fault(f"{MAX_PASSES} passes through ingress: loop cut"))
            return self._deliver(out), recorder.events

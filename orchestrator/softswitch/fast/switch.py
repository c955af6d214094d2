"""A P4 switch whose packets pass generated C: what `SoftSwitch` is for the Python engine."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finsy.proto import p4i, p4r

from orchestrator.errors import SwitchError
from orchestrator.softswitch.entities.store import EntityStore
from orchestrator.softswitch.entity_errors import EntityError, WriteError
from orchestrator.softswitch.fast.building import build, build_process
from orchestrator.softswitch.fast.device import EngineProcess, Frame, LoadedProgram, ProgramCounts
from orchestrator.softswitch.fast.mirror import MirroredState
from orchestrator.softswitch.fast.plain import PlainUpdates
from orchestrator.softswitch.ir import program_of, read_program
from orchestrator.softswitch.ir.program import Json, P4Program
from orchestrator.softswitch.packetmeta import ControllerHeaders


@dataclass(frozen=True, slots=True)
class Loaded:
    """A program that is loaded, and its state as P4Runtime sees it."""

    device: LoadedProgram
    state: MirroredState
    store: EntityStore
    plain: PlainUpdates
    p4info: p4i.P4Info
    headers: ControllerHeaders


class FastSwitch:
    """`clock` returns nanoseconds; packets see microseconds since construction, once a burst.

    Without `open` its process has no ports and starts with the first program: packets are given to it.
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
        sanitized: bool = False,
    ) -> None:
        self.device_id = device_id
        self.cpu_port = cpu_port
        self.drop_port = drop_port
        self.queues = queues
        self.name = name or f"device {device_id}"
        self.clock = clock
        self.start = clock()
        self.sanitized = sanitized
        self.packet_ins: deque[p4r.PacketIn] = deque(maxlen=65_536)
        self.on_packet_in: Callable[[p4r.PacketIn], None] = self.packet_ins.append
        self.digest_lists: deque[p4r.DigestList] = deque(maxlen=65_536)
        self.on_digest: Callable[[p4r.DigestList], None] = self.digest_lists.append
        self.idle_timeouts: deque[p4r.IdleTimeoutNotification] = deque(maxlen=65_536)
        self.on_idle_timeout: Callable[[p4r.IdleTimeoutNotification], None] = (
            self.idle_timeouts.append
        )
        self.port_states: Callable[[], Mapping[int, bool]] | None = None
        self._process: EngineProcess | None = None
        self._slots: dict[int, Loaded] = {}
        self._loaded: Loaded | None = None
        self._lock = threading.RLock()

    def now(self) -> int:
        """Microseconds since the switch was made."""
        return (self.clock() - self.start) // 1000

    # ----------------------------------------------------------------- process

    def open(self, interfaces: Mapping[int, str], user: int = 0) -> EngineProcess:
        """Start the process with DPDK's ports; then it becomes `user`. SwitchError: what is missing."""
        executable = build_process(dpdk=True, sanitized=self.sanitized)
        return self._started(
            EngineProcess(executable, interfaces, cpu_port=self.cpu_port, user=user)
        )

    @property
    def child(self) -> EngineProcess:
        """What programs run in."""
        with self._lock:
            if self._process is None:
                return self._started(EngineProcess(build_process(sanitized=self.sanitized)))
            return self._process

    def _started(self, process: EngineProcess) -> EngineProcess:
        try:
            process.greet(self.start)
        except SwitchError:
            process.close()
            raise
        process.on_digest = self._learned
        process.on_packet_in = self._packet_in
        self._process = process
        return process

    def _learned(self, slot: int, number: int, words: tuple[int, ...]) -> None:
        with self._lock:
            loaded = self._slots.get(slot)
            if loaded is not None:
                loaded.state.learned(number, words)

    def _packet_in(self, slot: int, frame: bytes) -> None:
        loaded = self._slots.get(slot)
        if loaded is not None:
            self.on_packet_in(loaded.headers.decode(frame))

    def close(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            process, self._process, self._loaded = self._process, None, None
            self._slots.clear()
        if process is not None:
            process.close()

    def __enter__(self) -> FastSwitch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---------------------------------------------------------------- programs

    def verify(self, program: P4Program | Json, p4info: p4i.P4Info) -> None:
        """Compile a program; UnsupportedFeature, MalformedProgram or SwitchError."""
        program = _read(program)
        self._build(program)
        EntityStore(self._state(program), p4info)

    def verify_config(self, config: p4r.ForwardingPipelineConfig) -> None:
        """`verify` of a configuration of anybody's."""
        self.verify(program_of(config.p4_device_config), config.p4info)

    def prepare(self, program: P4Program | Json, p4info: p4i.P4Info) -> Loaded:
        """Compile a program and load it, without packets; `verify`'s errors."""
        program = _read(program)
        engine = self._build(program)
        state = self._state(program)
        store = EntityStore(state, p4info)
        with self._lock:
            device = self.child.load(engine)
            loaded = Loaded(
                device, state, store, PlainUpdates(store), p4info, ControllerHeaders(p4info)
            )
            self._slots[device.slot] = loaded
            state.tell(device)
        return loaded

    def _build(self, program: P4Program) -> Path:
        return build(
            program, drop_port=self.drop_port, queues=self.queues, sanitized=self.sanitized
        )

    def _state(self, program: P4Program) -> MirroredState:
        return MirroredState(
            program, self.now, clock=self.clock, send_digest=lambda message: self.on_digest(message)
        )

    def install(self, loaded: Loaded) -> None:
        """Run what was prepared, in place of what ran: from one burst to the next."""
        with self._lock:
            loaded.device.run()
            before, self._loaded = self._loaded, loaded
            if before is not None:
                self.forget(before)

    def forget(self, loaded: Loaded) -> None:
        """What was prepared is needed no more."""
        with self._lock:
            if self._slots.pop(loaded.device.slot, None) is not None:
                loaded.device.unload()

    def reconcile(self, loaded: Loaded) -> None:
        """Run what was prepared and keep all entries; SwitchError if one does not fit it.

        Counters, meters' buckets and digests in flight start anew; counts that are stored with entries,
        registers and configurations stay.
        """
        with self._lock:
            before = self._loaded
            if before is not None:
                before.state.fetch(before.device, iter(before.state.tables.values()))
                before.state.fetch_registers(before.device)
                for update in before.store.snapshot():
                    try:
                        function, arguments = loaded.store.decode(update)
                        function(*arguments)
                    except EntityError as error:
                        self.forget(loaded)
                        raise SwitchError(
                            "RECONCILE_AND_COMMIT: an entry does not fit the new pipeline: "
                            f"{error.message}"
                        ) from error
                loaded.store.commit()
                loaded.state.tell(loaded.device)
            self.install(loaded)

    def load(self, program: P4Program | Json, p4info: p4i.P4Info) -> None:
        """Install a program; all tables, groups and counters start empty."""
        self.install(self.prepare(program, p4info))

    @property
    def configured(self) -> bool:
        """Whether a program runs."""
        return self._loaded is not None

    @property
    def loaded(self) -> Loaded:
        """What runs; SwitchError when nothing does."""
        if self._loaded is None:
            raise SwitchError(f"{self.name}: no forwarding pipeline config is set")
        return self._loaded

    # ---------------------------------------------------------------- entities

    def write(
        self, updates: Iterable[p4r.Update], admit: Callable[[], None] = lambda: None
    ) -> None:
        """Apply updates, each on its own; WriteError if any failed. No packet sees half of them."""
        loaded = self.loaded
        operations = loaded.plain.decoded(updates)
        with self._lock:
            admit()
            if loaded is not self._loaded:
                raise SwitchError(f"{self.name}: the pipeline was replaced during the write")
            errors = loaded.store.apply(operations)
            loaded.state.tell(loaded.device)
        if any(errors):
            raise WriteError(errors)

    def read(self, *entities: p4r.Entity) -> Iterator[p4r.Entity]:
        """What the given entities select, as P4Runtime's wildcards say."""
        loaded = self.loaded
        with self._lock:
            for entity in entities:
                _fetch(loaded, entity)
            readings = [loaded.store.read(entity) for entity in entities]
        for items in readings:
            yield from items

    def tick(self) -> None:
        """Send digests that have waited long enough and tell of entries that timed out."""
        loaded = self._loaded
        if loaded is None:
            return
        if self.port_states is not None and loaded.store.profiles:
            for port, up in self.port_states().items():
                self.set_port_up(port, up)
        if not (loaded.store.digests or loaded.store.ages):
            return
        with self._lock:
            for queue in loaded.store.digests.values():
                queue.tick()
            aging = (t.table for t in loaded.store.tables.by_id.values() if t.ages)
            loaded.state.fetch(loaded.device, aging)
            entries = loaded.store.timed_out(self.now())
        if entries:
            self.on_idle_timeout(
                p4r.IdleTimeoutNotification(table_entry=entries, timestamp=self.clock())
            )

    def ack_digest(self, ack: p4r.DigestListAck) -> None:
        """The controller has a digest list; its samples may be sent again."""
        loaded = self._loaded
        queue = None if loaded is None else loaded.store.digests.get(ack.digest_id)
        if queue is not None:
            with self._lock:
                queue.ack(ack.list_id)

    def set_port_up(self, port: int, up: bool) -> None:
        """Tell selectors a port's state: members that watch a port that is down are not picked."""
        loaded = self._loaded
        if loaded is None:
            return
        down = loaded.state.ports_down
        if (port not in down) == up:
            return
        with self._lock:
            (down.discard if up else down.add)(port)
            for profile in loaded.store.profiles.values():
                profile.port_changed()
            loaded.state.tell(loaded.device)

    # ----------------------------------------------------------------- packets

    def process(self, port: int, frame: bytes) -> list[Frame]:
        """One packet through the switch: what leaves, in order, packet-ins excluded."""
        return self.process_batch(port, [frame])

    def process_batch(self, port: int, frames: Sequence[bytes]) -> list[Frame]:
        """`process` for many frames of one port."""
        with self._lock:
            loaded = self.loaded
            out = loaded.device.packets(self.now(), [(port, frame) for frame in frames])
            self.child.take_told()
        rest: list[Frame] = []
        for at, frame in out:
            if at == self.cpu_port:
                self.on_packet_in(loaded.headers.decode(frame))
            else:
                rest.append((at, frame))
        return rest

    def packet_out(self, packet: p4r.PacketOut) -> list[Frame]:
        """A controller's packet enters at the CPU port; returns what leaves."""
        return self.process_batch(self.cpu_port, [self.loaded.headers.encode(packet)])

    def send_packet_out(self, packet: p4r.PacketOut) -> None:
        """A controller's packet enters at the CPU port; what leaves goes to ports."""
        with self._lock:
            loaded = self.loaded
            loaded.device.inject([(self.cpu_port, loaded.headers.encode(packet))])

    def counters(self) -> ProgramCounts:
        """What the program counts of itself."""
        with self._lock:
            return self.loaded.device.state()

    def drops(self) -> dict[str, int]:
        """Frames dropped beside the program so far, by reason."""
        with self._lock:
            return self.child.drops()


def _read(program: P4Program | Json) -> P4Program:
    return program if isinstance(program, P4Program) else read_program(program)


def _fetch(loaded: Loaded, entity: p4r.Entity) -> None:
    """Bring what a read asks for and packets change."""
    kind = entity.WhichOneof("entity")
    if kind in ("table_entry", "direct_counter_entry"):
        message = (
            entity.table_entry if kind == "table_entry" else entity.direct_counter_entry.table_entry
        )
        tables = loaded.store.tables.chosen(p4r.TableEntry(table_id=message.table_id))
        loaded.state.fetch(loaded.device, (t.table for t in tables if t.counter_id or t.ages))
    elif kind == "counter_entry":
        loaded.state.fetch_counters(loaded.device)
    elif kind == "register_entry":
        loaded.state.fetch_registers(loaded.device)

"""A P4 switch whose packets pass generated C: what `SoftSwitch` is for the Python engine."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from finsy.proto import p4i, p4r

from orchestrator.errors import SwitchError
from orchestrator.softswitch.entities.store import EntityStore
from orchestrator.softswitch.entity_errors import WriteError
from orchestrator.softswitch.fast.building import build
from orchestrator.softswitch.fast.device import Device, Frame, State
from orchestrator.softswitch.fast.mirror import MirroredState
from orchestrator.softswitch.ir import read_program
from orchestrator.softswitch.ir.program import Json
from orchestrator.softswitch.packetmeta import ControllerHeaders


@dataclass(frozen=True, slots=True)
class Loaded:
    """A program that runs: its process, and its state as P4Runtime sees it."""

    device: Device
    state: MirroredState
    store: EntityStore
    p4info: p4i.P4Info
    headers: ControllerHeaders


class FastSwitch:
    """`clock` returns nanoseconds; packets see microseconds since construction, once a batch."""

    def __init__(
        self,
        device_id: int = 1,
        cpu_port: int = 510,
        clock: Callable[[], int] = time.monotonic_ns,
        *,
        drop_port: int = 511,
        name: str = "",
        sanitized: bool = False,
    ) -> None:
        self.device_id = device_id
        self.cpu_port = cpu_port
        self.drop_port = drop_port
        self.name = name or f"device {device_id}"
        self.clock = clock
        self.start = clock()
        self.sanitized = sanitized
        self.packet_ins: deque[p4r.PacketIn] = deque(maxlen=65_536)
        self.on_packet_in: Callable[[p4r.PacketIn], None] = self.packet_ins.append
        self.digest_lists: deque[p4r.DigestList] = deque(maxlen=65_536)
        self.on_digest: Callable[[p4r.DigestList], None] = self.digest_lists.append
        self._loaded: Loaded | None = None
        self._lock = threading.RLock()

    def now(self) -> int:
        """Microseconds since the switch was made."""
        return (self.clock() - self.start) // 1000

    def prepare(self, bmv2_json: Json, p4info: p4i.P4Info) -> Loaded:
        """Compile a program and start it; UnsupportedFeature, MalformedProgram or SwitchError."""
        program = read_program(bmv2_json)
        executable = build(program, drop_port=self.drop_port, sanitized=self.sanitized)
        state = MirroredState(
            program, self.now, clock=self.clock, send_digest=lambda message: self.on_digest(message)
        )
        store = EntityStore(state, p4info)
        lists = list(program.learn_lists.values())

        def learned(number: int, words: tuple[int, ...]) -> None:
            found = iter(words)
            sample: list[int] = []
            for item in lists[number].elements:
                width = program.field(*item["value"]).width if item["type"] == "field" else 64
                value = next(found)
                sample.append(value | next(found) << 64 if width > 64 else value)
            state.learn(lists[number].id, tuple(sample))

        device = Device(executable, learned)
        state.tell(device)
        return Loaded(device, state, store, p4info, ControllerHeaders(p4info))

    def install(self, loaded: Loaded) -> None:
        """Run what was prepared, in place of what ran."""
        with self._lock:
            before, self._loaded = self._loaded, loaded
        if before is not None:
            before.device.close()

    def load(self, bmv2_json: Json, p4info: p4i.P4Info) -> None:
        """Install a program; all tables, groups and counters start empty."""
        self.install(self.prepare(bmv2_json, p4info))

    def close(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded.device.close()

    def __enter__(self) -> FastSwitch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
        operations = loaded.store.decoded(updates)
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
            found = [loaded.store.read(entity) for entity in entities]
        for items in found:
            yield from items

    # ----------------------------------------------------------------- packets

    def process(self, port: int, frame: bytes) -> list[Frame]:
        """One packet through the switch: what leaves, in order, packet-ins excluded."""
        return self.process_batch(port, [frame])

    def process_batch(self, port: int, frames: Sequence[bytes]) -> list[Frame]:
        """`process` for many frames of one port."""
        with self._lock:
            loaded = self.loaded
            out = loaded.device.packets(self.now(), [(port, frame) for frame in frames])
        rest: list[Frame] = []
        for at, frame in out:
            if at == self.cpu_port:
                self.on_packet_in(loaded.headers.decode(frame))
            else:
                rest.append((at, frame))
        return rest

    def packet_out(self, packet: p4r.PacketOut) -> list[Frame]:
        """A controller's packet enters at the CPU port; returns what leaves."""
        return self.process(self.cpu_port, self.loaded.headers.encode(packet))

    def counters(self) -> State:
        """What the device counts of itself."""
        with self._lock:
            return self.loaded.device.state()


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

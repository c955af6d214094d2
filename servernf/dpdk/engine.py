"""A worker's tables on the C side: instances by number, steps, paths, and the process that has them.

The process is told of a change before this side goes over to it, so what it refuses has changed nothing.
When it ends by itself another one is started and told everything; counters and levels are in memory that
outlives it.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from servernf.dpdk.forms import Making, forms
from servernf.dpdk.memory import RecordPlace, SharedMemory
from servernf.dpdk.process import MOST_INSTANCES, WORKER_REASONS, ProcessRequest, WorkerProcess
from servernf.dpdk.tables import StateTable, StateTables
from servernf.python.network_function import INSIDE, OUTSIDE
from servernf.python.runtime.tables import (
    CompiledCall,
    CompiledExit,
    Instance,
    WorkerTables,
    compile_steps,
)
from servernf.python.telling import ALERT, DROP, NAT, Alert
from servernf.wire.errors import ReportedError, ServerError
from servernf.wire.fields import Fields, parsed

FRAMES_IN, FRAMES_OUT, BUSY_NS, BATCHES, FULL_BATCHES, UNTOLD, LOST = range(7)
"""Of the memory's first words."""
_TIMED, _TIMED_PACKETS, _TIMED_NS, _RECENT, _RECENT_TIMES = 0, 1, 2, 3, 64
"""`enum time` (c/boundary.h): words behind an instance's counters."""
_TIMES = _RECENT + _RECENT_TIMES
_KNOWN_TABLES = 16
"""Of which notes are understood: they may be told after the tables that they mean."""
_KEY = struct.Struct("=3I4xQ")
_NOTHING, _STEP, _EXIT = range(3)
_EVENTS = DROP, ALERT, NAT
"""`enum event`."""
_BUDGET, _MORE_OF_BUDGET = ("rate", "burst", "suppressed"), 2
"""`enum budget`."""
_GONE_TELLERS = 64
"""Of which events are understood that are told after they have gone."""
Start = Callable[[int], WorkerProcess]
"""From the memory's descriptor to a process that is ready."""


@dataclass(frozen=True, slots=True)
class Made:
    """An instance of the C side: its message, and the records that it shares."""

    number: int
    told_as: int
    message: bytes
    tally: RecordPlace
    reasons: tuple[str, ...]
    budgets: tuple[RecordPlace, ...]
    places: tuple[RecordPlace, ...]
    tables: tuple[StateTable, ...]


@dataclass(frozen=True, slots=True)
class Teller:
    """An instance as events say it: its reasons and rules to drop by number, its signatures' alerts."""

    name: str
    type_name: str
    reasons: tuple[str, ...]
    rules: tuple[str, ...]
    alert: Callable[[int], Alert]


class NfEngine:
    """One thread at a time changes it."""

    def __init__(self, core_mac: int, start: Start) -> None:
        self.memory = SharedMemory(LOST + len(WORKER_REASONS))
        self._start = start
        self._mac = core_mac
        self._made: dict[Instance, Made] = {}
        self._tables = WorkerTables()
        self._keys = struct.pack("=I", 0)
        self._steps: dict[int, Sequence[CompiledCall]] = {}
        self._number = 0
        self._tellers: dict[int, Teller] = {}
        self._gone: deque[int] = deque()
        self._told_as = 0
        self._free = list(range(MOST_INSTANCES - 1, -1, -1))
        self.state = StateTables(self.memory, self.ask)
        try:
            self.process = start(self.memory.fd)
        except ServerError:
            self.memory.close()
            raise
        self.types = sorted(self.process.reasons.keys() & forms().keys())

    def ask(self, kind: ProcessRequest, payload: bytes, number: int) -> bytes:
        """The process's answer."""
        return self.process.ask(kind, payload, number)

    def close(self) -> None:
        """End the process."""
        self.process.close()

    def replace(self, tables: WorkerTables) -> None:
        """Have packets see these tables; an error has changed nothing."""
        fresh: list[Instance] = []
        try:
            for instance in tables.instances.values():
                if instance not in self._made:
                    self._make(instance)
                    fresh.append(instance)
            self.process.ask(ProcessRequest.TABLES, self._written(tables))
        except ReportedError:
            for instance in fresh:
                self._forget(instance)
            raise
        self._tables = tables
        there = set(tables.instances.values())
        for instance in [gone for gone in self._made if gone not in there]:
            self._forget(instance)

    def restart(self) -> None:
        """Start another process, and tell it all that the last one knew."""
        self.process.close()
        self.process = self._start(self.memory.fd)
        for message, number in self.state.made_again():
            self.process.ask(ProcessRequest.STATE, message, number)
        for made in self._made.values():
            self.process.ask(ProcessRequest.MAKE, made.message, made.number)
        self.process.ask(ProcessRequest.TABLES, self._written(self._tables))
        self.process.ask(ProcessRequest.WATCH, self._keys)

    def refresh(self) -> None:
        """Have tallies, drops and levels of Python's instances say what the C side has counted."""
        self.state.refresh()
        for instance, made in list(self._made.items()):
            for place in (made.tally, *made.places):
                self.memory.refresh(place)
            counts = self.memory.read(made.tally.at + 1, len(made.reasons))
            drops = instance.nf.drops
            for reason, count in zip(made.reasons, counts, strict=True):
                if count:
                    drops[reason] = count
            taken = self.memory.read(made.tally.at + 1 + len(made.reasons), _TIMES)
            times = instance.tally.times
            times.count, times.total = taken[_TIMED_PACKETS], taken[_TIMED_NS]
            times.recent.clear()
            times.recent.extend(taken[_RECENT : _RECENT + min(taken[_TIMED], _RECENT_TIMES)])

    def frames(self) -> tuple[int, int, dict[str, int]]:
        """(in, out, dropped by the worker itself by reason)."""
        received, sent = self.memory.read(FRAMES_IN, BUSY_NS)
        lost = self.memory.read(LOST, len(WORKER_REASONS))
        return received, sent, {r: n for r, n in zip(WORKER_REASONS, lost, strict=True) if n}

    def untold(self) -> int:
        """How many notes of watched packets found no room."""
        return self.memory.read(UNTOLD, 1)[0]

    def teller(self, told_as: int) -> Teller | None:
        """Who has told an event; None: it has gone long ago."""
        return self._tellers.get(told_as)

    def refresh_events(self) -> None:
        """Have budgets say how many events the C side has suppressed."""
        for made in list(self._made.values()):
            for place in made.budgets:
                self.memory.refresh(place)

    def watch(self, keys: Sequence[tuple[int, int, int, int]]) -> None:
        """Have packets watched by these keys: key0, key1, what the PRF is of, and below which number."""
        self._keys = b"".join([struct.pack("=I", len(keys)), *(_KEY.pack(*key) for key in keys)])
        self.process.ask(ProcessRequest.WATCH, self._keys)

    def steps(self, number: int) -> Sequence[CompiledCall]:
        """Those of tables of a number, as notes name them; none of what was too long ago."""
        return self._steps.get(number, ())

    def reason(self, type_name: str, number: int) -> str:
        """Why an NF of a type drops."""
        return self.process.reasons[type_name][number]

    def load(self) -> dict[str, int]:
        """How busy the process has been, by the names that queryMetrics tells."""
        busy, batches, full = self.memory.read(BUSY_NS, UNTOLD - BUSY_NS)
        return {"busy_ns": busy, "batches": batches, "full_batches": full}

    def tables_of(self, instance: Instance) -> tuple[StateTable, ...]:
        """The state that an instance has on the C side."""
        return self._made[instance].tables

    def number_of(self, instance: Instance) -> int:
        """Of an instance there."""
        return self._made[instance].number

    def numbers_of(self, names: Collection[str]) -> list[int]:
        """Of the instances of these names."""
        return sorted(
            made.number for instance, made in self._made.items() if instance.name in names
        )

    def entered(
        self, instance: Instance, enter: Callable[[], int], counters: Mapping[str, int]
    ) -> int:
        """Have records that both sides share, and counters, be changed; what that answers."""
        self.refresh()
        count = enter()
        made = self._made[instance]
        for place in made.places:
            self.memory.store(place)
        for index, reason in enumerate(made.reasons, 1):
            self.memory.add(made.tally.at + index, counters.get(f"drop.{reason}", 0))
        for table in made.tables:
            self.memory.add(table.place.at + 1, counters.get(f"evicted.{table.name}", 0))
        return count

    def _make(self, instance: Instance) -> None:
        if not self._free:
            raise ServerError(f"a core has {MOST_INSTANCES} NF instances at most")
        reasons = tuple(self.process.reasons[instance.type_name])
        making = Making(instance.nf, self.memory, self.state)
        tally = self.memory.place(instance.tally, ("packets",), len(reasons) + _TIMES)
        budgets = [
            self.memory.place(instance.nf.events.budgets[kind], _BUDGET, _MORE_OF_BUDGET)
            for kind in _EVENTS
        ]
        number = self._free.pop()
        self._told_as += 1
        making.compile = self.process.signatures
        making.stats = lambda asked: self.ask(ProcessRequest.STATS, asked, number)
        name = instance.type_name.encode()
        try:
            config = Fields(instance.name, parsed(instance.config_json, instance.name))
            written = forms()[instance.type_name](config, making)
            words = self._told_as, tally.at, *(budget.at for budget in budgets), len(name)
            message = struct.pack("=6I", *words) + name + written
            self.process.ask(ProcessRequest.MAKE, message, number)
        except BaseException:
            self._give_back(number, (tally, *budgets, *making.places), making.tables)
            raise
        if making.metrics is not None:
            instance.nf.metrics = making.metrics  # the state that they are of is C's
        places, tables = tuple(making.places), tuple(making.tables)
        told_as = self._told_as
        self._tellers[told_as] = Teller(
            instance.name, instance.type_name, reasons, tuple(making.rules), making.alert
        )
        self._made[instance] = Made(
            number, told_as, message, tally, reasons, tuple(budgets), places, tables
        )

    def _forget(self, instance: Instance) -> None:
        made = self._made.pop(instance)
        self.process.ask(ProcessRequest.FORGET, number=made.number)
        places = made.tally, *made.budgets, *made.places
        self._give_back(made.number, places, made.tables)
        self._gone.append(made.told_as)
        if len(self._gone) > _GONE_TELLERS:
            del self._tellers[self._gone.popleft()]

    def _give_back(
        self, number: int, places: Iterable[RecordPlace], tables: Iterable[StateTable]
    ) -> None:
        self.state.give(tables)
        self._free.append(number)
        for place in places:
            self.memory.release(place)

    def _written(self, tables: WorkerTables) -> bytes:
        """The tables as ASK_TABLES has them (c/engine.c)."""
        paths = compile_steps(tables, self._mac)
        numbers: dict[CompiledCall, int] = {}
        todo = list(paths.values())
        while todo:
            step = todo.pop()
            if step not in numbers:
                numbers[step] = len(numbers)
                todo += [after for after in step.next.values() if isinstance(after, CompiledCall)]
        exits: list[CompiledExit] = []
        steps: list[bytes] = []
        ways = 0
        for step in numbers:
            ports = step.instance.nf.ports
            ways += len(ports)
            made = self._made[step.instance]
            steps.append(struct.pack("=3I", made.number, ports.index(step.port), len(ports)))
            for port in ports:
                after = step.next.get(port)
                kind, index = _NOTHING, 0
                if isinstance(after, CompiledCall):
                    kind, index = _STEP, numbers[after]
                elif after is not None:
                    kind, index = _EXIT, len(exits)
                    exits.append(after)
                steps.append(struct.pack("=II", kind, index))
        leaving = [e.ethernet + int.from_bytes(e.path).to_bytes(4, "little") for e in exits]
        written = [struct.pack("=II", path, numbers[step]) for path, step in paths.items()]
        self._number += 1
        self._steps[self._number] = list(numbers)
        self._steps.pop(self._number - _KNOWN_TABLES, None)
        heads = struct.pack("=4I", self._number, len(numbers), len(exits), ways)
        return b"".join((heads, *steps, *leaving, struct.pack("=I", len(written)), *written))


assert (INSIDE, OUTSIDE) == ("inside", "outside")  # ports 0 and 1 on the C side

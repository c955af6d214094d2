"""A worker whose packets a C process runs, configured as one of `servernf.python`."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from servernf.dpdk.engine import NfEngine
from servernf.dpdk.moving import EngineArriving, EngineDeparting, EngineGates, EngineJobs
from servernf.dpdk.notes import keys, note
from servernf.dpdk.process import ProcessGone
from servernf.dpdk.replicating import WAITS, EngineReplicas
from servernf.dpdk.state import InstanceState
from servernf.dpdk.telling import EVENT, ToldEvents
from servernf.host.compiling import HYPERSCAN
from servernf.python.network_function import NetworkFunction, create
from servernf.python.runtime.chain import Dial, nobody
from servernf.python.runtime.clocks import monotonic_us, wall_us
from servernf.python.runtime.errors import NotSupported
from servernf.python.runtime.shim import Sample
from servernf.python.runtime.tables import Instance, WorkerTables
from servernf.python.runtime.worker import Worker
from servernf.python.scope import EVERYTHING, Buckets, StateScope
from servernf.python.state import CHUNK
from servernf.wire.errors import InputError, ServerError, unknown
from servernf.wire.state import Batch, decode
from servernf.wire.witness import Witness

MOST_RESTARTS, WITHIN_S = 3, 10.0
"""A process that ends more often within so long is not started again: the worker ends, and its agent
starts another one."""
_AGAIN_S = 0.05
_FETCH_S = 0.05
"""How often frames that are kept while state moves are taken from the C side."""
_LOG = logging.getLogger(__name__)


class DpdkWorker(Worker):
    """A core's NFs. `restarts` says whether its process can be started another time, `live` whether
    packets come by a port."""

    def __init__(
        self,
        name: str,
        core_mac: int,
        engine: NfEngine,
        clock: Callable[[], int] = monotonic_us,
        *,
        dial: Dial = nobody,
        restarts: bool = True,
        live: bool = False,
    ) -> None:
        super().__init__(name, core_mac, clock, dial=dial)
        self.engine = engine
        self._noting = threading.Lock()
        self._events = ToldEvents(clock, wall_us, engine, self._noting, self._take_notes)
        self.events = self._events  # pyrefly: ignore[bad-override-mutable-attribute]
        self.jobs = EngineJobs(live=live)
        self._engine_gates = EngineGates(core_mac, engine, clock, self.transfers)
        self.gates = self._engine_gates  # pyrefly: ignore[bad-override-mutable-attribute]
        self._engine_replicas = EngineReplicas(self, self.arrivals, engine)
        self.replicas = self._engine_replicas  # pyrefly: ignore[bad-override-mutable-attribute]
        self._gated = threading.Event()
        self.socket_drops = self.shim.surroundings.socket_drops = self._port_drops
        self.ended = threading.Event()
        """Set when the process is gone for good."""
        self._restarts = restarts
        self._restarted: list[float] = []
        self._closing = False
        self._watch = threading.Thread(target=self._watched, daemon=True)
        self._watch.start()
        threading.Thread(target=self._listen, daemon=True).start()
        if live:
            threading.Thread(target=self._attend, daemon=True).start()

    def close(self) -> None:
        """End the process."""
        self._closing = True
        self._gated.set()
        self.engine.close()
        self._watch.join()

    # Packets, where they come as messages.

    def process(self, frames: Sequence[bytes]) -> list[bytes]:
        """Run a batch of tagged frames to completion; the frames to send, in order."""
        try:
            with self.jobs.turn:
                if self.gates.all:
                    self.gates.fetch()
                left, self._engine_gates.left = self._engine_gates.left, []
                left += self.engine.process.packets(self.now_us(), frames)
                self.send_markers()
                return left + self._engine_replicas.settled_up(self.now_us())
        except ProcessGone:
            lost = self.drops.get("process_gone", 0)
            self.drops["process_gone"] = lost + len(frames)
            return []

    def wait_us(self) -> int | None:
        """0: frames that waited while state moved are to be sent by `process`."""
        due = self._engine_gates.left or self._engine_replicas.is_due(self.now_us())
        return 0 if due or self.marks.waiting else None

    def send_markers(self) -> None:
        """Job: have markers leave behind all that has left, or waits to."""
        if self.marks.waiting:
            self._engine_replicas.send_behind(self.marks.taken())

    # State.

    def departing(self, instances: Iterable[Instance], buckets: Buckets) -> EngineDeparting:
        return EngineDeparting(self.engine, instances, buckets)

    def arriving(
        self, instances: Mapping[str, Instance], buckets: Buckets | None
    ) -> EngineArriving:
        return EngineArriving(self.engine, instances, buckets)

    def state_of(self, nf: str) -> InstanceState:
        """What an instance has on the C side."""
        return InstanceState(self.engine, self._instance(nf))

    def export_state(self, nf: str, scope: StateScope = EVERYTHING) -> list[bytes]:
        return self.state_of(nf).export(scope, self.now_us(), CHUNK)

    def import_state(self, nf: str, batches: Sequence[bytes]) -> int:
        layouts = self._instance(nf).nf.state.layouts
        read = [decode(data, lambda _: layouts) for data in batches]
        return self.state_of(nf).enter(read, self.now_us())

    def delete_state(self, nf: str, scope: StateScope = EVERYTHING) -> int:
        if not scope.is_all:
            raise NotSupported(
                "taking a part of an instance's state out: the dpdk runtime does not"
            )
        return self.state_of(nf).clear()

    def common_state(self, nf: str) -> list[bytes]:
        self.engine.refresh()
        return super().common_state(nf)

    def enter_state(self, nf: str, batches: Sequence[Batch], now_us: int) -> int:
        return self.state_of(nf).enter(batches, now_us)

    def settle(self) -> None:
        super().settle()
        self._engine_gates.settle()
        if self.gates.all:
            self._gated.set()

    def _attend(self) -> None:
        """Thread: take what the C side keeps while state is on its way."""
        while not self._closing:
            if not self.gates.all:
                self._gated.clear()
                self._gated.wait()
                continue
            with contextlib.suppress(ServerError):  # a process that is gone is started again
                self.jobs.do(self.gates.fetch)
            time.sleep(_FETCH_S)

    # Configuration.

    # Only the instance knows which NFs its process has.
    def nf_types(self) -> list[str]:  # pyrefly: ignore[bad-override]
        return self.engine.types

    # pyrefly: ignore[bad-override]
    def create(self, type_name: str, where: str, config: object) -> NetworkFunction:
        if type_name == "ids" and type_name not in self.engine.types:
            raise InputError(f"{where}: ids of the dpdk runtime needs Hyperscan: {HYPERSCAN}")
        if type_name not in self.engine.types:
            problem = unknown("NF type", type_name, self.engine.types)
            raise InputError(f"{where}: {problem} of the dpdk runtime")
        return create(type_name, where, config)

    def witness(self, graph: str, witness: Witness | None) -> None:
        self._take_notes()
        super().witness(graph, witness)
        self.engine.watch(keys(self.shim))

    def _commit(self, tables: WorkerTables) -> None:
        self.engine.replace(tables)
        before = keys(self.shim)
        super()._commit(tables)
        if keys(self.shim) != before:
            self.engine.watch(keys(self.shim))

    # Notes of watched packets.

    def read_samples(self, cursor: int = 0, limit: int = 1000) -> tuple[list[Sample], int, int]:
        self._take_notes()
        return super().read_samples(cursor, limit)

    def _listen(self) -> None:
        """Take notes as they are told."""
        while not self._closing and not self.ended.is_set():
            self.engine.process.wait_told()
            if self._take_notes():
                self.shim.settle_if_due()
            else:
                time.sleep(_AGAIN_S)  # another process comes, or the end

    def _take_notes(self) -> bool:
        """Take events, and have the shim make samples and records of what else was told; False: there is
        nobody to tell."""
        with self._noting:
            try:
                while (told := self.engine.process.told()) is not None:
                    kind, number, said = told
                    if kind == EVENT:
                        self._events.take(number, said)
                        continue
                    if kind == WAITS:
                        self._engine_replicas.attend()
                        continue
                    batch = note(self.engine, self._wall_us, kind, number, said)
                    if batch is not None:
                        self.shim.noted(batch, 1)
            except ProcessGone:
                return False
            finally:
                self.shim.settle()
        return True

    def _wall_us(self, ticks_ns: int) -> int:
        return wall_us() - (time.monotonic_ns() - ticks_ns) // 1000

    # Observation.

    @property
    def tables(self) -> WorkerTables:
        """The configuration as it is now, with what has been counted."""
        self.engine.refresh()
        return self._tables

    def received(self) -> int:
        return self.engine.frames()[0]

    def metrics(self, nf: str = "") -> dict[str, int]:
        self.engine.refresh()
        self.frames_in, self.frames_out, lost = self.engine.frames()
        self.drops.update(lost)
        restarts = {} if nf else {"process_restarts": len(self._restarted)}
        if not nf and (untold := self.engine.untold()):
            restarts["notes.lost"] = untold
        metrics = super().metrics(nf) | restarts
        if not nf:
            return metrics | self.engine.load()
        if f"{nf}.state_records" in metrics:  # so far what is Python's own
            records, size = self.state_of(nf).size()
            metrics[f"{nf}.state_records"] += records
            metrics[f"{nf}.state_bytes"] += size
        return metrics

    def _port_drops(self) -> dict[str, int]:
        try:
            return self.engine.process.drops()
        except ServerError:
            return {}

    # The process's end.

    def _watched(self) -> None:
        """Start the process again when it ends by itself."""
        while not self._closing:
            words = self.engine.process.wait()
            if self._closing:
                return
            self._tell(f"the process that moves packets has ended: {words}")
            if not self._restarts or not self._may_restart():
                break
            try:
                with self._lock, self.jobs.turn:
                    self.engine.restart()
                    self._engine_gates.again()
                    self._engine_replicas.process_ended(self.last_error)
            except ServerError as error:
                self._tell(f"it could not be started again: {error}")
                continue  # which the next look at it counts
            self._tell("it has been started again, and configured")
        self.ended.set()

    def _may_restart(self) -> bool:
        now = time.monotonic()
        self._restarted.append(now)
        return sum(at > now - WITHIN_S for at in self._restarted) <= MOST_RESTARTS

    def _tell(self, words: str) -> None:
        self.last_error = words
        _LOG.error("%s: %s", self.name, words)

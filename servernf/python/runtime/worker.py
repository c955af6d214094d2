"""A worker without sockets: frames in, frames out, and the calls that configure it.

One thread calls `process`; any thread may call the rest. Configuration is an immutable `WorkerTables`
that is replaced as a whole, so a batch sees all of a change or nothing of it.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from servernf.python.network_function import create, known_types
from servernf.python.packet import PacketView
from servernf.python.runtime.arrivals import Arrivals
from servernf.python.runtime.chain import (
    Chained,
    ChainScope,
    Dial,
    Hop,
    call_far,
    nobody,
    plan_chain,
    tell_abandoned,
)
from servernf.python.runtime.changes import (
    Configured,
    NfSpec,
    followed,
    manifest_problems,
    name_problems,
    port_problems,
    with_plan,
    without,
)
from servernf.python.runtime.clocks import monotonic_us, wall_us
from servernf.python.runtime.counting import instance_metrics, worker_metrics
from servernf.python.runtime.events import Events
from servernf.python.runtime.gates import Gates
from servernf.python.runtime.held import HeldFrames
from servernf.python.runtime.jobs import Jobs
from servernf.python.runtime.load import Load
from servernf.python.runtime.marks import Marks
from servernf.python.runtime.noting import FAILED, LostFrame, NoteBatch
from servernf.python.runtime.replicas import Replicas
from servernf.python.runtime.shim import Sample, Shim
from servernf.python.runtime.statekeeping import KeepsState
from servernf.python.runtime.tables import (
    CompiledCall,
    CompiledExit,
    Instance,
    Out,
    SampledLabels,
    WorkerTables,
    compile_steps,
)
from servernf.python.runtime.tag import TAG, TAG_BYTES, Beside, Tagged, labelled, marker_of
from servernf.python.runtime.transfers import Transfers
from servernf.wire.errors import InputError
from servernf.wire.fields import parsed
from servernf.wire.witness import Witness

CHAINING_PROTOCOLS = ("nsh-md1-ethernet",)
_MD1_ETHERNET = b"\x01\x03"
_TIDY_US = 1_000_000
"""How often NFs forget what is over, and no packet finds."""


class Worker(KeepsState):
    """A server core's NFs. `core_mac` is its MAC; `dial` reaches other workers for chaining."""

    create, nf_types = staticmethod(create), staticmethod(known_types)

    def __init__(
        self,
        name: str,
        core_mac: int,
        clock: Callable[[], int] = monotonic_us,
        *,
        wall_clock: Callable[[], int] = wall_us,
        ticks: Callable[[], int] = time.monotonic_ns,
        dial: Dial = nobody,
    ) -> None:
        self.name = name
        self.core_mac = core_mac
        self.dial = dial
        self.load = Load()
        self.frames_in = self.frames_out = 0
        self.drops: dict[str, int] = {}
        """Frames dropped by the worker itself, by reason (those of NFs are with the NFs)."""
        self.last_error = ""
        self.shim = Shim(name, wall_clock, ticks=ticks)
        self.events = Events(clock, wall_clock)
        self.socket_drops: Callable[[], Mapping[str, int]] = dict
        """What the socket of this worker has dropped, by reason."""
        self.now_us = clock
        self._lock = threading.Lock()
        self._tables = WorkerTables()
        self._steps: dict[int, CompiledCall] = {}
        self.held = HeldFrames()
        self.jobs = Jobs()
        self.gates = Gates(core_mac)
        self._is_gated = False
        self.arrivals = Arrivals(self)
        self.transfers = Transfers(self, self.arrivals)
        self.replicas = Replicas(self, self.arrivals)
        self.marks = Marks(core_mac, self.jobs)
        self._tidy_us = 0
        self._packet = PacketView()
        self._second = PacketView()
        mac = core_mac.to_bytes(6, "big")
        self._mac_first, self._mac_rest = mac[0], mac[2:]
        self._base = [struct.pack("!H", ttl << 6 | 6) + _MD1_ETHERNET for ttl in range(64)]

    @property
    def tables(self) -> WorkerTables:
        """The configuration as it is now."""
        return self._tables

    # The data path.

    def process(self, frames: Sequence[bytes]) -> list[bytes]:
        """Run a batch of tagged frames to completion; the frames to send, in order.

        Those that NFs have held until now come first, also with an empty batch.
        """
        if self._is_gated:
            frames = self._let(frames)
        steps, now_us = self._steps, self.now_us()
        batch = self.shim.batch(now_us, steps)
        due_us = self.held.next_us
        out = [] if due_us is None or due_us > now_us else self._released(now_us, batch)
        ticks, notes = self.shim.ticks, batch.notes if batch is not None else None
        timed, packet = frames[self.load.batches % len(frames)] if frames else None, self._packet
        beside: list[Beside] = []
        load, unpack = packet.load, TAG.unpack_from
        first, rest, bases = self._mac_first, self._mac_rest, self._base
        self.frames_in += len(frames)
        for frame in frames:
            if len(frame) < TAG_BYTES:
                self._drop("bad_tag")
                continue
            mac_first, mac_rest, ether_type, base, kind, path, context = unpack(frame)
            # Version 0, MD type 1, length 6, Ethernet. RFC 8300, 2.2: OAM packets (O bit) are
            # discarded by who does not handle them; unassigned bits are ignored.
            if ether_type != 0x894F or base & 0xE03F != 6 or kind & 0x0FFF != 0x103:
                if self.transfers.mark(marker_of(frame, self.core_mac)):
                    self.frames_in -= 1
                else:
                    self._drop("bad_tag")
                continue
            # A MAC's second octet is the tree by which the fabric brought the frame.
            if mac_rest != rest or mac_first != first:
                self._drop("not_mine")
                continue
            ttl = base >> 6 & 0x3F
            step = steps.get(path)
            words = frame[22:38]
            lost = ""
            if ttl <= 1:
                lost = "nsh_ttl"
            elif step is None:
                lost = "unknown_path"
            elif not load(frame, TAG_BYTES):
                lost = "malformed"
            if lost or step is None:
                self._lose(LostFrame(words, step, path, 0, lost, frame[TAG_BYTES:]), batch)
                continue
            packet.context = context
            given: bytes | None = frame
            following: CompiledCall | CompiledExit | None = None
            reason = ""
            is_timed = frame is timed
            try:
                while True:
                    step.tally.packets += 1
                    entered = ticks() if is_timed else 0
                    port = step.process(packet, step.port, now_us)
                    if is_timed:
                        step.tally.times.add(ticks() - entered)
                    if step.emitted:
                        beside += [(step, emitted, packet.context) for emitted in step.emitted]
                        if batch is not None:
                            batch.emitted[len(batch.notes)] = tuple(step.emitted)
                        step.emitted.clear()
                    if port is None:
                        reason = step.instance.nf.last_drop
                        step.instance.nf.tell_drop(packet)
                        break
                    following = step.next.get(port)
                    if not isinstance(following, CompiledCall):
                        break
                    if notes is not None:
                        left = bytes(packet.data), packet.context, ""
                        notes += (words, given, ticks(), port, left)
                        given = None
                    step = following
            except Exception as error:
                self._failed(step, error)
                reason = FAILED + type(error).__name__
                port = following = None
            if isinstance(following, CompiledExit):
                was = words if packet.context == context else labelled(words, packet.context)
                parts = following.ethernet, bases[ttl - 1], following.path, was, packet.data
                out.append(sent := b"".join(parts))
                if notes is not None:
                    notes += (words, given, ticks(), port, sent)
            else:
                if notes is not None:
                    notes += (words, given, ticks(), port, (packet.data, packet.context, reason))
                if port is not None:
                    self._lose(
                        LostFrame(words, step, path, 0, "no_next_hop", bytes(packet.data)), batch
                    )
            if beside:
                tag = Tagged.of(bases[ttl - 1], words, path)
                out += self._sent_beside(beside, tag, now_us, batch)
        if self.marks.waiting:
            out += self.marks.taken()
        if self.replicas.is_under_way:
            out = self.replicas.after(frames, out, now_us)
        self.frames_out += len(out)
        self.shim.noted(batch, len(frames))
        if now_us >= self._tidy_us:
            self._tidy_us = now_us + _TIDY_US
            for instance in self._tables.instances.values():
                instance.nf.tidy(now_us)
        return out

    def _sent_beside(
        self, beside: list[Beside], tag: Tagged, now_us: int, batch: NoteBatch | None
    ) -> list[bytes]:
        """Run what NFs sent beside a packet to completion, and empty the list."""
        out: list[bytes] = []
        packet = self._second
        branch = 0
        while beside:
            step, emitted, packet.context = beside.pop(0)
            branch += 1
            if emitted.at_us > now_us:
                self.held.hold((step, emitted, packet.context), tag)
                continue
            following = step.next.get(emitted.port)
            data = emitted.frame
            lost = ""
            try:
                while isinstance(following, CompiledCall):
                    step = following
                    if not packet.load(data):
                        lost = "malformed"
                        break
                    step.tally.packets += 1
                    if batch is None:
                        port = step.process(packet, step.port, now_us)
                    else:
                        port = batch.beside(step, packet, tag.words, branch, data, self.shim.ticks)
                    beside += [(step, more, packet.context) for more in step.emitted]
                    step.emitted.clear()
                    if port is None:
                        step.instance.nf.tell_drop(packet)
                        break
                    following = step.next.get(port)
                    data = bytes(packet.data)
                else:
                    if following is None:
                        lost = "no_next_hop"
                    else:
                        words = labelled(tag.words, packet.context)
                        head = (following.ethernet, tag.base, following.path, words)
                        out.append(b"".join((*head, data)))
            except Exception as error:
                self._failed(step, error)
            if lost:
                self._lose(LostFrame(tag.words, step, tag.path, branch, lost, data), batch)
        return out

    def wait_us(self) -> int | None:
        """How long until `process` has a frame to send that is held; None when none is."""
        if self.gates.released or self.marks.waiting:
            return 0
        due_us, now_us = self.held.next_us, self.now_us()
        waits = [self.replicas.wait_us(now_us), due_us and max(0, due_us - now_us)]
        return min((wait for wait in waits if wait is not None), default=None)

    def _released(self, now_us: int, batch: NoteBatch | None) -> list[bytes]:
        """Run what was held until now to completion; what has been removed meanwhile is dropped."""
        out: list[bytes] = []
        for held, tag in self.held.due(now_us):
            step, emitted, _ = held
            if self._tables.instances.get(step.instance.name) is not step.instance:
                lost = LostFrame(tag.words, step, tag.path, 1, "nf_removed", emitted.frame)
                self._lose(lost, batch)
                continue
            if batch is not None:
                batch.let_go(held, tag)
            out += self._sent_beside([held], tag, now_us, batch)
        return out

    def _let(self, frames: Sequence[bytes]) -> list[bytes]:
        """The frames that NFs see now, while state moves."""
        let = self.gates.let(frames, self._steps)
        self.frames_in += len(frames) - len(let)
        self._is_gated = bool(self.gates.all)
        return let

    def _lose(self, lost: LostFrame, batch: NoteBatch | None) -> None:
        self._drop(lost.reason)
        if batch is not None:
            batch.lost.append(lost)

    def _failed(self, step: CompiledCall, error: Exception) -> None:
        """One packet must not end the others, nor leave to the next what an NF sent beside it."""
        step.emitted.clear()
        self.last_error = f"{type(error).__name__}: {error}"
        self._drop("nf_error")

    def _drop(self, reason: str) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + 1

    @property
    def instances(self) -> Mapping[str, Instance]:
        """By name."""
        return self._tables.instances

    @property
    def steps(self) -> Mapping[int, CompiledCall]:
        """The first step of every path."""
        return self._steps

    def settle(self) -> None:
        """Compile the steps anew, and look at frames while there are gates."""
        self.replicas.settled()
        self._steps = compile_steps(self._tables, self.core_mac, self.shim.process_of)
        self.shim.follow(self._steps)
        self._is_gated = bool(self.gates.all or self.gates.released)

    # Configuration.

    def configure(
        self,
        graph: str,
        nfs: Sequence[NfSpec] = (),
        *,
        remove: Sequence[str] = (),
        manifest: SampledLabels | None = None,
        remove_manifest: bool = False,
    ) -> Configured:
        """Create or replace `nfs` of a graph, remove others, set its manifest; all or nothing.

        An instance whose type and configuration are the same stays, with its state; a new one
        of an NF of which another is here goes on with that one's as far as it can.
        """
        with self._lock:
            tables = self._tables
            problems = name_problems(graph, [spec.name for spec in nfs], "nfs")
            problems += name_problems(graph, remove, "remove")
            problems += manifest_problems(manifest)
            for index, name in enumerate(remove):
                if any(spec.name == name for spec in nfs):
                    problems.append(f"remove[{index}]: '{name}' is in nfs, too")
            created: list[str] = []
            replaced: list[str] = []
            unchanged: list[str] = []
            instances = dict(tables.instances)
            for index, spec in enumerate(nfs):
                old = tables.instances.get(spec.name)
                if old is not None and old.runs(spec.type_name, spec.config_json):
                    unchanged.append(spec.name)
                    continue
                try:
                    config = parsed(spec.config_json, f"nfs[{index}].config_json")
                    nf = self.create(spec.type_name, spec.name, config)
                except InputError as error:
                    problems += error.problems
                    continue
                if old is not None:
                    problems += port_problems(tables, old, nf.ports)
                nf.events = self.events.source(spec.name, spec.type_name)
                instances[spec.name] = Instance(spec.name, spec.type_name, spec.config_json, nf)
                (created if old is None else replaced).append(spec.name)
            if problems:
                raise InputError(problems)
            there = dict(tables.instances)
            continued: list[str] = []
            for name in (*created, *replaced):
                before = followed(instances[name], there.values())
                if before is not None and instances[name].follow(before):
                    continued.append(name)
                there[name] = instances[name]
            removed = [name for name in remove if instances.pop(name, None) is not None]
            manifests = dict(tables.manifests)
            if manifest is not None:
                manifests[graph] = manifest
            elif remove_manifest:
                manifests.pop(graph, None)
            self._commit(without(replace(tables, instances=instances, manifests=manifests)))
            self.shim.configured(graph, instances.values(), removed)
        return Configured(*map(tuple, (created, replaced, unchanged, removed, continued)))

    def witness(self, graph: str, witness: Witness | None) -> None:
        """Watch a graph's packets for a witness, or no longer; the graph need not be here yet."""
        problems = [] if graph else ["graph: must not be empty"]
        problems += witness.problems() if witness else ()
        if problems:
            raise InputError(problems)
        with self._lock:
            self.shim.witness(graph, witness)
            self.jobs.do(self.settle)

    def remove_graph(self, graph: str) -> tuple[str, ...]:
        """Remove a graph's instances with their state, its chains and its manifest."""
        with self._lock:
            tables = self._tables
            removed = tuple(
                n for n, instance in tables.instances.items() if instance.graph == graph
            )
            instances = {n: i for n, i in tables.instances.items() if i.graph != graph}
            manifests = {g: m for g, m in tables.manifests.items() if g != graph}
            self._commit(without(replace(tables, instances=instances, manifests=manifests)))
            self.shim.configured(graph, instances.values(), removed)
        return removed

    def service_chain(
        self,
        nf: str,
        scope: ChainScope,
        hops: Sequence[Hop],
        *,
        update: bool = False,
        dial: Dial | None = None,
    ) -> Chained:
        """serviceChain and serviceChainUpdate of the paper, called at `nf` (see `chain`); `dial` reaches
        other workers for this call, in the place of the worker's own.
        """
        dial = dial or self.dial
        plan = plan_chain(self._tables, nf, scope, hops, update=update)
        nfs = [f"{self.name}:{name}" for name in plan.nfs]
        remote = plan.remote
        out: Out | None = None
        if remote is not None:
            # No lock is held here: the chain may come back to this worker.
            far = dial(remote.hop.worker)
            answer = call_far(far, remote.hop.name, remote.scope, remote.rest, update=update)
            out = remote.out(answer.mac)
            nfs += answer.nfs
        with self._lock:
            before = self._tables
            plan = plan_chain(before, nf, scope, hops, update=update)
            if remote is not None and out is not None:
                plan.classifiers[remote.key] = out
            after = with_plan(before, plan, scope, update=update)
            self._commit(after)
        if update:
            # Nothing leads to what stays behind elsewhere, so it does no harm.
            self.last_error = tell_abandoned(before, after, dial) or self.last_error
        return Chained(self.core_mac, tuple(nfs))

    def _commit(self, tables: WorkerTables) -> None:
        def put() -> None:
            self._tables = tables
            self.marks.settle(tables)
            self.settle()
            self.shim.use(tables.manifests)
            self.events.forget(tables.instances)

        self.jobs.do(put)

    # Observation.

    def received(self) -> int:
        """How many frames have come."""
        return self.frames_in

    def metrics(self, nf: str = "") -> dict[str, int]:
        """Counters of one instance, or of the worker and all its instances."""
        if nf:
            return instance_metrics(self._instance(nf), measured=True)
        metrics = worker_metrics(self.frames_in, self.frames_out, (self.drops, self.socket_drops()))
        metrics |= self.load.metrics() | self.shim.metrics() | self.events.metrics()
        for instance in list(self._tables.instances.values()):
            metrics |= instance_metrics(instance)
        return metrics

    def read_samples(self, cursor: int = 0, limit: int = 1000) -> tuple[list[Sample], int, int]:
        """Samples from a cursor on, the next cursor, and how many were overwritten unread."""
        return self.shim.read(cursor, limit)


__all__ = ("CHAINING_PROTOCOLS", "Configured", "NfSpec", "Worker", "known_types")

"""Softswitches and workers of this process: nodes of a simulation, driven like devices behind gRPC."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from finsy.proto import p4i, p4r

from orchestrator.clients.encoding import InsertRun
from orchestrator.clients.p4info import Schema
from orchestrator.clients.p4runtime import InstalledEntry
from orchestrator.clients.vnf import chain_request, configure_request
from orchestrator.clients.writing import Writable
from orchestrator.errors import SwitchError
from orchestrator.model.entries import ServerChain
from orchestrator.model.manifest import SamplingSecret
from orchestrator.model.plan import Core
from orchestrator.model.topology import Server, Switch
from orchestrator.simulation.clocks import Clock
from orchestrator.simulation.network import Sent
from orchestrator.softswitch.ir import program_of
from orchestrator.softswitch.switch import SoftSwitch
from orchestrator.targets import lookup
from servernf.proto import vnf_pb2
from servernf.python.local import LocalWorker, NotFound
from servernf.wire.addresses import device_mac


class MemorySwitch:
    """A softswitch in this process, driven like one behind P4Runtime; `clock` tells nanoseconds, and
    `emit` has the network carry a frame from one of its ports."""

    def __init__(
        self,
        switch: Switch,
        clock: Callable[[], int],
        emit: Callable[[int, bytes], None] = lambda port, frame: None,
    ) -> None:
        self.name = switch.name
        self._emit = emit
        cpu = lookup(switch.target).ports.cpu
        self.soft = SoftSwitch(switch.id, cpu, clock, name=switch.name)
        self.soft.start = 0  # what its clock shows is the time that programs see
        self.process = self.soft.process
        self.schema: Schema | None = None
        self._cookie: int | None = None
        self._config: p4r.ForwardingPipelineConfig | None = None

    def pipeline_cookie(self) -> int | None:
        """Cookie of the loaded pipeline."""
        return self._cookie

    def pipeline_config(self) -> p4r.ForwardingPipelineConfig | None:
        """The loaded pipeline."""
        return self._config

    def set_pipeline(self, p4info: p4i.P4Info, device_config: bytes, cookie: int) -> None:
        """Load a pipeline."""
        self.soft.load(program_of(device_config), p4info)
        self.schema = Schema.of(p4info)
        self._cookie = cookie
        self._config = p4r.ForwardingPipelineConfig(p4info=p4info, p4_device_config=device_config)
        self._config.cookie.cookie = cookie

    def write(
        self,
        updates: Iterable[Writable],
        *,
        batch: int = 500,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Write updates in batches."""
        rest = (
            u if isinstance(u, p4r.Update) else u.message()
            for some in updates
            for u in (some.updates() if isinstance(some, InsertRun) else (some,))
        )
        written = 0
        while chunk := list(islice(rest, batch)):
            self.soft.write(chunk)
            written += len(chunk)
            if progress is not None:
                progress(len(chunk))
        return written

    def read_entities(self, *wanted: p4r.Entity) -> Iterator[p4r.Entity]:
        """What the given entities select."""
        return self.soft.read(*wanted)

    def packet_out(self, frame: bytes, egress_port: int) -> None:
        """Send a frame out of a port."""
        self._emit(egress_port, frame)

    def entries(self, table: str = "") -> Iterator[InstalledEntry]:
        """Installed entries with counters."""
        if self.schema is None:
            raise SwitchError(f"{self.name}: no pipeline is loaded")
        for name in [table] if table else list(self.schema.tables):
            wanted = p4r.Entity()
            wanted.table_entry.table_id = self.schema.table(name).id
            wanted.table_entry.counter_data.SetInParent()
            if self.schema.table(name).metered:
                wanted.table_entry.meter_config.SetInParent()
            for entity in self.soft.read(wanted):
                graph, entry = self.schema.decode(entity.table_entry)
                data = entity.table_entry.counter_data
                yield InstalledEntry(graph, entry, data.packet_count, data.byte_count)


class MemoryWorker:
    """A worker in this process, driven like one behind the VNF management API."""

    def __init__(self, worker: LocalWorker) -> None:
        self.worker = worker

    def configure(
        self,
        graph: str,
        nfs: Mapping[str, tuple[str, Mapping[str, Any]]],
        manifest: SamplingSecret | None,
        *,
        remove: Sequence[str] = (),
        remove_manifest: bool = False,
    ) -> None:
        """Create NF instances of a graph, remove others with their state and their chains."""
        self.worker.configure(configure_request(graph, nfs, manifest, remove, remove_manifest))

    def service_chain(self, graph: str, chain: ServerChain) -> None:
        """Chain NFs: told to the first one."""
        self.worker.serviceChain(chain_request(graph, chain))

    def remove_chain(self, graph: str, chain: ServerChain) -> None:
        """Forget a chain's (SPI, SI); nothing when it is not there."""
        request = chain_request(graph, chain)
        del request.next[:]
        with suppress(NotFound):
            self.worker.serviceChainUpdate(request)

    def remove_graph(self, graph: str) -> None:
        """Remove all that a graph has here."""
        self.worker.removeGraph(vnf_pb2.RemoveGraphRequest(graph=graph))

    @property
    def certified(self) -> str:
        """It shows no certificate."""
        return ""

    def expect_state(self, request: vnf_pb2.ExpectStateRequest) -> str:
        """Announce a transfer to this worker; its name, by which others of this process reach it."""
        return self.worker.expectState(request).address

    def transfer(self, request: vnf_pb2.TransferRequest) -> vnf_pb2.TransferResponse:
        """A phase of a transfer from this worker."""
        return self.worker.transfer(request)

    def replicate(self, request: vnf_pb2.ReplicateRequest) -> vnf_pb2.ReplicateResponse:
        """A phase of a replication from this worker, or to it."""
        return self.worker.replicate(request)

    def status(self) -> vnf_pb2.Status:
        """What the worker runs."""
        return self.worker.getStatus(vnf_pb2.StatusRequest())

    def metrics(self) -> dict[str, int]:
        """Counters of the worker and its NFs, by name."""
        return dict(self.worker.queryMetrics(vnf_pb2.MetricsRequest()).metrics)

    def samples(self, cursor: int) -> tuple[list[vnf_pb2.Sample], int]:
        """Trajectory samples of the shim from a cursor on, and the next cursor."""
        answer = self.worker.readSamples(vnf_pb2.ReadSamplesRequest(cursor=cursor))
        return list(answer.samples), answer.cursor

    def events(self, cursor: int) -> tuple[list[vnf_pb2.Event], int]:
        """What NFs have told from a cursor on, and the next cursor."""
        batch = self.worker.events(vnf_pb2.WatchEventsRequest(cursor=cursor))
        return list(batch.events), batch.cursor


class MemoryServer:
    """A server's workers, each reached by its core's MAC. `now_ns` is virtual time, `clock` theirs.

    Samples tell a time since 1970: that of `epoch_us` when virtual time began. Behind a SmartNIC
    (`own_ports`) each core has a port, its number.
    """

    def __init__(
        self,
        server: Server,
        now_ns: Callable[[], int],
        clock: Clock,
        epoch_us: int = 0,
        peers: Callable[[str], LocalWorker | None] = lambda _: None,
        *,
        own_ports: bool = False,
    ) -> None:
        self._peers, self._own_ports = peers, own_ports
        self._server, self._clock = server, clock
        self._now_ns, self._epoch_us = now_ns, epoch_us
        self.workers: dict[int, LocalWorker] = {}
        """By core, from 0."""
        self._cores: dict[bytes, int] = {}
        for index in server.worker_cores:
            self._cores[device_mac(server.id, core=index + 1).to_bytes(6, "big")] = index
            self.renew(index)

    def renew(self, index: int) -> LocalWorker:
        """The worker of a core is started again, empty."""

        def shown_ns() -> int:
            return self._clock.read_ns(self._now_ns())

        def shown_us() -> int:
            return shown_ns() // 1000

        worker = self.workers[index] = LocalWorker(
            str(Core(self._server.name, index)),
            device_mac(self._server.id, core=index + 1),
            shown_us,
            lambda: self._epoch_us + shown_us(),
            shown_ns,
            self._peers,
        )
        return worker

    def core_of(self, frame: bytes) -> int | None:
        """The core, from 0, that a frame is for; None: no worker's."""
        return self._cores.get(frame[:6])

    def process(self, port: int, frame: bytes) -> Sequence[Sent]:
        """What the worker with the frame's outer MAC sends; nothing if there is none."""
        core = self._cores.get(frame[:6])
        if core is None:
            return ()
        return [(self._port(core), left) for left in self.workers[core].process([frame])]

    def _port(self, core: int) -> int:
        return core if self._own_ports else 0

    def wait_ns(self) -> int | None:
        """How long until a worker has something to send that an NF holds."""
        waits = [us for w in self.workers.values() if (us := w.wait_us()) is not None]
        return self._clock.lasting_ns(min(waits) * 1000) if waits else None

    def release(self) -> Sequence[Sent]:
        """What NFs have held until now."""
        due = [core for core, worker in self.workers.items() if worker.wait_us() == 0]
        return [(self._port(core), left) for core in due for left in self.workers[core].process(())]

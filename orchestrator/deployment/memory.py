"""A network in memory: softswitches and workers in this process, links as queues. No root needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from finsy.proto import p4i, p4r

from orchestrator.clients.encoding import Run
from orchestrator.clients.p4info import Schema
from orchestrator.clients.p4runtime import InstalledEntry
from orchestrator.clients.vnf import chain_request, configure_request
from orchestrator.clients.writing import Writable
from orchestrator.errors import SwitchError
from orchestrator.model.entries import ServerChain
from orchestrator.model.plan import Core
from orchestrator.model.topology import Switch, Topology
from orchestrator.network.fabric import Fabric
from orchestrator.network.names import worker_name
from orchestrator.softswitch.ir import decode_program
from orchestrator.softswitch.switch import SoftSwitch
from orchestrator.targets import lookup
from orchestrator.verification.manifest import Manifest
from servernf.proto import vnf_pb2
from servernf.python.local import LocalWorker, NotFound
from servernf.wire.addresses import device_mac

_MOST_HOPS = 10_000


class MemorySwitch:
    """A softswitch in this process, driven like one behind P4Runtime."""

    def __init__(self, switch: Switch, clock: Callable[[], int]) -> None:
        self.name = switch.name
        cpu = lookup(switch.target).ports.cpu
        self.soft = SoftSwitch(switch.id, cpu, clock, name=switch.name)
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
        self.soft.load(decode_program(device_config), p4info)
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
            for u in (some.updates() if isinstance(some, Run) else (some,))
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
        manifest: Manifest | None,
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


@dataclass(frozen=True, slots=True)
class Delivery:
    """A frame that reached a host."""

    host: str
    frame: bytes


class MemoryNetwork:
    """The devices of a topology, joined; a virtual clock in us that moves by `advance`."""

    def __init__(self, topology: Topology) -> None:
        self.name = "memory"
        self.topology = topology
        self.fabric = Fabric(topology)
        self.now_us = 0
        self.switches = {
            name: MemorySwitch(switch, lambda: self.now_us * 1000)
            for name, switch in topology.switches.items()
        }
        self.workers: dict[Core, MemoryWorker] = {}
        self._by_mac: dict[int, LocalWorker] = {}
        for server in topology.servers.values():
            for index in server.worker_cores:
                mac = device_mac(server.id, core=index + 1)
                worker = LocalWorker(worker_name(server.name, index), mac, lambda: self.now_us)
                self.workers[Core(server.name, index)] = MemoryWorker(worker)
                self._by_mac[mac] = worker
        self._far: dict[tuple[str, int], tuple[str, int]] = {}
        for link in topology.links:
            self._far[link.a, link.a_port] = (link.b, link.b_port)
            self._far[link.b, link.b_port] = (link.a, link.a_port)

    def device(self, name: str) -> AbstractContextManager[MemorySwitch]:
        """The switch; there is no session to open."""
        return nullcontext(self.switches[name])

    def worker(self, core: Core) -> AbstractContextManager[MemoryWorker]:
        """The worker; there is no session to open."""
        return nullcontext(self.workers[core])

    def pause(self, seconds: float) -> None:
        """Let packets move: none is ever under way between two calls, so only time passes."""
        self.advance(round(seconds * 1e6))

    def advance(self, us: int) -> None:
        """Let time pass."""
        self.now_us += us

    def send(self, host: str, frame: bytes) -> list[Delivery]:
        """Send a frame from a host and run the network until nothing moves.

        Before it, what workers have held until now goes on.
        """
        at = self.fabric.attachments[host]
        held = [
            (core.server, left)
            for core, memory in self.workers.items()
            if memory.worker.wait_us() == 0
            for left in memory.worker.process(())
        ]
        delivered: list[Delivery] = []
        for server, left in held:
            nic = self.fabric.attachments[server]
            delivered += self._run((nic.switch, nic.port, left))
        return delivered + self._run((at.switch, at.port, frame))

    def _run(self, first: tuple[str, int, bytes]) -> list[Delivery]:
        """What hosts receive of a frame that enters a node by a port."""
        moving: deque[tuple[str, int, bytes]] = deque([first])
        delivered: list[Delivery] = []
        for _ in range(_MOST_HOPS):
            if not moving:
                return delivered
            node, port, data = moving.popleft()
            if node in self.switches:
                for out, left in self.switches[node].soft.process(port, data):
                    moving.append((*self._far.get((node, out), ("", 0)), left))
            elif node in self.topology.servers:
                worker = self._by_mac.get(int.from_bytes(data[:6], "big"))
                nic = self.fabric.attachments[node]
                for left in worker.process([data]) if worker else ():
                    moving.append((nic.switch, nic.port, left))
            elif node:
                delivered.append(Delivery(node, data))
        raise SwitchError(f"a frame from {first[0]} still moves after {_MOST_HOPS} hops: a loop")

"""What a deployment needs of a device: the same whether it is reached over gRPC or in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from finsy.proto import p4i, p4r

from orchestrator.clients.p4info import Schema
from orchestrator.clients.p4runtime import InstalledEntry
from orchestrator.clients.writing import Writable
from orchestrator.deployment.access import Access
from orchestrator.deployment.journal import Journal, Lead
from orchestrator.deployment.store import LEAD_WAIT_S
from orchestrator.model.away import Away
from orchestrator.model.entries import ServerChain
from orchestrator.model.manifest import SamplingSecret
from orchestrator.model.plan import Core
from orchestrator.model.topology import Link, Topology
from servernf.proto import vnf_pb2

LOOK_S = 5.0
"""A device that says nothing for so long does not answer: a busy one must not be taken for dead."""


class PipelineDriver(Protocol):
    """A device with a pipeline, reached over P4Runtime: a switch or a NIC."""

    name: str
    schema: Schema | None

    def pipeline_cookie(self) -> int | None:
        """Cookie of the running pipeline, or None."""
        ...

    def pipeline_config(self) -> p4r.ForwardingPipelineConfig | None:
        """The running pipeline, its program empty where the switch keeps that to itself; or None."""
        ...

    def set_pipeline(self, p4info: p4i.P4Info, device_config: bytes, cookie: int) -> None:
        """Load a pipeline."""
        ...

    def write(
        self,
        updates: Iterable[Writable],
        *,
        batch: int = 500,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Write updates; SwitchError when some fail. A batch of 1 keeps the order."""
        ...

    def entries(self, table: str = "") -> Iterator[InstalledEntry]:
        """Installed entries."""
        ...

    def packet_out(self, frame: bytes, egress_port: int) -> None:
        """Have it send a frame out of a port."""
        ...

    def read_entities(self, *wanted: p4r.Entity) -> Iterator[p4r.Entity]:
        """What the given entities select, as P4Runtime's wildcards say."""
        ...


class WorkerDriver(Protocol):
    """A server worker that speaks the VNF management API."""

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
        ...

    def service_chain(self, graph: str, chain: ServerChain) -> None:
        """Chain NFs: told to the first one, which tells the rest."""
        ...

    def remove_chain(self, graph: str, chain: ServerChain) -> None:
        """Forget a chain's (SPI, SI); nothing when it is not there."""
        ...

    def remove_graph(self, graph: str) -> None:
        """Remove all that a graph has here; nothing when there is nothing."""
        ...

    @property
    def certified(self) -> str:
        """Whom its certificate must be made out to, where that is not its address."""
        ...

    def expect_state(self, request: vnf_pb2.ExpectStateRequest) -> str:
        """Announce a transfer to this worker; the address for its source."""
        ...

    def transfer(self, request: vnf_pb2.TransferRequest) -> vnf_pb2.TransferResponse:
        """A phase of a transfer from this worker (servernf/proto/vnf.proto)."""
        ...

    def replicate(self, request: vnf_pb2.ReplicateRequest) -> vnf_pb2.ReplicateResponse:
        """A phase of a replication from this worker, or to it (servernf/proto/vnf.proto)."""
        ...

    def status(self) -> vnf_pb2.Status:
        """What the worker runs."""
        ...

    def metrics(self) -> dict[str, int]:
        """Its counters by name (queryMetrics)."""
        ...


class NetworkDriver(Protocol):
    """The devices of one network, live or in memory."""

    name: str
    topology: Topology
    """Every device as it runs."""

    def device(self, name: str) -> AbstractContextManager[PipelineDriver]:
        """A controller's session with a device that has a pipeline."""
        ...

    def worker(self, core: Core) -> AbstractContextManager[WorkerDriver]:
        """A session with a worker."""
        ...

    def pause(self, seconds: float) -> None:
        """Let packets move for so long."""
        ...


class ManagedNetwork(NetworkDriver, Protocol):
    """A network whose graphs a journal knows, and that one at a time changes."""

    access: Access
    journal: Journal

    @property
    def cores(self) -> tuple[Core, ...]:
        """Cores that run a worker."""
        ...

    def worker_name(self, core: Core) -> str:
        """What the worker on a core calls itself."""
        ...

    def links_down(self) -> Mapping[Link, str]:
        """Links that are down, with what is known of it; those of which nothing is known are not."""
        ...

    def dead(self) -> Away:
        """Devices and workers of which whoever watches them knows that they will not answer."""
        ...

    def leading(self, wait_s: float = LEAD_WAIT_S) -> AbstractContextManager[Lead]:
        """The right to change the network."""
        ...

    def reading(self, wait_s: float = LOOK_S) -> NetworkDriver:
        """The same devices by sessions that only read: whoever is primary stays it. A device that
        says nothing for `wait_s` does not answer."""
        ...

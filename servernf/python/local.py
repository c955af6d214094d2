"""A worker within this process, called by the messages of `vnf.proto`: no socket, no thread.

Errors are those of the runtime (`InputError`, `ServerError`), with what a status of gRPC would tell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from servernf.proto import vnf_pb2 as vnf
from servernf.python.runtime import messages
from servernf.python.runtime.clocks import wall_us
from servernf.python.runtime.errors import NotFound
from servernf.python.runtime.tables import WorkerTables
from servernf.python.runtime.worker import Worker
from servernf.python.telling import RATES
from servernf.wire.errors import InputError

__all__ = ("LocalWorker", "NotFound")


class LocalWorker:
    """The calls by their names in `vnf.proto`, and frames. `clock` tells microseconds, `wall_clock`
    those since 1970, `ticks` nanoseconds, both for samples and records; `worker`: one that is there."""

    def __init__(
        self,
        name: str,
        mac: int,
        clock: Callable[[], int],
        wall_clock: Callable[[], int] = wall_us,
        ticks: Callable[[], int] = time.monotonic_ns,
        peers: Callable[[str], LocalWorker | None] = lambda _: None,
        worker: Worker | None = None,
    ) -> None:
        self._peers = peers
        self._worker = worker or Worker(name, mac, clock, wall_clock=wall_clock, ticks=ticks)
        self._started = time.monotonic_ns()

    def configure(self, request: vnf.ConfigureRequest) -> vnf.ConfigureResponse:
        return messages.configure(self._worker, request)

    def serviceChain(self, request: vnf.ServiceChainRequest) -> vnf.ServiceChainResponse:
        return messages.service_chain(self._worker, request, update=False)

    def serviceChainUpdate(self, request: vnf.ServiceChainRequest) -> vnf.ServiceChainResponse:
        return messages.service_chain(self._worker, request, update=True)

    def removeGraph(self, request: vnf.RemoveGraphRequest) -> vnf.RemoveGraphResponse:
        return messages.remove_graph(self._worker, request)

    def queryMetrics(self, request: vnf.MetricsRequest) -> vnf.Metrics:
        return messages.metrics(self._worker, request)

    def _dial(self, address: str, _: str) -> LocalWorker:
        peer = self._peers(address)
        if peer is None:
            raise InputError(f"destination: '{address}' is no peer of this worker")
        return peer

    def getStatus(self, request: vnf.StatusRequest) -> vnf.Status:
        return messages.status(self._worker, messages.WorkerPlace(), self._started)

    def setWitness(self, request: vnf.WitnessRequest) -> vnf.WitnessResponse:
        return messages.set_witness(self._worker, request)

    def readSamples(self, request: vnf.ReadSamplesRequest) -> vnf.ReadSamplesResponse:
        return messages.read_samples(self._worker, request)

    def events(self, request: vnf.WatchEventsRequest) -> vnf.EventBatch:
        """The next batch of watchEvents."""
        events, cursor, lost = self._worker.events.read(request.cursor, request.graphs)
        return vnf.EventBatch(events=events, cursor=cursor, lost=lost)

    def tell_everything(self) -> None:
        """Suppress no event of NFs that are configured from now on."""
        self._worker.events.rates = dict.fromkeys(RATES, (1 << 32, 1 << 32))

    def record_to(self, sink: Callable[[bytes], bool]) -> None:
        """Where its records go (`Shim.record_to`)."""
        self._worker.shim.record_to(sink)

    def settle(self) -> None:
        """Make the records of what has been noted."""
        self._worker.shim.settle()

    def transfer(self, request: vnf.TransferRequest) -> vnf.TransferResponse:
        return self._worker.transfers.transfer(request, self._dial)

    def expectState(self, request: vnf.ExpectStateRequest) -> vnf.ExpectStateResponse:
        self._worker.arrivals.expect(request)
        return vnf.ExpectStateResponse(address=self.name)

    def push_state(self, request: vnf.PushStateRequest) -> vnf.PushStateResponse:
        """pushState, as another worker of this process calls it."""
        return self._worker.replicas.pushed(request)

    def replicate(self, request: vnf.ReplicateRequest) -> vnf.ReplicateResponse:
        return self._worker.replicas.replicate(request, self._dial)

    def process(self, frames: Sequence[bytes]) -> list[bytes]:
        """Frames that the worker sends for those that come (`Worker.process`)."""
        with self._worker.jobs.turn:
            return self._worker.process(frames)

    def wait_us(self) -> int | None:
        """How long until `process` has a frame to send that is held; None when none is."""
        return self._worker.wait_us()

    def serve(self, address: str) -> Callable[[], None]:
        """Answer the calls at an address (`service.serve`), too; what is returned ends that."""
        from servernf.python.runtime.service import serve

        server, service, _ = serve(self._worker, address)

        def stop() -> None:
            service.stopping.set()
            server.stop(0).wait()

        return stop

    @property
    def name(self) -> str:
        """What it calls itself."""
        return self._worker.name

    @property
    def holds_back(self) -> bool:
        """Whether packets wait for state that is on its way here."""
        return self._worker.arrivals.is_under_way

    @property
    def tables(self) -> WorkerTables:
        """The configuration as it is now."""
        return self._worker.tables

    @property
    def last_error(self) -> str:
        """What the last NF that failed said."""
        return self._worker.last_error

"""The gRPC face of a `Worker`: who may call, one after the other, and what errors are told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import wraps
from typing import Any, TypeVar, cast

import grpc

from servernf.host.authority import Authority, caller
from servernf.host.version import installed_version
from servernf.proto import vnf_pb2 as vnf
from servernf.proto import vnf_pb2_grpc
from servernf.python.runtime import messages
from servernf.python.runtime.door import StateService
from servernf.python.runtime.errors import NotFound
from servernf.python.runtime.messages import WorkerPlace
from servernf.python.runtime.peers import (
    CALL_TIMEOUT_S,
    CHAIN_FROM,
    ELECTION_BYTES,
    ELECTION_ID,
    OPTIONS,
    UNIX,
    Peers,
    PeerTls,
    RemoteWorker,
    answers_errors,
)
from servernf.python.runtime.replicas import PATIENCE_US
from servernf.python.runtime.worker import CHAINING_PROTOCOLS, Worker
from servernf.wire.errors import InputError

THREADS = 16
MAX_REPORTS = THREADS // 2
"""Streams of reportMetrics at a time: the other threads are for calls that end."""
MAX_WATCHERS = THREADS // 4
"""Streams of watchEvents at a time."""
MIN_INTERVAL_MS = 10
EVENTS_S, SETTLE_S, ALIVE_S = 0.1, 1.0, 5.0
"""How often there is a look for events, for what has been suppressed, and a batch though it is empty."""
_Call = TypeVar("_Call", bound=Callable[..., Any])


def _changes(call: _Call) -> _Call:
    """A call of a controller that says by which election id (P4Runtime, 5) it acts: the highest wins.

    What a deposed controller sent late is refused, and so is what says no election id.
    """

    @wraps(call)
    def wrapped(self: VnfService, request: object, context: grpc.ServicerContext) -> object:
        if refusal := self.authority.refusal(context):
            context.abort(grpc.StatusCode.PERMISSION_DENIED, refusal)
        election = _election(context)
        with self.turn:
            self.elect(election, context)
            return call(self, request, context)

    return wrapped  # type: ignore[return-value]


def _chains(call: _Call) -> _Call:
    """A changing call that another worker may pass on, too, for the controller that called it.

    That is a part of the controller's call, so it waits for no turn: the chain may come back here.
    """
    by_controller = _changes(call)

    @wraps(call)
    def wrapped(self: VnfService, request: object, context: grpc.ServicerContext) -> object:
        metadata = dict(context.invocation_metadata() or ())
        if CHAIN_FROM not in metadata:
            return by_controller(self, request, context)
        refusal = self.authority.refusal(context)
        if refusal and caller(context) not in self.peer_names:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, refusal)
        self.elect(_election(context), context)
        return call(self, request, context)

    return wrapped  # type: ignore[return-value]


def _election(context: grpc.ServicerContext) -> int:
    """The election id that a changing call must say."""
    given = dict(context.invocation_metadata() or ()).get(ELECTION_ID, b"")
    if len(given) != ELECTION_BYTES:
        context.abort(
            grpc.StatusCode.PERMISSION_DENIED,
            f"a changing call says its election id: {ELECTION_BYTES} bytes of metadata "
            f"'{ELECTION_ID}', not {len(given)}",
        )
    return int.from_bytes(cast("bytes", given))


class VnfService(StateService):
    """The calls of `vnf.proto` on one worker; `door` is where other workers bring state, if not here."""

    def __init__(
        self,
        worker: Worker,
        place: WorkerPlace | None = None,
        tls: PeerTls | None = None,
        peers: Collection[str] = (),
        door: str = "",
    ) -> None:
        super().__init__(worker, tls)
        self.place = replace(
            place or WorkerPlace(), version=installed_version(), certified=tls.name if tls else ""
        )
        self.tls = tls
        self.authority = tls.authority() if tls else Authority()
        self.witnesses = frozenset(tls.witnesses) if tls and tls.ca is not None else None
        """Common names of witnesses; None: clients show no certificate."""
        self.peer_names = frozenset(tls.peer_names if tls else ())
        self.peers = Peers.of(self.place.api, peers)
        self._door = door or self.place.api
        self._doors = Peers.of(self._door, peers)
        self._started = time.monotonic_ns()
        self.stopping = threading.Event()
        self.elected = 0
        self._electing = threading.Lock()
        self.turn = threading.Lock()
        """Calls of controllers are made one after the other."""
        self._reports = threading.BoundedSemaphore(MAX_REPORTS)
        self._watchers = threading.BoundedSemaphore(MAX_WATCHERS)

    def elect(self, election: int, context: grpc.ServicerContext) -> None:
        """Refuse an election id that is below one that has been seen."""
        with self._electing:
            if election >= self.elected:
                self.elected = election
                return
        context.abort(
            grpc.StatusCode.PERMISSION_DENIED, "a later controller changes this worker now"
        )

    def getChainingProtocols(
        self, request: vnf.ChainingProtocolsRequest, context: grpc.ServicerContext
    ) -> vnf.ChainingProtocolsResponse:
        return vnf.ChainingProtocolsResponse(protocols=CHAINING_PROTOCOLS)

    @_chains
    @answers_errors
    def serviceChain(
        self, request: vnf.ServiceChainRequest, context: grpc.ServicerContext
    ) -> vnf.ServiceChainResponse:
        return self._chain(request, context, update=False)

    @_chains
    @answers_errors
    def serviceChainUpdate(
        self, request: vnf.ServiceChainRequest, context: grpc.ServicerContext
    ) -> vnf.ServiceChainResponse:
        return self._chain(request, context, update=True)

    def _chain(
        self, request: vnf.ServiceChainRequest, context: grpc.ServicerContext, *, update: bool
    ) -> vnf.ServiceChainResponse:
        election = _election(context)

        def dial(address: str) -> RemoteWorker:
            self.peers.check(address)
            return RemoteWorker(address, self.tls, self._worker.name, election)

        return messages.service_chain(self._worker, request, update=update, dial=dial)

    def _dialled(
        self, context: grpc.ServicerContext, seconds: float = CALL_TIMEOUT_S
    ) -> Callable[[str, str], RemoteWorker]:
        """What reaches others that state is for, in the name of the controller that calls."""
        election = _election(context)

        def dial(address: str, name: str) -> RemoteWorker:
            # Over mutual TLS its certificate tells that it is of this network.
            if address.startswith(UNIX) or not self._certified:
                self._doors.check(address, "destination")
            return RemoteWorker(address, self.tls, self._worker.name, election, name, seconds)

        return dial

    @_changes
    @answers_errors
    def transfer(
        self, request: vnf.TransferRequest, context: grpc.ServicerContext
    ) -> vnf.TransferResponse:
        return self._worker.transfers.transfer(request, self._dialled(context))

    @_changes
    @answers_errors
    def expectState(
        self, request: vnf.ExpectStateRequest, context: grpc.ServicerContext
    ) -> vnf.ExpectStateResponse:
        self._worker.arrivals.expect(request, certified=self._certified)
        return vnf.ExpectStateResponse(address=self._door)

    @_changes
    @answers_errors
    def replicate(
        self, request: vnf.ReplicateRequest, context: grpc.ServicerContext
    ) -> vnf.ReplicateResponse:
        dial = self._dialled(context, PATIENCE_US / 1e6)
        return self._worker.replicas.replicate(request, dial)

    @answers_errors
    def getVariants(
        self, request: vnf.VariantsRequest, context: grpc.ServicerContext
    ) -> vnf.VariantsResponse:
        return messages.variants(self._worker, request)

    @_changes
    @answers_errors
    def markLastInTransit(
        self, request: vnf.MarkLastInTransitRequest, context: grpc.ServicerContext
    ) -> vnf.MarkLastInTransitResponse:
        return self._worker.marks.mark(request, self._worker.tables)

    @answers_errors
    def queryMetrics(
        self, request: vnf.MetricsRequest, context: grpc.ServicerContext
    ) -> vnf.Metrics:
        return messages.metrics(self._worker, request)

    def reportMetrics(
        self, request: vnf.ReportMetricsRequest, context: grpc.ServicerContext
    ) -> Iterator[vnf.Metrics]:
        by_time = request.milliseconds >= MIN_INTERVAL_MS
        if not by_time and not request.packets:
            context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"interval: give milliseconds ({MIN_INTERVAL_MS} or more) or packets (1 or more)",
            )
        try:
            self._worker.metrics(request.nf)
        except NotFound as error:
            context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        if not self._reports.acquire(blocking=False):
            context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{MAX_REPORTS} streams of metrics are open, no more are accepted",
            )
        try:
            yield from self._reported(request, context, by_time)
        finally:
            self._reports.release()

    def _reported(
        self, request: vnf.ReportMetricsRequest, context: grpc.ServicerContext, by_time: bool
    ) -> Iterator[vnf.Metrics]:
        pause = request.milliseconds / 1000 if by_time else MIN_INTERVAL_MS / 1000
        reported = self._worker.received()
        gone = threading.Event()
        if not context.add_callback(gone.set):
            return
        while not gone.wait(pause) and not self.stopping.is_set():
            if not by_time:
                if self._worker.received() - reported < request.packets:
                    continue
                reported += request.packets
            try:
                yield messages.metrics(self._worker, vnf.MetricsRequest(nf=request.nf))
            except NotFound:
                return  # the instance has been removed

    @_changes
    @answers_errors
    def configure(
        self, request: vnf.ConfigureRequest, context: grpc.ServicerContext
    ) -> vnf.ConfigureResponse:
        return messages.configure(self._worker, request)

    @_changes
    @answers_errors
    def removeGraph(
        self, request: vnf.RemoveGraphRequest, context: grpc.ServicerContext
    ) -> vnf.RemoveGraphResponse:
        return messages.remove_graph(self._worker, request)

    @answers_errors
    def setWitness(
        self, request: vnf.WitnessRequest, context: grpc.ServicerContext
    ) -> vnf.WitnessResponse:
        if self.witnesses is not None and caller(context) not in self.witnesses:
            context.abort(
                grpc.StatusCode.PERMISSION_DENIED,
                f"the certificate of '{caller(context)}' is no witness's",
            )
        return messages.set_witness(self._worker, request)

    @answers_errors
    def getStatus(self, request: vnf.StatusRequest, context: grpc.ServicerContext) -> vnf.Status:
        return messages.status(self._worker, self.place, self._started)

    @answers_errors
    def readSamples(
        self, request: vnf.ReadSamplesRequest, context: grpc.ServicerContext
    ) -> vnf.ReadSamplesResponse:
        # Which packets are watched is as secret as the keys that decide it.
        if refusal := self.authority.refusal(context):
            context.abort(grpc.StatusCode.PERMISSION_DENIED, refusal)
        return messages.read_samples(self._worker, request)

    def watchEvents(
        self, request: vnf.WatchEventsRequest, context: grpc.ServicerContext
    ) -> Iterator[vnf.EventBatch]:
        if refusal := self.authority.refusal(context):
            context.abort(grpc.StatusCode.PERMISSION_DENIED, refusal)
        if not self._watchers.acquire(blocking=False):
            context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{MAX_WATCHERS} streams of events are open, no more are accepted",
            )
        try:
            yield from self._events(request, context)
        finally:
            self._watchers.release()

    def _events(
        self, request: vnf.WatchEventsRequest, context: grpc.ServicerContext
    ) -> Iterator[vnf.EventBatch]:
        gone = threading.Event()
        if not context.add_callback(gone.set):
            return
        worker, cursor, settled, told = self._worker, request.cursor, -SETTLE_S, -ALIVE_S
        while not gone.is_set() and not self.stopping.is_set():
            now = time.monotonic()
            if now >= settled + SETTLE_S:
                worker.jobs.do(worker.events.settle)
                settled = now
            events, cursor, lost = worker.events.read(cursor, request.graphs)
            if events or lost or now >= told + ALIVE_S:
                told = now
                yield vnf.EventBatch(events=events, cursor=cursor, lost=lost)
            elif not request.follow:
                return
            else:
                gone.wait(EVENTS_S)


def serve(
    worker: Worker,
    address: str,
    tls: PeerTls | None = None,
    *,
    place: WorkerPlace | None = None,
    peers: Collection[str] = (),
    door: str = "",
    kind: type[VnfService] = VnfService,
) -> tuple[grpc.Server, VnfService, str]:
    """Start serving; the server, its service of a kind and the address (with the port that was bound).

    `address` is `unix:/path.sock` (without TLS protected by the permissions of its folder; with it,
    the name to be certified is localhost) or `HOST:PORT`. The worker calls its peers with the same
    credentials: those at the addresses `peers`, and those with sockets beside its own. `door` is where
    they bring state (`open_door`), if not at `address`.
    """
    server = grpc.server(
        # A chain that crosses workers and comes back needs several calls at once.
        ThreadPoolExecutor(max_workers=THREADS),
        options=OPTIONS,
    )
    try:
        if tls is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, tls.server())
    except RuntimeError as error:
        raise InputError(f"--api {address}: {error}") from None
    bound = address
    if not address.startswith(UNIX):
        bound = f"{address.rpartition(':')[0]}:{port}"
    where = place or WorkerPlace()
    service = kind(worker, WorkerPlace(bound, where.interface, where.cpu), tls, peers, door)
    vnf_pb2_grpc.add_VnfServicer_to_server(service, server)
    server.start()
    return server, service, bound

"""The gRPC face of a `Worker`: messages in, messages out, nothing else."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import wraps
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePath
from typing import Any, TypeVar, cast

import grpc

from servernf.host.authority import DEFAULT_WRITERS, Authority, caller
from servernf.proto import vnf_pb2 as vnf
from servernf.proto import vnf_pb2_grpc
from servernf.python.runtime.chain import Chained, ExitHop, Hop, NfHop, Scope
from servernf.python.runtime.errors import AlreadyThere, NotFound, Unreachable, Unsupported
from servernf.python.runtime.tables import Manifest, Out, ToNf
from servernf.python.runtime.worker import CHAINING_PROTOCOLS, NfSpec, Worker, known_types, wall_us
from servernf.wire.errors import InputError

ELECTION_ID = "election-id-bin"
"""gRPC metadata of a changing call: 16 bytes, big-endian."""
CHAIN_FROM = "chain-from"
"""gRPC metadata of a chaining call that a worker passes on: that worker's name."""
ELECTION_BYTES = 16
THREADS = 16
MAX_REPORTS = THREADS // 2
"""Streams of reportMetrics at a time: the other threads are for calls that end."""
CALL_TIMEOUT_S = 5.0
MIN_INTERVAL_MS = 10
MAX_MESSAGE_BYTES = 256 << 20
_UNIX = "unix:"
_OPTIONS = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
_CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (InputError, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (AlreadyThere, grpc.StatusCode.ALREADY_EXISTS),
    (Unsupported, grpc.StatusCode.UNIMPLEMENTED),
    (Unreachable, grpc.StatusCode.UNAVAILABLE),
)
_Call = TypeVar("_Call", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM contents. With `ca`, the other side must show a certificate that it signed.

    Then `writers` are the common names of those that may change the worker; `peer_names` those of
    other workers, which may only pass chains on; everybody else only reads.
    """

    cert: bytes
    key: bytes
    ca: bytes | None = None
    writers: tuple[str, ...] = DEFAULT_WRITERS
    peer_names: tuple[str, ...] = ()

    def authority(self) -> Authority:
        """Who may change the worker."""
        return Authority.of(self.writers, certified=self.ca is not None)

    def server(self) -> grpc.ServerCredentials:
        """Credentials to listen with."""
        return grpc.ssl_server_credentials(
            [(self.key, self.cert)], self.ca, require_client_auth=self.ca is not None
        )

    def client(self) -> grpc.ChannelCredentials:
        """Credentials to call other workers with."""
        return grpc.ssl_channel_credentials(self.ca, self.key, self.cert)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker runs, for getStatus."""

    api: str = ""
    interface: str = ""
    cpu: int = -1


@dataclass(frozen=True, slots=True)
class Peers:
    """The workers that a chain may go on to: those named at start, not whom a message names.

    The sockets beside a worker's own are of the same network: who may make one there is trusted.
    """

    addresses: frozenset[str]
    folder: PurePath | None

    @classmethod
    def of(cls, api: str, addresses: Collection[str]) -> Peers:
        """The peers of the worker at `api`."""
        return cls(frozenset(addresses), _socket(api).parent if api.startswith(_UNIX) else None)

    def check(self, address: str) -> None:
        """InputError when a worker is none of them."""
        if address in self.addresses:
            return
        if self.folder is not None and address.startswith(_UNIX):
            path = _socket(address)
            if path.parent == self.folder and path.name != "..":
                return
        known = sorted(self.addresses)
        if self.folder is not None:
            known.append(f"sockets in {self.folder}")
        raise InputError(
            f"next.worker: '{address}' is no peer of this worker (known: {', '.join(known) or 'none'})"
        )


def _socket(address: str) -> PurePath:
    return PurePath(address.removeprefix(_UNIX))


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


def _answers_errors(call: _Call) -> _Call:
    """Turn a worker's exceptions into gRPC status codes."""

    @wraps(call)
    def wrapped(self: object, request: object, context: grpc.ServicerContext) -> object:
        try:
            return call(self, request, context)
        except Exception as error:
            for kind, code in _CODES:
                if isinstance(error, kind):
                    context.abort(code, str(error))
            raise

    return wrapped  # type: ignore[return-value]


class VnfService(vnf_pb2_grpc.VnfServicer):
    """The calls of `vnf.proto` on one worker."""

    def __init__(
        self,
        worker: Worker,
        place: Place | None = None,
        tls: Tls | None = None,
        peers: Collection[str] = (),
    ) -> None:
        self._worker = worker
        self.place = place or Place()
        self.tls = tls
        self.authority = tls.authority() if tls else Authority()
        self.peer_names = frozenset(tls.peer_names if tls else ())
        self.peers = Peers.of(self.place.api, peers)
        self._started = time.monotonic_ns()
        self._version = _version()
        self.stopping = threading.Event()
        self.elected = 0
        self._electing = threading.Lock()
        self.turn = threading.Lock()
        """Calls of controllers are made one after the other."""
        self._reports = threading.BoundedSemaphore(MAX_REPORTS)

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
    @_answers_errors
    def serviceChain(
        self, request: vnf.ServiceChainRequest, context: grpc.ServicerContext
    ) -> vnf.ServiceChainResponse:
        return self._chain(request, context, update=False)

    @_chains
    @_answers_errors
    def serviceChainUpdate(
        self, request: vnf.ServiceChainRequest, context: grpc.ServicerContext
    ) -> vnf.ServiceChainResponse:
        return self._chain(request, context, update=True)

    def _chain(
        self, request: vnf.ServiceChainRequest, context: grpc.ServicerContext, *, update: bool
    ) -> vnf.ServiceChainResponse:
        if request.scope.HasField("flow_space") and request.scope.flow_space.ByteSize():
            raise Unsupported(
                "scope.flow_space: a flow space narrower than (SPI, SI) is not told apart here;"
                " give each traffic class a path of its own in the switch"
            )
        hops = [_hop(hop, index) for index, hop in enumerate(request.next)]
        election = _election(context)

        def dial(address: str) -> RemoteWorker:
            self.peers.check(address)
            return RemoteWorker(address, self.tls, self._worker.name, election)

        chained = self._worker.service_chain(
            request.nf, _scope(request.scope), hops, update=update, dial=dial
        )
        return vnf.ServiceChainResponse(mac=chained.mac, nfs=chained.nfs)

    @_answers_errors
    def transfer(
        self, request: vnf.StateRequest, context: grpc.ServicerContext
    ) -> vnf.StateResponse:
        raise _unsupported("transfer", "state stays with the worker that owns the traffic class")

    @_answers_errors
    def replicate(
        self, request: vnf.StateRequest, context: grpc.ServicerContext
    ) -> vnf.StateResponse:
        raise _unsupported("replicate", "no NF has a standby")

    @_answers_errors
    def getVariants(
        self, request: vnf.VariantsRequest, context: grpc.ServicerContext
    ) -> vnf.VariantsResponse:
        raise _unsupported("getVariants", "there are no variants of transfer and replicate")

    @_answers_errors
    def markLastInTransit(
        self, request: vnf.MarkLastInTransitRequest, context: grpc.ServicerContext
    ) -> vnf.MarkLastInTransitResponse:
        raise _unsupported("markLastInTransit", "no state is transferred")

    @_answers_errors
    def queryMetrics(
        self, request: vnf.MetricsRequest, context: grpc.ServicerContext
    ) -> vnf.Metrics:
        return self._metrics(request.nf)

    def _metrics(self, nf: str) -> vnf.Metrics:
        return vnf.Metrics(metrics=self._worker.metrics(nf), timestamp_us=wall_us())

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
        reported = self._worker.frames_in
        gone = threading.Event()
        if not context.add_callback(gone.set):
            return
        while not gone.wait(pause) and not self.stopping.is_set():
            if not by_time:
                if self._worker.frames_in - reported < request.packets:
                    continue
                reported += request.packets
            try:
                yield self._metrics(request.nf)
            except NotFound:
                return  # the instance has been removed

    @_changes
    @_answers_errors
    def configure(
        self, request: vnf.ConfigureRequest, context: grpc.ServicerContext
    ) -> vnf.ConfigureResponse:
        problems: list[str] = []
        specs = [_spec(nf, f"nfs[{index}]", problems) for index, nf in enumerate(request.nfs)]
        if problems:
            raise InputError(problems)
        manifest = None
        if request.HasField("manifest"):
            found = request.manifest
            manifest = Manifest(found.key0, found.key1, found.threshold)
        done = self._worker.configure(
            request.graph,
            specs,
            remove=list(request.remove),
            manifest=manifest,
            remove_manifest=request.remove_manifest,
        )
        return vnf.ConfigureResponse(
            created=done.created,
            replaced=done.replaced,
            unchanged=done.unchanged,
            removed=done.removed,
            continued=done.continued,
        )

    @_changes
    @_answers_errors
    def removeGraph(
        self, request: vnf.RemoveGraphRequest, context: grpc.ServicerContext
    ) -> vnf.RemoveGraphResponse:
        return vnf.RemoveGraphResponse(removed=self._worker.remove_graph(request.graph))

    @_answers_errors
    def getStatus(self, request: vnf.StatusRequest, context: grpc.ServicerContext) -> vnf.Status:
        worker, tables, place = self._worker, self._worker.tables, self.place
        status = vnf.Status(
            name=worker.name,
            version=self._version,
            mac=worker.core_mac,
            api=place.api,
            interface=place.interface,
            cpu=place.cpu,
            uptime_us=(time.monotonic_ns() - self._started) // 1000,
            sampled_graphs=sorted(tables.manifests),
            nf_types=known_types(),
        )
        for name, instance in sorted(tables.instances.items()):
            status.nfs.add(
                name=name,
                type=instance.type_name,
                config_digest=blake2b(instance.config.encode(), digest_size=16).hexdigest(),
                packets=instance.tally.packets,
                drops=sum(list(instance.nf.drops.values())),
            )
        for path, entry in sorted(tables.entries.items()):
            status.paths.add(spi=path >> 8, si=path & 0xFF, nf=entry.nf, in_port=entry.port)
        for (nf, path, port), following in sorted(tables.classifiers.items(), key=lambda c: c[0]):
            status.paths.add(
                spi=path >> 8, si=path & 0xFF, nf=nf, out_port=port, next=_next(following)
            )
        return status

    @_answers_errors
    def readSamples(
        self, request: vnf.ReadSamplesRequest, context: grpc.ServicerContext
    ) -> vnf.ReadSamplesResponse:
        # Which packets are watched is as secret as the keys that decide it.
        if refusal := self.authority.refusal(context):
            context.abort(grpc.StatusCode.PERMISSION_DENIED, refusal)
        found, cursor, lost = self._worker.read_samples(request.cursor, request.limit or 1000)
        samples = [
            vnf.Sample(
                graph=s.graph,
                nf=s.nf,
                worker=s.worker,
                label=s.label,
                spi=s.spi,
                si=s.si,
                direction=s.direction,
                port=s.port,
                timestamp_us=s.timestamp_us,
                spent_ns=s.spent_ns,
                length=s.length,
                digest=s.digest,
                reason=s.reason,
            )
            for s in found
        ]
        return vnf.ReadSamplesResponse(samples=samples, cursor=cursor, lost=lost)


class RemoteWorker:
    """Another worker, called over gRPC (a `ChainPeer`)."""

    def __init__(self, address: str, tls: Tls | None, caller: str, election: int) -> None:
        self._address = address
        self._tls = tls
        self._metadata = (
            (CHAIN_FROM, caller),
            (ELECTION_ID, election.to_bytes(ELECTION_BYTES)),
        )
        # gRPC would compare a certificate with the path of a Unix socket.
        local = address.startswith("unix:")
        self._named = [("grpc.ssl_target_name_override", "localhost")] if local else []

    def service_chain(
        self, nf: str, scope: Scope, hops: Sequence[Hop], *, update: bool = False
    ) -> Chained:
        """serviceChain, or serviceChainUpdate, at an NF there."""
        request = vnf.ServiceChainRequest(nf=nf)
        request.scope.spi, request.scope.si = scope.spi, scope.si
        request.scope.in_port, request.scope.out_port = scope.in_port, scope.out_port
        request.next.extend(_hop_message(hop) for hop in hops)
        if self._tls is None:
            channel = grpc.insecure_channel(self._address)
        else:
            channel = grpc.secure_channel(self._address, self._tls.client(), self._named)
        try:
            stub = vnf_pb2_grpc.VnfStub(channel)
            call = stub.serviceChainUpdate if update else stub.serviceChain
            answer = call(request, timeout=CALL_TIMEOUT_S, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._translated(error) from None
        finally:
            channel.close()
        return Chained(answer.mac, tuple(answer.nfs))

    def _translated(self, error: grpc.RpcError) -> Exception:
        code: object = error.code() if isinstance(error, grpc.Call) else None
        text = str(error.details()) if isinstance(error, grpc.Call) else str(error)
        for kind, known in _CODES:
            if code is known and kind is not Unreachable:
                return kind("\n".join(f"{self._address}: {line}" for line in text.splitlines()))
        return Unreachable(f"worker {self._address} does not answer: {text}")


def serve(
    worker: Worker,
    address: str,
    tls: Tls | None = None,
    *,
    place: Place | None = None,
    peers: Collection[str] = (),
) -> tuple[grpc.Server, VnfService, str]:
    """Start serving; the server, its service and the address (with the port that was bound).

    `address` is `unix:/path.sock` (without TLS protected by the permissions of its folder; with it,
    the name to be certified is localhost) or `HOST:PORT`. The worker calls its peers with the same
    credentials: those at the addresses `peers`, and those with sockets beside its own.
    """
    server = grpc.server(
        # A chain that crosses workers and comes back needs several calls at once.
        ThreadPoolExecutor(max_workers=THREADS),
        options=_OPTIONS,
    )
    try:
        if tls is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, tls.server())
    except RuntimeError as error:
        raise InputError(f"--api {address}: {error}") from None
    bound = address
    if not address.startswith(_UNIX):
        bound = f"{address.rpartition(':')[0]}:{port}"
    found = place or Place()
    service = VnfService(worker, Place(bound, found.interface, found.cpu), tls, peers)
    vnf_pb2_grpc.add_VnfServicer_to_server(service, server)
    server.start()
    return server, service, bound


def _unsupported(call: str, reason: str) -> Unsupported:
    return Unsupported(f"{call} is not implemented by this worker: {reason}")


def _version() -> str:
    try:
        return version("p4-offload-orchestrator")
    except PackageNotFoundError:
        return "0+checkout"


def _scope(scope: vnf.Scope) -> Scope:
    return Scope(scope.spi, scope.si, scope.in_port, scope.out_port)


def _hop(hop: vnf.Hop, index: int) -> Hop:
    match hop.WhichOneof("hop"):
        case "nf":
            nf = hop.nf
            return NfHop(nf.name, nf.port, nf.worker, nf.out_port, nf.dst_mac, nf.spi, nf.si)
        case "exit":
            return ExitHop(hop.exit.dst_mac, hop.exit.spi, hop.exit.si)
        case _:
            raise InputError(f"next[{index}]: must be an nf or an exit")


def _hop_message(hop: Hop) -> vnf.Hop:
    if isinstance(hop, ExitHop):
        return vnf.Hop(exit=vnf.ExitHop(dst_mac=hop.dst_mac, spi=hop.spi, si=hop.si))
    return vnf.Hop(
        nf=vnf.NfHop(
            name=hop.name,
            port=hop.port,
            worker=hop.worker,
            out_port=hop.out_port,
            dst_mac=hop.dst_mac,
            spi=hop.spi,
            si=hop.si,
        )
    )


def _next(following: ToNf | Out) -> vnf.Hop:
    if isinstance(following, ToNf):
        return vnf.Hop(nf=vnf.NfHop(name=following.nf, port=following.port))
    peer = following.peer
    if peer is None:
        return _hop_message(ExitHop(following.dst_mac, following.spi, following.si))
    return _hop_message(
        NfHop(
            peer.nf,
            peer.port,
            peer.worker,
            peer.out_port,
            following.dst_mac,
            following.spi,
            following.si,
        )
    )


def _spec(nf: vnf.NfConfig, where: str, problems: list[str]) -> NfSpec:
    config: object = None
    try:
        config = json.loads(nf.config_json or "{}")
    except ValueError as error:
        problems.append(f"{where}.config_json: no JSON: {error}")
        config = {}
    if not isinstance(config, dict):
        problems.append(f"{where}.config_json: must be an object")
        config = {}
    found = cast("dict[str, object]", config)
    if nf.HasField("share"):
        share = nf.share
        found["share"] = {
            "addresses": list(share.addresses),
            "low": share.low,
            "high": share.high,
        }
    return NfSpec(nf.name, nf.type, found)

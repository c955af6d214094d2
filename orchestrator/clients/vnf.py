"""A client of the VNF management API (servernf/proto/vnf.proto) for one worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grpc

from orchestrator.clients.calls import Calls
from orchestrator.clients.channel import OnChannel, TlsFiles, call_error, open_channel
from orchestrator.errors import ServerError
from orchestrator.model.entries import ChainHop, ServerChain
from orchestrator.model.manifest import SamplingSecret
from servernf.proto import vnf_pb2, vnf_pb2_grpc
from servernf.wire.configs import config_text
from servernf.wire.witness import Witness

_CALL_SECONDS = 20.0
_TRANSFER_SECONDS = 120.0


def configure_request(
    graph: str,
    nfs: Mapping[str, tuple[str, Mapping[str, Any]]],
    manifest: SamplingSecret | None,
    remove: Sequence[str] = (),
    remove_manifest: bool = False,
) -> vnf_pb2.ConfigureRequest:
    """The message that creates NF instances of a graph on a worker and removes others."""
    request = vnf_pb2.ConfigureRequest(
        graph=graph,
        remove=[f"{graph}/{name}" for name in remove],
        remove_manifest=remove_manifest,
    )
    for name, (kind, config) in nfs.items():
        request.nfs.add(name=f"{graph}/{name}", type=kind, config_json=config_text(config))
    if manifest is not None:
        request.manifest.key0 = manifest.key0
        request.manifest.key1 = manifest.key1
        request.manifest.threshold = manifest.threshold
    return request


def chain_request(graph: str, chain: ServerChain) -> vnf_pb2.ServiceChainRequest:
    """The message to the first NF of a chain, with the rest of the list (southbound paper, 4.1)."""
    first = chain.hops[0]
    request = vnf_pb2.ServiceChainRequest(nf=f"{graph}/{first.nf}")
    request.scope.spi = chain.spi
    request.scope.si = chain.si
    request.scope.in_port = first.port
    if chain.outputs:
        request.scope.out_port = chain.outputs[0]
    for index, hop in enumerate(chain.hops[1:], start=1):
        _add_hop(request, graph, hop, chain.outputs[index : index + 1])
    return request


def _add_hop(
    request: vnf_pb2.ServiceChainRequest, graph: str, hop: ChainHop, output: Sequence[str]
) -> None:
    added = request.next.add()
    if hop.nf:
        added.nf.name = f"{graph}/{hop.nf}"
        added.nf.port = hop.port
        added.nf.out_port = output[0] if output else ""
    else:
        added.exit.dst_mac = hop.mac
        added.exit.spi = hop.spi
        added.exit.si = hop.si


class WorkerClient(OnChannel):
    """A session with one worker; ServerError carries the worker's own words.

    Changes are refused once the worker has seen a higher `election_id` (128 bits, as to switches);
    without one it comes from the clock, below every leader's. `may_change` is asked before every
    change and raises what forbids it.
    """

    def __init__(
        self,
        name: str,
        address: str,
        *,
        tls: TlsFiles | None = None,
        election_id: int | None = None,
        may_change: Callable[[], None] | None = None,
    ) -> None:
        self._may_change = may_change
        election = time.time_ns() if election_id is None else election_id
        self._election = [("election-id-bin", election.to_bytes(16))]
        self.name = name
        self.address = address
        self.call_seconds = _CALL_SECONDS
        self._tls = tls
        self._calls = Calls(lambda why: ServerError(f"{name}: {why}"))
        super().__init__(open_channel(address, tls))
        self._stub = vnf_pb2_grpc.VnfStub(self._channel)

    def end(self, why: str) -> None:
        """Another thread knows that the worker is dead: what waits for it, or would, fails at once."""
        self._calls.end(why)

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
        request = configure_request(graph, nfs, manifest, remove, remove_manifest)
        self._change(self._stub.configure, request)

    def service_chain(self, graph: str, chain: ServerChain) -> None:
        """Chain NFs: told to the first one, which tells the rest."""
        self._change(self._stub.serviceChain, chain_request(graph, chain))

    def remove_chain(self, graph: str, chain: ServerChain) -> None:
        """Forget a chain's (SPI, SI): serviceChainUpdate with no hops."""
        request = chain_request(graph, chain)
        del request.next[:]
        self._change(self._stub.serviceChainUpdate, request, may_be_missing=True)

    def remove_graph(self, graph: str) -> None:
        """Remove all that a graph has on the worker."""
        self._change(self._stub.removeGraph, vnf_pb2.RemoveGraphRequest(graph=graph))

    def expect_state(self, request: vnf_pb2.ExpectStateRequest) -> str:
        """Announce a transfer to this worker; the address for its source."""
        if self._may_change is not None:
            self._may_change()
        return self._call(self._stub.expectState, request, self._election).address

    @property
    def certified(self) -> str:
        """Whom its certificate must be made out to, where that is not its address."""
        return self._tls.name if self._tls else ""

    def transfer(self, request: vnf_pb2.TransferRequest) -> vnf_pb2.TransferResponse:
        """A phase of a transfer from this worker, which may take long."""
        if self._may_change is not None:
            self._may_change()
        return self._call(self._stub.transfer, request, self._election, seconds=_TRANSFER_SECONDS)

    def replicate(self, request: vnf_pb2.ReplicateRequest) -> vnf_pb2.ReplicateResponse:
        """A phase of a replication, which may take long."""
        if request.phase != vnf_pb2.ReplicateRequest.STATUS and self._may_change is not None:
            self._may_change()
        return self._call(self._stub.replicate, request, self._election, seconds=_TRANSFER_SECONDS)

    def metrics(self) -> dict[str, int]:
        """Counters of the worker and its NFs, by name."""
        return dict(self._call(self._stub.queryMetrics, vnf_pb2.MetricsRequest()).metrics)

    def status(self) -> vnf_pb2.Status:
        """What the worker runs."""
        return self._call(self._stub.getStatus, vnf_pb2.StatusRequest())

    def samples(self, cursor: int) -> tuple[list[vnf_pb2.Sample], int]:
        """Trajectory samples of the shim from a cursor on, and the next cursor."""
        answer = self._call(self._stub.readSamples, vnf_pb2.ReadSamplesRequest(cursor=cursor))
        return list(answer.samples), answer.cursor

    def events(
        self, graphs: Sequence[str], cursor: int, *, follow: bool
    ) -> Iterator[vnf_pb2.EventBatch]:
        """Events of some graphs from a cursor on; with `follow` until the caller ends it."""
        request = vnf_pb2.WatchEventsRequest(graphs=graphs, cursor=cursor, follow=follow)
        call: Any = self._stub.watchEvents(request, timeout=None if follow else self.call_seconds)
        try:
            yield from self._calls.stream(call)
        except grpc.RpcError as error:
            raise call_error(self.name, self.address, self._tls, error) from error
        finally:
            call.cancel()

    def set_witness(self, graph: str, witness: Witness | None) -> None:
        """Say which packets of a graph it tells a witness of (with a witness's certificate)."""
        request = vnf_pb2.WitnessRequest(graph=graph)
        if witness is not None:
            request.headers, request.state = witness.headers, witness.state
            for e in witness.epochs:
                request.epochs.add(
                    number=e.number, key0=e.key0, key1=e.key1, threshold=e.threshold, flows=e.flows
                )
        self._call(self._stub.setWitness, request)

    def _change(self, method: Any, request: Any, *, may_be_missing: bool = False) -> None:
        if self._may_change is not None:
            self._may_change()
        self._call(method, request, self._election, may_be_missing=may_be_missing)

    def _call(
        self,
        method: Any,
        request: Any,
        metadata: Sequence[tuple[str, bytes]] | None = None,
        *,
        may_be_missing: bool = False,
        seconds: float | None = None,
    ) -> Any:
        try:
            timeout = seconds or self.call_seconds
            future = method.future(request, timeout=timeout, metadata=metadata)
            return self._calls.answer(future)
        except grpc.RpcError as error:
            code = error.code()  # type: ignore[attr-defined]
            if may_be_missing and code is grpc.StatusCode.NOT_FOUND:
                return None
            raise call_error(self.name, self.address, self._tls, error) from error

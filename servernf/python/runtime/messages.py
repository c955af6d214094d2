"""The calls of `vnf.proto` on a `Worker` of this process: messages in, messages out, no transport."""

from __future__ import annotations

import time
from dataclasses import dataclass

from servernf.proto import vnf_pb2 as vnf
from servernf.python.runtime.chain import ChainScope, Dial, ExitHop, Hop, NfHop
from servernf.python.runtime.clocks import wall_us
from servernf.python.runtime.errors import NotFound, NotSupported
from servernf.python.runtime.tables import Out, SampledLabels, ToNf
from servernf.python.runtime.worker import NfSpec, Worker
from servernf.python.variants import VARIANTS
from servernf.wire.configs import config_digest
from servernf.wire.errors import InputError, unknown
from servernf.wire.witness import Epoch, Witness

MOST_SAMPLES = 1000
"""Samples of one answer where the call does not say how many."""


@dataclass(frozen=True, slots=True)
class WorkerPlace:
    """Where a worker runs, for getStatus."""

    api: str = ""
    interface: str = ""
    cpu: int = -1
    version: str = ""
    certified: str = ""


def configure(worker: Worker, request: vnf.ConfigureRequest) -> vnf.ConfigureResponse:
    """Create, replace and remove NF instances of a graph."""
    manifest = None
    if request.HasField("manifest"):
        told = request.manifest
        manifest = SampledLabels(told.key0, told.key1, told.threshold)
    done = worker.configure(
        request.graph,
        [NfSpec(nf.name, nf.type, nf.config_json) for nf in request.nfs],
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


def service_chain(
    worker: Worker, request: vnf.ServiceChainRequest, *, update: bool, dial: Dial | None = None
) -> vnf.ServiceChainResponse:
    """serviceChain, or serviceChainUpdate."""
    if request.scope.HasField("flow_space") and request.scope.flow_space.ByteSize():
        raise NotSupported(
            "scope.flow_space: a flow space narrower than (SPI, SI) is not told apart here;"
            " give each traffic class a path of its own in the switch"
        )
    hops = [_hop(hop, index) for index, hop in enumerate(request.next)]
    scope = request.scope
    chained = worker.service_chain(
        request.nf,
        ChainScope(scope.spi, scope.si, scope.in_port, scope.out_port),
        hops,
        update=update,
        dial=dial,
    )
    return vnf.ServiceChainResponse(mac=chained.mac, nfs=chained.nfs)


def set_witness(worker: Worker, request: vnf.WitnessRequest) -> vnf.WitnessResponse:
    """Tell a witness of a graph's packets, or no longer."""
    epochs = tuple(Epoch(e.number, e.key0, e.key1, e.threshold, e.flows) for e in request.epochs)
    worker.witness(
        request.graph, Witness(epochs, request.headers, request.state) if epochs else None
    )
    return vnf.WitnessResponse()


def remove_graph(worker: Worker, request: vnf.RemoveGraphRequest) -> vnf.RemoveGraphResponse:
    """Remove all that a graph has."""
    return vnf.RemoveGraphResponse(removed=worker.remove_graph(request.graph))


def metrics(worker: Worker, request: vnf.MetricsRequest) -> vnf.Metrics:
    """Counters of an NF, or of everything."""
    return vnf.Metrics(metrics=worker.metrics(request.nf), timestamp_us=wall_us())


def status(worker: Worker, place: WorkerPlace, started_ns: int) -> vnf.Status:
    """What the worker runs; `started_ns` by the monotonic clock."""
    tables = worker.tables
    told = vnf.Status(
        name=worker.name,
        version=place.version,
        mac=worker.core_mac,
        api=place.api,
        interface=place.interface,
        cpu=place.cpu,
        uptime_us=(time.monotonic_ns() - started_ns) // 1000,
        sampled_graphs=sorted(tables.manifests),
        nf_types=worker.nf_types(),
        frames_in=worker.received(),
        witnessed_graphs=sorted(worker.shim.witnesses),
        certified=place.certified,
    )
    for name, instance in sorted(tables.instances.items()):
        told.nfs.add(
            name=name,
            type=instance.type_name,
            config_digest=config_digest(instance.config_json),
            packets=instance.tally.packets,
            drops=sum(list(instance.nf.drops.values())),
        )
    for name, replication in worker.replicas.listed().items():
        told.replications[name].CopyFrom(replication)
    for path, entry in sorted(tables.entries.items()):
        told.paths.add(spi=path >> 8, si=path & 0xFF, nf=entry.nf, in_port=entry.port)
    for (nf, path, port), following in sorted(tables.classifiers.items(), key=lambda c: c[0]):
        told.paths.add(spi=path >> 8, si=path & 0xFF, nf=nf, out_port=port, next=_next(following))
    return told


def variants(worker: Worker, request: vnf.VariantsRequest) -> vnf.VariantsResponse:
    """How the state of an instance can move or be doubled; nothing of one that has none."""
    variant = VARIANTS.get(request.operation)
    if variant is None:
        raise InputError(f"operation: {unknown('operation', request.operation, sorted(VARIANTS))}")
    answer = vnf.VariantsResponse()
    instance = worker.instances.get(request.nf)
    if instance is None:
        raise NotFound(f"nf: no NF instance '{request.nf}'")
    if instance.nf.state.tables:
        for name, measures in variant.items():
            told = answer.variants[name]
            told.performance, told.accuracy, told.resources = measures
    return answer


def read_samples(worker: Worker, request: vnf.ReadSamplesRequest) -> vnf.ReadSamplesResponse:
    """Trajectory samples from a cursor on."""
    taken, cursor, lost = worker.read_samples(request.cursor, request.limit or MOST_SAMPLES)
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
        for s in taken
    ]
    return vnf.ReadSamplesResponse(samples=samples, cursor=cursor, lost=lost)


def _hop(hop: vnf.Hop, index: int) -> Hop:
    match hop.WhichOneof("hop"):
        case "nf":
            nf = hop.nf
            return NfHop(nf.name, nf.port, nf.worker, nf.out_port, nf.dst_mac, nf.spi, nf.si)
        case "exit":
            return ExitHop(hop.exit.dst_mac, hop.exit.spi, hop.exit.si)
        case _:
            raise InputError(f"next[{index}]: must be an nf or an exit")


def hop_message(hop: Hop) -> vnf.Hop:
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
        return hop_message(ExitHop(following.dst_mac, following.spi, following.si))
    return hop_message(
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

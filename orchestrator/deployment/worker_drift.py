"""What a worker runs against what it should: NF instances, chains, whether it samples."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from orchestrator.deployment.desired import PlacedGraph
from orchestrator.deployment.drivers import WorkerDriver
from orchestrator.model import ids
from orchestrator.model.entries import ChainHop, ServerChain, WorkerProgram
from orchestrator.model.manifest import SamplingSecret
from orchestrator.model.plan import Core
from servernf.proto import vnf_pb2
from servernf.wire.configs import config_digest, config_text

_OTHER_PORT = {"inside": "outside", "outside": "inside"}

Classifier = tuple[str, int, str]
"""(NF instance, SPI << 8 | SI, port left); an empty port: where packets with that tag enter."""


@dataclass(frozen=True, slots=True)
class GraphDrift:
    """What a worker needs for one graph. NFs that are `made` go on with the state of another
    configuration that is there, or have none."""

    graph: str
    made: tuple[str, ...]
    removed: tuple[str, ...]
    chained: tuple[ServerChain, ...]
    unchained: tuple[ServerChain, ...]
    sampling: bool
    """Whether the sampling secret is missing, or is there against the manifest."""

    def __bool__(self) -> bool:
        return bool(self.made or self.removed or self.chained or self.unchained or self.sampling)

    def words(self) -> Iterator[str]:
        """One line a change."""
        yield from (f"create NF {self.graph}/{name}" for name in self.made)
        yield from (f"remove NF {self.graph}/{name}" for name in self.removed)
        for what, chains in (("forget", self.unchained), ("set", self.chained)):
            for chain in chains:
                yield f"{what} the chain of SPI {chain.spi}, SI {chain.si} ({self.graph})"
        if self.sampling:
            yield f"set the sampling of {self.graph}"


@dataclass(frozen=True, slots=True)
class WorkerDrift:
    """What one worker needs; `foreign` are graphs that the journal does not know, left alone."""

    core: Core
    graphs: tuple[GraphDrift, ...] = ()
    foreign: tuple[str, ...] = ()
    pruned: tuple[str, ...] = ()
    unreachable: str = ""

    def __bool__(self) -> bool:
        return bool(self.graphs or self.pruned or self.unreachable)

    def words(self) -> tuple[str, ...]:
        """One line a change."""
        lines = [line for graph in self.graphs for line in graph.words()]
        return (*lines, *(f"remove graph {graph}" for graph in self.pruned))


def drift_of(
    session: WorkerDriver,
    core: Core,
    deployed: Mapping[str, PlacedGraph],
    prune: bool,
    owed: Collection[str] = (),
) -> WorkerDrift:
    """Compare a worker with what the deployed graphs ask of it; graphs in `owed` are to be removed."""
    return compared(session.status(), core, deployed, prune, owed)


def compared(
    status: vnf_pb2.Status,
    core: Core,
    deployed: Mapping[str, PlacedGraph],
    prune: bool,
    owed: Collection[str] = (),
) -> WorkerDrift:
    """Compare what a worker says that it runs with what the deployed graphs ask of it."""
    running = _Running.of(status)
    graphs = [
        drift
        for name, placed in deployed.items()
        if (drift := _graph_drift(name, _program(placed, core), placed.manifest, running))
    ]
    unknown = sorted({g for g, _ in running.nfs} - deployed.keys())
    left = tuple(graph for graph in unknown if not prune and graph not in owed)
    return WorkerDrift(core, tuple(graphs), left, tuple(g for g in unknown if g not in left))


def repair_worker(
    session: WorkerDriver,
    core: Core,
    deployed: Mapping[str, PlacedGraph],
    prune: bool,
    owed: Collection[str] = (),
) -> WorkerDrift:
    """Find drift and repair it; instances that are right keep their state."""
    differs = drift_of(session, core, deployed, prune, owed)
    for graph in differs.pruned:
        session.remove_graph(graph)
    for drift in differs.graphs:
        placed = deployed[drift.graph]
        program = _program(placed, core)
        nfs = {name: program.nfs[name] for name in drift.made} if program else {}
        if drift.made or drift.removed or drift.sampling:
            wanted = placed.manifest if program and program.nfs else None
            session.configure(
                drift.graph, nfs, wanted, remove=drift.removed, remove_manifest=wanted is None
            )
        for chain in drift.unchained:
            session.remove_chain(drift.graph, chain)
        for chain in drift.chained:
            session.service_chain(drift.graph, chain)
    return differs


@dataclass(frozen=True, slots=True)
class _Running:
    """A worker's status, by graph and name."""

    nfs: dict[tuple[str, str], tuple[str, str]]
    """(graph, NF) -> (type, digest of its configuration)."""
    classifiers: dict[Classifier, tuple[object, ...]]
    sampled: set[str]

    @classmethod
    def of(cls, status: vnf_pb2.Status) -> _Running:
        nfs: dict[tuple[str, str], tuple[str, str]] = {}
        for nf in status.nfs:
            graph, _, name = nf.name.rpartition("/")
            nfs[graph, name] = (nf.type, nf.config_digest)
        classifiers: dict[Classifier, tuple[object, ...]] = {}
        for path in status.paths:
            key = (path.nf, ids.PathPosition(path.spi, path.si).number, path.out_port)
            if not path.out_port:
                classifiers[key] = ("enter", path.in_port)
            elif path.next.HasField("nf"):
                classifiers[key] = ("nf", path.next.nf.name, path.next.nf.port)
            else:
                hop = path.next.exit
                classifiers[key] = ("exit", hop.dst_mac, hop.spi, hop.si)
        return cls(nfs, classifiers, set(status.sampled_graphs))


def _graph_drift(
    graph: str, program: WorkerProgram | None, manifest: SamplingSecret | None, present: _Running
) -> GraphDrift:
    nfs = program.nfs if program else {}
    running = {name: spec for (g, name), spec in present.nfs.items() if g == graph}
    made = tuple(
        n
        for n, spec in nfs.items()
        if running.get(n) != (spec[0], config_digest(config_text(spec[1])))
    )
    removed = tuple(sorted(running.keys() - nfs.keys()))
    mine: dict[int, dict[Classifier, tuple[object, ...]]] = {}
    for key, where in present.classifiers.items():
        owner, _, name = key[0].rpartition("/")
        if owner == graph and name not in removed:
            mine.setdefault(key[1], {})[key] = where
    wanted: dict[int, dict[Classifier, tuple[object, ...]]] = {}
    chains = program.chains if program else ()
    for chain in chains:
        wanted.setdefault(path_of(chain), {}).update(classifiers_of(graph, chain))
    wrong = {path for path in mine.keys() | wanted.keys() if mine.get(path) != wanted.get(path)}
    chained = [chain for chain in chains if path_of(chain) in wrong]
    unchained = [c for path in sorted(wrong & mine.keys()) for c in _chains_at(path, mine[path])]
    sampling = (graph in present.sampled) != (manifest is not None and bool(nfs))
    return GraphDrift(graph, made, removed, tuple(chained), tuple(unchained), sampling)


def path_of(chain: ServerChain) -> int:
    """SPI and SI as one number."""
    return ids.PathPosition(chain.spi, chain.si).number


def classifiers_of(graph: str, chain: ServerChain) -> dict[Classifier, tuple[object, ...]]:
    """What a worker's classifiers hold once a chain is set."""
    path = path_of(chain)
    first = chain.hops[0]
    made: dict[Classifier, tuple[object, ...]] = {
        (f"{graph}/{first.nf}", path, ""): ("enter", first.port)
    }
    for index, (hop, following) in enumerate(zip(chain.hops, chain.hops[1:], strict=False)):
        left = chain.outputs[index] if index < len(chain.outputs) else ""
        key = (f"{graph}/{hop.nf}", path, left or _OTHER_PORT.get(hop.port, ""))
        if following.nf:
            made[key] = ("nf", f"{graph}/{following.nf}", following.port)
        else:
            made[key] = ("exit", following.mac, following.spi, following.si)
    return made


def _chains_at(path: int, there: Mapping[Classifier, tuple[object, ...]]) -> Iterator[ServerChain]:
    """What must be told to forget a path: the NF that it enters, and each port by which it leaves."""
    for (nf, _, left), where in there.items():
        if not left:
            name = nf.rpartition("/")[2]
            ports = [key[2] for key in there if key[0] == nf and key[2]] or [""]
            for port in ports:
                yield ServerChain(*ids.hop(path), (ChainHop(name, str(where[1])),), (port,))


def _program(placed: PlacedGraph, core: Core) -> WorkerProgram | None:
    for worker in placed.bundle.workers:
        if Core(worker.server, worker.core) == core:
            return worker
    return None

"""What a bundle intends: which point does what with a packet of a path, and where it goes then."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import Exact, ServerChain
from orchestrator.model.plan import Core
from orchestrator.model.topology import Topology
from servernf.wire.addresses import device_mac
from servernf.wire.configs import config_digest, config_text
from servernf.wire.records import point_id

PATHS = "flowtag_arrival.paths"
"""The table with what a switch takes with a tag."""
_TREE = 0xFF << 32
_StepT = TypeVar("_StepT")


@dataclass(frozen=True, slots=True)
class IntendedCall:
    """An NF of a worker, and the port that is entered."""

    nf: str
    port: str


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """Out of a worker: the next device's MAC and the path there."""

    mac: int
    path: int


@dataclass(frozen=True)
class Intended:
    """Of one graph, perhaps in several versions (an update has two for a while).

    `first` is by (point, path) the NF that a packet enters, `then` by (point, path, NF, port left) what
    follows, `switches` (point, path) what switches take, `digests` by NF those of its configurations,
    `at` the point's name by MAC, `names` by number. A version may give a path's number another meaning,
    so that there are several steps: the newest version's last.
    """

    graph: str
    first: Mapping[tuple[int, int], Sequence[IntendedCall]]
    then: Mapping[tuple[int, int, str, str], Sequence[IntendedCall | WorkerExit]]
    switches: frozenset[tuple[int, int]]
    digests: Mapping[str, frozenset[bytes]]
    at: Mapping[int, int]
    names: Mapping[int, str]

    @property
    def workers(self) -> frozenset[int]:
        """The points that are workers of the graph."""
        return frozenset(point for point, _ in self.first)

    def point_at(self, mac: int) -> int | None:
        """The point that a tagged frame for a MAC comes to, over whatever tree."""
        return self.at.get(mac & ~_TREE)

    def name(self, point: int) -> str:
        """A point's name, or its number."""
        return self.names.get(point, f"{point:016x}")

    def takes(self, point: int, path: int) -> bool:
        """Whether a packet of a path is meant to come to a point."""
        return (point, path) in self.first or (point, path) in self.switches


def intended(bundles: Iterable[Bundle], topology: Topology) -> Intended:
    """What bundles of one graph intend on a network, the oldest version first."""
    first: dict[tuple[int, int], list[IntendedCall]] = defaultdict(list)
    then: dict[tuple[int, int, str, str], list[IntendedCall | WorkerExit]] = defaultdict(list)
    switches: set[tuple[int, int]] = set()
    digests: dict[str, set[bytes]] = {}
    graph = ""
    for bundle in bundles:
        graph = bundle.graph
        for worker in bundle.workers:
            point = point_id(str(Core(worker.server, worker.core)))
            for name, (_, config) in worker.nfs.items():
                digest = bytes.fromhex(config_digest(config_text(config)))
                digests.setdefault(f"{graph}/{name}", set()).add(digest)
            for chain in worker.chains:
                _add_chain(point, graph, chain, first, then)
        for device, program in bundle.programs.items():
            for entry in program.entries:
                if entry.table == PATHS:
                    keys = {name: key.value for name, key in entry.keys if isinstance(key, Exact)}
                    switches.add((point_id(device), keys["spi"] << 8 | keys["si"]))
    at, names = _points(topology)
    frozen = {name: frozenset(digest) for name, digest in digests.items()}
    return Intended(graph, dict(first), dict(then), frozenset(switches), frozen, at, names)


def _add_chain(
    point: int,
    graph: str,
    chain: ServerChain,
    first: dict[tuple[int, int], list[IntendedCall]],
    then: dict[tuple[int, int, str, str], list[IntendedCall | WorkerExit]],
) -> None:
    path = chain.spi << 8 | chain.si
    steps: list[IntendedCall | WorkerExit] = [
        IntendedCall(f"{graph}/{hop.nf}", hop.port)
        if hop.nf
        else WorkerExit(hop.mac & ~_TREE, hop.spi << 8 | hop.si)
        for hop in chain.hops
    ]
    head = steps[0]
    if isinstance(head, IntendedCall):
        _add(first[point, path], head)
    for number, output in enumerate(chain.outputs):
        before = steps[number]
        if isinstance(before, IntendedCall) and number + 1 < len(steps):
            _add(then[point, path, before.nf, output], steps[number + 1])


def _add(steps: list[_StepT], step: _StepT) -> None:
    """Add a newer version's step: the last, whether older ones had it or not."""
    if step in steps:
        steps.remove(step)
    steps.append(step)


def _points(topology: Topology) -> tuple[dict[int, int], dict[int, str]]:
    at: dict[int, int] = {}
    names: dict[int, str] = {}
    for name, switch in topology.switches.items():
        at[device_mac(switch.id)] = point_id(name)
        names[point_id(name)] = name
    for name, server in topology.servers.items():
        for core in server.worker_cores:
            worker = str(Core(name, core))
            at[device_mac(server.id, core=core + 1)] = point_id(worker)
            names[point_id(worker)] = worker
    return at, names

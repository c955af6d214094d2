"""What is to be placed, as plain data: independent of where chains and devices come from.

Compiled graphs, Lemur's chains, generated instances and what-if scenarios all become a `Problem`.
Units: rates in bit/s, latencies in us, cycles per packet, cycles/s per core, entries per table.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import networkx as nx

from orchestrator.network.fabric import Fabric

SWITCH = "switch"
SMARTNIC = "smartnic"
SERVER = "server"

MEMORY = "memory_bytes"
RULES = "rules"


@dataclass(frozen=True, slots=True)
class BlockRoom:
    """An instance of a block in a switch's pipeline: free entries by resource ('acl.ipv4'). With `nf`
    it is only for that NF."""

    name: str
    block: str
    free: Mapping[str, int]
    nf: str = ""


@dataclass(frozen=True, slots=True)
class TaskDevice:
    """Something that executes tasks. `capacity` is what is free, by resource: entries by table
    ('acl.ipv4'), rules of a SmartNIC, memory in bytes. `cores` are its free worker cores."""

    name: str
    kind: str
    capacity: Mapping[str, int] = field(default_factory=dict[str, int])
    cores: int = 0
    cycles_per_second: int = 0
    """Of one core."""
    core_ids: tuple[int, ...] = ()
    """Numbers of the free worker cores; 0..cores-1 when empty."""
    nic_of: str = ""
    """The server that a SmartNIC sits in."""
    runtime: str = ""
    """What executes tasks on a server's cores: their cycles depend on it."""
    packets_per_second: int = 0
    """What a switch or a SmartNIC with a pipeline can carry, each pass counted; 0: no limit."""
    pass_us: int = 0
    """What a packet takes through its pipeline; 0: as the problem says of switches."""
    alone_ns: int = 0
    """What a packet takes a server beside its cycles, even when it comes alone."""
    waiting: float = 0.0
    """How long a packet waits on a server for those before it, in its own service times."""
    spare: bool = False
    """A task is here only where no device that is not spare can run it as cheaply."""
    slots: tuple[BlockRoom, ...] = ()
    """A switch's block instances, in pipeline order: a task must fit wholly into one of its block."""

    def core_number(self, index: int) -> int:
        """The number of the index-th free core."""
        return self.core_ids[index] if self.core_ids else index


@dataclass(frozen=True, slots=True)
class Chain:
    """A traffic demand with its SLO. `rate` bit/s must be carried; up to `max_rate` may be, when
    throughput is maximised. `max_latency_us` None: no limit."""

    name: str
    rate: int
    packet_bytes: int
    max_rate: int = 0
    max_latency_us: int | None = None
    base_latency_us: int = 0
    """What the way costs outside of the arcs (access links, the first switch), us."""
    first_pass_us: int = 0
    """How much of it the first switch's pipeline takes."""
    ends: tuple[str, ...] = ()
    """Tasks where its way ends; empty: those that nothing of it follows."""

    def cycles_per_second(self, cycles_per_packet: float, rate: float) -> float:
        """Cycles/s of a task that costs so many cycles a packet, at `rate` bit/s."""
        return rate / (8 * self.packet_bytes) * cycles_per_packet


@dataclass(frozen=True, slots=True)
class Task:
    """An indivisible step. It may run on `candidates`; there it needs `needs[kind of device]`.

    `cycles[chain]` is cycles per packet on a server core, `cycles_by[runtime]` those on servers of
    that runtime where they differ (of the same chains). Tasks of a `pool` that run on one server share
    that pool's worker cores there.
    """

    id: str
    candidates: tuple[str, ...]
    pool: str = ""
    needs: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])
    cycles: Mapping[str, float] = field(default_factory=dict[str, float])
    replicable: bool = True
    label: str = ""
    """How sentences call it (the NF's name)."""
    prefer: str = ""
    """A tie goes to this device."""
    cycles_by: Mapping[str, Mapping[str, float]] = field(
        default_factory=dict[str, Mapping[str, float]]
    )
    enters: frozenset[str] = frozenset()
    """The chains whose packets come to its pool by it."""

    shares: Mapping[str, float] = field(default_factory=dict[str, float])
    """By chain, how much of the cycles loads a core (all, if not said): of ways that exclude each other
    the costliest does."""

    def load_on(self, server: TaskDevice) -> Mapping[str, float]:
        """Cycles by which packets load a server's cores, by chain."""
        cycles = self.cycles_on(server)
        return (
            {c: n * self.shares.get(c, 1.0) for c, n in cycles.items()} if self.shares else cycles
        )

    def cycles_on(self, server: TaskDevice) -> Mapping[str, float]:
        """Cycles per packet on a server's cores, by chain."""
        return self.cycles_by.get(server.runtime, self.cycles)


@dataclass(frozen=True, slots=True)
class TrafficClass:
    """Packets that a switch can tell from those of other classes when it dispatches them to cores.

    `chains` says which part (0..1) of each chain's packets belongs to it. State never crosses
    classes, so each may have cores of its own.
    """

    name: str
    chains: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class CorePool:
    """Tasks that share worker cores. With `one_server`, all of them run on the same server.

    `classes` is how its packets may be told apart; empty: by chain."""

    name: str
    label: str
    min_workers: int = 1
    max_workers: int | None = None
    one_server: bool = False
    why: str = ""
    """Why `max_workers` is what it is."""
    classes: tuple[TrafficClass, ...] = ()
    worker_memory_bytes: int = 0
    """What each of its workers takes of its server's memory, at most."""


@dataclass(frozen=True, slots=True)
class TaskArc:
    """Packets of `chains` go from `source` to `target`: task ids, or '@name' for a fixed node."""

    source: str
    target: str
    chains: tuple[str, ...]


@dataclass(frozen=True)
class Problem:
    """Everything that a strategy needs. `load_limit` is the share of a core's cycles that may be
    planned; with `share_cores` several pools may use one core. `running` is where tasks are now."""

    name: str
    devices: Mapping[str, TaskDevice]
    fabric: Fabric
    chains: Mapping[str, Chain]
    tasks: Mapping[str, Task]
    pools: Mapping[str, CorePool]
    arcs: tuple[TaskArc, ...]
    link_taken: Mapping[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])
    """bit/s that others send over a link direction (near node, far node)."""
    apart: tuple[tuple[str, str], ...] = ()
    """Pairs of tasks that must not share a device."""
    together: tuple[tuple[str, str], ...] = ()
    """Pairs of tasks that must share a device."""
    pinned: Mapping[str, str] = field(default_factory=dict[str, str])
    running: Mapping[str, str] = field(default_factory=dict[str, str])
    load_limit: float = 0.75
    share_cores: bool = False
    switch_latency_us: int = 1
    """One pass through a switch's pipeline."""

    def budget(self, server: str) -> int:
        """Cycles/s that may be planned on one core of a server."""
        return int(self.devices[server].cycles_per_second * self.load_limit)

    def classes(self, pool: str) -> tuple[TrafficClass, ...]:
        """The traffic classes by which a pool's packets may be dispatched."""
        classes = self.pools[pool].classes
        return classes or tuple(TrafficClass(c, {c: 1.0}) for c in pool_chains(self, pool))

    def pass_us(self, switch: str) -> int:
        """What one pass through a switch's pipeline takes."""
        device = self.devices.get(switch)
        return (device.pass_us if device else 0) or self.switch_latency_us

    def place_of(self, device: str) -> str:
        """The topology's node where a device is: a SmartNIC's server, else itself."""
        described = self.devices.get(device)
        return described.nic_of if described is not None and described.nic_of else device

    def ends(self, node: str) -> tuple[str, ...]:
        """Devices where an arc's end can be."""
        return (node[1:],) if node.startswith("@") else self.tasks[node].candidates

    def servers(self) -> tuple[TaskDevice, ...]:
        """Devices with worker cores."""
        return tuple(d for d in self.devices.values() if d.kind == SERVER)

    @cached_property
    def pool_tasks(self) -> Mapping[str, tuple[str, ...]]:
        """Tasks by pool."""
        by_pool: dict[str, list[str]] = {pool: [] for pool in self.pools}
        for task in self.tasks.values():
            if task.pool:
                by_pool[task.pool].append(task.id)
        return {pool: tuple(tasks) for pool, tasks in by_pool.items()}

    @cached_property
    def chain_arcs(self) -> Mapping[str, tuple[int, ...]]:
        """Indices of each chain's arcs, in topological order."""
        by_chain: dict[str, list[int]] = {chain: [] for chain in self.chains}
        rank = {node: i for i, node in enumerate(self.order)}
        for index in sorted(range(len(self.arcs)), key=lambda i: rank[self.arcs[i].source]):
            for chain in self.arcs[index].chains:
                by_chain[chain].append(index)
        return {chain: tuple(arcs) for chain, arcs in by_chain.items()}

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Nodes of all arcs and all tasks, each before its followers."""
        graph = nx.DiGraph()
        graph.add_nodes_from(self.tasks)
        graph.add_edges_from((arc.source, arc.target) for arc in self.arcs)
        return tuple(nx.lexicographical_topological_sort(graph))

    @cached_property
    def expected(self) -> tuple[float, ...]:
        """bit/s by arc if every branch shares its chain evenly: what 'hops' weighs.

        Constraints do not use it: there, every branch may get everything.
        """
        return tuple(
            sum(self.chains[chain].rate * self.shares[index, chain] for chain in arc.chains)
            for index, arc in enumerate(self.arcs)
        )

    @cached_property
    def shares(self) -> Mapping[tuple[int, str], float]:
        """How much of a chain an arc carries if branches share it evenly, by (arc's index, chain)."""
        shares: dict[tuple[int, str], float] = {}
        for name, indices in self.chain_arcs.items():
            out: dict[str, int] = {}
            reached = {self.arcs[i].target for i in indices}
            for i in indices:
                out[self.arcs[i].source] = out.get(self.arcs[i].source, 0) + 1
            firsts = [n for n in out if n not in reached]
            flow = {n: 1 / len(firsts) for n in firsts}
            for i in indices:
                arc = self.arcs[i]
                share = flow.get(arc.source, 0.0) / out[arc.source]
                shares[i, name] = share
                flow[arc.target] = flow.get(arc.target, 0.0) + share
        return shares

    def moved(self, device_of: Mapping[str, str]) -> int:
        """Tasks that would not stay where they run now."""
        return sum(device_of.get(t, d) != d for t, d in self.running.items() if t in self.tasks)


@dataclass(frozen=True, slots=True)
class ArcWay:
    """An arc's choice: from device to device over a tree of the fabric."""

    source: str
    target: str
    tree: int


@dataclass(frozen=True, slots=True)
class ClassSlice:
    """Packets of a pool's class (its index) whose hash is in low..high-1 of 0..65535."""

    index: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class CoreShare:
    """A worker core (its number on the server), what it owns of each class of the pool, and the
    share that this is of the pool's load on the server."""

    server: str
    core: int
    share: float
    slices: tuple[ClassSlice, ...] = ()


@dataclass(frozen=True, slots=True)
class ObjectiveStage:
    """How one lexicographic stage ended: value found, proven bound, solver's word, seconds."""

    objective: str
    value: float
    bound: float
    status: str
    seconds: float

    @property
    def gap(self) -> float:
        """|value - bound| relative to the value; 0 when both are 0."""
        return (
            abs(self.value - self.bound) / max(abs(self.value), 1e-9)
            if self.value
            else abs(self.bound)
        )


SlotOf = Mapping[tuple[str, str], str]
"""(task, block) -> block instance, where the task's device has several of the block."""


@dataclass(frozen=True, slots=True)
class Solution:
    """A placement: device per task, way per arc (by index), cores per pool, bit/s per chain, block
    instance per task."""

    device_of: Mapping[str, str]
    ways: tuple[ArcWay, ...]
    cores_of: Mapping[str, tuple[CoreShare, ...]]
    rate_of: Mapping[str, int]
    strategy: str = "optimal"
    stages: tuple[ObjectiveStage, ...] = ()
    notes: tuple[str, ...] = ()
    slot_of: SlotOf = field(default_factory=dict[tuple[str, str], str])

    @property
    def status(self) -> str:
        """OPTIMAL when every stage is proven, else FEASIBLE; HEURISTIC without any stage."""
        if not self.stages:
            return "HEURISTIC"
        return "OPTIMAL" if all(s.status == "OPTIMAL" for s in self.stages) else "FEASIBLE"


def links_of(problem: Problem, way: ArcWay) -> tuple[tuple[str, str], ...]:
    """Link directions (near, far) that a way uses; none when it stays at one node."""
    source, target = problem.place_of(way.source), problem.place_of(way.target)
    if source == target:
        return ()
    path = problem.fabric.path(source, target, way.tree)
    return tuple(itertools.pairwise(path))


def passes_of(problem: Problem, arc: TaskArc, way: ArcWay) -> tuple[str, ...]:
    """The devices with a limit on packets/s that an arc's way enters: its packets come to the first one,
    too, where they come from hosts."""
    entered = [far for _, far in links_of(problem, way)]
    if arc.source.startswith("@"):
        entered.insert(0, way.source)
    devices = problem.devices
    return tuple(d for d in entered if d in devices and devices[d].packets_per_second)


def passes(problem: Problem, ways: Sequence[ArcWay]) -> dict[tuple[str, str], int]:
    """How often a packet comes to each device with a limit on packets/s on its longest way, by (chain,
    device)."""
    counts: dict[tuple[str, str], int] = {}
    entered = [passes_of(problem, a, w) for a, w in zip(problem.arcs, ways, strict=True)]
    for chain, indices in problem.chain_arcs.items():
        for device in {d for i in indices for d in entered[i]}:
            at: dict[str, int] = {}
            for i in indices:
                arc = problem.arcs[i]
                reached = at.get(arc.source, 0) + entered[i].count(device)
                at[arc.target] = max(at.get(arc.target, 0), reached)
            counts[chain, device] = max(at.values())
    return counts


def trees_between(problem: Problem, source: str, target: str) -> tuple[int, ...]:
    """One tree for each different way between two devices; none when there is no way."""
    a, b = problem.place_of(source), problem.place_of(target)
    if a == b:
        return (0,)
    if not problem.fabric.connected(a, b):
        return ()
    return problem.fabric.distinct_trees(a, b)


def pool_chains(problem: Problem, pool: str) -> tuple[str, ...]:
    """Chains whose packets cost a pool cycles."""
    tasks: Iterable[str] = problem.pool_tasks[pool]
    return tuple(dict.fromkeys(c for t in tasks for c in problem.tasks[t].cycles))

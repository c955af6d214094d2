"""Service chains without a service graph: what papers give (cycles, platforms, SLOs) as a problem.

A chains file names a topology, a catalogue of NFs with cycles per packet and platforms, and chains as
lists of NFs. It can be placed (`orchestrator place`) and examined (`whatif`), not deployed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from orchestrator.errors import InputError, unknown
from orchestrator.graph.schema import FileModel
from orchestrator.model.topology import Topology
from orchestrator.network.fabric import Fabric
from orchestrator.nfs.files import explain, located, parse_json, read_text
from orchestrator.placement.devices import devices_of
from orchestrator.placement.problem import (
    RULES,
    SERVER,
    SMARTNIC,
    SWITCH,
    Chain,
    CorePool,
    Problem,
    Task,
    TaskArc,
    TaskDevice,
)
from orchestrator.placement.resources import SCALE_OUT_LOAD, SWITCH_LATENCY_US, Network
from orchestrator.units import Microseconds, Rate

Platform = Literal["switch", "smartnic", "server"]


@dataclass(frozen=True, slots=True)
class CatalogueNf:
    """A catalogue NF: where it can run and what it needs there. Cycles per packet on a server."""

    name: str
    cycles_per_packet: float
    platforms: frozenset[str]
    replicable: bool = True
    cycles_per_byte: float = 0.0
    entries: Mapping[str, int] = field(default_factory=dict[str, int])
    """Table entries on a switch, by 'block.table'."""
    rules: int = 0
    """Rules on a SmartNIC."""


@dataclass(frozen=True, slots=True)
class ChainSpec:
    """A chain of NFs between two hosts. Rates in bit/s, latency in us."""

    name: str
    nfs: tuple[str, ...]
    ingress: str
    egress: str
    rate: int
    packet_bytes: int = 1500
    max_rate: int = 0
    max_latency_us: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules of a chains problem. `near`: switch work only on the switches of ingress, egress and
    servers (otherwise on every switch)."""

    load_limit: float = SCALE_OUT_LOAD
    share_cores: bool = False
    switch_latency_us: int = SWITCH_LATENCY_US
    near: bool = False


def task_id(chain: str, position: int, nf: str) -> str:
    """The id of a chain's task."""
    return f"{chain}/{position}.{nf}"


def chains_problem(
    name: str,
    fabric: Fabric,
    network: Network,
    catalogue: Mapping[str, CatalogueNf],
    chains: Sequence[ChainSpec],
    policy: Policy | None = None,
) -> Problem:
    """The problem of placing chains; every chain's server work shares that chain's cores."""
    policy = policy or Policy()
    topology = fabric.topology
    problems: list[str] = []
    for chain in chains:
        for end in (chain.ingress, chain.egress):
            if end not in topology.hosts:
                problems.append(f"chain {chain.name}: {unknown('host', end, list(topology.hosts))}")
            elif end not in fabric.attachments:
                problems.append(f"chain {chain.name}: host {end} is linked to no switch")
            elif chain.rate > fabric.attachments[end].link.capacity:
                capacity = fabric.attachments[end].link.capacity
                problems.append(
                    f"chain {chain.name}: {chain.rate / 1e9:g} Gbit/s; the link of {end} carries "
                    f"{capacity / 1e9:g} Gbit/s"
                )
        problems += [
            f"chain {chain.name}: {unknown('NF', nf, list(catalogue))}"
            for nf in chain.nfs
            if nf not in catalogue
        ]
        if not problems and not fabric.connected(chain.ingress, chain.egress):
            problems.append(
                f"chain {chain.name}: {chain.egress} cannot be reached from {chain.ingress}"
            )
    if problems:
        raise InputError(problems)
    devices = devices_of(fabric, network, measured=False)
    for nic in topology.smartnics.values():
        devices[nic.name] = TaskDevice(nic.name, SMARTNIC, {RULES: nic.rules}, nic_of=nic.server)
    tasks: dict[str, Task] = {}
    arcs: list[TaskArc] = []
    for chain in chains:
        _add_chain(chain, fabric, devices, catalogue, policy, tasks, arcs)
    return Problem(
        name=name,
        devices=devices,
        fabric=fabric,
        chains={c.name: _chain(c, fabric, policy) for c in chains},
        tasks=tasks,
        pools={c.name: CorePool(c.name, f"chain {c.name}") for c in chains},
        arcs=tuple(arcs),
        link_taken=network.used.link_rate,
        load_limit=policy.load_limit,
        share_cores=policy.share_cores,
        switch_latency_us=policy.switch_latency_us,
    )


def _chain(chain: ChainSpec, fabric: Fabric, policy: Policy) -> Chain:
    access = [fabric.attachments[h].link.latency_us for h in (chain.ingress, chain.egress)]
    return Chain(
        chain.name,
        chain.rate,
        chain.packet_bytes,
        max(chain.max_rate, chain.rate),
        chain.max_latency_us,
        sum(access) + policy.switch_latency_us,
    )


def _add_chain(
    chain: ChainSpec,
    fabric: Fabric,
    devices: Mapping[str, TaskDevice],
    catalogue: Mapping[str, CatalogueNf],
    policy: Policy,
    tasks: dict[str, Task],
    arcs: list[TaskArc],
) -> None:
    near = {
        SWITCH: [d.name for d in devices.values() if d.kind == SWITCH],
        SMARTNIC: [d.name for d in devices.values() if d.kind == SMARTNIC],
        SERVER: [d.name for d in devices.values() if d.kind == SERVER],
    }
    start, end = fabric.access(chain.ingress), fabric.access(chain.egress)
    if policy.near:
        homes = [fabric.access(s) for s in near[SERVER] if s in fabric.attachments]
        near[SWITCH] = list(dict.fromkeys([start, end, *homes]))
    nodes = [f"@{start}"]
    for position, nf in enumerate(chain.nfs):
        spec = catalogue[nf]
        name = task_id(chain.name, position, nf)
        cycles = spec.cycles_per_packet + spec.cycles_per_byte * chain.packet_bytes
        tasks[name] = Task(
            name,
            tuple(d for kind in near for d in near[kind] if kind in spec.platforms),
            chain.name if SERVER in spec.platforms else "",
            {SWITCH: dict(spec.entries), SMARTNIC: {RULES: spec.rules}},
            {chain.name: cycles} if SERVER in spec.platforms else {},
            spec.replicable,
            f"{nf} of {chain.name}",
        )
        nodes.append(name)
    out = f"{chain.name}/out"
    tasks[out] = Task(out, (end,), label=f"egress of {chain.name}")
    nodes.append(out)
    arcs += [TaskArc(a, b, (chain.name,)) for a, b in pairwise(nodes)]


class ChainNf(FileModel):
    """An NF of the catalogue."""

    cycles_per_packet: Annotated[float, Field(ge=0)]
    cycles_per_byte: Annotated[float, Field(ge=0)] = 0.0
    platforms: Annotated[tuple[Platform, ...], Field(min_length=1)]
    replicable: bool = True
    entries: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict[str, int])
    rules: Annotated[int, Field(ge=0)] = 0


class ChainFile(FileModel):
    """A chain."""

    name: str
    nfs: Annotated[tuple[str, ...], Field(min_length=1)]
    ingress: str
    egress: str
    min_rate: Rate
    max_rate: Rate = 0
    packet_bytes: Annotated[int, Field(ge=60, le=9216)] = 1500
    max_latency: Microseconds | None = None


class ChainsFile(FileModel):
    """A chains file; `topology` is a file beside it, or any name that `--topology` takes."""

    name: str
    topology: str
    load_limit: Annotated[float, Field(gt=0, le=1)] = SCALE_OUT_LOAD
    share_cores: bool = False
    switch_latency: Microseconds = SWITCH_LATENCY_US
    catalogue: dict[str, ChainNf]
    chains: Annotated[tuple[ChainFile, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class LoadedChains:
    """A checked chains file."""

    name: str
    topology: str
    catalogue: dict[str, CatalogueNf]
    chains: tuple[ChainSpec, ...]
    policy: Policy

    def problem(self, topology: Topology, network: Network) -> Problem:
        """Its placement problem on a topology."""
        return chains_problem(
            self.name, Fabric(topology), network, self.catalogue, self.chains, self.policy
        )


def is_chains_file(path: Path) -> bool:
    """Whether a JSON file is a chains file rather than a service graph."""
    raw = parse_json(read_text(path, str(path)), str(path))
    return isinstance(raw, dict) and "chains" in raw and "catalogue" in raw


def load_chains(path: Path) -> LoadedChains:
    """Read a chains file; InputError with every problem."""
    raw = parse_json(read_text(path, str(path)), str(path))
    try:
        file = ChainsFile.model_validate(raw)
    except ValidationError as error:
        raise InputError([located(str(path), t) for t in explain(error, ChainsFile)]) from None
    problems: list[str] = []
    names: set[str] = set()
    for chain in file.chains:
        if chain.name in names:
            problems.append(f"{path}: chains.{chain.name}: the name is given twice")
        names.add(chain.name)
        if chain.max_rate and chain.max_rate < chain.min_rate:
            problems.append(f"{path}: chains.{chain.name}: max_rate is below min_rate")
    if problems:
        raise InputError(problems)
    beside = path.parent / file.topology
    return LoadedChains(
        file.name,
        str(beside) if beside.is_file() else file.topology,
        {
            name: CatalogueNf(
                name,
                nf.cycles_per_packet,
                frozenset(nf.platforms),
                nf.replicable,
                nf.cycles_per_byte,
                nf.entries,
                nf.rules,
            )
            for name, nf in file.catalogue.items()
        },
        tuple(
            ChainSpec(
                c.name,
                c.nfs,
                c.ingress,
                c.egress,
                c.min_rate,
                c.packet_bytes,
                c.max_rate,
                c.max_latency,
            )
            for c in file.chains
        ),
        Policy(file.load_limit, file.share_cores, file.switch_latency),
    )

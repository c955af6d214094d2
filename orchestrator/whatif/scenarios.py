"""What-if scenarios: functions from (what is to be placed, topology) to new ones.

`FAIL` link:a-b, node:s1. `SCALE` traffic=2x, up=1.5x. `SET` server1.cores=8, leaf1-spine1.capacity=40G,
leaf1.target=tofino, leaf1.table_sizes.acl.ipv4=100. `SWEEP` rate=1G..100G:10 (total offered rate).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import Any

from orchestrator.errors import InputError, unknown
from orchestrator.model.away import Away, Cordon
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.topology import Link, Topology, within, without_nics
from orchestrator.network.fabric import Fabric
from orchestrator.placement.chains import ChainSpec, LoadedChains
from orchestrator.placement.resources import Network, Used
from orchestrator.placement.topologies import HostDemand
from orchestrator.targets import choices
from orchestrator.targets.pipelines import SHIPPED, Pipelines, size_problem
from orchestrator.units import RATES, SIZES, TIMES, parse_quantity

_UNITS: Mapping[str, Mapping[str, int]] = {"memory_bytes": SIZES, "latency_us": TIMES}
"""Of values by key; else those of rates."""
_OF_SWITCHES = ("packets_per_second", "target", "table_sizes.TABLE")
BASE = "now"


@dataclass(frozen=True, slots=True)
class Case:
    """What is examined: graphs, or chains, on a topology. `offload` False: servers do everything
    that they can. `used` is what other graphs hold there, `builds` are its switches' pipelines, and
    what is cordoned is not to be used. `failed` are the nodes that a scenario has taken out."""

    graphs: tuple[ServiceGraph, ...]
    chains: LoadedChains | None
    topology: Topology
    offload: bool = True
    used: Used = field(default_factory=Used)
    builds: Pipelines = SHIPPED
    cordon: Cordon = field(default_factory=Cordon)
    failed: frozenset[str] = frozenset()

    def fabric(self) -> Fabric:
        """The ways of the topology."""
        return Fabric(self.topology, Away(cordon=self.cordon))

    def network(self) -> Network:
        """What placement may use."""
        used = replace(self.used, cores=self.used.cores | self.cordon.cores)
        return Network.planned(self.topology, used, self.builds)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Named changes, applied in this order."""

    name: str
    fail: tuple[str, ...] = ()
    scale: tuple[str, ...] = ()
    set: tuple[str, ...] = ()
    without_offload: bool = False
    total_rate: int | None = None
    """bit/s that all chains together offer."""

    def apply(self, case: Case) -> Case:
        """The changed case; InputError names what does not exist."""
        topology = case.topology
        for what in self.fail:
            topology = fail(topology, what)
        for what in self.set:
            topology = change(topology, what)
        failed = {what.removeprefix("node:") for what in self.fail if what.startswith("node:")}
        changed = replace(case, topology=topology, failed=case.failed | failed)
        for what in self.scale:
            changed = scale(changed, what)
        if self.total_rate is not None:
            changed = _with_total(changed, self.total_rate)
        return replace(changed, offload=case.offload and not self.without_offload)


def parse_rate(text: str) -> int:
    """bit/s of `10G`, `1.5Gbit/s`, `500M`."""
    try:
        return parse_quantity(text, RATES, "10G")
    except ValueError as error:
        raise InputError(f"{error}, a rate") from None


def nodes_of(topology: Topology) -> tuple[str, ...]:
    """Names of all nodes."""
    return (*topology.switches, *topology.servers, *topology.hosts)


def find_link(topology: Topology, text: str) -> Link:
    """The link `a-b`; names may hold dashes themselves."""
    pairs = [(text[:i], text[i + 1 :]) for i, character in enumerate(text) if character == "-"]
    for link in topology.links:
        if any({link.a, link.b} == {a, b} for a, b in pairs):
            return link
    names = [f"{link.a}-{link.b}" for link in topology.links]
    raise InputError(unknown("link", text, names))


def fail(topology: Topology, what: str) -> Topology:
    """The topology without a link or a node."""
    kind, _, name = what.partition(":")
    if kind == "link":
        gone = within(topology, find_link(topology, name))
        return replace(topology, links=tuple(x for x in topology.links if x not in gone))
    if kind != "node":
        raise InputError(f"--fail {what}: say link:a-b or node:name")
    if name not in nodes_of(topology):
        raise InputError(f"--fail {what}: {unknown('node', name, nodes_of(topology))}")
    if name in topology.servers:
        topology = without_nics(topology, name)
    return replace(
        topology,
        switches={n: s for n, s in topology.switches.items() if n != name},
        servers={n: s for n, s in topology.servers.items() if n != name},
        smartnics={n: s for n, s in topology.smartnics.items() if s.server != name},
        hosts={n: h for n, h in topology.hosts.items() if n != name},
        links=tuple(x for x in topology.links if name not in (x.a, x.b)),
    )


def change(topology: Topology, what: str) -> Topology:
    """The topology with one value set: `server1.cores=8`."""
    path, equals, value = what.partition("=")
    node, dot, key = path.partition(".")
    if not equals or not dot or not value:
        raise InputError(f"--set {what}: say node.key=value, like server1.cores=8")
    if node in topology.servers:
        server = topology.servers[node]
        if key == "nics":
            if value != "none":
                raise InputError(f"--set {what}: only none; NICs are said in the topology")
            return without_nics(topology, node)
        keys = ("nics", "cores", "reserved_cores", "cycles_per_second", "memory_bytes")
        if key not in keys:
            raise InputError(f"--set {what}: {unknown('key of a server', key, keys)}")
        changed: dict[str, Any] = {key: _number(what, key, value)}
        new = replace(server, **changed)
        if new.cores < 0 or new.reserved_cores > new.cores:
            raise InputError(f"--set {what}: {new.cores} cores, {new.reserved_cores} reserved")
        return replace(topology, servers={**topology.servers, node: new})
    if node in topology.switches:
        switch = topology.switches[node]
        if key == "target":
            targets = choices()
            if value not in targets:
                raise InputError(f"--set {what}: {unknown('target', value, targets)}")
            switch = replace(switch, target=value)
        elif key == "packets_per_second":
            switch = replace(switch, packets_per_second=_number(what, key, value))
        elif key.startswith("table_sizes."):
            table, size = key.removeprefix("table_sizes."), _number(what, key, value)
            if text := size_problem(switch.pipeline, switch.target, table, size):
                raise InputError(f"--set {what}: {text}")
            switch = replace(switch, table_sizes={**switch.table_sizes, table: size})
        else:
            raise InputError(f"--set {what}: {unknown('key of a switch', key, _OF_SWITCHES)}")
        return replace(topology, switches={**topology.switches, node: switch})
    link = _link_or_none(topology, node)
    if link is None:
        raise InputError(f"--set {what}: {unknown('node or link', node, nodes_of(topology))}")
    if key not in ("capacity", "latency_us"):
        raise InputError(
            f"--set {what}: {unknown('key of a link', key, ('capacity', 'latency_us'))}"
        )
    renewed: dict[str, Any] = {key: _number(what, key, value)}
    same = within(topology, link)
    links = (replace(x, **renewed) if x in same else x for x in topology.links)
    return replace(topology, links=tuple(links))


def _number(what: str, key: str, value: str) -> int:
    """A value with the units of its key, as topology files have it."""
    try:
        return parse_quantity(value, _UNITS.get(key, RATES), "8")
    except ValueError as error:
        raise InputError(f"--set {what}: {error}") from None


def _link_or_none(topology: Topology, text: str) -> Link | None:
    try:
        return find_link(topology, text)
    except InputError:
        return None


def scale(case: Case, what: str) -> Case:
    """Rates multiplied: `traffic=2x` all, `NAME=2x` one traffic or chain, `NAME=5G` set."""
    name, _, amount = what.partition("=")
    names = names_of(case)
    if name != "traffic" and name not in names:
        raise InputError(f"--scale {what}: {unknown('traffic', name, names)}")
    factor: float | None = None
    rate = 0
    if amount.endswith("x"):
        try:
            factor = float(amount[:-1])
        except ValueError:
            factor = -1.0
        if factor <= 0:
            raise InputError(f"--scale {what}: say a factor above 0, like 2x")
    else:
        rate = parse_rate(amount)

    def new(old: int) -> int:
        return max(1, round(old * factor)) if factor is not None else rate

    return _rescaled(case, lambda n, old: new(old) if name in ("traffic", n) else old)


def names_of(case: Case) -> tuple[str, ...]:
    """Names of the traffics, or of the chains."""
    if case.chains is not None:
        return tuple(c.name for c in case.chains.chains)
    return tuple(t.name for g in case.graphs for t in g.traffic)


def _rescaled(case: Case, new) -> Case:  # type: ignore[no-untyped-def]
    graphs = tuple(
        replace(
            g,
            traffic=tuple(
                replace(
                    t,
                    rate=new(t.name, t.rate),
                    min_rate=None if t.min_rate is None else new(t.name, t.min_rate),
                )
                for t in g.traffic
            ),
        )
        for g in case.graphs
    )
    chains = case.chains
    if chains is not None:
        scaled = tuple(
            replace(c, rate=new(c.name, c.rate), max_rate=max(c.max_rate, new(c.name, c.rate)))
            for c in chains.chains
        )
        chains = replace(chains, chains=scaled)
    return replace(case, graphs=graphs, chains=chains)


def _with_total(case: Case, total: int) -> Case:
    specs = case.chains.chains if case.chains is not None else ()
    now = sum(c.rate for c in specs) + sum(t.rate for g in case.graphs for t in g.traffic)
    return _rescaled(case, lambda _, old: max(1, round(old * total / max(now, 1))))


RATE = "rate="
"""How the scenarios of a sweep are called, before their rate."""


def sweep(text: str) -> tuple[Scenario, ...]:
    """`rate=1G..100G:10`: ten totals, evenly spaced, both ends included."""
    match = re.fullmatch(r"rate=([^.]+(?:\.\d+)?[a-zA-Z]*)\.\.(.+):(\d+)", text)
    if match is None or int(match[3]) < 2:
        raise InputError(f"--sweep {text}: say rate=FROM..TO:COUNT, like rate=1G..100G:10")
    low, high, count = parse_rate(match[1]), parse_rate(match[2]), int(match[3])
    if low <= 0 or high <= low:
        raise InputError(f"--sweep {text}: the rates must be above 0 and rise")
    steps = [round(low + (high - low) * i / (count - 1)) for i in range(count)]
    return tuple(Scenario(f"{RATE}{r / 1e9:g}G", total_rate=r) for r in steps)


def fail_each(topology: Topology, kind: str) -> tuple[Scenario, ...]:
    """One scenario for each link ('link'), or each switch and server ('node'): N-1 analysis."""
    if kind == "link":
        names = dict.fromkeys(f"{x.a}-{x.b}" for x in topology.links)
        return tuple(Scenario(f"fail {name}", fail=(f"link:{name}",)) for name in names)
    if kind == "node":
        nodes = (*topology.switches, *topology.servers)
        return tuple(Scenario(f"fail {n}", fail=(f"node:{n}",)) for n in nodes)
    raise InputError(f"--fail-each {kind}: say link or node")


def with_demands(case: Case, demands: Sequence[HostDemand]) -> Case:
    """A chain for each entry of a demand matrix: the case's chains in turn, between its hosts."""
    if case.chains is None:
        raise InputError("--demands needs a chains file: a service graph names its own hosts")
    if not demands:
        raise InputError("--demands: the matrix is empty")
    turns = cycle(case.chains.chains)
    hosts = case.topology.hosts
    problems = [
        f"--demands: {unknown('host', h, list(hosts))}"
        for d in demands
        for h in (d.source, d.target)
        if h not in hosts
    ]
    if problems:
        raise InputError(problems[:20])
    specs: list[ChainSpec] = []
    for number, demand in enumerate(demands):
        chain = next(turns)
        specs.append(
            replace(
                chain,
                name=f"{demand.source}>{demand.target}#{number}",
                ingress=demand.source,
                egress=demand.target,
                rate=demand.rate,
                max_rate=max(chain.max_rate, demand.rate),
            )
        )
    policy = replace(case.chains.policy, near=True)
    return replace(case, chains=replace(case.chains, chains=tuple(specs), policy=policy))

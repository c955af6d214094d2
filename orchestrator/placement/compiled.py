"""Compiled graphs as a placement problem: units become tasks, groups pools, traffics chains."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

from orchestrator.errors import InfeasibleError, InputError, unknown
from orchestrator.model.cuts import SERVER as SERVER_UNIT
from orchestrator.model.cuts import Cuts, Unit
from orchestrator.model.graph import ServiceGraph
from orchestrator.network.fabric import Fabric
from orchestrator.nfs.base import Functions
from orchestrator.placement.branches import with_shares
from orchestrator.placement.classes import class_words, state_classes
from orchestrator.placement.devices import devices_of
from orchestrator.placement.problem import (
    MEMORY,
    SERVER,
    SWITCH,
    Chain,
    CorePool,
    Problem,
    Task,
    TaskArc,
    TaskDevice,
    TrafficClass,
)
from orchestrator.placement.resources import (
    SCALE_OUT_LOAD,
    SWITCH_LATENCY_US,
    Demand,
    Network,
    demands,
)
from orchestrator.placement.standby import standby_server
from orchestrator.runtimes import Runtime, runtime
from orchestrator.targets.pipelines import footprint


@dataclass(frozen=True, slots=True)
class GraphPart:
    """One graph to be placed, as cut; `prefix` keeps names of several graphs apart. `alone`: NFs may run
    where their standby should. `not_on`: NFs with switches on which they shall not stand, as far as they
    may on others."""

    graph: ServiceGraph
    functions: Functions
    cuts: Cuts
    prefix: str = ""
    alone: bool = False
    not_on: frozenset[tuple[str, str]] = frozenset()

    @property
    def standbys(self) -> dict[int, str]:
        """By group: the server that is for its standby, and not for itself."""
        servers = ((i, standby_server(self.graph, g)) for i, g in enumerate(self.cuts.groups))
        return {} if self.alone else {i: server for i, server in servers if server}


def forced_by_pins(
    graph: ServiceGraph, functions: Functions, servers: Container[str]
) -> dict[str, str]:
    """Stateless NFs that are pinned to a server, with the reason: the cut must leave them whole."""
    return {
        nf: f"placement.pin: {device}"
        for nf, device in graph.placement.pinned.items()
        if device in servers
        and not any(
            e.stateful
            for port in functions[nf].ports
            for e in functions[nf].elements(port).elements.values()
        )
    }


def exit_task(endpoint: str, switch: str) -> str:
    """The id of the last step to an endpoint's hosts on a switch; lowering's name of it."""
    return f"deliver.{endpoint}>{switch}"


def problem_of(
    parts: Sequence[GraphPart],
    fabric: Fabric,
    network: Network,
    *,
    everywhere: bool = False,
    running: Mapping[str, str] | None = None,
    marginal: bool = False,
    nearest: int | None = None,
) -> Problem:
    """The problem of placing cut graphs together, by their own placement rules.

    `running` is where tasks are now, by unit id (with the graph's prefix, if any).

    `everywhere`: switch units may stand on any switch, not only on those of ingress, egress and
    servers. `marginal`: chains must get their `min_rate` and may get their `rate` (else they must get
    all of it). `nearest`: only so many servers, the nearest to the graph's hosts that have free
    cores (ties by name), and those where it is running.
    """
    return _Builder(fabric, network, everywhere, running or {}, marginal, nearest).build(parts)


class _Builder:
    def __init__(
        self,
        fabric: Fabric,
        network: Network,
        everywhere: bool,
        running: Mapping[str, str],
        marginal: bool,
        nearest: int | None,
    ) -> None:
        self.fabric, self.network, self.everywhere = fabric, network, everywhere
        self.running, self.marginal = running, marginal
        self.topology = fabric.topology
        self.nearest = nearest
        self._nfs_of: dict[str, tuple[str, ...]] = {}
        """The NFs of the group that a pool is for."""
        self._servers_of: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}
        self.chains: dict[str, Chain] = {}
        self.tasks: dict[str, Task] = {}
        self.pools: dict[str, CorePool] = {}
        self.arcs: dict[tuple[str, str], dict[str, None]] = {}
        self.devices = devices_of(fabric, network)
        self.pass_us = {
            name: device.pass_us or SWITCH_LATENCY_US for name, device in self.devices.items()
        }

    def build(self, parts: Sequence[GraphPart]) -> Problem:
        for part in parts:
            self._add(part)
        self.tasks |= with_shares(self.tasks, self.arcs)
        pinned, apart, together = self._rules(parts)
        devices = self._without_standbys(parts, dict(self.devices))
        return Problem(
            name=" + ".join(part.graph.name for part in parts),
            devices=self._limited(devices),
            fabric=self.fabric,
            chains=self.chains,
            tasks=self.tasks,
            pools=self.pools,
            arcs=tuple(TaskArc(a, b, tuple(chains)) for (a, b), chains in self.arcs.items()),
            link_taken=self.network.used.link_rate,
            pinned=pinned,
            apart=apart,
            together=together,
            running=self.running,
            load_limit=SCALE_OUT_LOAD,
            switch_latency_us=SWITCH_LATENCY_US,
        )

    def _limited(self, devices: Mapping[str, TaskDevice]) -> dict[str, TaskDevice]:
        """Devices without a limit on packets/s that these traffics reach on no way."""
        most = 0.0
        for chain in self.chains.values():
            arcs = sum(chain.name in chains for chains in self.arcs.values())
            most += arcs * chain.max_rate / (8 * chain.packet_bytes)
        return {
            name: replace(device, packets_per_second=0)
            if most <= device.packets_per_second
            else device
            for name, device in devices.items()
        }

    def _without_standbys(
        self, parts: Sequence[GraphPart], devices: dict[str, TaskDevice]
    ) -> dict[str, TaskDevice]:
        """Servers without the cores and the memory that are for standbys."""
        for part in parts:
            for group, name in part.standbys.items():
                server = devices.get(name)
                if server is None or not server.cores:
                    continue
                left = server.capacity[MEMORY]
                left -= self.pools[f"{part.prefix}group{group}"].worker_memory_bytes
                devices[name] = replace(
                    server,
                    capacity={**server.capacity, MEMORY: max(0, left)},
                    cores=server.cores - 1,
                    core_ids=server.core_ids[:-1],
                )
        return devices

    def _add(self, part: GraphPart) -> None:
        wants = demands(part.graph, part.cuts)
        self._chains(part, wants)
        pool_of = self._pools(part, wants)
        for unit in part.cuts.units.values():
            self._task(part, unit, wants, pool_of)
        for entry in part.cuts.entries:
            self.arcs.setdefault((f"@{entry.switch}", part.prefix + entry.target), {})
        for arc in part.cuts.arcs:
            self.arcs.setdefault((part.prefix + arc.source, part.prefix + arc.target), {})
        for want in wants:
            if not want.units:  # every packet is dropped on the way: no chain
                continue
            chain = part.prefix + want.traffic.name
            for switch, first in want.entries:
                self.arcs[f"@{switch}", part.prefix + first][chain] = None
            for source, target in sorted(want.arcs):
                self.arcs[part.prefix + source, part.prefix + target][chain] = None
            for unit in sorted(want.units):
                if part.cuts.units[unit].endpoint == want.traffic.egress:
                    for switch in self._host_switches(part.graph, want.traffic.egress):
                        self._exit(part, unit, want.traffic.egress, switch)[chain] = None

    def _exit(self, part: GraphPart, unit: str, endpoint: str, switch: str) -> dict[str, None]:
        """From a delivery on to the switch where hosts are."""
        name = part.prefix + exit_task(endpoint, switch)
        if name not in self.tasks:
            self.tasks[name] = Task(name, (switch,), label=f"hosts of {endpoint} at {switch}")
        return self.arcs.setdefault((part.prefix + unit, name), {})

    def _host_switches(self, graph: ServiceGraph, endpoint: str) -> tuple[str, ...]:
        hosts = graph.endpoints[endpoint].hosts
        return tuple(dict.fromkeys(self.fabric.access(h) for h in hosts))

    def _chains(self, part: GraphPart, wants: Sequence[Demand]) -> None:
        for want in wants:
            traffic = want.traffic
            if not want.units:
                continue
            least = traffic.rate
            if self.marginal and traffic.min_rate is not None:
                least = traffic.min_rate
            first = max(
                self.pass_us[switch] for switch in self._host_switches(part.graph, traffic.ingress)
            )
            base = self._access_us(part.graph, traffic.ingress) + first
            self.chains[part.prefix + traffic.name] = Chain(
                part.prefix + traffic.name,
                max(least, traffic.min_rate or 0),
                traffic.packet_bytes,
                max(traffic.rate, traffic.min_rate or 0),
                traffic.max_latency_us,
                base + self._access_us(part.graph, traffic.egress),
                first,
                tuple(
                    part.prefix + exit_task(traffic.egress, switch)
                    for switch in self._host_switches(part.graph, traffic.egress)
                ),
            )

    def _access_us(self, graph: ServiceGraph, endpoint: str) -> int:
        """The slowest access link of an endpoint's hosts."""
        return max(
            self.fabric.attachments[h].link.latency_us for h in graph.endpoints[endpoint].hosts
        )

    def _pools(self, part: GraphPart, wants: Sequence[Demand]) -> dict[str, str]:
        pool_of: dict[str, str] = {}
        for index, group in enumerate(part.cuts.groups):
            nfs = [part.graph.nfs[n] for n in group.nfs]
            most = min((n.max_workers for n in nfs if n.max_workers is not None), default=None)
            name = f"{part.prefix}group{index}"
            self.pools[name] = CorePool(
                name,
                f"{part.prefix}{', '.join(group.nfs)}",
                max(1, *(n.min_workers for n in nfs)),
                1 if group.spread == "one" else most,
                one_server=True,
                why=group.why if group.spread == "one" else "max_workers",
                classes=tuple(
                    TrafficClass(
                        f"{part.prefix}{class_words(state_class)}",
                        {part.prefix + traffic: n for traffic, n in state_class.traffics.items()},
                    )
                    for state_class in state_classes(part.functions, part.cuts, group, wants)
                ),
                worker_memory_bytes=max(
                    sum(state_class.memory_bytes(part.functions[nf]) for nf in group.nfs)
                    for state_class in self._runtimes(part, group.nfs)
                ),
            )
            pool_of.update(dict.fromkeys(group.units, name))
            self._nfs_of[name] = group.nfs
        return pool_of

    def _task(
        self, part: GraphPart, unit: Unit, wants: Sequence[Demand], pool_of: Mapping[str, str]
    ) -> None:
        name, pool = part.prefix + unit.id, pool_of.get(unit.id, "")
        if unit.kind == SERVER_UNIT:
            nfs = self._nfs_of[pool]
            enters = frozenset(w.traffic.name for w in wants if _enters(unit.id, w, pool_of))
            by = {
                executing.name: self._cycles(part, unit, wants, executing, enters)
                for executing in self._runtimes(part, nfs)
            }
            first, *others = by.values()
            self.tasks[name] = Task(
                name,
                self._servers(part, nfs),
                pool,
                {},
                first,
                label=unit.nf,
                cycles_by=by if others else {},
                enters=frozenset(part.prefix + traffic for traffic in enters),
            )
            return
        need = {
            f"{b}.{t}": n
            for (b, t), n in footprint(unit, self.network.pipelines.values()).items()
            if n
        }
        switches = self._switches(part, unit, wants)
        others = tuple(switch for switch in switches if (unit.nf, switch) not in part.not_on)
        self.tasks[name] = Task(
            name,
            others or switches,
            needs={SWITCH: need},
            label=unit.nf or f"delivery to {unit.endpoint}",
            prefer=unit.ingress,
        )

    @staticmethod
    def _cycles(
        part: GraphPart, unit: Unit, wants: Sequence[Demand], there: Runtime, enters: Container[str]
    ) -> dict[str, float]:
        """Of an NF, and of the frame where it enters the worker."""
        per_packet: dict[str, float] = {}
        for want in wants:
            traffic = want.traffic
            if unit.id in want.units:
                nf, size = part.functions[unit.nf], traffic.packet_bytes
                cycles = there.cycles(nf, size, traffic.new_flows)
                if traffic.name in enters:
                    cycles += there.frame_cycles(size)
                per_packet[part.prefix + traffic.name] = cycles
        return per_packet

    def _runtimes(self, part: GraphPart, nfs: Sequence[str]) -> list[Runtime]:
        """Runtimes of this network's servers that have all of a group's NFs; one at least."""
        there = dict.fromkeys(s.runtime for s in self.topology.servers.values())
        if not there:
            raise InfeasibleError(
                f"{part.graph.name}: {', '.join(nfs)} must run on a server, and "
                f"{self.topology.name} has none"
            )
        types = {part.functions[nf].type for nf in nfs}
        executing = [
            there_runtime
            for there_runtime in map(runtime, there)
            if all(there_runtime.cost(type(part.functions[nf])) is not None for nf in nfs)
        ]
        if not executing:
            have = "; ".join(f"{n} has {', '.join(runtime(n).nf_types)}" for n in there)
            raise InfeasibleError(
                f"{part.graph.name}: {', '.join(nfs)} must run on a server, and no server of "
                f"{self.topology.name} has a runtime with {', '.join(sorted(types))} ({have})"
            )
        return executing

    def _switches(self, part: GraphPart, unit: Unit, wants: Sequence[Demand]) -> tuple[str, ...]:
        """Where a switch unit may stand: ingress, servers' NICs and switches, egress; or everywhere."""
        away = self.fabric.away.devices.keys() | self.fabric.away.cordon.switches
        if self.everywhere:
            return tuple(s for s in self.topology.switches if s not in away)
        hosts_of = [self._servers(part, group.nfs) for group in part.cuts.groups]
        near = [at for servers in hosts_of for s in servers for at in self.fabric.before(s)]
        egress = {w.traffic.egress for w in wants if unit.id in w.units}
        hosts = [s for e in sorted(egress) for s in self._host_switches(part.graph, e)]
        own = [unit.ingress] if unit.ingress else []
        candidates = tuple(s for s in dict.fromkeys([*own, *near, *hosts]) if s not in away)
        return candidates or tuple(s for s in self.topology.switches if s not in away)

    def _servers(self, part: GraphPart, nfs: tuple[str, ...]) -> tuple[str, ...]:
        """Servers that a group's NFs may run on: all that are linked and have them, or the nearest."""
        candidates = self._servers_of.get((part.prefix, nfs))
        if candidates is None:
            candidates = self._servers_of[part.prefix, nfs] = self._candidates(part, nfs)
        return candidates

    def _candidates(self, part: GraphPart, nfs: tuple[str, ...]) -> tuple[str, ...]:
        able = {one.name for one in self._runtimes(part, nfs)}
        group = next(i for i, one in enumerate(part.cuts.groups) if one.nfs == nfs)
        standby = part.standbys.get(group)
        linked = tuple(
            name
            for name, server in self.topology.servers.items()
            if name in self.fabric.attachments and server.runtime in able and name != standby
        )
        if self.nearest is None or len(linked) <= self.nearest:
            return linked
        held = Counter(core.server for core in self.network.used.cores)
        ends = {self.fabric.access(h) for e in part.graph.endpoints.values() for h in e.hosts}

        def far(server: str) -> tuple[int, str]:
            ways = [
                len(self.fabric.path(end, server, 0))
                for end in ends
                if self.fabric.connected(end, server)
            ]
            return (sum(ways), server)

        free = [s for s in linked if held[s] < len(self.topology.servers[s].worker_cores)]
        near = sorted(free, key=far)[: self.nearest]
        at = {self.running.get(part.prefix + u.id) for u in part.cuts.units.values() if u.nf in nfs}
        return (*near, *(s for s in linked if s in at and s not in near)) or linked

    def _rules(
        self, parts: Sequence[GraphPart]
    ) -> tuple[dict[str, str], tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
        """An NF's rules are about what keeps its state; without state, about all of its tasks."""
        tasks: dict[str, list[str]] = defaultdict(list)
        for part in parts:
            for unit in part.cuts.units.values():
                nfs = [unit.nf, *(o.nf for o in unit.merged)] if unit.nf else []
                for nf in dict.fromkeys(nfs):
                    tasks[part.prefix + nf].append(part.prefix + unit.id)
        for nf, able in tasks.items():
            tasks[nf] = [t for t in able if self._kind(t) == SERVER] or able
        kinds = {
            **dict.fromkeys(self.topology.switches, SWITCH),
            **dict.fromkeys(self.topology.servers, SERVER),
        }
        pinned: dict[str, str] = {}
        pairs: dict[str, list[tuple[str, str]]] = {"apart": [], "together": []}
        problems: list[str] = []
        for part in parts:
            where, rules = part.graph.source or part.graph.name, part.graph.placement
            for nf, device in rules.pinned.items():
                able = [t for t in tasks[part.prefix + nf] if self._kind(t) == kinds.get(device)]
                if device not in kinds:
                    problems.append(
                        f"{where}: placement.pin.{nf}: {unknown('device', device, list(kinds))}"
                    )
                elif not able and tasks[part.prefix + nf]:
                    problems.append(
                        f"{where}: placement.pin.{nf}: {device} is a switch, and only servers keep "
                        f"the state of {nf}"
                    )
                pinned |= dict.fromkeys(able, device)
            for kind, sets in (("apart", rules.apart), ("together", rules.together)):
                for names in sets:
                    for x, y in combinations(names, 2):
                        able = list(product(tasks[part.prefix + x], tasks[part.prefix + y]))
                        if kind == "together":
                            alike = [p for p in able if self._kind(p[0]) == self._kind(p[1])]
                            if able and not alike:
                                problems.append(
                                    f"{where}: placement.together: no device can run both {x} and {y}"
                                )
                            able = alike
                        pairs[kind] += able
        if problems:
            raise InputError(problems)
        return pinned, tuple(pairs["apart"]), tuple(pairs["together"])

    def _kind(self, task: str) -> str:
        return SERVER if self.tasks[task].pool else SWITCH


def _enters(unit: str, want: Demand, pool_of: Mapping[str, str]) -> bool:
    """Whether packets come to a server by a unit."""
    if any(first == unit for _, first in want.entries):
        return True
    return any(b == unit and pool_of.get(a) != pool_of[unit] for a, b in want.arcs)


def with_prefix(part: GraphPart) -> GraphPart:
    """The part with its graph's name before every id."""
    return replace(part, prefix=f"{part.graph.name}/")

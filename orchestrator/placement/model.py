"""The placement model (OR-Tools CP-SAT): build, solve, extract; and on failure, what blocks.

Variables: on[unit, switch], at[group, server], hop[from, to, device, device, tree], time[unit] (us).
Constraint groups: table sizes of a switch, cores of the servers, capacity of a link direction, latency of a
traffic. Objective: rate-weighted device hops first, then propagation, then worker cores.
Deterministic: one search worker, fixed seed, deterministic time limit.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import networkx as nx
from ortools.sat.python import cp_model

from orchestrator.compiler.cuts import Functions
from orchestrator.errors import InfeasibleError
from orchestrator.model.cuts import SWITCH, Cuts
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.plan import Core, Hop, Plan
from orchestrator.placement.fabric import Fabric
from orchestrator.placement.resources import (
    SCALE_OUT_LOAD,
    SWITCH_LATENCY_US,
    Demand,
    Network,
    demands,
    expected_rates,
    group_cycles,
)
from orchestrator.targets.pipeline import footprint

_RATE_UNIT = 1000  # rates are counted in kbit/s, so that sums stay far below 2^63
_HOP_WEIGHT = 1000
_LATENCY_WEIGHT = 10


@dataclass(frozen=True, slots=True)
class _Arc:
    """A dependency between two units (or an ingress switch and a unit) that may change device."""

    source: str
    target: str
    rate: int


def place(
    graph: ServiceGraph,
    functions: Functions,
    cuts: Cuts,
    fabric: Fabric,
    network: Network,
    *,
    deterministic_time: float = 20.0,
) -> Plan:
    """The plan; InfeasibleError names the constraint groups that cannot hold together."""
    narrow = _Model(graph, functions, cuts, fabric, network, everywhere=False)
    plan = narrow.solve(deterministic_time)
    if plan is None:
        wide = _Model(graph, functions, cuts, fabric, network, everywhere=True)
        plan = wide.solve(deterministic_time)
        if plan is None:
            blocking = wide.conflict()
            reasons = [wide.reasons[name] for name in blocking] or ["no path between its devices"]
            raise InfeasibleError(
                f"{graph.name}: no placement on {fabric.topology.name}; these constraints "
                "cannot hold together:\n" + "\n".join(f"  - {s}" for s in reasons),
                blocking,
            )
    return plan


class _Model:
    def __init__(
        self,
        graph: ServiceGraph,
        functions: Functions,
        cuts: Cuts,
        fabric: Fabric,
        network: Network,
        *,
        everywhere: bool,
    ) -> None:
        self.graph, self.functions, self.cuts = graph, functions, cuts
        self.fabric, self.network = fabric, network
        self.topology = fabric.topology
        self.model = cp_model.CpModel()
        self.wants = demands(graph, cuts)
        self.group_of = {u: g for g, group in enumerate(cuts.groups) for u in group.units}
        self.reasons: dict[str, str] = {}
        self.guards: dict[str, cp_model.IntVar] = {}
        self.replicas: dict[tuple[int, str], int] = {}
        self.cycles = [
            group_cycles(cuts, g, self.wants, functions) for g in range(len(cuts.groups))
        ]
        self.arcs = self._collect_arcs()
        self._build_assignment(everywhere)
        self._build_hops()
        self._limit_tables()
        self._limit_cores()
        self._limit_links()
        self._limit_latency()
        self._set_objective()

    # -- build ---------------------------------------------------------------------------------

    def _collect_arcs(self) -> tuple[_Arc, ...]:
        rates: dict[tuple[str, str], int] = defaultdict(int)
        for want in self.wants:
            for pair in want.arcs:
                rates[pair] += want.traffic.rate
            for switch, first in want.entries:
                rates[f"@{switch}", first] += want.traffic.rate
        for arc in self.cuts.arcs:
            rates[arc.source, arc.target] += 0
        for entry in self.cuts.entries:
            rates[f"@{entry.switch}", entry.target] += 0
        return tuple(
            _Arc(a, b, rate)
            for (a, b), rate in rates.items()
            if a not in self.group_of or self.group_of[a] != self.group_of.get(b)
        )

    def _build_assignment(self, everywhere: bool) -> None:
        """Each unit is on exactly one of its candidate devices; a group's units share a server."""
        fabric = self.fabric
        near_servers = [fabric.access(s) for s in self.topology.servers] if self.cuts.groups else []
        self.on: dict[tuple[str, str], cp_model.IntVar] = {}
        self.devices: dict[str, tuple[str, ...]] = {}
        for unit in self.cuts.units.values():
            if unit.kind != SWITCH:
                continue
            if everywhere:
                candidates = tuple(self.topology.switches)
            else:
                hosts = self._egress_hosts(unit.id)
                candidates = tuple(
                    dict.fromkeys(
                        [
                            *([unit.ingress] if unit.ingress else []),
                            *near_servers,
                            *(fabric.access(host) for host in hosts),
                        ]
                    )
                )
            self.devices[unit.id] = candidates
            for switch in candidates:
                self.on[unit.id, switch] = self.model.new_bool_var(f"on[{unit.id},{switch}]")
            self.model.add_exactly_one(self.on[unit.id, s] for s in candidates)
        for index, group in enumerate(self.cuts.groups):
            servers = tuple(self.topology.servers)
            for server in servers:
                at = self.model.new_bool_var(f"at[{index},{server}]")
                for unit_id in group.units:
                    self.on[unit_id, server] = at
                self.replicas[index, server] = self._replicas_needed(index, server)
            for unit_id in group.units:
                self.devices[unit_id] = servers
            if servers:
                self.model.add_exactly_one(self.on[group.units[0], s] for s in servers)
            else:
                raise InfeasibleError(
                    f"{self.graph.name}: {', '.join(group.nfs)} must run on a server, and "
                    f"{self.topology.name} has none"
                )

    def _egress_hosts(self, unit: str) -> tuple[str, ...]:
        """Hosts that packets at a unit may be delivered to."""
        endpoints = {want.traffic.egress for want in self.wants if unit in want.units}
        return tuple(h for e in sorted(endpoints) for h in self.graph.endpoints[e].hosts)

    def _replicas_needed(self, index: int, server: str) -> int:
        """Worker cores for a group: enough cycles at the planned load, and the graph's minimum."""
        group = self.cuts.groups[index]
        nfs = [self.graph.nfs[name] for name in group.nfs]
        wanted = max(nf.min_workers for nf in nfs)
        budget = self.topology.servers[server].cycles_per_second * SCALE_OUT_LOAD
        return max(wanted, math.ceil(self.cycles[index] / budget), 1)

    def _ends(self, name: str) -> tuple[str, ...]:
        return (name[1:],) if name.startswith("@") else self.devices[name]

    def _literal(self, name: str, device: str) -> cp_model.IntVar | bool:
        return True if name.startswith("@") else self.on[name, device]

    def _build_hops(self) -> None:
        """For each arc, which two devices and which tree; staying on a device is no hop."""
        self.hop: dict[tuple[str, str, str, str, int], cp_model.IntVar] = {}
        for arc in self.arcs:
            choices: list[cp_model.IntVar] = []
            by_source: dict[str, list[cp_model.IntVar]] = defaultdict(list)
            by_target: dict[str, list[cp_model.IntVar]] = defaultdict(list)
            for source in self._ends(arc.source):
                for target in self._ends(arc.target):
                    trees = (0,) if source == target else self.fabric.distinct_trees(source, target)
                    for tree in trees:
                        key = (arc.source, arc.target, source, target, tree)
                        literal = self.model.new_bool_var(f"hop[{','.join(map(str, key))}]")
                        self.hop[key] = literal
                        choices.append(literal)
                        by_source[source].append(literal)
                        by_target[target].append(literal)
            self.model.add_exactly_one(choices)
            for source, literals in by_source.items():
                self.model.add(sum(literals) == self._literal(arc.source, source))
            for target, literals in by_target.items():
                self.model.add(sum(literals) == self._literal(arc.target, target))

    def _guard(self, name: str, reason: str) -> cp_model.IntVar:
        """A constraint group that can be switched off to find out which ones conflict."""
        if name not in self.guards:
            self.guards[name] = self.model.new_bool_var(f"guard[{name}]")
            self.reasons[name] = reason
        return self.guards[name]

    def _limit_tables(self) -> None:
        """Entries of all units on a switch fit its tables, beside those of other graphs."""
        needs = {unit.id: footprint(unit) for unit in self.cuts.units.values()}
        for name, switch in self.topology.switches.items():
            pipeline = self.network.pipelines[name]
            taken = self.network.used.entries.get(name)
            kinds = {kind for need in needs.values() for kind in need}
            for block, table in sorted(kinds):
                size = pipeline.capacity(block, table)
                if switch.table_sizes:
                    size = min(size, switch.table_sizes.get(f"{block}.{table}", size))
                free = size - (taken[block, table] if taken else 0)
                terms = [
                    need[block, table] * self.on[unit, name]
                    for unit, need in needs.items()
                    if (unit, name) in self.on and need[block, table]
                ]
                if not terms:
                    continue
                largest = max(need[block, table] for need in needs.values())
                guard = self._guard(
                    f"tables:{block}.{table}",
                    f"table {block}.{table}: some element needs up to {largest} entries; "
                    f"free entries: {self._free_words(block, table)}",
                )
                self.model.add(sum(terms) <= free).only_enforce_if(guard)

    def _free_words(self, block: str, table: str) -> str:
        words: list[str] = []
        for name, switch in self.topology.switches.items():
            size = self.network.pipelines[name].capacity(block, table)
            size = min(size, switch.table_sizes.get(f"{block}.{table}", size))
            taken = self.network.used.entries.get(name)
            words.append(f"{name} {size - (taken[block, table] if taken else 0)}")
        return ", ".join(words)

    def free_cores(self, server: str) -> list[Core]:
        """Worker cores of a server that no other graph holds."""
        spec = self.topology.servers[server]
        cores = [Core(server, i) for i in range(spec.cores - spec.reserved_cores)]
        return [core for core in cores if core not in self.network.used.cores]

    def _limit_cores(self) -> None:
        """A server's free worker cores hold the replicas of the groups placed on it."""
        if not self.cuts.groups:
            return
        words = "; ".join(
            f"{', '.join(group.nfs)} need "
            f"{min(self.replicas[i, s] for s in self.topology.servers)} worker cores "
            f"({self.cycles[i] / 1e9:.2f} Gcycles/s)"
            for i, group in enumerate(self.cuts.groups)
        )
        free = ", ".join(f"{s} has {len(self.free_cores(s))} free" for s in self.topology.servers)
        guard = self._guard("cores", f"server cores: {words}; {free}")
        for server in self.topology.servers:
            self.model.add(
                sum(
                    self.replicas[i, server] * self.on[group.units[0], server]
                    for i, group in enumerate(self.cuts.groups)
                )
                <= len(self.free_cores(server))
            ).only_enforce_if(guard)
        for i, group in enumerate(self.cuts.groups):
            limits = [self.graph.nfs[n].max_workers for n in group.nfs]
            most = min((limit for limit in limits if limit is not None), default=None)
            if group.spread == "one":
                most = 1
            if most is None:
                continue
            reason = (
                f"workers of {', '.join(group.nfs)}: at most {most}"
                f"{' (' + group.why + ')' if group.spread == 'one' else ''}, needed: "
                f"{min(self.replicas[i, s] for s in self.topology.servers)}"
            )
            guard = self._guard(f"workers:{i}", reason)
            for server in self.topology.servers:
                if self.replicas[i, server] > most:
                    self.model.add(self.on[group.units[0], server] == 0).only_enforce_if(guard)

    def _limit_links(self) -> None:
        """Each direction of each link carries its hops' rates, every bounce counted."""
        load: dict[tuple[str, str], list[cp_model.LinearExprT]] = defaultdict(list)
        rates = {(arc.source, arc.target): arc.rate for arc in self.arcs}
        for (source_unit, target_unit, source, target, tree), literal in self.hop.items():
            rate = math.ceil(rates[source_unit, target_unit] / _RATE_UNIT)
            if source == target or not rate:
                continue
            path = self.fabric.path(source, target, tree)
            for near, far in zip(path, path[1:], strict=False):
                load[near, far].append(rate * literal)
        for (near, far), terms in sorted(load.items()):
            capacity = self.fabric.link(near, far).capacity
            taken = self.network.used.link_rate.get((near, far), 0)
            guard = self._guard(
                f"link:{near}-{far}",
                f"link {near} -> {far}: {capacity / 1e9:g} Gbit/s, {taken / 1e9:g} taken; "
                f"the graph offers {sum(w.traffic.rate for w in self.wants) / 1e9:g} Gbit/s in all",
            )
            self.model.add(sum(terms) <= (capacity - taken) // _RATE_UNIT).only_enforce_if(guard)

    def _limit_latency(self) -> None:
        """time[unit] is at least every predecessor's plus the way; deliveries meet the SLO."""
        horizon = 10_000_000
        rate_free = {(arc.source, arc.target) for arc in self.arcs}
        for want in self.wants:
            traffic = want.traffic
            limit = traffic.max_latency_us
            at = {
                u: self.model.new_int_var(0, horizon, f"time[{traffic.name},{u}]")
                for u in sorted(want.units)
            }
            pairs = [(f"@{s}", f) for s, f in want.entries if f in at] + sorted(want.arcs)
            for source, target in pairs:
                start = self._host_latency(traffic.ingress) if source[0] == "@" else at[source]
                spent = self._processing_us(source)
                if (source, target) not in rate_free:
                    self.model.add(at[target] >= start + spent)
                    continue
                way = sum(
                    self._way_us((a, b, tree)) * literal
                    for (s, t, a, b, tree), literal in self.hop.items()
                    if s == source and t == target and a != b
                )
                self.model.add(at[target] >= start + spent + way)
            if limit is None:
                continue
            guard = self._guard(
                f"latency:{traffic.name}",
                f"traffic {traffic.name}: latency at most {limit} us from "
                f"{traffic.ingress} to {traffic.egress}",
            )
            last = self._host_latency(traffic.egress)
            for unit, variable in at.items():
                if self.cuts.units[unit].endpoint == traffic.egress:
                    self.model.add(variable + last <= limit).only_enforce_if(guard)

    def _host_latency(self, endpoint: str) -> int:
        """The slowest access link of an endpoint's hosts, and its switch."""
        hosts = self.graph.endpoints[endpoint].hosts
        return SWITCH_LATENCY_US + max(
            self.fabric.attachments[host].link.latency_us for host in hosts
        )

    def _processing_us(self, unit: str) -> int:
        """Time that a server NF spends on a packet of 1,500 bytes; switches' is in the hops."""
        if unit not in self.group_of:
            return 0
        cost = self.functions[self.cuts.units[unit].nf].cost
        slowest = min(s.cycles_per_second for s in self.topology.servers.values())
        return math.ceil((cost.cycles_per_packet + 1500 * cost.cycles_per_byte) * 1e6 / slowest)

    def _set_objective(self) -> None:
        rates = expected_rates(self.wants)
        peak = max(rates.values(), default=0) or 1
        terms: list[cp_model.LinearExprT] = []
        for (s, t, a, b, tree), literal in self.hop.items():
            if a == b:
                continue
            share = 1 + round(99 * rates.get((s, t), 0) / peak)
            path = self.fabric.path(a, b, tree)
            cost = _HOP_WEIGHT * (len(path) - 1) * share
            terms.append((cost + _LATENCY_WEIGHT * self.fabric.latency_us(path) + tree) * literal)
        for unit in self.cuts.units.values():
            for switch in self.devices[unit.id]:
                if unit.ingress and unit.ingress != switch:  # drop early: a tie goes to the ingress
                    terms.append(self.on[unit.id, switch])
        for i, group in enumerate(self.cuts.groups):
            for server in self.topology.servers:
                terms.append(self.replicas[i, server] * self.on[group.units[0], server])
        self.objective = sum(terms)
        self.model.minimize(self.objective)

    # -- solve ---------------------------------------------------------------------------------

    def _solver(self, deterministic_time: float) -> cp_model.CpSolver:
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.random_seed = 1
        solver.parameters.max_deterministic_time = deterministic_time
        return solver

    def solve(self, deterministic_time: float) -> Plan | None:
        """The best plan found, or None when there is none."""
        self.model.clear_assumptions()
        self.model.add_assumptions(list(self.guards.values()))
        solver = self._solver(deterministic_time)
        status = solver.solve(self.model)
        if status == cp_model.INFEASIBLE:
            return None
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            raise InfeasibleError(
                f"{self.graph.name}: no placement found in the time given "
                f"({solver.status_name(status)}); allow more with --time-limit"
            )
        return self._extract(solver, solver.status_name(status))

    def conflict(self) -> list[str]:
        """An irreducible set of constraint groups that cannot hold together (deletion filter)."""
        self.model.clear_objective()
        needed = list(self.guards)
        for name in list(needed):
            trial = [other for other in needed if other != name]
            self.model.clear_assumptions()
            self.model.add_assumptions([self.guards[other] for other in trial])
            if self._solver(5.0).solve(self.model) == cp_model.INFEASIBLE:
                needed = trial
        return needed

    # -- extract -------------------------------------------------------------------------------

    def _extract(self, solver: cp_model.CpSolver, status: str) -> Plan:
        chosen = {name: d for (name, d), v in self.on.items() if solver.boolean_value(v)}
        cores: list[tuple[Core, ...]] = []
        given: set[Core] = set()
        load: dict[str, float] = {}
        for index, group in enumerate(self.cuts.groups):
            server = chosen[group.units[0]]
            free = [core for core in self.free_cores(server) if core not in given]
            mine = tuple(free[: self.replicas[index, server]])
            given.update(mine)
            cores.append(mine)
            share = self.cycles[index] / len(mine)
            for core in mine:
                load[f"{core.server}.{core.index}"] = (
                    share / self.topology.servers[server].cycles_per_second
                )
        rates = {(arc.source, arc.target): arc.rate for arc in self.arcs}
        used = {key for key, literal in self.hop.items() if solver.boolean_value(literal)}
        return Plan(
            switch_of={u: d for u, d in chosen.items() if u not in self.group_of},
            cores_of=tuple(cores),
            tree_of={(s, t): tree for s, t, _, _, tree in sorted(used)},
            hops=tuple(Hop(a, b, tree, rates[s, t]) for s, t, a, b, tree in sorted(used) if a != b),
            latency_us={
                want.traffic.name: self._latency(used, want) for want in self.wants if want.units
            },
            core_load=load,
            status=status,
            objective=round(solver.objective_value),
            notes=tuple(self._notes()),
        )

    def _latency(self, used: Iterable[tuple[str, str, str, str, int]], want: Demand) -> int:
        """Longest way to the egress under the chosen hops: the model's times are only bounds."""
        way = {(s, t): (a, b, tree) for s, t, a, b, tree in used}
        order = nx.DiGraph(
            [*want.arcs, *((f"@{s}", f) for s, f in want.entries if f in want.units)]
        )
        at: dict[str, int] = {}
        for unit in nx.topological_sort(order):
            at[unit] = max(
                (
                    at[before] + self._processing_us(before) + self._way_us(way.get((before, unit)))
                    for before in order.predecessors(unit)
                ),
                default=self._host_latency(want.traffic.ingress),
            )
        ends = [u for u in want.units if self.cuts.units[u].endpoint == want.traffic.egress]
        return self._host_latency(want.traffic.egress) + max(at[unit] for unit in ends)

    def _way_us(self, hop: tuple[str, str, int] | None) -> int:
        if hop is None or hop[0] == hop[1]:
            return 0
        path = self.fabric.path(*hop)
        return self.fabric.latency_us(path) + SWITCH_LATENCY_US * len(path)

    def _notes(self) -> Iterable[str]:
        for group in self.cuts.groups:
            yield f"{', '.join(group.nfs)}: packets find their core by {group.spread} ({group.why})"

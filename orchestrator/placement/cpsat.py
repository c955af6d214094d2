"""The exact placement model (OR-Tools CP-SAT): build, solve, extract.

Variables: on[task,device]; hop[arc,source,target,tree]; cores[pool,server]; with rates to be chosen
also rate[chain] (kbit/s). Units inside: kbit/s, thousandths of cycles/s, ns: why nothing overflows is
argued in docs/decisions/0010-placement-model.md. Objectives are solved one after the other, each
fixed at what it reached before the next.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from ortools.sat.python import cp_model

from orchestrator.placement.measure import number_cores, processing_ns, way_ns
from orchestrator.placement.problem import (
    SERVER,
    SMARTNIC,
    SWITCH,
    CoreShare,
    Problem,
    Solution,
    Stage,
    Task,
    Way,
    links_of,
    pool_chains,
    trees_between,
)

Linear = cp_model.LinearExpr | int
KBIT = 1000
MILLI = 1000
_SHORT_SCALE = 10**9
_HORIZON_NS = 10**12
_MANY_CORES = 100_000
"""More than any pool needs: when diagnosing, a server's size is a group of its own."""
_PREFERENCE = 50_000
"""Against 10^7 for the busiest arc's rate over one link: dropping early decides near-ties."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a solve may take: `seconds` of wall clock, or, when `deterministic`, of CP-SAT's
    deterministic time with one search worker (the same answer on every machine)."""

    seconds: float = 20.0
    deterministic: bool = True
    workers: int = 2
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Group:
    """A constraint group that can be switched off: its literal and its sentence."""

    literal: cp_model.IntVar
    sentence: Callable[[], str]


class Model:
    """The CP-SAT model of a problem. With `soft`, rates and latencies may miss their SLO at the
    price of objective 'slo'; with `diagnose`, every constraint group has a switch."""

    def __init__(
        self,
        problem: Problem,
        objectives: Sequence[str],
        *,
        soft: bool = False,
        diagnose: bool = False,
    ) -> None:
        self.problem, self.objectives = problem, tuple(objectives)
        self.soft, self.diagnose = soft, diagnose
        self.model = cp_model.CpModel()
        self.groups: dict[str, Group] = {}
        self.free_rates = soft or "throughput" in self.objectives
        self.impossible: list[str] = []
        self._expressions: dict[str, Linear] = {}
        self._assign()
        self._rate_variables()
        self._hops()
        self._capacities()
        self._rules()
        self._cores()
        self._links()
        self._latencies()

    # -- groups --------------------------------------------------------------------------------

    def _group(self, name: str, sentence: Callable[[], str]) -> list[cp_model.IntVar]:
        """What to enforce a constraint with: nothing, or the group's switch when diagnosing."""
        if not self.diagnose:
            return []
        if name not in self.groups:
            self.groups[name] = Group(self.model.new_bool_var(f"group[{name}]"), sentence)
        return [self.groups[name].literal]

    # -- where tasks run -----------------------------------------------------------------------

    def _assign(self) -> None:
        """Every task on exactly one of its candidates; a one-server pool shares its literals."""
        problem = self.problem
        self.on: dict[tuple[str, str], cp_model.IntVar] = {}
        leader: dict[str, str] = {}
        for task in problem.tasks.values():
            pool = problem.pools.get(task.pool)
            if pool is not None and pool.one_server and pool.name in leader:
                first = leader[pool.name]
                for device in task.candidates:
                    if (first, device) in self.on:
                        self.on[task.id, device] = self.on[first, device]
                continue
            for device in task.candidates:
                self.on[task.id, device] = self.model.new_bool_var(f"on[{task.id},{device}]")
            if pool is not None and pool.one_server:
                leader[pool.name] = task.id
            guard = self._group(
                f"devices:{task.id}",
                lambda label=task.label or task.id: f"{label}: no device can run it",
            )
            if guard and not task.candidates:
                self.model.add_bool_or([~guard[0]])
            elif not task.candidates:
                self.impossible.append(task.id)
                self.model.add_bool_or([])
            else:
                self.model.add_exactly_one(self.on[task.id, d] for d in task.candidates)

    def _rate_variables(self) -> None:
        self.rate: dict[str, Linear] = {}
        for chain in self.problem.chains.values():
            least = math.ceil(chain.rate / KBIT)
            if not self.free_rates:
                self.rate[chain.name] = least
                continue
            most = max(least, max(chain.max_rate, 0) // KBIT)
            if "throughput" not in self.objectives:
                most = least
            low = 0 if self.soft else least
            self.rate[chain.name] = self.model.new_int_var(low, most, f"rate[{chain.name}]")

    def _most(self, chain: str) -> int:
        """The highest rate that a chain can get, kbit/s."""
        spec = self.problem.chains[chain]
        least = math.ceil(spec.rate / KBIT)
        return max(least, spec.max_rate // KBIT) if "throughput" in self.objectives else least

    def _at_rate(self, chain: str, literals: Sequence[cp_model.IntVar], name: str) -> list[Linear]:
        """For literals of which exactly one holds: the chain's rate if it holds, else 0, kbit/s."""
        rate = self.rate[chain]
        if isinstance(rate, int):
            return [rate * literal for literal in literals]
        most = self._most(chain)
        parts: list[Linear] = []
        for i, literal in enumerate(literals):
            part = self.model.new_int_var(0, most, f"{name}[{i}]")
            self.model.add(part <= most * literal)
            parts.append(part)
        self.model.add(sum(parts) == rate)
        return parts

    # -- ways ----------------------------------------------------------------------------------

    def _literal(self, node: str, device: str) -> cp_model.IntVar | bool:
        return True if node.startswith("@") else self.on[node, device]

    def _ends(self, node: str) -> tuple[str, ...]:
        if node.startswith("@"):
            return (node[1:],)
        return tuple(d for d in self.problem.tasks[node].candidates if (node, d) in self.on)

    def _hops(self) -> None:
        """For each arc: which two devices and which tree. Staying on a device is no hop."""
        self.hop: list[dict[Way, cp_model.IntVar]] = []
        for arc in self.problem.arcs:
            choices: dict[Way, cp_model.IntVar] = {}
            if self._same_pool(arc.source, arc.target):
                for device in self._ends(arc.source):
                    choices[Way(device, device, 0)] = self.on[arc.source, device]
                self.hop.append(choices)
                continue
            by_source: dict[str, list[cp_model.IntVar]] = defaultdict(list)
            by_target: dict[str, list[cp_model.IntVar]] = defaultdict(list)
            for source in self._ends(arc.source):
                for target in self._ends(arc.target):
                    for tree in trees_between(self.problem, source, target):
                        way = Way(source, target, tree)
                        literal = self.model.new_bool_var(
                            f"hop[{arc.source},{arc.target},{source},{target},{tree}]"
                        )
                        choices[way] = literal
                        by_source[source].append(literal)
                        by_target[target].append(literal)
            guard = self._group(
                f"reach:{arc.source}->{arc.target}",
                lambda arc=arc: (
                    f"there is no way from {self._words(arc.source)} to {self._words(arc.target)}"
                ),
            )
            for source in self._ends(arc.source):
                self.model.add(
                    sum(by_source[source]) == self._literal(arc.source, source)
                ).only_enforce_if(guard)
            for target in self._ends(arc.target):
                self.model.add(
                    sum(by_target[target]) == self._literal(arc.target, target)
                ).only_enforce_if(guard)
            self.hop.append(choices)

    def _words(self, node: str) -> str:
        return node[1:] if node.startswith("@") else (self.problem.tasks[node].label or node)

    def _same_pool(self, a: str, b: str) -> bool:
        if a.startswith("@") or b.startswith("@"):
            return False
        pool = self.problem.tasks[a].pool
        return (
            bool(pool)
            and pool == self.problem.tasks[b].pool
            and self.problem.pools[pool].one_server
        )

    # -- capacities ----------------------------------------------------------------------------

    def _capacities(self) -> None:
        """Table entries, rules and memory of a device hold what its tasks need."""
        for device in self.problem.devices.values():
            needs: dict[str, list[tuple[int, str]]] = defaultdict(list)
            for task in self.problem.tasks.values():
                if (task.id, device.name) not in self.on:
                    continue
                for resource, amount in task.needs.get(device.kind, {}).items():
                    if amount:
                        needs[resource].append((amount, task.id))
            for resource, terms in sorted(needs.items()):
                free = device.capacity.get(resource, 0)
                if sum(amount for amount, _ in terms) <= free:
                    continue
                guard = self._group(*self._capacity_group(device.kind, resource))
                self.model.add(
                    sum(amount * self.on[task, device.name] for amount, task in terms) <= free
                ).only_enforce_if(guard)

    def _capacity_group(self, kind: str, resource: str) -> tuple[str, Callable[[], str]]:
        def sentence() -> str:
            amounts = {
                t.label or t.id: t.needs.get(kind, {}).get(resource, 0)
                for t in self.problem.tasks.values()
                if t.needs.get(kind, {}).get(resource, 0)
            }
            most = max(amounts, key=lambda name: amounts[name])
            free = _listed(
                f"{d.name} {d.capacity.get(resource, 0)}"
                for d in self.problem.devices.values()
                if d.kind == kind
            )
            total = sum(t.needs.get(kind, {}).get(resource, 0) for t in self.problem.tasks.values())
            what = {SWITCH: f"table {resource}", SMARTNIC: "SmartNIC rules"}.get(kind, resource)
            return (
                f"{what}: the largest element ({most}) needs {amounts[most]} entries, all that may "
                f"stand there need {total}; free: {free}"
            )

        return (f"tables:{resource}" if kind == SWITCH else f"{kind}:{resource}"), sentence

    def _rules(self) -> None:
        """Pinning, affinity and anti-affinity."""
        for task, device in self.problem.pinned.items():
            guard = self._group(
                f"pin:{task}", lambda t=task, d=device: f"{self._words(t)} is pinned to {d}"
            )
            found = self.on.get((task, device))
            literals = [found] if found is not None else []
            self.model.add_bool_or([*literals, *(~g for g in guard)])
        for a, b in self.problem.apart:
            guard = self._group(
                f"apart:{a},{b}",
                lambda a=a, b=b: f"{self._words(a)} and {self._words(b)} must not share a device",
            )
            for device in self.problem.tasks[a].candidates:
                if (a, device) in self.on and (b, device) in self.on:
                    self.model.add_bool_or(
                        [~self.on[a, device], ~self.on[b, device], *(~g for g in guard)]
                    )
        for a, b in self.problem.together:
            guard = self._group(
                f"together:{a},{b}",
                lambda a=a, b=b: f"{self._words(a)} and {self._words(b)} must share a device",
            )
            for device in {d for t, d in self.on if t in (a, b)}:
                mine = self.on.get((a, device), 0)
                theirs = self.on.get((b, device), 0)
                self.model.add(mine == theirs).only_enforce_if(guard)

    # -- cores ---------------------------------------------------------------------------------

    def _cycles(self, chain: str, cycles: float) -> int:
        """Thousandths of cycles/s that one kbit/s of a chain costs."""
        size = self.problem.chains[chain].packet_bytes
        return math.ceil(cycles * KBIT * MILLI / (8 * size) - 1e-9)

    def _cores(self) -> None:
        problem = self.problem
        self.cores: dict[tuple[str, str], Linear] = {}
        self.share: dict[tuple[str, str, int], cp_model.IntVar] = {}
        self.uses: dict[tuple[str, str, int], cp_model.IntVar] = {}
        self.core_on: dict[tuple[str, int], cp_model.IntVar] = {}
        by_server: dict[str, list[str]] = defaultdict(list)
        for pool in problem.pools:
            tasks = [problem.tasks[t] for t in problem.pool_tasks[pool]]
            names = {d for t in tasks for d in t.candidates if (t.id, d) in self.on}
            flows = self._task_flows(pool)
            for server in problem.servers():
                if server.name in names:
                    by_server[server.name].append(pool)
                    self._pool_at(pool, server.name, flows)
        for server in problem.servers():
            pools = by_server[server.name]
            if not pools:
                continue
            guard = self._group(f"cores:{server.name}", lambda s=server: self._free_words(s.name))
            if problem.share_cores:
                self._shared(server.name, pools, guard)
            else:
                self.model.add(
                    sum(self.cores[pool, server.name] for pool in pools) <= server.cores
                ).only_enforce_if(guard)

    def _free_words(self, server: str) -> str:
        found = self.problem.devices[server]
        return f"{server} has {found.cores} free cores"

    def _task_flows(self, pool: str) -> dict[tuple[str, str, str], Linear]:
        """kbit/s of a chain through a task on a device; only where rates are variables."""
        flows: dict[tuple[str, str, str], Linear] = {}
        if not self.free_rates:
            return flows
        done: dict[tuple[str, str], dict[str, Linear]] = {}
        for name in self.problem.pool_tasks[pool]:
            task = self.problem.tasks[name]
            devices = self._ends(name)
            for chain in task.cycles:
                key = (chain, str([self.on[name, d].index for d in devices]))
                if key not in done:
                    literals = [self.on[name, d] for d in devices]
                    parts = self._at_rate(chain, literals, f"flow[{chain},{name}]")
                    done[key] = dict(zip(devices, parts, strict=True))
                for device in devices:
                    flows[chain, name, device] = done[key][device]
        return flows

    def _pool_at(self, pool: str, server: str, flows: dict[tuple[str, str, str], Linear]) -> None:
        """cores[pool,server]: enough cycles for the pool's tasks there."""
        problem, spec = self.problem, self.problem.pools[pool]
        tasks = [problem.tasks[t] for t in problem.pool_tasks[pool] if (t, server) in self.on]
        device = problem.devices[server]
        literals = {self.on[t.id, server].index: self.on[t.id, server] for t in tasks}
        need = self._group(f"need:{pool}", lambda: self.need_words(pool))
        limit = self._group(f"workers:{pool}", lambda: self._workers_words(pool))
        single = any(not t.replicable for t in tasks)
        top = _MANY_CORES if self.diagnose else device.cores
        terms: list[Linear] = []
        fixed = 0.0
        for task in tasks:
            for chain, cycles in task.cycles.items():
                coefficient = self._cycles(chain, cycles)
                if self.free_rates:
                    terms.append(coefficient * flows[chain, task.id, server])
                else:
                    rate = problem.chains[chain].rate
                    exact = problem.chains[chain].cycles_per_second(cycles, rate)
                    fixed += exact
                    terms.append(math.ceil(exact * MILLI - 1e-6) * self.on[task.id, server])
        budget = problem.budget(server)
        if problem.share_cores:
            self._pool_shares(pool, server, terms, list(literals.values()), single, need)
            return
        if len(literals) == 1 and not self.free_rates:
            (literal,) = literals.values()
            wanted = max(spec.min_workers, math.ceil(fixed / budget - 1e-9), 1)
            most = 1 if single else spec.max_workers
            if most is not None and wanted > most:
                self.model.add_bool_or([~literal, *(~g for g in limit)])
            if need:
                count = self.model.new_int_var(0, max(wanted, 1), f"cores[{pool},{server}]")
                self.model.add(count >= wanted * literal).only_enforce_if(need)
                self.cores[pool, server] = count
            else:
                self.cores[pool, server] = wanted * literal
            return
        count = self.model.new_int_var(0, max(top, 0), f"cores[{pool},{server}]")
        self.cores[pool, server] = count
        if terms:
            self.model.add(budget * MILLI * count >= sum(terms)).only_enforce_if(need)
        for literal in literals.values():
            self.model.add(count >= max(spec.min_workers, 1)).only_enforce_if([literal, *need])
        if spec.max_workers is not None:
            self.model.add(count <= spec.max_workers).only_enforce_if(limit)
        for task in tasks:
            if not task.replicable:
                self.model.add(count <= 1).only_enforce_if([self.on[task.id, server], *limit])

    def need_words(self, pool: str) -> str:
        """`chain web needs 3 cores at 1.1 Gbit/s` and what for."""
        problem, label = self.problem, self.problem.pools[pool].label
        total = sum(problem.chains[c].rate for c in pool_chains(problem, pool)) / 1e9
        tasks = [problem.tasks[t] for t in problem.pool_tasks[pool]]
        must = [t for t in tasks if {problem.devices[d].kind for d in t.candidates} <= {SERVER}]
        if not problem.servers():
            return f"{label} needs a server"
        fewest, most = (self._fewest_cores(pool, found) for found in (must, tasks))
        if not must:
            fewest = 0
        words = f"{fewest} core{'s' if fewest != 1 else ''}"
        if most > fewest:
            words += f" ({most} with all that may run on a server)"
        return f"{label} needs {words} at {total:.4g} Gbit/s"

    def _fewest_cores(self, pool: str, tasks: Sequence[Task]) -> int:
        """Cores for these tasks of a pool on the fastest server."""
        problem = self.problem
        cycles = sum(
            problem.chains[c].cycles_per_second(n, problem.chains[c].rate)
            for t in tasks
            for c, n in t.cycles.items()
        )
        budget = max(problem.budget(server.name) for server in problem.servers())
        return max(problem.pools[pool].min_workers, math.ceil(cycles / budget - 1e-9), 1)

    def _workers_words(self, pool: str) -> str:
        spec = self.problem.pools[pool]
        names = [
            self.problem.tasks[t].label or t
            for t in self.problem.pool_tasks[pool]
            if not self.problem.tasks[t].replicable
        ]
        if names:
            return f"{spec.label}: {', '.join(dict.fromkeys(names))} cannot be replicated: 1 worker"
        return f"{spec.label}: at most {spec.max_workers} workers" + (
            f" ({spec.why})" if spec.why else ""
        )

    def _pool_shares(
        self,
        pool: str,
        server: str,
        terms: Sequence[Linear],
        literals: Sequence[cp_model.IntVar],
        single: bool,
        need: Sequence[cp_model.IntVar],
    ) -> None:
        """share[pool,server,core]: the pool's load split over cores that others may use, too."""
        spec, device = self.problem.pools[pool], self.problem.devices[server]
        most = self.problem.budget(server) * MILLI
        uses: list[cp_model.IntVar] = []
        shares: list[cp_model.IntVar] = []
        for core in range(device.cores):
            key = (pool, server, core)
            self.share[key] = self.model.new_int_var(0, most, f"share[{pool},{server},{core}]")
            self.uses[key] = self.model.new_bool_var(f"uses[{pool},{server},{core}]")
            self.model.add(self.share[key] <= most * self.uses[key])
            uses.append(self.uses[key])
            shares.append(self.share[key])
        supply: list[Linear] = list(shares)
        if self.diagnose:
            beyond = self.model.new_int_var(0, most * _MANY_CORES, f"beyond[{pool},{server}]")
            free = self._group(f"cores:{server}", lambda: self._free_words(server))
            self.model.add(beyond == 0).only_enforce_if(free)
            supply.append(beyond)
        self.model.add(sum(supply) >= sum(terms)).only_enforce_if(list(need))
        for literal in literals:
            self.model.add(sum(uses) >= max(1, spec.min_workers)).only_enforce_if(literal)
        limit = self._group(f"workers:{pool}", lambda: self._workers_words(pool))
        if spec.max_workers is not None:
            self.model.add(sum(uses) <= spec.max_workers).only_enforce_if(limit)
        if single:
            for task in self.problem.pool_tasks[pool]:
                if not self.problem.tasks[task].replicable and (task, server) in self.on:
                    self.model.add(sum(uses) <= 1).only_enforce_if([self.on[task, server], *limit])

    def _shared(self, server: str, pools: Sequence[str], guard: Sequence[cp_model.IntVar]) -> None:
        device = self.problem.devices[server]
        for core in range(device.cores):
            running = self.model.new_bool_var(f"core[{server},{core}]")
            self.core_on[server, core] = running
            for pool in pools:
                self.model.add_implication(self.uses[pool, server, core], running)
            self.model.add(
                sum(self.share[pool, server, core] for pool in pools)
                <= self.problem.budget(server) * MILLI
            ).only_enforce_if(list(guard))
            if core:
                self.model.add_implication(running, self.core_on[server, core - 1])

    # -- links ---------------------------------------------------------------------------------

    def _links(self) -> None:
        """Each direction of each link carries the rates of its hops, every bounce counted."""
        load: dict[tuple[str, str], list[Linear]] = defaultdict(list)
        worst: dict[tuple[str, str], int] = defaultdict(int)
        for index, arc in enumerate(self.problem.arcs):
            choices = self.hop[index]
            ways = list(choices)
            if all(not links_of(self.problem, way) for way in ways):
                continue
            for chain in arc.chains:
                parts = self._at_rate(chain, [choices[w] for w in ways], f"sent[{index},{chain}]")
                touched: set[tuple[str, str]] = set()
                for way, part in zip(ways, parts, strict=True):
                    for link in links_of(self.problem, way):
                        load[link].append(part)
                        touched.add(link)
                for link in touched:
                    worst[link] += self._most(chain)
        for (near, far), terms in sorted(load.items()):
            capacity = self.problem.fabric.link(near, far).capacity
            taken = self.problem.link_taken.get((near, far), 0)
            free = (capacity - taken) // KBIT
            if worst[near, far] <= free:
                continue
            guard = self._group(
                f"link:{near}-{far}",
                lambda n=near, f=far, c=capacity, t=taken, w=worst[near, far]: (
                    f"link {n} -> {f}: {c / 1e9:g} Gbit/s, {t / 1e9:g} taken; "
                    f"up to {w / 1e6:.4g} Gbit/s may want to cross it"
                ),
            )
            self.model.add(sum(terms) <= free).only_enforce_if(guard)

    # -- latency -------------------------------------------------------------------------------

    def _latencies(self) -> None:
        self.latency_ns: dict[str, Linear] = {}
        self.late_ns: dict[str, cp_model.IntVar] = {}
        for chain in self.problem.chains.values():
            wanted = chain.max_latency_us is not None or "latency" in self.objectives
            if not wanted or not self.problem.chain_arcs[chain.name]:
                continue
            total = self._latency(chain.name)
            self.latency_ns[chain.name] = total
            if chain.max_latency_us is None:
                continue
            limit: Linear = chain.max_latency_us * 1000
            if self.soft:
                late = self.model.new_int_var(0, _HORIZON_NS, f"late[{chain.name}]")
                self.late_ns[chain.name] = late
                limit = limit + late
            guard = self._group(
                f"latency:{chain.name}",
                lambda c=chain: (
                    f"chain {c.name}: latency at most {c.max_latency_us} us"
                    f" ({c.base_latency_us} us of it on its access links)"
                ),
            )
            self.model.add(total <= limit).only_enforce_if(guard)

    def _spent(self, node: str, chain: str) -> Linear:
        """ns in a task's server code."""
        if node.startswith("@") or chain not in self.problem.tasks[node].cycles:
            return 0
        return sum(
            processing_ns(self.problem, node, device, chain) * self.on[node, device]
            for device in self._ends(node)
        )

    def _moving(self, index: int) -> Linear:
        return sum(way_ns(self.problem, way) * lit for way, lit in self.hop[index].items())

    def _latency(self, chain: str) -> Linear:
        """A chain's latency, ns: a sum on a path, the longest way on a branching one."""
        problem, base = self.problem, self.problem.chains[chain].base_latency_us * 1000
        arcs = [(i, problem.arcs[i]) for i in problem.chain_arcs[chain]]
        sources = [arc.source for _, arc in arcs]
        targets = [arc.target for _, arc in arcs]
        if len(set(sources)) == len(sources) and len(set(targets)) == len(targets):
            nodes = dict.fromkeys([*sources, *targets])
            ends = set(problem.chains[chain].ends)
            last = [n for n in nodes if n not in sources]
            if not ends or ends == set(last):
                return (
                    base
                    + sum(self._moving(i) for i, _ in arcs)
                    + sum(self._spent(n, chain) for n in nodes)
                )
        at: dict[str, Linear] = {}
        for _, arc in arcs:
            for node in (arc.source, arc.target):
                if node not in at:
                    at[node] = (
                        0
                        if node.startswith("@")
                        else self.model.new_int_var(0, _HORIZON_NS, f"time[{chain},{node}]")
                    )
        for i, arc in arcs:
            spent = self._spent(arc.source, chain)
            self.model.add(at[arc.target] >= at[arc.source] + spent + self._moving(i))
        total = self.model.new_int_var(0, _HORIZON_NS, f"latency[{chain}]")
        for end in problem.chains[chain].ends or set(targets) - set(sources):
            if end in at:
                self.model.add(total >= at[end] + self._spent(end, chain) + base)
        return total

    # -- objectives ----------------------------------------------------------------------------

    def objective(self, name: str) -> Linear:
        """The expression of an objective; all are minimised."""
        if name not in self._expressions:
            self._expressions[name] = self._expression(name)
        return self._expressions[name]

    def _expression(self, name: str) -> Linear:
        problem = self.problem
        if name == "slo":
            if not self.soft:
                return 0
            terms: list[Linear] = []
            for chain in problem.chains.values():
                least = math.ceil(chain.rate / KBIT)
                short = self.model.new_int_var(0, least, f"short[{chain.name}]")
                self.model.add(short >= least - self.rate[chain.name])
                terms.append(math.ceil(_SHORT_SCALE / max(least, 1)) * short)
            for name_, late in self.late_ns.items():
                limit = problem.chains[name_].max_latency_us or 1
                terms.append(max(1, _SHORT_SCALE // (limit * 1000)) * late)
            return sum(terms)
        if name == "throughput":
            return -sum(self.rate.values())
        if name == "cores":
            return sum(self.core_on.values()) if problem.share_cores else sum(self.cores.values())
        if name == "latency":
            return sum(self.latency_ns.values())
        if name == "moves":
            return sum(
                1 - self.on.get((task, device), 0)
                for task, device in problem.running.items()
                if task in problem.tasks
            )
        if name == "bounces":
            return sum(
                literal
                for choices in self.hop
                for way, literal in choices.items()
                if {_kind(problem, way.source), _kind(problem, way.target)} == {SWITCH, SERVER}
            )
        if name == "hops":
            return self._hop_cost()
        raise KeyError(name)

    def _hop_cost(self) -> Linear:
        """Rate-weighted links; ties go to lower trees and to the device that a task prefers."""
        peak = max(self.problem.expected, default=0.0) or 1.0
        terms: list[Linear] = []
        for rate, choices in zip(self.problem.expected, self.hop, strict=True):
            weight = 1000 * round(10_000 * rate / peak) + 100
            for way, literal in choices.items():
                cost = weight * len(links_of(self.problem, way)) + way.tree
                if cost:
                    terms.append(cost * literal)
        for task in self.problem.tasks.values():
            for device in task.candidates:
                if task.prefer and device != task.prefer and (task.id, device) in self.on:
                    terms.append(_PREFERENCE * self.on[task.id, device])
        return sum(terms)

    # -- solve ---------------------------------------------------------------------------------

    def hint(self, solution: Solution) -> None:
        """Start from a known placement."""
        self.model.clear_hints()
        hinted: set[int] = set()
        for (task, device), literal in self.on.items():
            if literal.index not in hinted:
                hinted.add(literal.index)
                self.model.add_hint(literal, solution.device_of[task] == device)
        for choices, way in zip(self.hop, solution.ways, strict=True):
            for other, literal in choices.items():
                if literal.index not in hinted:
                    hinted.add(literal.index)
                    self.model.add_hint(literal, other == way)

    def solver(self, limits: Limits, seconds: float) -> cp_model.CpSolver:
        """A solver with fixed seed; deterministic: one worker and deterministic time."""
        solver = cp_model.CpSolver()
        solver.parameters.random_seed = limits.seed
        # Its handler would leave SIGINT at SIG_DFL: Ctrl-C would then kill without undoing anything.
        solver.parameters.catch_sigint_signal = False
        if limits.deterministic:
            solver.parameters.num_workers = 1
            solver.parameters.max_deterministic_time = seconds
        else:
            solver.parameters.num_workers = limits.workers
            solver.parameters.max_time_in_seconds = seconds
        return solver

    def solve(self, limits: Limits) -> tuple[str, Solution | None]:
        """(status, best solution): every objective in turn, fixed at what it reached."""
        stages: list[Stage] = []
        best: Solution | None = None
        left = limits.seconds
        objectives = [o for o in self.objectives if not isinstance(self.objective(o), int)] or [""]
        for position, name in enumerate(objectives):
            expression = self.objective(name) if name else 0
            self.model.clear_objective()
            if name:
                self.model.minimize(expression)
            share = left / 2 if position + 1 < len(objectives) else left
            solver = self.solver(limits, max(share, 0.05))
            started = time.perf_counter()
            status = solver.solve(self.model)
            spent = time.perf_counter() - started
            left -= solver.deterministic_time if limits.deterministic else spent
            word = solver.status_name(status)
            if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
                if best is None:
                    return word, None
                stages.append(Stage(name, math.nan, math.nan, word, spent))
                break
            best = self.extract(solver)
            if name:
                best = replace(best, stages=())
                sign = -1 if name == "throughput" else 1
                stages.append(
                    Stage(
                        name,
                        sign * self._in_units(name, solver.objective_value, best),
                        sign * self._in_units(name, solver.best_objective_bound, best),
                        word,
                        round(spent, 3),
                    )
                )
                self.model.add(expression <= round(solver.objective_value))
            else:
                stages.append(Stage("feasible", 0, 0, word, round(spent, 3)))
            self.model.clear_hints()
            self._hint_values(solver)
        assert best is not None
        return stages[0].status, replace(best, stages=tuple(stages))

    def _hint_values(self, solver: cp_model.CpSolver) -> None:
        proto = self.model.proto
        for index in range(len(proto.variables)):
            variable = self.model.get_int_var_from_proto_index(index)
            self.model.add_hint(variable, solver.value(variable))

    def _in_units(self, name: str, found: float, best: Solution) -> float:
        """A solver's objective value in the unit of `measure.OBJECTIVES`."""
        if name == "slo":
            return found / _SHORT_SCALE
        if name == "throughput":
            floor = sum(chain.rate for chain in self.problem.chains.values())
            return found * KBIT + floor
        if name == "latency":
            return found / 1000
        return found

    # -- extract -------------------------------------------------------------------------------

    def extract(self, solver: cp_model.CpSolver) -> Solution:
        """The placement that a solver found; cores are numbered server by server."""
        problem = self.problem
        device_of = {
            task: device for (task, device), lit in self.on.items() if solver.boolean_value(lit)
        }
        ways = tuple(
            next(way for way, lit in choices.items() if solver.boolean_value(lit))
            for choices in self.hop
        )
        rate_of: dict[str, int] = {}
        for chain, rate in self.rate.items():
            spec = problem.chains[chain]
            if isinstance(rate, int):
                rate_of[chain] = spec.rate
            else:
                found = solver.value(rate) * KBIT
                close = spec.rate <= found < spec.rate + KBIT
                rate_of[chain] = spec.rate if close else found
        if problem.share_cores:
            cores_of = self._shared_cores(solver, device_of)
        else:
            cores_of = number_cores(problem, device_of, rate_of)
        return Solution(device_of, ways, cores_of, rate_of)

    def _shared_cores(
        self, solver: cp_model.CpSolver, device_of: dict[str, str]
    ) -> dict[str, tuple[CoreShare, ...]]:
        cores_of: dict[str, tuple[CoreShare, ...]] = {}
        for pool in self.problem.pools:
            given: list[CoreShare] = []
            for server in {device_of[t] for t in self.problem.pool_tasks[pool]}:
                device = self.problem.devices[server]
                used = [
                    c
                    for c in range(device.cores)
                    if (pool, server, c) in self.uses
                    and solver.boolean_value(self.uses[pool, server, c])
                ]
                loads = [solver.value(self.share[pool, server, c]) for c in used]
                total = sum(loads)
                given += [
                    CoreShare(server, device.core_number(c), n / total if total else 1 / len(used))
                    for c, n in zip(used, loads, strict=True)
                    if n or not total
                ]
            cores_of[pool] = tuple(given)
        return cores_of


def _kind(problem: Problem, name: str) -> str:
    found = problem.devices.get(name)
    return SWITCH if found is None else found.kind


def _listed(words: Iterable[str], most: int = 6) -> str:
    found = list(words)
    if len(found) > most:
        return ", ".join(found[:most]) + f", and {len(found) - most} more"
    return ", ".join(found)

"""Strategies to compare with: each places tasks one by one, in the order of packets, and never goes
back. What they do not find, they do not find: `None`.

greedy          each task where it adds the fewest cores, then the least latency
switch-first    as much as possible on switches (the nearest first), then SmartNICs, then servers
server-only     everything that can run on a server, on the nearest with room
minimum-bounce  stay on the device as long as it can run the next task; then the nearest
metron          stateless work on the ingress switch, the rest on the least loaded server
                (NSDI'18, section 5: least-loaded server, shortest path)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace

from orchestrator.placement.measure import (
    chain_latency_us,
    cores_needed,
    number_cores,
    processing_ns,
    way_ns,
)
from orchestrator.placement.problem import (
    MEMORY,
    SERVER,
    SMARTNIC,
    SWITCH,
    ArcWay,
    BlockRoom,
    CoreShare,
    Problem,
    Solution,
    links_of,
    passes,
    passes_of,
    trees_between,
)
from orchestrator.placement.slots import holds, needs_of, several

_KIND_RANK = {SWITCH: 0, SMARTNIC: 1, SERVER: 2}
Rank = Callable[["_State", str, str, int], tuple[float, ...]]
"""(state, task, device, ns on the way there) -> what to prefer; smaller first."""


class _State:
    """What is taken so far. `fits` and `put` keep every capacity but the latencies'."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.device_of: dict[str, str] = {}
        self.ways: dict[int, ArcWay] = {}
        self.used: dict[tuple[str, str], int] = defaultdict(int)
        self.load: dict[tuple[str, str], int] = defaultdict(int, problem.link_taken)
        self.passed: dict[str, float] = defaultdict(float)
        """Packets/s into devices that have a limit."""
        self.rates = {c.name: c.rate for c in problem.chains.values()}
        self.into: dict[str, list[int]] = defaultdict(list)
        self.out: dict[str, list[int]] = defaultdict(list)
        for index, arc in enumerate(problem.arcs):
            self.into[arc.target].append(index)
            self.out[arc.source].append(index)
        self.partner: dict[str, set[str]] = defaultdict(set)
        self.enemy: dict[str, set[str]] = defaultdict(set)
        for pairs, others in ((problem.together, self.partner), (problem.apart, self.enemy)):
            for a, b in pairs:
                others[a].add(b)
                others[b].add(a)
        self.cores: dict[tuple[str, str], int] = {}
        self.server_cores: dict[str, int] = defaultdict(int)
        self.server_memory_bytes: dict[str, int] = defaultdict(int)
        self.blocks = {d.name: several(d) for d in problem.devices.values()}
        self.slot_of: dict[tuple[str, str], str] = {}
        self.slot_used: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)

    def cores_at(self, pool: str, server: str, extra: str = "") -> int:
        """Cores of a pool on a server, with one task more; 0 when it has none there."""
        tasks = [
            t
            for t in self.problem.pool_tasks[pool]
            if self.device_of.get(t) == server or t == extra
        ]
        if not tasks:
            return 0
        return cores_needed(self.problem, pool, server, tasks, self.rates)

    def added_cores(self, task: str, device: str) -> int:
        """Cores that a task would take in addition."""
        described = self.problem.tasks[task]
        if self.problem.devices[device].kind != SERVER or not described.pool:
            return 0
        return self.cores_at(described.pool, device, task) - self.cores.get(
            (described.pool, device), 0
        )

    def server_load(self, server: str) -> float:
        """Share of a server's cores that is taken."""
        total = self.problem.devices[server].cores
        return self.server_cores[server] / total if total else 1.0

    def way(self, index: int, source: str, target: str) -> ArcWay | None:
        """The least loaded tree with room for an arc's rates."""
        rate = sum(self.rates[c] for c in self.problem.arcs[index].chains)
        best: tuple[float, int, ArcWay] | None = None
        for tree in trees_between(self.problem, source, target):
            way = ArcWay(source, target, tree)
            if not self._packets_fit(index, way):
                continue
            worst = 0.0
            for a, b in links_of(self.problem, way):
                capacity = self.problem.fabric.link(a, b).capacity
                if self.load[a, b] + rate > capacity:
                    break
                worst = max(worst, (self.load[a, b] + rate) / max(capacity, 1))
            else:
                if best is None or (worst, tree) < best[:2]:
                    best = (worst, tree, way)
        return best[2] if best else None

    def packets(self, index: int) -> float:
        """An arc's packets/s if branches share evenly: the checker counts longest ways."""
        chains, shares = self.problem.chains, self.problem.shares
        return sum(
            self.rates[c] * shares[index, c] / (8 * chains[c].packet_bytes)
            for c in self.problem.arcs[index].chains
        )

    def _packets_fit(self, index: int, way: ArcWay) -> bool:
        devices, more = self.problem.devices, self.packets(index)
        return all(
            self.passed[name] + more <= devices[name].packets_per_second
            for name in passes_of(self.problem, self.problem.arcs[index], way)
        )

    def fits(self, task: str, device: str) -> dict[int, ArcWay] | None:
        """Ways of the arcs that a task on a device would complete; None when it does not fit."""
        problem, described = self.problem, self.problem.tasks[task]
        kind = problem.devices[device].kind
        if problem.pinned.get(task, device) != device:
            return None
        for resource, amount in described.needs.get(kind, {}).items():
            free = problem.devices[device].capacity.get(resource, 0) - self.used[device, resource]
            if amount > free:
                return None
        if self.slots(task, device) is None:
            return None
        if any(self.device_of.get(o, device) != device for o in self.partner[task]):
            return None
        if any(self.device_of.get(o) == device for o in self.enemy[task]):
            return None
        if kind == SERVER and not self._cores_fit(task, device):
            return None
        ways: dict[int, ArcWay] = {}
        for index, other, forward in self._arcs(task):
            at = other[1:] if other.startswith("@") else self.device_of.get(other)
            if at is None:
                continue
            way = self.way(index, at, device) if forward else self.way(index, device, at)
            if way is None:
                return None
            ways[index] = way
        return ways

    def slots(self, task: str, device: str) -> dict[str, BlockRoom] | None:
        """The first instance with room of each block that a task needs; None when there is none."""
        spec, rooms = self.problem.tasks[task], dict[str, BlockRoom]()
        for block, slots in self.blocks[device].items():
            need = needs_of(spec, self.problem.devices[device].kind, block)
            if not need:
                continue
            for slot in slots:
                if holds(slot, spec, need, self.slot_used[device, slot.name]):
                    rooms[block] = slot
                    break
            else:
                return None
        return rooms

    def _arcs(self, task: str) -> list[tuple[int, str, bool]]:
        into = [(i, self.problem.arcs[i].source, True) for i in self.into[task]]
        return into + [(i, self.problem.arcs[i].target, False) for i in self.out[task]]

    def _cores_fit(self, task: str, server: str) -> bool:
        problem, described = self.problem, self.problem.tasks[task]
        if not described.pool:
            return True
        pool = problem.pools[described.pool]
        mates = [t for t in problem.pool_tasks[pool.name] if t in self.device_of]
        if pool.one_server and any(self.device_of[t] != server for t in mates):
            return False
        count = self.cores_at(pool.name, server, task)
        here = [t for t in mates if self.device_of[t] == server] + [task]
        if count > 1 and any(not problem.tasks[t].replicable for t in here):
            return False
        if pool.max_workers is not None and count > pool.max_workers:
            return False
        added = self.added_cores(task, server)
        memory = self.server_memory_bytes[server] + added * pool.worker_memory_bytes
        if memory > problem.devices[server].capacity.get(MEMORY, 0):
            return False
        return self.server_cores[server] + added <= problem.devices[server].cores

    def put(self, task: str, device: str, ways: Mapping[int, ArcWay]) -> None:
        """Place a task."""
        problem, described = self.problem, self.problem.tasks[task]
        kind = problem.devices[device].kind
        if kind == SERVER and described.pool:
            added = self.added_cores(task, device)
            self.server_cores[device] += added
            pool = problem.pools[described.pool]
            self.server_memory_bytes[device] += added * pool.worker_memory_bytes
            self.cores[described.pool, device] = self.cores_at(described.pool, device, task)
        self.device_of[task] = device
        for block, slot in (self.slots(task, device) or {}).items():
            self.slot_of[task, block] = slot.name
            used = self.slot_used[device, slot.name]
            for resource, amount in needs_of(described, kind, block).items():
                used[resource] = used.get(resource, 0) + amount
        for resource, amount in described.needs.get(kind, {}).items():
            self.used[device, resource] += amount
        for index, way in ways.items():
            self.ways[index] = way
            rate = sum(self.rates[c] for c in problem.arcs[index].chains)
            for link in links_of(problem, way):
                self.load[link] += rate
            for name in passes_of(problem, problem.arcs[index], way):
                self.passed[name] += self.packets(index)


def _greedy(state: _State, task: str, device: str, ns: int) -> tuple[float, ...]:
    return (state.added_cores(task, device), ns)


def _switch_first(state: _State, task: str, device: str, ns: int) -> tuple[float, ...]:
    return (_KIND_RANK[state.problem.devices[device].kind], ns)


def _server_only(state: _State, task: str, device: str, ns: int) -> tuple[float, ...]:
    return (-_KIND_RANK[state.problem.devices[device].kind], ns)


def _minimum_bounce(state: _State, task: str, device: str, ns: int) -> tuple[float, ...]:
    return (ns, _KIND_RANK[state.problem.devices[device].kind])


def _metron(state: _State, task: str, device: str, ns: int) -> tuple[float, ...]:
    kind = state.problem.devices[device].kind
    return (_KIND_RANK[kind], state.server_load(device) if kind == SERVER else 0.0, ns)


BASELINES: dict[str, Rank] = {
    "greedy": _greedy,
    "switch-first": _switch_first,
    "server-only": _server_only,
    "minimum-bounce": _minimum_bounce,
    "metron": _metron,
}


def run_baseline(problem: Problem, strategy: str) -> Solution | None:
    """The placement of one of BASELINES, with every chain at its required rate."""
    rank, state = BASELINES[strategy], _State(problem)
    for task in problem.order:
        if task not in problem.tasks:
            continue
        options: list[tuple[tuple[float, ...], str, dict[int, ArcWay]]] = []
        for device in problem.tasks[task].candidates:
            ways = state.fits(task, device)
            if ways is None:
                continue
            ns = sum(way_ns(problem, way) for way in ways.values())
            ns += sum(processing_ns(problem, task, device, c) for c in problem.tasks[task].cycles)
            options.append((rank(state, task, device, ns), device, ways))
        if not options:
            return None
        _, device, ways = min(options, key=lambda option: option[:2])
        state.put(task, device, ways)
    for index, arc in enumerate(problem.arcs):
        if index not in state.ways:
            way = state.way(index, arc.source[1:], arc.target[1:])
            if way is None:
                return None
            state.ways[index] = way
    ways = tuple(state.ways[i] for i in range(len(problem.arcs)))
    cores = number_cores(problem, state.device_of, state.rates)
    solution = Solution(state.device_of, ways, cores, state.rates, strategy, slot_of=state.slot_of)
    for chain in problem.chains.values():
        if chain.max_latency_us is not None:
            latency = chain_latency_us(problem, solution, chain.name)
            if latency > chain.max_latency_us:
                return None
    return solution


def fill_rates(problem: Problem, solution: Solution) -> Solution:
    """Raise rates above the required ones, chain by chain, as far as links and cores allow.

    Devices, ways and cores stay as they are, except that a replicable pool may take free cores.
    """
    rates = dict(solution.rate_of)
    load: dict[tuple[str, str], int] = defaultdict(int, problem.link_taken)
    crossings: dict[str, dict[tuple[str, str], int]] = {c: defaultdict(int) for c in rates}
    passed: dict[str, float] = defaultdict(float)
    visits: dict[str, dict[str, int]] = {c: {} for c in rates}
    for arc, way in zip(problem.arcs, solution.ways, strict=True):
        for link in links_of(problem, way):
            for chain in arc.chains:
                load[link] += rates[chain]
                crossings[chain][link] += 1
    for (chain, device), times in passes(problem, solution.ways).items():
        passed[device] += times * rates[chain] / (8 * problem.chains[chain].packet_bytes)
        visits[chain][device] = times
    for name, chain in problem.chains.items():
        room = max(0, chain.max_rate - rates[name])
        for link, times in crossings[name].items():
            free = problem.fabric.link(*link).capacity - load[link]
            room = min(room, max(0, free) // times)
        for device, times in visits[name].items():
            left = problem.devices[device].packets_per_second - passed[device]
            room = min(room, int(max(0.0, left) * 8 * chain.packet_bytes) // times)
        low, high = 0, room // 1_000_000  # in steps of 1 Mbit/s
        while low < high:
            middle = (low + high + 1) // 2
            tried = {**rates, name: rates[name] + middle * 1_000_000}
            if _cores_hold(problem, solution, tried):
                low = middle
            else:
                high = middle - 1
        rates[name] += low * 1_000_000
        for link, times in crossings[name].items():
            load[link] += times * low * 1_000_000
        for device, times in visits[name].items():
            passed[device] += times * low * 1_000_000 / (8 * chain.packet_bytes)
    cores: Mapping[str, tuple[CoreShare, ...]] = number_cores(problem, solution.device_of, rates)
    return replace(solution, cores_of=cores, rate_of=rates)


def _cores_hold(problem: Problem, solution: Solution, rates: Mapping[str, int]) -> bool:
    taken: dict[str, int] = defaultdict(int)
    memory: dict[str, int] = defaultdict(int)
    for pool in problem.pools.values():
        for server in problem.servers():
            tasks = [
                t for t in problem.pool_tasks[pool.name] if solution.device_of[t] == server.name
            ]
            if not tasks:
                continue
            count = cores_needed(problem, pool.name, server.name, tasks, rates)
            if pool.max_workers is not None and count > pool.max_workers:
                return False
            if count > 1 and any(not problem.tasks[t].replicable for t in tasks):
                return False
            taken[server.name] += count
            memory[server.name] += count * pool.worker_memory_bytes
    return all(
        count <= problem.devices[server].cores
        and memory[server] <= problem.devices[server].capacity.get(MEMORY, 0)
        for server, count in taken.items()
    )

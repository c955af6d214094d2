"""Check a placement against every constraint of its problem, independently of how it was found.

Shares nothing with the solvers but the data types: loads, ways and latencies are counted here again,
from the topology's links. Returns every violation as a sentence; an empty tuple is a proof that the
placement keeps to the model's rules (not that the rules are the network's).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction

from orchestrator.model.plan import Core
from orchestrator.placement.problem import CorePool, CoreShare, Problem, Solution, TrafficClass

_TOLERANCE = 1e-6
"""Relative; rates are whole bit/s and shares of cores are floats."""

_HASH_VALUES = 65536
"""The dispatch hash has 16 bits."""


def check(problem: Problem, solution: Solution, *, soft: bool = False) -> tuple[str, ...]:
    """Sentences on what is violated. With `soft`, missed SLO rates and latencies are allowed."""
    return tuple(_Check(problem, solution, soft).run())


class _Check:
    def __init__(self, problem: Problem, solution: Solution, soft: bool) -> None:
        self.problem, self.solution, self.soft = problem, solution, soft
        self.found: list[str] = []
        topology = problem.fabric.topology
        self.switches = set(topology.switches)
        self.capacity: dict[tuple[str, str], int] = {}
        self.delay_us: dict[tuple[str, str], int] = {}
        for link in topology.links:
            for ends in ((link.a, link.b), (link.b, link.a)):
                # Parallel links: the fabric uses the first.
                self.capacity.setdefault(ends, link.capacity)
                self.delay_us.setdefault(ends, link.latency_us)

    def run(self) -> list[str]:
        self._devices()
        if self.found:
            return self.found
        self._ways()
        if self.found:
            return self.found
        self._rates()
        self._capacities()
        self._cores()
        self._links()
        self._packets()
        self._latencies()
        return self.found

    def _node(self, device: str) -> str:
        described = self.problem.devices.get(device)
        return described.nic_of if described is not None and described.nic_of else device

    def _devices(self) -> None:
        placed = self.solution.device_of
        for name, task in self.problem.tasks.items():
            if name not in placed:
                self.found.append(f"{name} is on no device")
            elif placed[name] not in task.candidates:
                self.found.append(f"{name} is on {placed[name]}, which cannot run it")
        for name, device in self.problem.pinned.items():
            if placed.get(name) != device:
                self.found.append(f"{name} is pinned to {device}, not on it")
        for a, b in self.problem.apart:
            if placed.get(a) == placed.get(b):
                self.found.append(f"{a} and {b} must not share {placed.get(a)}")
        for a, b in self.problem.together:
            if placed.get(a) != placed.get(b):
                self.found.append(f"{a} and {b} must share a device")
        for pool in self.problem.pools.values():
            if not pool.one_server:
                continue
            homes = {
                placed[t.id]
                for t in self.problem.tasks.values()
                if t.pool == pool.name and t.id in placed
            }
            if len(homes) > 1:
                self.found.append(f"{pool.label} is on {len(homes)} servers")

    def _path(self, index: int) -> tuple[str, ...]:
        way = self.solution.ways[index]
        source, target = self._node(way.source), self._node(way.target)
        if source == target:
            return (source,)
        return self.problem.fabric.path(source, target, way.tree)

    def _ways(self) -> None:
        if len(self.solution.ways) != len(self.problem.arcs):
            self.found.append("not every arc has a way")
            return
        for index, arc in enumerate(self.problem.arcs):
            way = self.solution.ways[index]
            for end, node in ((way.source, arc.source), (way.target, arc.target)):
                wanted = node[1:] if node.startswith("@") else self.solution.device_of[node]
                if end != wanted:
                    self.found.append(f"the way {arc.source} -> {arc.target} misses {wanted}")
            path = self._path(index)
            for step in itertools.pairwise(path):
                if step not in self.capacity:
                    self.found.append(f"there is no link {step[0]} -> {step[1]}")
            middle = path[1:-1]
            if any(node not in self.switches for node in middle):
                self.found.append(f"the way {arc.source} -> {arc.target} crosses a server")

    def _rates(self) -> None:
        for name, chain in self.problem.chains.items():
            rate = self.solution.rate_of.get(name, 0)
            if rate < chain.rate * (1 - _TOLERANCE) and not self.soft:
                self.found.append(f"chain {name} gets {rate} of {chain.rate} bit/s")
            if rate > max(chain.rate, chain.max_rate) * (1 + _TOLERANCE):
                self.found.append(f"chain {name} gets {rate} bit/s, more than its maximum")

    def _capacities(self) -> None:
        used: dict[tuple[str, str], int] = defaultdict(int)
        for name, task in self.problem.tasks.items():
            device = self.solution.device_of[name]
            kind = self.problem.devices[device].kind
            if kind not in task.needs and task.needs and kind != "server":
                self.found.append(f"{name} cannot run on a {kind} ({device})")
            for resource, amount in task.needs.get(kind, {}).items():
                used[device, resource] += amount
        for (device, resource), amount in used.items():
            free = self.problem.devices[device].capacity.get(resource, 0)
            if amount > free:
                self.found.append(f"{device}: {amount} of {resource} used, {free} free")

        self._slots()
        self._memory()

    def _slots(self) -> None:
        """Every task of a block lies in one instance of it on its switch, and none is too full."""
        used: dict[tuple[str, str, str], int] = defaultdict(int)
        for name, task in self.problem.tasks.items():
            device = self.problem.devices[self.solution.device_of[name]]
            for resource, amount in task.needs.get(device.kind, {}).items():
                block = resource.split(".")[0]
                own = {s.name: s for s in device.slots if s.block == block}
                if not amount or len(own) < 2:
                    continue
                chosen = self.solution.slot_of.get((name, block), "none")
                if chosen not in own or own[chosen].nf not in ("", task.label):
                    self.found.append(
                        f"{name} cannot be in {block} block {chosen} of {device.name}"
                    )
                    continue
                used[device.name, chosen, resource] += amount
        for (device, slot, resource), amount in used.items():
            (described,) = (s for s in self.problem.devices[device].slots if s.name == slot)
            free = described.free.get(resource, 0)
            if amount > free:
                self.found.append(
                    f"{device}: {amount} of {resource} used in block {slot}, {free} free"
                )

    def _memory(self) -> None:
        """The workers of a server fit its memory."""
        used: dict[str, int] = defaultdict(int)
        for pool, shares in self.solution.cores_of.items():
            for share in shares:
                used[share.server] += self.problem.pools[pool].worker_memory_bytes
        for server, amount in used.items():
            free = self.problem.devices[server].capacity.get("memory_bytes", 0)
            if amount > free:
                self.found.append(f"{server}: its workers take {amount} bytes, {free} are free")

    def _cores(self) -> None:
        busy: dict[tuple[str, int], Fraction] = defaultdict(Fraction)
        owners: dict[tuple[str, int], set[str]] = defaultdict(set)
        grain: dict[tuple[str, int], float] = defaultdict(float)
        """What one value of the hash carries: a class cannot be divided finer."""
        for pool in self.problem.pools.values():
            tasks = [t for t in self.problem.tasks.values() if t.pool == pool.name]
            load: dict[str, float] = defaultdict(float)
            by_chain: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
            single: set[str] = set()
            for task in tasks:
                server = self.solution.device_of[task.id]
                if self.problem.devices[server].kind != "server":
                    continue
                load[server] += 0.0
                if not task.replicable:
                    single.add(server)
                for chain, cycles in task.load_on(self.problem.devices[server]).items():
                    spec = self.problem.chains[chain]
                    packets = self.solution.rate_of[chain] / (8 * spec.packet_bytes)
                    load[server] += packets * cycles
                    by_chain[server][chain] += packets * cycles
            given = self.solution.cores_of.get(pool.name, ())
            for server in {c.server for c in given} - set(load):
                self.found.append(f"{pool.label} has cores on {server} but no task there")
            for server, cycles in load.items():
                mine = [c for c in given if c.server == server]
                if len({c.core for c in mine}) != len(mine):
                    self.found.append(f"{pool.label} names a core of {server} twice")
                if len(mine) < pool.min_workers:
                    self.found.append(
                        f"{pool.label} has {len(mine)} workers, fewer than {pool.min_workers}"
                    )
                most = 1 if server in single else pool.max_workers
                if most is not None and len(mine) > most:
                    self.found.append(f"{pool.label} has {len(mine)} workers, more than {most}")
                if abs(sum(c.share for c in mine) - 1) > _TOLERANCE:
                    self.found.append(f"{pool.label}: the shares of its cores are not all its load")
                self._classes(pool, mine, by_chain[server])
                for core in mine:
                    busy[server, core.core] += Fraction(core.share * cycles)
                    grain[server, core.core] += cycles / _HASH_VALUES
                    owners[server, core.core].add(pool.name)
        for (server, core), cycles in busy.items():
            device = self.problem.devices[server]
            free = {device.core_number(i) for i in range(device.cores)}
            if core not in free:
                self.found.append(f"{Core(server, core)} is not free")
            budget = device.cycles_per_second * self.problem.load_limit
            if cycles > budget * (1 + _TOLERANCE) + grain[server, core]:
                self.found.append(
                    f"{Core(server, core)}: {float(cycles) / 1e9:.4g} Gcycles/s, "
                    f"{budget / 1e9:.4g} may be planned"
                )
            if len(owners[server, core]) > 1 and not self.problem.share_cores:
                self.found.append(f"{Core(server, core)} is given to two pools")

    def _classes(
        self, pool: CorePool, cores: Sequence[CoreShare], cycles: Mapping[str, float]
    ) -> None:
        """Every packet of every class has one owner, and the shares are what the slices carry."""
        classes = pool.classes or tuple(
            TrafficClass(c, {c: 1.0})
            for c in dict.fromkeys(
                c for t in self.problem.tasks.values() if t.pool == pool.name for c in t.cycles
            )
        )
        total = sum(cycles.values())
        if not classes or not total:
            return
        parts: dict[str, float] = defaultdict(float)
        carried: dict[int, float] = defaultdict(float)
        for index, spec in enumerate(classes):
            load = sum(cycles.get(chain, 0.0) * part for chain, part in spec.chains.items())
            for chain, part in spec.chains.items():
                parts[chain] += part
            owned = sorted(
                (s.low, s.high, core.core)
                for core in cores
                for s in core.slices
                if s.index == index
            )
            reached = 0
            for low, high, core in owned:
                if low != reached or high <= low:
                    break
                reached = high
                carried[core] += load * (high - low) / _HASH_VALUES
            if reached != _HASH_VALUES:
                self.found.append(f"{pool.label}: class {spec.name} has no single owner everywhere")
        for chain in cycles:
            if abs(parts[chain] - 1) > _TOLERANCE:
                self.found.append(f"{pool.label}: {parts[chain]:g} of {chain} is in classes")
        for core in cores:
            if abs(carried[core.core] / total - core.share) > _TOLERANCE + 2 / _HASH_VALUES:
                self.found.append(
                    f"{Core(core.server, core.core)} owns {carried[core.core] / total:.4g} of "
                    f"{pool.label}, not {core.share:.4g}"
                )

    def _links(self) -> None:
        load: dict[tuple[str, str], int] = defaultdict(int)
        for index, arc in enumerate(self.problem.arcs):
            path = self._path(index)
            rate = sum(self.solution.rate_of[c] for c in arc.chains)
            for step in itertools.pairwise(path):
                load[step] += rate
        for step, rate in load.items():
            free = self.capacity[step] - self.problem.link_taken.get(step, 0)
            if rate > free * (1 + _TOLERANCE):
                self.found.append(
                    f"link {step[0]} -> {step[1]}: {rate / 1e9:g} Gbit/s, {free / 1e9:g} free"
                )

    def _packets(self) -> None:
        """Packets/s into each device that has a limit: each as often as it comes on its longest way."""
        limited = [d for d in self.problem.devices.values() if d.packets_per_second]
        for device in limited:
            packets = sum(
                self._arrivals(chain, device.name)
                * self.solution.rate_of[chain]
                / (8 * self.problem.chains[chain].packet_bytes)
                for chain in self.problem.chains
            )
            if packets > device.packets_per_second * (1 + _TOLERANCE):
                self.found.append(
                    f"{device.name}: {packets:,.0f} packets/s, it carries {device.packets_per_second:,}"
                )

    def _arrivals(self, chain: str, device: str) -> int:
        """How often a packet of a chain comes to a device: relaxed until nothing changes."""
        weights: dict[tuple[str, str], int] = {}
        for index, arc in enumerate(self.problem.arcs):
            if chain in arc.chains:
                path = self._path(index)
                entered = path if arc.source.startswith("@") else path[1:]
                weights[arc.source, arc.target] = list(entered).count(device)
        count = {node: 0 for pair in weights for node in pair}
        changed = True
        while changed:
            changed = False
            for (source, target), weight in weights.items():
                if count[source] + weight > count[target]:
                    count[target], changed = count[source] + weight, True
        return max(count.values(), default=0)

    def _latencies(self) -> None:
        if self.soft:
            return
        for name, chain in self.problem.chains.items():
            if chain.max_latency_us is None:
                continue
            last = self._last_arrival_us(name)
            total = chain.base_latency_us + last
            if total > chain.max_latency_us + 0.01:
                self.found.append(
                    f"chain {name}: {total:g} us, at most {chain.max_latency_us} allowed"
                )

    def _last_arrival_us(self, chain: str) -> float:
        """The longest way of a chain, without its access links: relaxed until nothing changes."""
        arcs = [(i, a) for i, a in enumerate(self.problem.arcs) if chain in a.chains]
        arrival = {node: 0.0 for _, a in arcs for node in (a.source, a.target)}
        changed = True
        while changed:
            changed = False
            for i, arc in arcs:
                start = arrival[arc.source] + self._spent_us(arc.source, chain)
                reached = start + self._way_us(i)
                if reached > arrival[arc.target] + 1e-9:
                    arrival[arc.target], changed = reached, True
        left = {a.source for _, a in arcs}
        ends = self.problem.chains[chain].ends or tuple(n for n in arrival if n not in left)
        return max(
            (arrival[e] + self._spent_us(e, chain) for e in ends if e in arrival), default=0.0
        )

    def _spent_us(self, node: str, chain: str) -> float:
        if node.startswith("@"):
            return 0.0
        device = self.problem.devices[self.solution.device_of[node]]
        if device.kind != "server":
            return 0.0
        cycles = self.problem.tasks[node].cycles_on(device).get(chain, 0.0)
        spent = cycles * 1e6 / device.cycles_per_second * (1 + device.waiting)
        enters = cycles and chain in self.problem.tasks[node].enters
        return spent + (device.alone_ns / 1000 if enters else 0.0)

    def _way_us(self, index: int) -> float:
        path = self._path(index)
        return sum(
            self.delay_us[a, b] + (self._pass_us(b) if b in self.switches else 0)
            for a, b in itertools.pairwise(path)
        )

    def _pass_us(self, switch: str) -> int:
        device = self.problem.devices.get(switch)
        return (device.pass_us if device else 0) or self.problem.switch_latency_us

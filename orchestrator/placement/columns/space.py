"""All columns of a problem: what each uses, whether it fits an empty network, what it costs."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from orchestrator.errors import InfeasibleError
from orchestrator.placement.columns.shapes import (
    EGRESS,
    FAR,
    HOST,
    INGRESS,
    NEAR,
    ChainLine,
    Option,
    Shape,
    line_of,
    options_of,
    shapes_of,
)
from orchestrator.placement.measure import processing_ns, way_ns
from orchestrator.placement.problem import SERVER, SWITCH, ArcWay, Problem, trees_between
from orchestrator.placement.slots import pack

Row = tuple[str, str, str]
"""A resource: ('cores', server, ''), ('in' | 'out', server, ''), ('table', switch, table)."""
_Needs = tuple[tuple[str, int], ...]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class Column:
    """A shape on a server ('' when the chain needs none), with the far switch of a detour."""

    chain: str
    shape: Shape
    server: str
    far: str = ""


class Space:
    """The columns of a problem, by chain and shape; over servers they are arrays."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self.problem = problem
        self.rng = random.Random(seed)
        fabric = problem.fabric
        self.near = {
            s.name: fabric.access(s.name)
            for s in problem.servers()
            if s.name in fabric.attachments and s.cores
        }
        self.servers = list(self.near)
        self.capacity = self._capacities()
        self._room = np.array([self.capacity["cores", s, ""] for s in self.servers])
        self._link_room = np.array(
            [min(self.capacity["in", s, ""], self.capacity["out", s, ""]) for s in self.servers]
        )
        self._near_tables: dict[str, Floats] = {}
        inner = {x.latency_us for near in fabric.neighbors.values() for _, x in near.values()}
        self._uniform = len(inner) <= 1
        self._legs: dict[tuple[str, str], float] = {}
        self._leg_arrays: dict[tuple[str, str], Floats] = {}
        self.shapes: dict[str, list[Shape]] = {}
        self.lines = {name: line_of(problem, name) for name in problem.chains}
        self.options: dict[str, list[Option]] = {}
        self.homes: list[tuple[_Needs, tuple[str, ...]]] = []
        """Distinct (entries, switches that could hold them) of tasks; without a switch, no price."""
        self.home_of: dict[str, int] = {}
        self._find_homes()
        self._feasible: dict[tuple[str, Shape, str], Flags] = {}
        self.fars = [s for s in dict.fromkeys(self.near.values()) if self._offers(s)]
        """Switches for detours: those of servers that offer any table."""
        self._fars_for: dict[_Needs, list[str]] = {}
        most = max((problem.devices[s].cores for s in self.servers), default=0)
        for name, line in self.lines.items():
            if not self.servers:
                raise InfeasibleError(f"{problem.name}: no server is linked to a switch")
            self.options[name] = options_of(
                problem, line, self.servers[0], most, self._held_somewhere
            )
            self.shapes[name] = [
                shape
                for option in self.options[name]
                for shape in shapes_of(problem, line, option)
                if self._anywhere(line, shape)
            ]
            if not self.shapes[name]:
                raise InfeasibleError(
                    f"{problem.name}: chain {name} fits nowhere, even on the empty network"
                )

    def _capacities(self) -> dict[Row, float]:
        problem, capacity = self.problem, dict[Row, float]()
        for server in self.servers:
            capacity["cores", server, ""] = problem.devices[server].cores
            near = self.near[server]
            for direction, link in (("in", (near, server)), ("out", (server, near))):
                taken = problem.link_taken.get(link, 0)
                capacity[direction, server, ""] = problem.fabric.link(*link).capacity - taken
        for device in problem.devices.values():
            if device.kind == SWITCH:
                for table, size in device.capacity.items():
                    capacity["table", device.name, table] = size
        return capacity

    # -- what a column uses --------------------------------------------------------------------

    def switch(self, line: ChainLine, place: str, server: str, far: str) -> str:
        """The device of a place."""
        if place in (HOST, FAR):
            return server if place == HOST else far
        return {INGRESS: line.ingress, EGRESS: line.egress}.get(place) or self.near[server]

    def use(self, column: Column) -> dict[Row, float]:
        """What a column takes of each resource."""
        line, shape = self.lines[column.chain], column.shape
        rate = self.problem.chains[column.chain].rate
        use: dict[Row, float] = defaultdict(float)
        if shape.cores:
            use["cores", column.server, ""] += shape.cores
            use["in", column.server, ""] += rate * shape.visits
            use["out", column.server, ""] += rate * shape.visits
        for place, tables in shape.tables.items():
            switch = self.switch(line, place, column.server, column.far)
            for table, amount in tables.items():
                use["table", switch, table] += amount
        return use

    # -- whether it fits -----------------------------------------------------------------------

    def _offers(self, switch: str) -> bool:
        return any(self.problem.devices[switch].capacity.values())

    def _find_homes(self) -> None:
        """Where each task could be offloaded, if all were empty."""
        kinds = {name: device.kind for name, device in self.problem.devices.items()}
        numbers: dict[tuple[_Needs, tuple[str, ...]], int] = {}
        for line in self.lines.values():
            for task in line.tasks:
                spec = self.problem.tasks[task]
                needs = tuple(spec.needs.get(SWITCH, {}).items())
                switches: tuple[str, ...] = ()
                if all(kinds[d] in (SWITCH, SERVER) for d in spec.candidates):
                    switches = tuple(
                        d
                        for d in spec.candidates
                        if kinds[d] == SWITCH
                        and all(n <= self.capacity.get(("table", d, t), 0) for t, n in needs)
                        and pack(self.problem.devices[d], (spec,)) is not None
                    )
                key = (needs, switches)
                if key not in numbers:
                    numbers[key] = len(self.homes)
                    self.homes.append(key)
                self.home_of[task] = numbers[key]

    def _held_somewhere(self, task: str) -> bool:
        """Whether one of a task's switches could hold it, if it were empty."""
        return bool(self.homes[self.home_of[task]][1])

    def _anywhere(self, line: ChainLine, shape: Shape) -> bool:
        fars = self.fars_for(shape) if shape.detours else [""]
        return any(self.feasible(line.name, shape, far).any() for far in fars)

    def fars_for(self, shape: Shape) -> list[str]:
        """Switches that could hold a shape's detour, if they were empty."""
        tables = tuple(shape.tables.get(FAR, {}).items())
        if tables not in self._fars_for:
            self._fars_for[tables] = [
                far
                for far in self.fars
                if all(n <= self.capacity.get(("table", far, t), 0) for t, n in tables)
            ]
        return self._fars_for[tables]

    def feasible(self, chain: str, shape: Shape, far: str) -> Flags:
        """On which servers a shape fits an empty network, latency limit included."""
        key = (chain, shape, far)
        if key not in self._feasible:
            self._feasible[key] = self._fitting(self.lines[chain], shape, far)
        return self._feasible[key]

    def _fitting(self, line: ChainLine, shape: Shape, far: str) -> Flags:
        count = len(self.servers) if shape.served else 1
        flags = np.ones(count, dtype=bool)
        fixed = {INGRESS: line.ingress, EGRESS: line.egress, FAR: far}
        together: dict[tuple[str, str], int] = defaultdict(int)
        for place, tables in shape.tables.items():
            for table, amount in tables.items():
                if place == NEAR:
                    flags &= self._near_capacity(table) >= amount
                else:
                    together[fixed[place], table] += amount
        if any(n > self.capacity.get(("table", *key), 0) for key, n in together.items()):
            return np.zeros(count, dtype=bool)
        if shape.served:
            rate = self.problem.chains[line.name].rate * shape.visits
            flags &= (self._room >= shape.cores) & (self._link_room >= rate)
        if NEAR in shape.tables:  # where the server's switch is one of the others, too
            for index, server in enumerate(self.servers):
                if flags[index] and any(self.near[server] == switch for switch, _ in together):
                    use = self.use(self.column(line.name, shape, index, far))
                    flags[index] = all(n <= self.capacity.get(row, 0) for row, n in use.items())
        limit = self.problem.chains[line.name].max_latency_us
        if limit is not None and flags.any():
            flags &= self._latency_ns(line, shape, far, count) <= limit * 1000
        return flags

    def _near_capacity(self, table: str) -> Floats:
        if table not in self._near_tables:
            rows = (("table", self.near[s], table) for s in self.servers)
            self._near_tables[table] = np.array([self.capacity.get(row, 0.0) for row in rows])
        return self._near_tables[table]

    def _latency_ns(self, line: ChainLine, shape: Shape, far: str, count: int) -> Floats:
        """The least latency of a shape on each server."""
        chain = self.problem.chains[line.name]
        total = np.full(count, chain.base_latency_us * 1000, dtype=float)
        stops = [INGRESS, *shape.places, EGRESS]
        for a, b in pairwise(stops):
            if a != b:
                total = total + self._leg_array(line, a, b, far)
        if shape.cores:
            spent = (
                processing_ns(self.problem, task, self.servers[0], line.name)
                for task, place in zip(line.tasks, shape.places, strict=True)
                if place == HOST
            )
            total = total + sum(spent)
        return total

    def _leg_array(self, line: ChainLine, a: str, b: str, far: str) -> Floats:
        fixed = {INGRESS: line.ingress, EGRESS: line.egress, FAR: far}
        key = (fixed.get(a, f"*{a}"), fixed.get(b, f"*{b}"))
        if key not in self._leg_arrays:
            servers = [""] if a in fixed and b in fixed else self.servers
            self._leg_arrays[key] = np.array(
                [
                    self._leg_ns(self.switch(line, a, s, far), self.switch(line, b, s, far))
                    for s in servers
                ]
            )
        return self._leg_arrays[key]

    def _leg_ns(self, a: str, b: str) -> float:
        """The fastest tree's time between two devices; infinite when there is no way."""
        if a == b:
            return 0.0
        if (a, b) not in self._legs:
            trees = (0,) if self._uniform else trees_between(self.problem, a, b)
            near, far = self.problem.place_of(a), self.problem.place_of(b)
            if not self.problem.fabric.connected(near, far):
                trees = ()
            times = [way_ns(self.problem, ArcWay(a, b, tree)) for tree in trees]
            self._legs[a, b] = min(times, default=float("inf"))
        return self._legs[a, b]

    # -- what it costs at prices ---------------------------------------------------------------

    def costs(self, chain: str, shape: Shape, prices: Prices, far: str = "") -> Floats:
        """Cores plus prices times use on each server; infinite where it does not fit."""
        line, rate = self.lines[chain], self.problem.chains[chain].rate
        total = np.zeros(len(self.servers) if shape.served else 1)
        for place, switch in ((INGRESS, line.ingress), (EGRESS, line.egress), (FAR, far)):
            total += prices.of(switch, shape.tables.get(place, {}))
        if shape.cores:
            total += shape.cores * (1 + prices.cores) + rate * shape.visits * prices.links
        for table, amount in shape.tables.get(NEAR, {}).items():
            if table in prices.near:
                total += amount * prices.near[table]
        return np.where(self.feasible(chain, shape, far), total, np.inf)

    def far_for(self, shape: Shape, prices: Prices) -> str:
        """The cheapest switch for a shape's detour that could hold it; '' when it makes none."""
        if not shape.detours:
            return ""
        tables = shape.tables.get(FAR, {})
        return min(
            (prices.of(far, tables), self.rng.random(), far) for far in self.fars_for(shape)
        )[2]

    def column(self, chain: str, shape: Shape, index: int, far: str = "") -> Column:
        """A shape on the server of this index."""
        return Column(chain, shape, self.servers[index] if shape.served else "", far)

    def bound(self, prices: Prices) -> float:
        """The Lagrangian bound at these prices: no placement of the problem has fewer cores.

        Each chain takes what is cheapest, each of its offloaded tasks on the cheapest of all its
        switches, its cores and links on the cheapest servers: whatever it does, it pays no less.
        """
        core, link = 1 + float(prices.cores.min()), float(prices.links.min())
        cheapest = [
            min((prices.of(switch, dict(needs)) for switch in switches), default=0.0)
            for needs, switches in self.homes
        ]
        total = -prices.paid
        for chain, options in self.options.items():
            rate, tasks = self.problem.chains[chain].rate, self.lines[chain].tasks
            offload = [cheapest[self.home_of[task]] for task in tasks]
            total += min(
                o.cores * core + rate * o.visits * link + sum(offload[i] for i in o.offloaded)
                for o in options
            )
        return total

    def least_cores(self) -> int:
        """Cores if every chain had the network to itself: the bound at prices of 0."""
        return sum(min(o.cores for o in options) for options in self.options.values())

    # -- as a placement ------------------------------------------------------------------------

    def assign(
        self, column: Column, tree: Callable[[str, str], int]
    ) -> tuple[dict[str, str], tuple[ArcWay, ...]]:
        """Devices and ways of a chain under a column; `tree(a, b)` chooses."""
        line = self.lines[column.chain]
        device_of = {
            t: self.switch(line, p, column.server, column.far)
            for t, p in zip(line.tasks, column.shape.places, strict=True)
        }
        last = self.problem.arcs[self.problem.chain_arcs[column.chain][-1]].target
        device_of[last] = line.egress
        stops = [line.ingress, *(device_of[t] for t in line.tasks), line.egress]
        ways = tuple(ArcWay(a, b, 0 if a == b else tree(a, b)) for a, b in pairwise(stops))
        return device_of, ways


class Prices:
    """Prices of resources (cores per unit), also as arrays over servers."""

    def __init__(self, space: Space, rows: Mapping[Row, float]) -> None:
        self.rows = rows
        self.cores = np.array([rows.get(("cores", s, ""), 0.0) for s in space.servers])
        self.links = np.array(
            [rows.get(("in", s, ""), 0.0) + rows.get(("out", s, ""), 0.0) for s in space.servers]
        )
        self.near: dict[str, Floats] = {
            table: np.array([rows.get(("table", space.near[s], table), 0.0) for s in space.servers])
            for table in {row[2] for row in rows if row[0] == "table"}
        }
        self.by_switch: dict[str, dict[str, float]] = {}
        for (kind, switch, table), price in rows.items():
            if kind == "table":
                self.by_switch.setdefault(switch, {})[table] = price
        self.paid = sum(price * space.capacity[row] for row, price in rows.items())
        """What all of it would cost."""

    def of(self, switch: str, tables: Mapping[str, int]) -> float:
        """What entries cost on a switch."""
        priced = self.by_switch.get(switch)
        return sum(n * priced.get(table, 0.0) for table, n in tables.items()) if priced else 0.0

"""Placement of many chains: column generation for the bound, CP-SAT over the columns for the answer.

A column is one way to run one chain: which of its tasks are offloaded, to the switch of its ingress, of
its server or of its egress, and which server runs the rest. The master problem chooses one column
a chain under the servers' cores, the servers' links and the switches' tables. Its linear
relaxation is solved by column generation; any dual prices give a Lagrangian bound,

    sum over chains of min over columns (cores + prices x use) - prices x capacities  <=  optimum,

valid because pricing looks at every column of the class. Columns that cost no fewer cores than one
that offloads a subset of their tasks are left out: that one uses a subset of the resources. Paths
through the middle of the network (trees) are chosen afterwards, so the bound is that of a
relaxation. The class: a chain visits one server, and only switches of its ingress, egress and server
(`Policy.near`); see docs/decisions/0010-placement-model.md.
"""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from ortools.linear_solver import pywraplp
from ortools.sat.python import cp_model

from orchestrator.errors import InfeasibleError
from orchestrator.placement.cpsat import Limits
from orchestrator.placement.measure import (
    cores_needed,
    number_cores,
    processing_ns,
    way_ns,
)
from orchestrator.placement.problem import (
    SERVER,
    SWITCH,
    Problem,
    Solution,
    Stage,
    Way,
    links_of,
    trees_between,
)

INGRESS, NEAR, EGRESS, HOST = "ingress", "near", "egress", "host"
_ORDER = (INGRESS, NEAR, HOST, EGRESS)
_MOST_FLEXIBLE = 10
Row = tuple[str, str, str]
"""A resource: ('cores', server, ''), ('in' | 'out', server, ''), ('table', switch, table)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Where a chain's tasks run, relative to its server: a place of _ORDER for each task."""

    places: tuple[str, ...]
    cores: int
    visits: int
    """How often packets enter the server."""
    tables: Mapping[str, Mapping[str, int]] = field(compare=False)
    """Entries by place and table (given by the places)."""


@dataclass(frozen=True, slots=True)
class Column:
    """A shape on a server ('' when the chain needs none)."""

    chain: str
    shape: Shape
    server: str


@dataclass(frozen=True, slots=True)
class Scaled:
    """A placement of many chains with its bound on cores and what the search did."""

    solution: Solution
    cores: int
    bound: int
    trivial_bound: int
    """What the bound is with all prices 0."""
    iterations: int
    columns: int
    seconds: float

    @property
    def gap(self) -> float:
        """(cores - bound) / cores."""
        return (self.cores - self.bound) / max(self.cores, 1)


@dataclass(slots=True)
class _ChainInfo:
    name: str
    tasks: tuple[str, ...]
    ingress: str
    egress: str
    shapes: list[Shape] = field(default_factory=list[Shape])
    servers: list[str] = field(default_factory=list[str])


def applicable(problem: Problem) -> bool:
    """Whether every chain is a line of its own tasks, with cores of its own."""
    if problem.share_cores or problem.pinned or problem.apart or problem.together:
        return False
    seen: set[str] = set()
    for chain, indices in problem.chain_arcs.items():
        arcs = [problem.arcs[i] for i in indices]
        if not arcs or any(len(a.chains) != 1 for a in arcs):
            return False
        if any(a.target != b.source for a, b in pairwise(arcs)) or arcs[0].source[0] != "@":
            return False
        for arc in arcs:
            task = problem.tasks[arc.target]
            if arc.target in seen or (task.pool and task.pool != chain):
                return False
            if len(problem.pool_tasks.get(chain, ())) > _MOST_FLEXIBLE:
                return False
            seen.add(arc.target)
        if len(problem.tasks[arcs[-1].target].candidates) != 1:
            return False
    servers = {(s.cycles_per_second) for s in problem.servers()}
    return len(servers) == 1 and len(seen) == len(problem.tasks)


class _Scale:
    def __init__(self, problem: Problem, seed: int) -> None:
        self.problem = problem
        self.rng = random.Random(seed)
        self._legs: dict[tuple[str, str], int] = {}
        self._alone_fits: dict[Column, bool] = {}
        self.near = {
            s.name: problem.fabric.access(s.name)
            for s in problem.servers()
            if s.name in problem.fabric.attachments
        }
        self.servers = list(self.near)
        self.capacity: dict[Row, float] = {}
        for server in self.servers:
            self.capacity["cores", server, ""] = problem.devices[server].cores
            for direction, link in (
                ("in", (self.near[server], server)),
                ("out", (server, self.near[server])),
            ):
                free = problem.fabric.link(*link).capacity - problem.link_taken.get(link, 0)
                self.capacity[direction, server, ""] = free
        for device in problem.devices.values():
            if device.kind == SWITCH:
                for table, size in device.capacity.items():
                    self.capacity["table", device.name, table] = size
        self.chains = {name: self._info(name) for name in problem.chains}

    # -- columns -------------------------------------------------------------------------------

    def _info(self, name: str) -> _ChainInfo:
        arcs = [self.problem.arcs[i] for i in self.problem.chain_arcs[name]]
        tasks = tuple(a.target for a in arcs)[:-1]
        egress = self.problem.tasks[arcs[-1].target].candidates[0]
        info = _ChainInfo(name, tasks, arcs[0].source[1:], egress)
        info.shapes = self._shapes(info)
        info.servers = self.servers
        if not info.shapes:
            raise InfeasibleError(f"{self.problem.name}: chain {name} fits no single server")
        return info

    def _kinds(self, task: str) -> set[str]:
        return {self.problem.devices[d].kind for d in self.problem.tasks[task].candidates}

    def _shapes(self, info: _ChainInfo) -> list[Shape]:
        """All shapes but those that offload more than another without needing fewer cores."""
        flexible = [i for i, t in enumerate(info.tasks) if {SWITCH, SERVER} <= self._kinds(t)]
        kinds = [self._kinds(t) for t in info.tasks]
        fixed = {i for i, k in enumerate(kinds) if SERVER not in k}
        best: list[tuple[frozenset[int], int]] = []
        for mask in sorted(range(1 << len(flexible)), key=int.bit_count):
            offloaded = frozenset({f for bit, f in enumerate(flexible) if mask >> bit & 1} | fixed)
            kept = [t for i, t in enumerate(info.tasks) if i not in offloaded]
            cores = self._cores(info.name, kept)
            if cores is None or any(o <= offloaded and c <= cores for o, c in best):
                continue
            best.append((offloaded, cores))
        return [
            shape for offloaded, cores in best for shape in self._placed(info, offloaded, cores)
        ]

    def _cores(self, chain: str, tasks: Sequence[str]) -> int | None:
        if not tasks:
            return 0
        server = self.servers[0]
        count = cores_needed(
            self.problem, chain, server, tasks, {chain: self.problem.chains[chain].rate}
        )
        most = self.problem.pools[chain].max_workers
        if any(not self.problem.tasks[t].replicable for t in tasks):
            most = 1
        room = max(self.problem.devices[s].cores for s in self.servers)
        return count if count <= room and (most is None or count <= most) else None

    def _placed(self, info: _ChainInfo, offloaded: frozenset[int], cores: int) -> Iterable[Shape]:
        """A set of offloaded tasks at each split over ingress, the server's switch and egress."""
        kept = [i for i in range(len(info.tasks)) if i not in offloaded]
        first, last = (kept[0], kept[-1]) if kept else (len(info.tasks), -1)
        before = [i for i in sorted(offloaded) if i < first]
        after = [i for i in sorted(offloaded) if i > last] if kept else []
        splits = range(len(before) + 1)
        for split in splits:
            for other in range(len(after) + 1):
                places: list[str] = []
                for i in range(len(info.tasks)):
                    if i not in offloaded:
                        places.append(HOST)
                    elif i < first:
                        early = before.index(i) < split
                        places.append(INGRESS if early else (NEAR if kept else EGRESS))
                    elif i > last:
                        places.append(NEAR if after.index(i) < other else EGRESS)
                    else:
                        places.append(NEAR)
                tables: dict[str, dict[str, int]] = {}
                for i, where in enumerate(places):
                    if where == HOST:
                        continue
                    needs = self.problem.tasks[info.tasks[i]].needs.get(SWITCH, {})
                    for table, amount in needs.items():
                        if amount:
                            at = tables.setdefault(where, {})
                            at[table] = at.get(table, 0) + amount
                visits = sum(
                    p == HOST and (i == 0 or places[i - 1] != HOST) for i, p in enumerate(places)
                )
                shape = Shape(tuple(places), cores, visits, tables)
                if self._in_time(info, shape) and self._holds(info, shape):
                    yield shape

    def _holds(self, info: _ChainInfo, shape: Shape) -> bool:
        """Whether empty switches hold its tables: what never fits must not enter the relaxation."""
        for place, tables in shape.tables.items():
            switches = set(self.near.values()) if place == NEAR else {self.switch(info, place, "")}
            for table, amount in tables.items():
                if amount > max(self.capacity.get(("table", s, table), 0) for s in switches):
                    return False
        return True

    def _in_time(self, info: _ChainInfo, shape: Shape) -> bool:
        """Whether some server could meet the latency limit (ways are checked again per server)."""
        limit = self.problem.chains[info.name].max_latency_us
        if limit is None or not self.servers:
            return True
        spent = sum(
            processing_ns(self.problem, t, self.servers[0], info.name)
            for t, p in zip(info.tasks, shape.places, strict=True)
            if p == HOST
        )
        return spent / 1000 <= limit

    def use(self, column: Column) -> dict[Row, float]:
        """What a column takes of each resource."""
        info, shape = self.chains[column.chain], column.shape
        rate = self.problem.chains[column.chain].rate
        use: dict[Row, float] = defaultdict(float)
        if column.server:
            use["cores", column.server, ""] += shape.cores
            use["in", column.server, ""] += rate * shape.visits
            use["out", column.server, ""] += rate * shape.visits
        for place, tables in shape.tables.items():
            switch = self.switch(info, place, column.server)
            for table, amount in tables.items():
                use["table", switch, table] += amount
        return use

    def switch(self, info: _ChainInfo, place: str, server: str) -> str:
        """The device of a place."""
        if place == HOST:
            return server
        return {INGRESS: info.ingress, EGRESS: info.egress}.get(place) or self.near[server]

    def fits_alone(self, column: Column) -> bool:
        """Whether a column fits an empty network, and its latency limit."""
        if column not in self._alone_fits:
            self._alone_fits[column] = all(
                amount <= self.capacity.get(row, 0) for row, amount in self.use(column).items()
            ) and self._in_limit(column)
        return self._alone_fits[column]

    def _in_limit(self, column: Column) -> bool:
        """A column's latency on its first trees; equal on all shortest paths of a fat-tree."""
        chain = self.problem.chains[column.chain]
        if chain.max_latency_us is None:
            return True
        info = self.chains[column.chain]
        total, at = chain.base_latency_us * 1000, info.ingress
        for task, place in zip(info.tasks, column.shape.places, strict=True):
            device = self.switch(info, place, column.server)
            total += self._leg_ns(at, device)
            if place == HOST:
                total += processing_ns(self.problem, task, device, column.chain)
            at = device
        return total + self._leg_ns(at, info.egress) <= chain.max_latency_us * 1000

    def _leg_ns(self, a: str, b: str) -> int:
        if a == b:
            return 0
        if (a, b) not in self._legs:
            tree = trees_between(self.problem, a, b)[0]
            self._legs[a, b] = way_ns(self.problem, Way(a, b, tree))
        return self._legs[a, b]

    def assign(self, column: Column, tree: Any) -> tuple[dict[str, str], tuple[Way, ...]]:
        """Devices and ways of a chain under a column; `tree(a, b)` chooses."""
        info = self.chains[column.chain]
        device_of = {
            t: self.switch(info, p, column.server)
            for t, p in zip(info.tasks, column.shape.places, strict=True)
        }
        last = self.problem.arcs[self.problem.chain_arcs[column.chain][-1]].target
        device_of[last] = info.egress
        stops = [info.ingress, *(device_of[t] for t in info.tasks), info.egress]
        ways = tuple(Way(a, b, 0 if a == b else tree(a, b)) for a, b in pairwise(stops))
        return device_of, ways

    # -- pricing -------------------------------------------------------------------------------

    def price(
        self, chain: str, dual: Mapping[Row, float], vectors: Mapping[str, np.ndarray[Any, Any]]
    ) -> list[tuple[float, Column]]:
        """The best column of each shape at these prices (cores + prices x use)."""
        info = self.chains[chain]
        rate = self.problem.chains[chain].rate
        found: list[tuple[float, Column]] = []
        for shape in info.shapes:
            constant = 0.0
            for place in (INGRESS, EGRESS):
                switch = self.switch(info, place, "")
                for table, amount in shape.tables.get(place, {}).items():
                    constant += amount * dual.get(("table", switch, table), 0.0)
            if HOST not in shape.places and NEAR not in shape.places:
                found.append((constant, Column(chain, shape, "")))
                continue
            cost = constant + shape.cores * (1 + vectors["cores"])
            cost = cost + rate * shape.visits * vectors["link"]
            for table, amount in shape.tables.get(NEAR, {}).items():
                if table in vectors:
                    cost = cost + amount * vectors[table]
            order = np.argsort(cost, kind="stable")
            for index in order:
                column = Column(chain, shape, self.servers[int(index)])
                if self.fits_alone(column):
                    found.append((float(cost[index]), column))
                    break
        return found

    def vectors(self, dual: Mapping[Row, float]) -> dict[str, np.ndarray[Any, Any]]:
        """Prices as arrays over servers."""
        result: dict[str, np.ndarray[Any, Any]] = {
            "cores": np.array([dual.get(("cores", s, ""), 0.0) for s in self.servers]),
            "link": np.array(
                [dual.get(("in", s, ""), 0.0) + dual.get(("out", s, ""), 0.0) for s in self.servers]
            ),
        }
        for table in {row[2] for row in dual if row[0] == "table"}:
            result[table] = np.array(
                [dual.get(("table", self.near[s], table), 0.0) for s in self.servers]
            )
        return result

    def trivial_bound(self) -> float:
        """Cores if every chain could offload what it likes."""
        return sum(min(s.cores for s in info.shapes) for info in self.chains.values())

    def bound(self, dual: Mapping[Row, float], best: Mapping[str, float]) -> float:
        """The Lagrangian bound of prices, with each chain's best priced column."""
        return sum(best.values()) - sum(p * self.capacity[row] for row, p in dual.items())


def solve_many(
    problem: Problem,
    *,
    limits: Limits | None = None,
    seed: int = 1,
) -> Scaled:
    """Place many chains with few cores. InfeasibleError when no column choice is found in time."""
    started = time.perf_counter()
    limits = limits or Limits(seconds=25.0, deterministic=False)
    scale = _Scale(problem, seed)
    pool, bound, iterations, prices = _generate(scale, started + limits.seconds * 0.4)
    best = _choose(scale, pool, prices, limits, started)
    cores = sum(c.shape.cores for c in best.values())
    solution = _route(scale, best)
    seconds = time.perf_counter() - started
    lower = math.ceil(bound - 1e-6)
    status = "OPTIMAL" if cores == lower else "FEASIBLE"
    stage = Stage("cores", cores, lower, status, round(seconds, 3))
    return Scaled(
        replace(solution, stages=(stage,)),
        cores,
        lower,
        round(scale.trivial_bound()),
        iterations,
        sum(len(c) for c in pool.values()),
        seconds,
    )


def _generate(
    scale: _Scale, deadline: float
) -> tuple[dict[str, dict[Column, None]], float, int, dict[Row, float]]:
    """Columns, the best Lagrangian bound, iterations, and the last prices."""
    solver: Any = pywraplp.Solver.CreateSolver("GLOP")
    infinity = solver.infinity()
    objective = solver.Objective()
    objective.SetMinimization()
    rows: dict[Row, Any] = {}
    one: dict[str, Any] = {}
    slack_price = 50.0
    for chain in scale.chains:
        one[chain] = solver.Constraint(1, 1)
        slack = solver.NumVar(0, infinity, "")
        one[chain].SetCoefficient(slack, 1)
        most = max(s.cores + 1 for s in scale.chains[chain].shapes)
        objective.SetCoefficient(slack, slack_price * most)
    pool: dict[str, dict[Column, None]] = {c: {} for c in scale.chains}

    def add(column: Column) -> None:
        if column in pool[column.chain]:
            return
        pool[column.chain][column] = None
        variable = solver.NumVar(0, infinity, "")
        objective.SetCoefficient(variable, column.shape.cores)
        one[column.chain].SetCoefficient(variable, 1)
        for row, amount in scale.use(column).items():
            if row not in rows:
                rows[row] = solver.Constraint(-infinity, 1.0)
            # Rows are scaled to shares of their capacity: rates and entries differ by 10^8.
            share = amount / scale.capacity[row] if scale.capacity[row] > 0 else 1e6
            rows[row].SetCoefficient(variable, share)

    for chain in scale.chains:
        priced = scale.price(chain, {}, scale.vectors({}))
        if not priced:
            raise InfeasibleError(
                f"{scale.problem.name}: chain {chain} fits nowhere, even on the empty network"
            )
        for _, column in priced:
            spread = (
                replace(column, server=scale.rng.choice(scale.servers)) if column.server else column
            )
            add(spread if scale.fits_alone(spread) else column)
    # Prices of 0 give the trivial bound: every chain with all that it could offload.
    best_bound, iterations = scale.trivial_bound(), 0
    best_prices: dict[Row, float] = {}
    smooth: dict[Row, float] = {}
    while True:
        iterations += 1
        if solver.Solve() != pywraplp.Solver.OPTIMAL:
            break
        dual = {
            row: max(0.0, -c.dual_value()) / scale.capacity[row]
            for row, c in rows.items()
            if scale.capacity[row] > 0 and c.dual_value() < -1e-12
        }
        value = objective.Value()
        worth = {chain: constraint.dual_value() for chain, constraint in one.items()}
        # Smoothed prices (Wentges) converge faster; any prices give a valid bound.
        keys = set(dual) | set(smooth)
        smooth = (
            {
                r: 0.5 * dual.get(r, 0.0) + 0.5 * best_prices.get(r, 0.0)
                for r in keys | set(best_prices)
            }
            if best_prices
            else dual
        )
        added = 0
        for prices in (dual, smooth) if smooth != dual else (dual,):
            vectors = scale.vectors(prices)
            best: dict[str, float] = {}
            for chain in scale.chains:
                priced = scale.price(chain, prices, vectors)
                if not priced:
                    best[chain] = math.inf
                    continue
                best[chain] = min(value for value, _ in priced)
                limit = worth[chain] - 1e-7 if prices is dual else best[chain] + 1e-9
                for value, column in priced:
                    if value <= limit and column not in pool[chain]:
                        add(column)
                        added += 1
            found = scale.bound(prices, best)
            if found > best_bound:
                best_bound, best_prices = found, prices
        if not added or value - best_bound < 1e-4 * max(value, 1) or time.perf_counter() > deadline:
            break
    return pool, best_bound, iterations, best_prices


def _greedy(scale: _Scale) -> dict[str, Column] | None:
    """Chains with the most cores first, each on the server that it fills most evenly."""
    left = dict(scale.capacity)
    chosen: dict[str, Column] = {}

    def take(column: Column) -> None:
        chosen[column.chain] = column
        for row, amount in scale.use(column).items():
            left[row] -= amount

    order = sorted(
        scale.chains,
        key=lambda c: -min(s.cores for s in scale.chains[c].shapes),
    )
    for chain in order:
        options: list[tuple[float, float, int, Column]] = []
        for shape in scale.chains[chain].shapes:
            for i, server in enumerate(scale.servers):
                column = Column(chain, shape, server)
                use = scale.use(column)
                if all(left.get(r, 0) >= a - 1e-9 for r, a in use.items()):
                    room = left["cores", server, ""] - shape.cores
                    tables = sum(
                        a / max(scale.capacity[r], 1) for r, a in use.items() if r[0] == "table"
                    )
                    options.append((shape.cores, tables + room / 1000, i, column))
        options.sort(key=lambda o: o[:3])
        found = next((o[3] for o in options if scale.fits_alone(o[3])), None)
        if found is None:
            return None
        take(found)
    return chosen


def _choose(
    scale: _Scale,
    pool: Mapping[str, dict[Column, None]],
    prices: Mapping[Row, float],
    limits: Limits,
    started: float,
) -> dict[str, Column]:
    """One column a chain by CP-SAT over the generated columns and cheap neighbours of them."""
    columns: dict[str, list[Column]] = {c: list(found) for c, found in pool.items()}
    start = _greedy(scale)
    vectors = scale.vectors(prices)
    per_chain = max(8, 60_000 // max(len(columns), 1) // 2)
    for chain, info in scale.chains.items():
        known = set(columns[chain])
        near: list[tuple[float, int, Column]] = []
        for shape in info.shapes:
            base = shape.cores * (1 + vectors["cores"])
            for index, server in enumerate(scale.servers):
                near.append((float(base[index]), index, Column(chain, shape, server)))
        scale.rng.shuffle(near)
        near.sort(key=lambda n: n[0])
        for _, _, column in near:
            if len(columns[chain]) >= per_chain:
                break
            if column not in known and scale.fits_alone(column):
                known.add(column)
                columns[chain].append(column)
        if start is not None and start[chain] not in known:
            columns[chain].append(start[chain])
    model = cp_model.CpModel()
    load: dict[Row, list[Any]] = defaultdict(list)
    literal: dict[Column, cp_model.IntVar] = {}
    unit = {"cores": 1, "in": 1000, "out": 1000, "table": 1}
    for options in columns.values():
        for column in options:
            literal[column] = model.new_bool_var("")
            for row, amount in scale.use(column).items():
                load[row].append(math.ceil(amount / unit[row[0]]) * literal[column])
        model.add_exactly_one(literal[c] for c in options)
    for row, terms in load.items():
        model.add(sum(terms) <= int(scale.capacity[row]) // unit[row[0]])
    model.minimize(sum(c.shape.cores * v for c, v in literal.items()))
    if start is not None:
        for column, variable in literal.items():
            model.add_hint(variable, start[column.chain] == column)
    solver = cp_model.CpSolver()
    solver.parameters.random_seed = limits.seed
    left = limits.seconds - (time.perf_counter() - started)
    if limits.deterministic:
        solver.parameters.num_workers = 1
        solver.parameters.max_deterministic_time = max(limits.seconds * 0.5, 1.0)
    else:
        solver.parameters.num_workers = limits.workers
        solver.parameters.max_time_in_seconds = max(left * 0.85, 1.0)
    solver.parameters.relative_gap_limit = 0.0
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        if start is None:
            raise InfeasibleError(
                f"{scale.problem.name}: no placement found "
                f"({solver.status_name(status)}); allow more with --time-limit"
            )
        return start
    return {c.chain: c for c, v in literal.items() if solver.boolean_value(v)}


def _route(scale: _Scale, chosen: Mapping[str, Column]) -> Solution:
    """Trees for every way: big chains first, each on the tree whose busiest link is least busy.

    On trouble, restarts in another order; InfeasibleError when none of 20 orders does.
    """
    problem = scale.problem
    order = sorted(chosen, key=lambda c: -problem.chains[c].rate)
    for _ in range(20):
        found = _route_once(scale, chosen, order)
        if found is not None:
            return found
        scale.rng.shuffle(order)
    raise InfeasibleError(f"{problem.name}: no paths found for the chosen servers")


def _route_once(
    scale: _Scale, chosen: Mapping[str, Column], order: Sequence[str]
) -> Solution | None:
    problem = scale.problem
    load: dict[tuple[str, str], float] = defaultdict(float, problem.link_taken)
    ways: dict[int, Way] = {}
    device_of: dict[str, str] = {}
    for chain in order:
        rate = problem.chains[chain].rate

        def best(a: str, b: str, rate: int = rate) -> int:
            def worst(tree: int) -> float:
                return max(
                    (load[x, y] + rate) / problem.fabric.link(x, y).capacity
                    for x, y in links_of(problem, Way(a, b, tree))
                )

            return min(trees_between(problem, a, b), key=worst)

        devices, found = scale.assign(chosen[chain], best)
        device_of |= devices
        for index, way in zip(problem.chain_arcs[chain], found, strict=True):
            ways[index] = way
            for x, y in links_of(problem, way):
                load[x, y] += rate
                if load[x, y] > problem.fabric.link(x, y).capacity * (1 + 1e-9):
                    return None
    rates = {c.name: c.rate for c in problem.chains.values()}
    return Solution(
        device_of,
        tuple(ways[i] for i in range(len(problem.arcs))),
        number_cores(problem, device_of, rates),
        rates,
    )

"""Column generation: the linear relaxation of choosing a column for each chain, and its bound.

Whatever the prices, `sum of what each chain pays at least - prices x capacities` is a valid (Lagrangian)
lower bound (`Space.bound`), also for placements that no column stands for. So the search for good
prices may stop at any time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ortools.linear_solver import pywraplp

from orchestrator.placement.columns.space import Column, Prices, Row, Space

_CLOSE = 1e-4
"""The bound is good enough when it is this near (relative) to the relaxation's value."""
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class GeneratedColumns:
    """Columns by chain, the best bound with its prices, and how many times prices were set."""

    columns: dict[str, dict[Column, None]]
    bound: float
    prices: Prices
    iterations: int
    value: float
    """Of the relaxation over the columns found."""


class _Master:
    """The linear program over the columns that are known so far."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.solver: Any = pywraplp.Solver.CreateSolver("GLOP")
        self.objective = self.solver.Objective()
        self.objective.SetMinimization()
        self.rows: dict[Row, Any] = {}
        self.one: dict[str, Any] = {}
        self.columns: dict[str, dict[Column, None]] = {chain: {} for chain in space.lines}
        for chain, shapes in space.shapes.items():
            self.one[chain] = self.solver.Constraint(1, 1)
            # Leaving a chain out costs more than any column: only while too few are known.
            missing = self.solver.NumVar(0, self.solver.infinity(), "")
            self.one[chain].SetCoefficient(missing, 1)
            self.objective.SetCoefficient(missing, 4.0 * (1 + max(s.cores for s in shapes)))

    def add(self, columns: Iterable[Column]) -> int:
        """Add those that are new; how many that were."""
        added = 0
        for column in columns:
            if column in self.columns[column.chain]:
                continue
            added += 1
            self.columns[column.chain][column] = None
            variable = self.solver.NumVar(0, self.solver.infinity(), "")
            self.objective.SetCoefficient(variable, column.shape.cores)
            self.one[column.chain].SetCoefficient(variable, 1)
            for row, amount in self.space.use(column).items():
                if row not in self.rows:
                    self.rows[row] = self.solver.Constraint(-self.solver.infinity(), 1.0)
                # Shares of capacity: rates and entries differ by 10^8.
                self.rows[row].SetCoefficient(variable, amount / self.space.capacity[row])
        return added

    def solve(self) -> tuple[float, dict[Row, float], dict[str, float]] | None:
        """(value, prices by row, worth of each chain); None when the solver gives up."""
        if self.solver.Solve() != pywraplp.Solver.OPTIMAL:
            return None
        prices = {
            row: -constraint.dual_value() / self.space.capacity[row]
            for row, constraint in self.rows.items()
            if constraint.dual_value() < -1e-12
        }
        worth = {chain: constraint.dual_value() for chain, constraint in self.one.items()}
        return self.objective.Value(), prices, worth


def pooled_prices(space: Space) -> Prices:
    """Prices of tables as if all switches were one: a small linear program, and a bound at once."""
    solver: Any = pywraplp.Solver.CreateSolver("GLOP")
    objective = solver.Objective()
    objective.SetMinimization()
    switches = {s for _, homes in space.homes for s in homes}
    total: dict[str, float] = {}
    for (kind, switch, table), size in space.capacity.items():
        if kind == "table" and switch in switches:
            total[table] = total.get(table, 0.0) + size
    rows: dict[str, Any] = {}
    for chain, options in space.options.items():
        one = solver.Constraint(1, 1)
        for option in options:
            variable = solver.NumVar(0, solver.infinity(), "")
            one.SetCoefficient(variable, 1)
            objective.SetCoefficient(variable, option.cores)
            needs: dict[str, int] = {}
            for index in option.offloaded:
                entries, homes = space.homes[space.home_of[space.lines[chain].tasks[index]]]
                for table, amount in entries if homes else ():
                    needs[table] = needs.get(table, 0) + amount
            for table, amount in needs.items():
                if not amount:
                    continue
                if table not in rows:
                    rows[table] = solver.Constraint(-solver.infinity(), 1.0)
                rows[table].SetCoefficient(variable, amount / total[table])
    if solver.Solve() != pywraplp.Solver.OPTIMAL:
        return Prices(space, {})
    return Prices(
        space,
        {
            ("table", switch, table): -row.dual_value() / total[table]
            for table, row in rows.items()
            if row.dual_value() < -1e-12
            for switch in switches
            if ("table", switch, table) in space.capacity
        },
    )


def generate(space: Space, start: Iterable[Column], deadline: float) -> GeneratedColumns:
    """Columns and the bound, until they meet or time is up."""
    master = _Master(space)
    master.add(start)
    best = pooled_prices(space)
    best_bound = max(float(space.least_cores()), space.bound(best))
    iterations, value = 0, math.inf
    weight = 0.5  # of the master's own prices; the rest are the best ones' (Wentges smoothing)
    while True:
        iterations += 1
        solved = master.solve()
        if solved is None:
            break
        value, prices, worth = solved
        own = Prices(space, prices)
        rows = set(prices) | set(best.rows)
        mixed = Prices(
            space,
            {r: weight * prices.get(r, 0.0) + (1 - weight) * best.rows.get(r, 0.0) for r in rows},
        )
        added = 0
        for tried in (mixed, own):
            bound = space.bound(tried)
            added += master.add(_price(space, tried, worth, own))
            if bound > best_bound + _TINY:
                best_bound, best = bound, tried
            if added:
                break  # the master's own prices only when the mixed ones find nothing
        if not added or value - best_bound < _CLOSE * max(value, 1):
            break
        if time.perf_counter() > deadline:
            break
    return GeneratedColumns(master.columns, best_bound, best, iterations, value)


def _price(space: Space, prices: Prices, worth: dict[str, float], own: Prices) -> list[Column]:
    """Columns that are cheap at these prices and improve the master."""
    columns: list[Column] = []
    for chain, shapes in space.shapes.items():
        for shape in shapes:
            far = space.far_for(shape, prices)
            costs = space.costs(chain, shape, prices, far)
            at = int(np.argmin(costs))
            if math.isinf(costs[at]):
                continue
            real = costs[at] if prices is own else space.costs(chain, shape, own, far)[at]
            if real < worth[chain] - 1e-7:
                columns.append(space.column(chain, shape, at, far))
    return columns

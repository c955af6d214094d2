"""One column for each chain: greedily at given prices, then by CP-SAT over the promising ones."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from ortools.sat.python import cp_model

from orchestrator.errors import InfeasibleError
from orchestrator.placement import interruptible
from orchestrator.placement.columns.shapes import FAR, Shape
from orchestrator.placement.columns.space import Column, Prices, Row, Space
from orchestrator.placement.cpsat import Limits

Choice = dict[str, Column]
_MOST_COLUMNS = 60_000
_FEWEST_EACH = 8
_MOST_FARS = 4
_UNIT = {"cores": 1, "in": 1000, "out": 1000, "table": 1}
"""Rates in kbit/s."""


def cores_of(choice: Mapping[str, Column]) -> int:
    """Worker cores of a choice."""
    return sum(column.shape.cores for column in choice.values())


def greedy(space: Space, prices: Prices) -> Choice | None:
    """Chains with the most cores first, each on its cheapest column that still fits, fullest server
    first; None when a chain finds none."""
    left = dict(space.capacity)
    room = np.array([left["cores", s, ""] for s in space.servers])
    chosen: Choice = {}
    order = sorted(space.lines, key=lambda c: -min(s.cores for s in space.shapes[c]))
    for chain in order:
        options: list[tuple[float, float, int, int, str]] = []
        for rank, shape in enumerate(space.shapes[chain]):
            spare = (room if shape.served else np.zeros(1)) - shape.cores
            for far in _fars(space, shape, prices, left):
                costs = space.costs(chain, shape, prices, far)
                options += [
                    (round(float(costs[i]), 6), float(spare[i]), rank, int(i), far)
                    for i in np.flatnonzero(np.isfinite(costs) & (spare >= 0))
                ]
        options.sort()
        for _, _, rank, index, far in options:
            column = space.column(chain, space.shapes[chain][rank], index, far)
            use = space.use(column)
            if all(left[row] >= amount - 1e-9 for row, amount in use.items()):
                break
        else:
            return None
        chosen[chain] = column
        for row, amount in use.items():
            left[row] -= amount
        if column.shape.served:
            room[index] -= column.shape.cores
    return chosen


def _fars(
    space: Space, shape: Shape, prices: Prices, left: Mapping[Row, float] | None = None
) -> list[str]:
    """The cheapest switches for a detour that still hold it, a few; [''] when there is none."""
    if not shape.detours:
        return [""]
    tables, free = shape.tables.get(FAR, {}), left or space.capacity
    fitting = [
        far
        for far in space.fars_for(shape)
        if all(n <= free.get(("table", far, table), 0) for table, n in tables.items())
    ]
    return sorted(fitting, key=lambda far: prices.of(far, tables))[:_MOST_FARS]


def candidates(
    space: Space, columns: Mapping[str, dict[Column, None]], prices: Prices, start: Choice | None
) -> dict[str, list[Column]]:
    """Generated columns, the start's, and the cheapest others, a bounded number for each chain."""
    each = max(_FEWEST_EACH, _MOST_COLUMNS // (2 * max(len(columns), 1)))
    noise = np.random.default_rng(space.rng.getrandbits(32))
    by_chain: dict[str, list[Column]] = {}
    for chain, shapes in space.shapes.items():
        mine = dict(columns[chain])
        if start is not None:
            mine[start[chain]] = None
        options: list[tuple[float, int, int, str]] = []
        for rank, shape in enumerate(shapes):
            for far in _fars(space, shape, prices):
                costs = space.costs(chain, shape, prices, far)
                costs = costs + noise.uniform(0, 1e-3, costs.shape)  # not always the same servers
                cheapest = np.argsort(costs)[:each]
                options += [(float(costs[i]), rank, int(i), far) for i in cheapest]
        for cost, rank, index, far in sorted(options):
            if len(mine) >= each or math.isinf(cost):
                break
            mine[space.column(chain, shapes[rank], index, far)] = None
        by_chain[chain] = list(mine)
    return by_chain


def choose(
    space: Space,
    columns: Mapping[str, list[Column]],
    start: Choice | None,
    limits: Limits,
    started: float,
) -> Choice:
    """The best choice that CP-SAT finds in the time that is left; the start if it finds none."""
    model = cp_model.CpModel()
    load: dict[Row, list[Any]] = defaultdict(list)
    literal: dict[Column, cp_model.IntVar] = {}
    for options in columns.values():
        for column in options:
            literal[column] = model.new_bool_var("")
            for row, amount in space.use(column).items():
                load[row].append(math.ceil(amount / _UNIT[row[0]]) * literal[column])
        model.add_exactly_one(literal[c] for c in options)
    for row, terms in load.items():
        model.add(sum(terms) <= int(space.capacity[row]) // _UNIT[row[0]])
    model.minimize(sum(c.shape.cores * v for c, v in literal.items()))
    if start is not None:
        for column, variable in literal.items():
            model.add_hint(variable, start[column.chain] == column)
    solver = cp_model.CpSolver()
    solver.parameters.random_seed = limits.seed
    solver.parameters.catch_sigint_signal = False
    if limits.deterministic:
        solver.parameters.num_workers = 1
        solver.parameters.max_deterministic_time = max(limits.seconds * 0.5, 1.0)
    else:
        left = limits.seconds - (time.perf_counter() - started)
        solver.parameters.num_workers = limits.workers
        solver.parameters.max_time_in_seconds = max(left * 0.85, 1.0)
    solver.parameters.relative_gap_limit = 0.0
    status = interruptible.solve(solver, model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        if start is None:
            raise InfeasibleError(
                f"{space.problem.name}: no placement found "
                f"({solver.status_name(status)}); allow more with --time-limit"
            )
        return start
    return {c.chain: c for c, v in literal.items() if solver.boolean_value(v)}

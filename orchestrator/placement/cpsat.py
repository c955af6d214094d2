"""The exact placement model (OR-Tools CP-SAT): build, solve in lexicographic order, extract.

The model's parts are in `exact`, one concept a module. Objectives are solved one after the other, each
fixed at what it reached before the next.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ortools.sat.python import cp_model

from orchestrator.placement import interruptible
from orchestrator.placement.exact.assignment import assign, hops, rate_variables, rules
from orchestrator.placement.exact.capacities import capacities, memory
from orchestrator.placement.exact.cores import cores
from orchestrator.placement.exact.draft import ModelDraft
from orchestrator.placement.exact.extract import extract
from orchestrator.placement.exact.objectives import in_units, objective
from orchestrator.placement.exact.paths import latencies, links, packets
from orchestrator.placement.problem import ObjectiveStage, Problem, Solution


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a solve may take: `seconds` of wall clock, or, when `deterministic`, of CP-SAT's
    deterministic time with one search worker (the same answer on every machine)."""

    seconds: float = 20.0
    deterministic: bool = True
    workers: int = 2
    seed: int = 1


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
        self.draft = ModelDraft(problem, objectives, soft=soft, diagnose=diagnose)
        parts = (
            assign,
            rate_variables,
            hops,
            capacities,
            rules,
            cores,
            memory,
            links,
            packets,
            latencies,
        )
        for part in parts:
            part(self.draft)

    def hint(self, solution: Solution) -> None:
        """Start from a known placement."""
        self.draft.model.clear_hints()
        hinted: set[int] = set()
        for (task, device), literal in self.draft.on.items():
            if literal.index not in hinted:
                hinted.add(literal.index)
                self.draft.model.add_hint(literal, solution.device_of[task] == device)
        for choices, way in zip(self.draft.hop, solution.ways, strict=True):
            for other, literal in choices.items():
                if literal.index not in hinted:
                    hinted.add(literal.index)
                    self.draft.model.add_hint(literal, other == way)

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
        stages: list[ObjectiveStage] = []
        best: Solution | None = None
        left = limits.seconds
        objectives = [
            o for o in self.draft.objectives if not isinstance(objective(self.draft, o), int)
        ] or [""]
        for position, name in enumerate(objectives):
            expression = objective(self.draft, name) if name else 0
            self.draft.model.clear_objective()
            if name:
                self.draft.model.minimize(expression)
            share = left / 2 if position + 1 < len(objectives) else left
            solver = self.solver(limits, max(share, 0.05))
            started = time.perf_counter()
            status = interruptible.solve(solver, self.draft.model)
            spent = time.perf_counter() - started
            left -= solver.deterministic_time if limits.deterministic else spent
            word = solver.status_name(status)
            if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
                if best is None:
                    return word, None
                stages.append(ObjectiveStage(name, math.nan, math.nan, word, spent))
                break
            best = extract(self.draft, solver)
            if name:
                best = replace(best, stages=())
                sign = -1 if name == "throughput" else 1
                stages.append(
                    ObjectiveStage(
                        name,
                        sign * in_units(self.draft, name, solver.objective_value),
                        sign * in_units(self.draft, name, solver.best_objective_bound),
                        word,
                        round(spent, 3),
                    )
                )
                self.draft.model.add(expression <= round(solver.objective_value))
            else:
                stages.append(ObjectiveStage("feasible", 0, 0, word, round(spent, 3)))
            self.draft.model.clear_hints()
            self._hint_values(solver)
        assert best is not None
        return stages[0].status, replace(best, stages=tuple(stages))

    def _hint_values(self, solver: cp_model.CpSolver) -> None:
        proto = self.draft.model.proto
        for index in range(len(proto.variables)):
            variable = self.draft.model.get_int_var_from_proto_index(index)
            self.draft.model.add_hint(variable, solver.value(variable))

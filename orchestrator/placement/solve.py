"""Find a placement: baselines first, then the exact model from the best of them; checked at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.errors import (
    Blocking,
    Constraint,
    InfeasibleError,
    InputError,
    ReportedError,
    unknown,
)
from orchestrator.placement.baselines import BASELINES, fill_rates, run_baseline
from orchestrator.placement.checker import check
from orchestrator.placement.conflicts import explain
from orchestrator.placement.cpsat import Limits, Model
from orchestrator.placement.decompose import applicable, solve_many
from orchestrator.placement.measure import DEFAULT_OBJECTIVES, OBJECTIVES, score
from orchestrator.placement.problem import SERVER, ObjectiveStage, Problem, Solution

OPTIMAL = "optimal"
_MANY_WAYS = 100_000
_FAR_TOO_MANY_WAYS = 2_000_000
STRATEGIES = (OPTIMAL, *BASELINES)


class CheckError(ReportedError):
    """A placement that breaks a constraint: a bug of ours, caught before anything is lowered."""


def check_objectives(names: Sequence[str]) -> tuple[str, ...]:
    """Known, distinct objectives; InputError otherwise."""
    problems = [unknown("objective", n, tuple(OBJECTIVES)) for n in names if n not in OBJECTIVES]
    if len(set(names)) != len(names):
        problems.append(f"objectives {', '.join(names)}: one is named twice")
    if problems:
        raise InputError([f"--objective: {p}" for p in problems])
    return tuple(names)


def solve(
    problem: Problem,
    *,
    objectives: Sequence[str] = DEFAULT_OBJECTIVES,
    strategy: str = OPTIMAL,
    limits: Limits | None = None,
    soft: bool = False,
    explained: bool = True,
) -> Solution:
    """A checked placement, never worse than any baseline for `objectives` (lexicographic).

    `soft` lets rates and latencies miss their SLO where they cannot be met (objective 'slo' says
    how much). InfeasibleError names the constraints that do not go together, unless nobody asks why
    (`explained`): that takes longer than to see that they do not.
    """
    objectives = check_objectives(objectives)
    if strategy not in STRATEGIES:
        raise InputError(f"--strategy: {unknown('strategy', strategy, STRATEGIES)}")
    if strategy != OPTIMAL:
        solution = _baseline(problem, strategy, objectives)
        if solution is None:
            raise InfeasibleError(
                f"{problem.name}: strategy {strategy} finds no placement on "
                f"{problem.fabric.topology.name}; --strategy optimal searches all of them"
            )
        return solution
    ways = _ways(problem)
    large = ways > _MANY_WAYS
    if large:
        _require_cores(problem)
    if large and not soft and _first(objectives) == "cores" and applicable(problem):
        try:
            return _decomposed(problem, objectives, limits or Limits())
        except InfeasibleError:
            # Columns are not all placements: the exact model may find one, or say why there is none.
            if ways > _FAR_TOO_MANY_WAYS and best_baseline(problem, objectives) is None:
                raise
    best = best_baseline(problem, objectives)
    built = Model(problem, objectives, soft=soft)
    if best is not None:
        built.hint(best)
    status, solution = built.solve(limits or Limits())
    if solution is not None:
        _require_checked(problem, solution, soft=soft)
        if best is None or not score(problem, best, objectives).better_than(
            score(problem, solution, objectives)
        ):
            return solution
    if best is not None:
        stages = solution.stages if solution is not None else ()
        return replace(
            best,
            stages=tuple(
                replace(s, status="FEASIBLE", value=_value(problem, best, s.objective))
                for s in stages
            ),
            notes=(*best.notes, f"found by {best.strategy}: the exact search ran out of time"),
        )
    if status == "UNKNOWN":
        raise InfeasibleError(
            f"{problem.name}: no placement found in the time given; allow more with --time-limit"
        )
    conflict = explain(problem) if explained else None
    if conflict is None or not conflict.groups:
        raise InfeasibleError(f"{problem.name}: no placement found ({status})")
    word = "cannot hold together" if conflict.irreducible else "do not hold together as far as seen"
    raise InfeasibleError(
        f"{problem.name}: no placement on {problem.fabric.topology.name}; these constraints "
        f"{word}:\n" + "\n".join(f"  - {s}" for s in conflict.sentences),
        conflict.groups,
    )


def _decomposed(problem: Problem, objectives: Sequence[str], limits: Limits) -> Solution:
    """By columns: SLOs met, cores minimised; the best baseline when that has fewer."""
    scaled = solve_many(problem, limits=limits)
    solution = scaled.solution
    _require_checked(problem, solution, soft=False)
    notes = ["decomposed: SLOs met and cores minimised; what comes after cores was not searched"]
    best = best_baseline(problem, ("slo", "cores"))
    if best is not None and score(problem, best, ("cores",)).better_than(
        score(problem, solution, ("cores",))
    ):
        solution = best
        notes.append(f"found by {best.strategy}")
    cores = _value(problem, solution, "cores")
    status = "OPTIMAL" if cores <= scaled.bound else "FEASIBLE"
    stages = [ObjectiveStage("cores", cores, scaled.bound, status, round(scaled.seconds, 3))]
    stages += [
        ObjectiveStage(o, _value(problem, solution, o), 0.0, "NOT_SEARCHED", 0.0)
        for o in objectives
        if o not in ("slo", "cores")
    ]
    return replace(solution, stages=tuple(stages), notes=(*solution.notes, *notes))


def _require_checked(problem: Problem, solution: Solution, *, soft: bool) -> None:
    violations = check(problem, solution, soft=soft)
    if violations:
        raise CheckError(
            f"{problem.name}: the solver's placement breaks a constraint (a bug):\n"
            + "\n".join(f"  - {v}" for v in violations)
        )


def _require_cores(problem: Problem) -> None:
    """A necessary condition that needs no search: a core each for pools that need a server."""
    if problem.share_cores:
        return
    must = {
        t.pool
        for t in problem.tasks.values()
        if t.pool and {problem.devices[d].kind for d in t.candidates} <= {SERVER}
    }
    wanted = sum(max(1, problem.pools[p].min_workers) for p in must)
    free = sum(s.cores for s in problem.servers())
    if wanted > free:
        raise InfeasibleError(
            f"{problem.name}: no placement on {problem.fabric.topology.name}; these constraints "
            f"cannot hold together:\n  - {len(must)} chains need at least {wanted} cores, one each\n"
            f"  - {len(problem.servers())} servers have {free} free cores in all",
            (Blocking(Constraint.NEED), Blocking(Constraint.CORES)),
        )


def _ways(problem: Problem) -> int:
    """How many ways the exact model would have to choose from."""
    ends = {node for arc in problem.arcs for node in (arc.source, arc.target)}
    count = {node: len(problem.ends(node)) for node in ends}
    pairs = sum(count[arc.source] * count[arc.target] for arc in problem.arcs)
    return pairs * problem.fabric.topology.trees


def _first(objectives: Sequence[str]) -> str:
    """The first objective that decides among placements that meet all SLOs."""
    return next((o for o in objectives if o != "slo"), "")


def _value(problem: Problem, solution: Solution, objective: str) -> float:
    if objective not in OBJECTIVES:
        return 0.0
    (value,) = score(problem, solution, (objective,)).values
    return -value if objective == "throughput" else value


def _baseline(problem: Problem, strategy: str, objectives: Sequence[str]) -> Solution | None:
    solution = run_baseline(problem, strategy)
    if solution is None:
        return None
    if "throughput" in objectives:
        solution = fill_rates(problem, solution)
    return None if check(problem, solution) else solution


def best_baseline(problem: Problem, objectives: Sequence[str]) -> Solution | None:
    """The baseline that does best for the objectives; None when none finds a placement."""
    best: Solution | None = None
    for name in BASELINES:
        solution = _baseline(problem, name, objectives)
        if solution is None:
            continue
        if best is None or score(problem, solution, objectives).better_than(
            score(problem, best, objectives)
        ):
            best = solution
    return best

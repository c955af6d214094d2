"""The command `place`: where a graph, or chains, would run. Nothing live is touched."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.output import Json, note, print_json, print_table, rate, say, warn
from orchestrator.cli.working import Work
from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.errors import InputError
from orchestrator.graph import load_graph
from orchestrator.model.plan import Core
from orchestrator.placement.chains import is_chains_file, load_chains
from orchestrator.placement.cpsat import Limits
from orchestrator.placement.measure import report
from orchestrator.placement.model import Options
from orchestrator.placement.problem import Solution
from orchestrator.placement.resources import Network
from orchestrator.placement.solve import check_objectives, solve
from orchestrator.placement.topologies import resolve_topology
from orchestrator.presenters.compiled import plan_json

GraphOrChains = Annotated[
    Path, typer.Argument(help="A service graph (graph.json), or a chains file (docs: lemur).")
]
TopologyName = Annotated[
    str,
    typer.Option(
        "--topology",
        "-t",
        help="A topology file, a shipped one's name, fattree:K or topohub:NAME; "
        "a chains file's own if left out.",
    ),
]
Strategy = Annotated[
    str,
    typer.Option(
        help="optimal, greedy, switch-first, server-only, minimum-bounce or metron.",
    ),
]
Objective = Annotated[
    str,
    typer.Option(
        help="What counts, most important first: of slo, throughput, cores, latency, moves, "
        "bounces, hops.",
    ),
]
TimeLimit = Annotated[
    float,
    typer.Option(
        "--time-limit", help="Seconds for the search (with --deterministic: CP-SAT's own unit)."
    ),
]
Deterministic = Annotated[
    bool,
    typer.Option(
        "--deterministic/--parallel",
        help="One search worker and deterministic time: the same answer everywhere.",
    ),
]
DEFAULT_TOPOLOGY = "leaf-spine"
DEFAULT_OBJECTIVE = "slo,cores,latency,moves,hops"


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("place", epilog="Example: orchestrator place graph.json -t fat-tree-k4")(
        place_command
    )


def limits_of(time_limit: float, deterministic: bool) -> Limits:
    """The search's limits from the options."""
    if time_limit <= 0:
        raise InputError(f"--time-limit {time_limit:g}: must be above 0")
    return Limits(seconds=time_limit, deterministic=deterministic)


def objectives_of(text: str) -> tuple[str, ...]:
    """Checked objectives from a comma-separated list."""
    return check_objectives([name.strip() for name in text.split(",") if name.strip()])


def place_command(
    graph: GraphOrChains,
    topology: TopologyName = "",
    strategy: Strategy = "optimal",
    objective: Objective = DEFAULT_OBJECTIVE,
    time_limit: TimeLimit = 20.0,
    deterministic: Deterministic = True,
    as_json: Json = False,
) -> None:
    """Show where a graph would run, what that costs, and how good it is known to be."""
    options = Options(strategy, objectives_of(objective), limits_of(time_limit, deterministic))
    started = time.monotonic()
    if is_chains_file(graph):
        _place_chains(graph, topology, options, as_json)
        return
    with Work(f"reading {graph}", silent=as_json) as work:
        loaded = load_graph(graph)
        result = compile_graph(
            CompileRequest(
                loaded.graph,
                resolve_topology(topology or DEFAULT_TOPOLOGY),
                warnings=tuple(loaded.warnings),
                placing=options,
                step=work.step,
            )
        )
    spent = time.monotonic() - started
    plan = result.plan
    if as_json:
        print_json(plan_json(result) | {"seconds": round(spent, 3)})
        return
    for warning in result.bundle.warnings:
        warn(warning)
    print_table(
        f"Placement of {result.bundle.graph} on {result.bundle.topology} ({plan.status})",
        ("element", "device"),
        ((s.unit, s.device) for s in result.bundle.stories),
    )
    print_table(
        "Hops",
        ("from", "to", "tree#", "rate"),
        ((h.source, h.target, h.tree, rate(h.rate)) for h in plan.hops),
    )
    print_table(
        "Cores",
        ("core", "load#"),
        ((str(core), f"{share:.0%}") for core, share in plan.core_load.items()),
    )
    print_table("Latency", ("traffic", "us#"), plan.latency_us.items())
    for line in plan.notes:
        say(line)
    note(f"{spent:.2f} s")


def _place_chains(path: Path, topology: str, options: object, as_json: bool) -> None:
    assert isinstance(options, Options)
    loaded = load_chains(path)
    network = resolve_topology(topology or loaded.topology)
    problem = loaded.problem(network, Network.planned(network))
    started = time.monotonic()
    solution = solve(
        problem,
        objectives=options.objectives,
        strategy=options.strategy,
        limits=options.limits,
    )
    spent = time.monotonic() - started
    facts = report(problem, solution)
    if as_json:
        print_json(
            {
                "chains": loaded.name,
                "topology": network.name,
                "status": solution.status,
                "cores": facts.cores,
                "device_of": dict(solution.device_of),
                "cores_of": {
                    pool: [str(Core(c.server, c.core)) for c in cores]
                    for pool, cores in solution.cores_of.items()
                },
                "rate_of": facts.rate_of,
                "latency_us": facts.latency_us,
                "link_load": facts.link_load,
                "stages": [asdict(stage) for stage in solution.stages],
                "notes": list(solution.notes),
                "seconds": round(spent, 3),
            }
        )
        return
    print_table(
        f"Placement of {loaded.name} on {network.name} ({solution.status})",
        ("task", "device"),
        solution.device_of.items(),
    )
    print_table(
        "Chains",
        ("chain", "rate", "minimum", "cores#", "latency us#"),
        (
            (
                name,
                rate(facts.rate_of[name]),
                rate(chain.rate),
                len(solution.cores_of[name]),
                f"{facts.latency_us[name]:.1f}",
            )
            for name, chain in problem.chains.items()
        ),
    )
    total = sum(facts.rate_of.values())
    least = sum(chain.rate for chain in problem.chains.values())
    say(f"aggregate {rate(total)}, marginal {rate(total - least)}, {facts.cores} cores")
    _say_stages(solution)
    note(f"{spent:.2f} s")


def _say_stages(solution: Solution) -> None:
    for stage in solution.stages:
        if stage.objective != "hops":
            say(
                f"{stage.objective}: {stage.value:g}, bound {stage.bound:g}, gap {stage.gap:.1%}, "
                f"{stage.status}, {stage.seconds:.2f} s"
            )

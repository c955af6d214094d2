"""The command `whatif`: what a failure, more traffic or other hardware would mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from orchestrator.cli.foresight import foresee_failures
from orchestrator.cli.networks import find_network
from orchestrator.cli.options import takes
from orchestrator.cli.output import (
    INTERRUPTED,
    Json,
    errors,
    note,
    print_json,
    print_table,
    rate,
    say,
)
from orchestrator.cli.placement import (
    DEFAULT_OBJECTIVE,
    DEFAULT_TOPOLOGY,
    Deterministic,
    Objective,
    Strategy,
    TimeLimit,
    TopologyName,
    limits_of,
    objectives_of,
)
from orchestrator.errors import InputError
from orchestrator.graph import load_graph
from orchestrator.nfs.files import parse_json, read_text
from orchestrator.observation.load import CoreLoad
from orchestrator.placement.chains import is_chains_file, load_chains
from orchestrator.placement.topologies import HostDemand, resolve_topology, topohub
from orchestrator.presenters.live_case import LiveCase, live_case
from orchestrator.presenters.whatif import outcomes_json, planned_case, scenarios_of
from orchestrator.whatif.cases import Settings
from orchestrator.whatif.plots import draw
from orchestrator.whatif.run import ScenarioOutcome, capacity_end, run_dask, run_local
from orchestrator.whatif.scenarios import Case, Scenario, parse_rate, with_demands


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(
        "whatif",
        epilog="Examples: orchestrator whatif graph.json -t leaf-spine --fail node:spine1 --- "
        "orchestrator whatif --live leaf-spine --fail node:server1",
    )(whatif)


@dataclass(frozen=True, slots=True)
class WhatIfOptions:
    """What `whatif` was asked for."""

    graphs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Service graphs, or one chains file; with --live, left out: the deployed ones, as "
            "`reconcile --watch` would repair them.",
            metavar="[GRAPH]...",
        ),
    ] = None
    topology: TopologyName = ""
    fail: Annotated[
        list[str] | None, typer.Option(help="link:a-b or node:name; may be repeated.")
    ] = None
    scale: Annotated[
        list[str] | None, typer.Option(help="traffic=2x, or NAME=2x for one traffic.")
    ] = None
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="server1.cores=8, leaf1.target=tofino, a-b.capacity=40G, ..."),
    ] = None
    without_offload: Annotated[
        bool, typer.Option("--without-offload", help="Servers do everything that they can.")
    ] = False
    sweep: Annotated[
        str, typer.Option(help="rate=1G..100G:10: ten total offered rates.", metavar="SWEEP")
    ] = ""
    fail_each: Annotated[
        str, typer.Option("--fail-each", help="link or node: N-1 analysis.", metavar="KIND")
    ] = ""
    demands: Annotated[
        str,
        typer.Option(
            help="A demand matrix: a JSON file [{source, target, rate}], or topohub:NAME.",
        ),
    ] = ""
    largest: Annotated[
        int, typer.Option(help="Only so many of the largest demands; 0: all of them.")
    ] = 0
    live: Annotated[
        str,
        typer.Option(
            "--live",
            help="Start from what is deployed on this network, at the rates that it measures.",
            metavar="NETWORK",
        ),
    ] = ""
    interval: Annotated[
        float, typer.Option(help="With --live: seconds over which rates are measured.")
    ] = 2.0
    planned_rates: Annotated[
        bool,
        typer.Option("--planned-rates", help="With --live: the graphs' rates, not measured ones."),
    ] = False
    strategy: Strategy = "optimal"
    objective: Objective = DEFAULT_OBJECTIVE
    time_limit: TimeLimit = 10.0
    deterministic: Deterministic = True
    processes: Annotated[int, typer.Option(help="Local processes; 0: as many as cores.")] = 0
    dask: Annotated[
        str, typer.Option(help="Run the scenarios on this Dask scheduler.", metavar="ADDRESS")
    ] = ""
    plot: Annotated[
        Path | None,
        typer.Option(help="Write pictures: FILE.svg or FILE.png, and FILE-SCENARIO for the maps."),
    ] = None
    as_json: Json = False


@takes(WhatIfOptions)
def whatif(options: WhatIfOptions) -> None:
    """Compare placements: as it is now, and with each change. Nothing live is touched.

    --fail, --scale, --set and --without-offload together make one scenario; --sweep and --fail-each
    make one for each step, on top of those changes.
    """
    if not options.graphs:
        others = {
            "--topology": options.topology,
            "--scale": options.scale,
            "--set": options.set_,
            "--sweep": options.sweep,
        }
        others |= {"--without-offload": options.without_offload, "--demands": options.demands}
        _check_alone(options.live, others)
        foresee_failures(options.live, options.fail or [], options.fail_each, options.as_json)
        return

    start = _start(
        options.graphs,
        options.topology,
        options.live,
        options.interval,
        measure=not options.planned_rates,
    )
    case = start.case
    if options.demands:
        case = _with_demands(case, options.demands, options.largest)
    changes = (options.fail or [], options.scale or [], options.set_ or [])
    scenarios = scenarios_of(
        case,
        *changes,
        without_offload=options.without_offload,
        sweep_text=options.sweep,
        each=options.fail_each,
    )
    for scenario in scenarios:
        scenario.apply(case)  # wrong names are said at once, before anything runs
    objectives, limits = (
        objectives_of(options.objective),
        limits_of(options.time_limit, options.deterministic),
    )
    settings = Settings(options.strategy, objectives, limits, start.running, start.workers)
    outcomes = _run(case, scenarios, settings, options.processes, options.dask)
    left = len(scenarios) + 1 - len(outcomes)
    if left:
        note(
            f"interrupted: {len(outcomes)} of {len(scenarios) + 1} scenarios are finished and shown"
        )
    files: list[str] = []
    if options.plot is not None:
        files = [str(path) for path in draw(case, outcomes, options.plot)]
    if options.as_json:
        print_json(outcomes_json(start, outcomes, interrupted=bool(left)) | {"plots": files})
    else:
        if start.measured:
            told = ", ".join(f"{name} {rate(n)}" for name, n in start.measured.items())
            say(f"measured over {options.interval:g} s: {told}")
        for load in start.cores:
            say(core_words(load))
        _print(outcomes, files, idle=bool(start.measured) and not any(start.measured.values()))
    if left:
        raise typer.Exit(INTERRUPTED)


def _check_alone(live: str, others: Mapping[str, object]) -> None:
    """InputError where options that need a graph are given, but none is, or no network either."""
    if not live or any(others.values()):
        given = ", ".join(name for name, value in others.items() if value) or "whatif"
        raise InputError(f"{given}: say which GRAPH (without one: --live NETWORK and --fail only)")


def _run(
    case: Case, scenarios: Sequence[Scenario], settings: Settings, processes: int, dask: str
) -> list[ScenarioOutcome]:
    """The outcomes, with a bar as they come; fewer than scenarios after Ctrl-C."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    ) as bar:
        task = bar.add_task("scenarios", total=len(scenarios) + 1)

        def step(_: ScenarioOutcome) -> None:
            bar.advance(task)

        if dask:
            return run_dask(case, scenarios, settings, dask, progress=step)
        return run_local(case, scenarios, settings, processes=processes or None, progress=step)


def _start(
    graphs: Sequence[Path], topology: str, live: str, interval: float, *, measure: bool
) -> LiveCase:
    """What is examined; live also where its tasks run now."""
    chains = [path for path in graphs if is_chains_file(path)]
    if chains and (len(graphs) > 1 or live):
        raise InputError("whatif takes either one chains file or service graphs")
    if chains:
        loaded = load_chains(chains[0])
        return LiveCase(Case((), loaded, resolve_topology(topology or loaded.topology)))
    service_graphs = tuple(load_graph(path).graph for path in graphs)
    names = [g.name for g in service_graphs]
    if len(set(names)) < len(names):
        raise InputError(f"whatif: graphs {', '.join(names)}: one is given twice")
    if live:
        if topology:
            raise InputError("whatif --live takes the network's topology: leave --topology out")
        return live_case(service_graphs, find_network(live), interval, measure=measure)
    return planned_case(service_graphs, resolve_topology(topology or DEFAULT_TOPOLOGY))


def _with_demands(case: Case, text: str, largest: int) -> Case:
    if text.startswith("topohub:"):
        matrix = topohub(text.removeprefix("topohub:"))[1]
        return with_demands(case, _largest(matrix, largest))
    raw = parse_json(read_text(Path(text), text), text)
    try:
        traffics = [
            HostDemand(str(d["source"]), str(d["target"]), parse_rate(str(d["rate"]))) for d in raw
        ]
    except (TypeError, KeyError) as error:
        raise InputError(f"{text}: a list of {{source, target, rate}} is expected") from error
    return with_demands(case, _largest(traffics, largest))


def _largest(demands: Sequence[HostDemand], count: int) -> Sequence[HostDemand]:
    return sorted(demands, key=lambda d: -d.rate)[:count] if count > 0 else demands


def _print(
    outcomes: Sequence[ScenarioOutcome], files: Sequence[str], *, idle: bool = False
) -> None:
    print_table(
        "What if",
        (
            "scenario",
            "status",
            "cores#",
            "carried#",
            "worst latency us#",
            "busiest link",
            "moves#",
            "SLO",
        ),
        (
            (
                o.scenario,
                o.status,
                o.cores or "",
                rate(sum(o.rate_of.values())) if o.rate_of else "",
                f"{max(o.latency_us.values()):.1f}" if o.latency_us else "",
                f"{o.busiest[0][0]} {o.busiest[0][1]:.0%}" if o.busiest else "",
                len(o.moved) if o.status not in ("INFEASIBLE", "ERROR") else "",
                "no traffic" if idle and o.slo_met else slo_words(o),
            )
            for o in outcomes
        ),
    )
    for outcome in outcomes:
        if outcome.moved and len(outcomes) <= 3:
            print_table(
                f"What moves with {outcome.scenario}",
                ("task and way",),
                ((m,) for m in outcome.moved),
            )
        if outcome.why:
            say(f"{outcome.scenario}: {outcome.why}")
    if end := capacity_end(outcomes):
        say(end)
    for line in dict.fromkeys(line for outcome in outcomes for line in outcome.sources):
        say(line)
    for name in files:
        say(f"wrote {name}")


def core_words(load: CoreLoad) -> str:
    """How busy a core was while rates were measured, and how long packets were in its NFs."""
    busy = "" if load.busy is None else f"{load.busy:.0%} busy, "
    planned = "" if load.planned is None else f" ({load.planned:.0%} planned)"
    nfs = [f"{nf.nf} {nf.p50_us:.1f} us (p99 {nf.p99_us:.1f})" for nf in load.nfs if nf.p99_us]
    return f"{load.name}: {busy}{load.frames_per_second:.1f} frames/s{planned}; {', '.join(nfs)}".rstrip(
        "; "
    )


def slo_words(outcome: ScenarioOutcome) -> str:
    """`met`, or which traffics miss it and by how much."""
    if outcome.status in ("INFEASIBLE", "ERROR"):
        return "no placement"
    if not outcome.missed:
        return "met"
    worst = sorted(outcome.missed.items(), key=lambda item: -item[1])
    told = ", ".join(f"{name} by {share:.0%}" for name, share in worst[:4])
    return f"missed: {told}" + (f" and {len(worst) - 4} more" if len(worst) > 4 else "")

"""Commands on service graphs that touch no network: check, schema, compile, place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.access import with_files
from orchestrator.cli.classes import (
    ALL,
    ExplainCommand,
    chosen,
    print_classes,
    print_story,
)
from orchestrator.cli.crowds import MOST
from orchestrator.cli.output import Json, note, print_json, print_table, say, warn
from orchestrator.cli.working import COMPILING, Work
from orchestrator.errors import CompileError, InputError
from orchestrator.files import write_whole

if TYPE_CHECKING:
    from orchestrator.compile import Compiled
    from orchestrator.compiler.story import ClassStory
    from orchestrator.model.bundle import Bundle, Story

GraphFile = Annotated[Path, typer.Argument(help="The service graph (graph.json).")]
TopologyName = Annotated[
    str, typer.Option("--topology", "-t", help="A topology file, or the name of a shipped one.")
]

Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write the bundle to this file.")
]
Explain = Annotated[
    str,
    typer.Option(
        "--explain",
        metavar="[CLASS]",
        help="Say where every element runs, and why, and list the traffic classes; "
        "with CLASS (or a traffic) tell its story.",
    ),
]
Sign = Annotated[
    Path | None,
    typer.Option("--sign", metavar="KEY", help="With --output: sign it (Ed25519, PEM file)."),
]
Specialise = Annotated[
    bool, typer.Option("--specialise", help="For a pipeline that p4c makes for this graph.")
]
Plot = Annotated[
    Path | None,
    typer.Option("--plot", help="Draw the graph, coloured by device (.svg or .png)."),
]
MaxClasses = Annotated[
    int | None,
    typer.Option(
        "--max-classes",
        min=1,
        help="Refuse a graph of which two NFs make more traffic classes [default: 10000000].",
    ),
]
Verify = Annotated[
    int,
    typer.Option(
        "--verify",
        metavar="PACKETS",
        help="Send so many packets through the bundle in memory and the unsplit graph, compare.",
    ),
]
Watch = Annotated[
    bool,
    typer.Option(
        "--watch",
        help="Go on until Ctrl-C: compile anew whenever the graph's files change, and say what an "
        "update would change. With --json a line a version.",
    ),
]

Resources = Annotated[
    bool,
    typer.Option(
        "--resources",
        help="Say what switches with match-action stages (target tofino, tofino2) hold of it, by NF and "
        "table; with --plot draw that. Nothing is made that could be loaded.",
    ),
]

graph_app = typer.Typer(help="Check service graphs, print their JSON Schema.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    with_files(graph_app, "check")
    app.add_typer(graph_app, name="graph")
    app.command(
        "compile",
        cls=ExplainCommand,
        epilog="Examples: orchestrator compile graph.json -t leaf-spine --explain --- "
        "orchestrator compile graph.json --explain web.1 --- "
        "orchestrator compile graph.json --plot graph.svg --- orchestrator compile graph.json --watch "
        "--- orchestrator compile graph.json -t rack.json --resources",
    )(compile_command)


@graph_app.command("check", epilog="Example: orchestrator graph check graph.json -t leaf-spine")
def check(
    graph: GraphFile,
    topology: Annotated[
        str,
        typer.Option(
            "--topology", "-t", help="Also compile it for this topology, and say what that finds."
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Report every problem of a service graph at once."""
    from orchestrator.graph import load_graph

    if topology:
        with Work(f"checking {graph}", silent=as_json) as work:
            result = compiled(graph, topology, step=work.step)
        service_graph, warnings = result.graph, result.bundle.warnings
    else:
        loaded = load_graph(graph)
        service_graph, warnings = loaded.graph, loaded.warnings
    if as_json:
        print_json({"graph": service_graph.name, "ok": True, "warnings": list(warnings)})
        return
    for warning in warnings:
        warn(warning)
    say(
        f"{graph}: {service_graph.name} is valid: {len(service_graph.nfs)} NFs, "
        f"{len(service_graph.edges)} edges, {len(service_graph.traffic)} traffics"
    )


@graph_app.command("schema", epilog="Example: orchestrator graph schema > graph.schema.json")
def schema(
    topology: Annotated[bool, typer.Option("--topology", help="The topology's schema.")] = False,
    as_json: Json = False,
) -> None:
    """Print the JSON Schema of a service graph or a topology (always JSON)."""
    from orchestrator.graph import graph_json_schema, topology_json_schema

    del as_json
    print_json(topology_json_schema() if topology else graph_json_schema())


def compiled(
    graph: Path,
    topology: str,
    max_classes: int | None = None,
    *,
    specialise: bool = False,
    step: Callable[[str], None],
) -> Compiled:
    """Load and compile; `step` hears what is done next."""
    from orchestrator.compile import MOST_CLASSES, CompileRequest, compile_graph
    from orchestrator.compile_specialised import compile_specialised
    from orchestrator.graph import load_graph
    from orchestrator.placement.topologies import resolve_topology

    step(f"reading {graph}")
    loaded = load_graph(graph)
    request = CompileRequest(
        loaded.graph,
        resolve_topology(topology),
        warnings=tuple(loaded.warnings),
        max_classes=max_classes or MOST_CLASSES,
        step=step,
    )
    return compile_specialised(request) if specialise else compile_graph(request)


def compile_command(
    graph: GraphFile,
    topology: TopologyName = "leaf-spine",
    output: Output = None,
    explain: Explain = "",
    sign: Sign = None,
    specialise: Specialise = False,
    plot: Plot = None,
    max_classes: MaxClasses = None,
    verify: Verify = 0,
    watch: Watch = False,
    resources: Resources = False,
    as_json: Json = False,
) -> None:
    """Split a graph, place it on a topology, and emit the bundle."""
    if resources:
        if output or explain or verify or specialise or sign or watch:
            raise InputError("--resources goes with --plot, --max-classes and --json only")
        from orchestrator.cli.stages import show_stages

        show_stages(graph, topology, max_classes, plot, as_json)
        return
    if watch:
        if explain or plot or verify or specialise or sign:
            raise InputError("--watch goes with --output, --max-classes and --json only")
        from orchestrator.cli.recompiling import follow

        follow(graph, topology, output, max_classes, as_json)
        return
    from orchestrator.bundle.codec import dump
    from orchestrator.bundle.signing import signing_key
    from orchestrator.compiler.drawing import draw_cut

    if sign is not None and output is None:
        raise InputError("--sign goes with --output: it signs the bundle that is written")
    key = None if sign is None else signing_key(sign)
    with Work(COMPILING, silent=as_json) as work:
        result = compiled(graph, topology, max_classes, specialise=specialise, step=work.step)
    bundle = result.bundle
    stories = chosen(result, explain) if explain else ()
    if verify:
        verify_bundle(graph, topology, bundle, verify)
    if output is not None:
        write_whole(output, dump(bundle, topology=result.topology, key=key))
    if plot is not None:
        draw_cut(result.cuts, bundle.stories, f"{bundle.graph} on {bundle.topology}", plot)
    if as_json:
        from orchestrator.presenters.compiled import class_json, compiled_json

        told = {"classes": [class_json(story) for story in stories]} if explain else {}
        print_json({**told, **compiled_json(result)})
        return
    _print_compiled(result, explain, stories)
    for file in (output, plot):
        if file is not None:
            say(f"{'bundle' if file is output else 'picture'} written to {file}")


def _print_compiled(result: Compiled, explain: str, stories: Sequence[ClassStory]) -> None:
    bundle = result.bundle
    for warning in bundle.warnings:
        warn(warning)
    if explain and explain != ALL:
        for story in stories:
            print_story(bundle.graph, story)
        return
    if explain:
        print_stories(bundle)
        print_classes(result, stories)
    print_entries(bundle.entries_by_table())


def verify_bundle(graph: Path, topology: str, bundle: Bundle, packets: int) -> None:
    """Compare the bundle with the unsplit graph; CompileError with the first differences."""
    from orchestrator.deployment.equivalence import compare, smallest
    from orchestrator.graph import load_graph
    from orchestrator.placement.topologies import resolve_topology

    loaded, network = load_graph(graph).graph, resolve_topology(topology)
    driver = compare(loaded, network, bundle, packets)
    if driver.differences:
        told = "\n".join(f"  {d}\n    {d.frame.hex()}" for d in driver.differences[:5])
        note(f"{len(driver.differences)} differences; looking for the fewest packets and rules")
        minimal = smallest(loaded, network, driver)
        shown = f"\nat its smallest:\n{minimal}" if minimal is not None else ""
        raise CompileError(f"{graph}: the bundle is not equivalent to the graph:\n{told}{shown}")
    note(
        f"verified: {driver.packets} packets, {driver.delivered} delivered, no difference between "
        "the bundle and the unsplit graph"
    )


def print_stories(bundle: Bundle) -> None:
    """The cut: which element runs where, and why."""
    columns = ("element", "runs on", "block", "entries#", "why")
    print_table(f"The cut of {bundle.graph}", columns, _cut_rows(bundle.stories))
    for line in bundle.plan.notes:
        say(line)


def print_entries(counts: Mapping[str, Mapping[str, int]]) -> None:
    """Entries per switch and table; of a crowd of switches the sums."""
    if len(counts) > MOST:
        sums: Counter[str] = Counter()
        using: Counter[str] = Counter()
        for tables in counts.values():
            sums.update(tables)
            using.update(tables.keys())
        title = f"Entries of the graph on {len(counts)} devices (--json has those of each)"
        summed = [(table, using[table], sums[table]) for table in sorted(sums)]
        print_table(title, ("table", "devices#", "entries#"), summed)
        return
    rows = [
        (switch, table, count)
        for switch, tables in counts.items()
        for table, count in sorted(tables.items())
    ]
    print_table("Entries of the graph", ("device", "table", "entries#"), rows)


def _cut_rows(stories: Sequence[Story]) -> list[tuple[object, ...]]:
    """A row an element; of a crowd one for all copies of an element that differ in their device only."""
    alike: dict[tuple[object, ...], list[Story]] = {}
    for s in stories:
        copy = s.unit.partition("@")[0] if len(stories) > MOST else s.unit
        alike.setdefault((copy, s.slot or "NF", s.entries or "", s.why), []).append(s)
    return [
        (
            unit if len(some) > 1 else some[0].unit,
            f"{some[0].device} and {len(some) - 1} more" if len(some) > 1 else some[0].device,
            *rest,
        )
        for (unit, *rest), some in alike.items()
    ]

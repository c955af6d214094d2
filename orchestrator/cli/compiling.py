"""The command `compile`, and what others tell of a compiled graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.bundle.codec import dump
from orchestrator.bundle.signing import signing_key
from orchestrator.cli.classes import (
    ALL,
    ExplainCommand,
    chosen,
    print_classes,
    print_story,
)
from orchestrator.cli.options import takes
from orchestrator.cli.output import Json, note, print_json, say, warn
from orchestrator.cli.recompiling import follow
from orchestrator.cli.stages import show_stages
from orchestrator.cli.stories import print_entries, print_stories
from orchestrator.cli.working import COMPILING, Work
from orchestrator.compile import MOST_CLASSES, Compiled, CompileRequest, compile_graph
from orchestrator.compile_specialised import compile_specialised
from orchestrator.compiler.drawing import draw_cut
from orchestrator.compiler.story import ClassStory
from orchestrator.deployment.equivalence import compare, smallest
from orchestrator.errors import CompileError, InputError
from orchestrator.files import write_whole
from orchestrator.graph import load_graph
from orchestrator.model.bundle import Bundle
from orchestrator.placement.topologies import resolve_topology
from orchestrator.presenters.compiled import class_json, compiled_json


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(
        "compile",
        cls=ExplainCommand,
        epilog="Examples: orchestrator compile graph.json -t leaf-spine --explain --- "
        "orchestrator compile graph.json --explain web.1 --- "
        "orchestrator compile graph.json --plot graph.svg --- orchestrator compile graph.json --watch "
        "--- orchestrator compile graph.json -t rack.json --resources",
    )(compile_command)


def compiled(
    graph: Path,
    topology: str,
    max_classes: int | None = None,
    *,
    specialise: bool = False,
    step: Callable[[str], None],
) -> Compiled:
    """Load and compile; `step` hears what is done next."""
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


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """What `compile` was asked for."""

    graph: Annotated[Path, typer.Argument(help="The service graph (graph.json).")]
    topology: Annotated[
        str, typer.Option("--topology", "-t", help="A topology file, or the name of a shipped one.")
    ] = "leaf-spine"
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the bundle to this file.")
    ] = None
    explain: Annotated[
        str,
        typer.Option(
            "--explain",
            metavar="[CLASS]",
            help="Say where every element runs, and why, and list the traffic classes; "
            "with CLASS (or a traffic) tell its story.",
        ),
    ] = ""
    sign: Annotated[
        Path | None,
        typer.Option("--sign", metavar="KEY", help="With --output: sign it (Ed25519, PEM file)."),
    ] = None
    specialise: Annotated[
        bool, typer.Option("--specialise", help="For a pipeline that p4c makes for this graph.")
    ] = False
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Draw the graph, coloured by device (.svg or .png)."),
    ] = None
    max_classes: Annotated[
        int | None,
        typer.Option(
            "--max-classes",
            min=1,
            help="Refuse a graph of which two NFs make more traffic classes [default: 10000000].",
        ),
    ] = None
    verify: Annotated[
        int,
        typer.Option(
            "--verify",
            metavar="PACKETS",
            help="Send so many packets through the bundle in memory and the unsplit graph, compare.",
        ),
    ] = 0
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Go on until Ctrl-C: compile anew whenever the graph's files change, and say what an "
            "update would change. With --json a line a version.",
        ),
    ] = False
    resources: Annotated[
        bool,
        typer.Option(
            "--resources",
            help="Say what switches with match-action stages (target tofino, tofino2) hold of it, by "
            "NF and table; with --plot draw that. Nothing is made that could be loaded.",
        ),
    ] = False
    as_json: Json = False


@takes(CompileOptions)
def compile_command(options: CompileOptions) -> None:
    """Split a graph, place it on a topology, and emit the bundle."""
    if options.resources:
        if (
            options.output
            or options.explain
            or options.verify
            or options.specialise
            or options.sign
            or options.watch
        ):
            raise InputError("--resources goes with --plot, --max-classes and --json only")

        show_stages(
            options.graph, options.topology, options.max_classes, options.plot, options.as_json
        )
        return
    if options.watch:
        if options.explain or options.plot or options.verify or options.specialise or options.sign:
            raise InputError("--watch goes with --output, --max-classes and --json only")

        follow(
            options.graph, options.topology, options.output, options.max_classes, options.as_json
        )
        return

    if options.sign is not None and options.output is None:
        raise InputError("--sign goes with --output: it signs the bundle that is written")
    key = None if options.sign is None else signing_key(options.sign)
    with Work(COMPILING, silent=options.as_json) as work:
        result = compiled(
            options.graph,
            options.topology,
            options.max_classes,
            specialise=options.specialise,
            step=work.step,
        )
    bundle = result.bundle
    stories = chosen(result, options.explain) if options.explain else ()
    if options.verify:
        verify_bundle(options.graph, options.topology, bundle, options.verify)
    if options.output is not None:
        write_whole(options.output, dump(bundle, topology=result.topology, key=key))
    if options.plot is not None:
        draw_cut(result.cuts, bundle.stories, f"{bundle.graph} on {bundle.topology}", options.plot)
    if options.as_json:
        told = {"classes": [class_json(story) for story in stories]} if options.explain else {}
        print_json({**told, **compiled_json(result)})
        return
    _print_compiled(result, options.explain, stories)
    for file in (options.output, options.plot):
        if file is not None:
            say(f"{'bundle' if file is options.output else 'picture'} written to {file}")


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

"""The group `graph`: what a service graph says, before it is compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.access import with_files
from orchestrator.cli.output import Json, print_json, say, warn
from orchestrator.cli.working import Work
from orchestrator.graph import graph_json_schema, load_graph, topology_json_schema

GraphFile = Annotated[Path, typer.Argument(help="The service graph (graph.json).")]

graph_app = typer.Typer(help="Check service graphs, print their JSON Schema.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    with_files(graph_app, "check")
    app.add_typer(graph_app, name="graph")


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
    if topology:
        from orchestrator.cli.compiling import compiled

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
    del as_json
    print_json(topology_json_schema() if topology else graph_json_schema())

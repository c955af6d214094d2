"""`orchestrator import`: rule sets, routing tables and chains of other projects as our files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.output import Json, note, print_json, say, warn
from orchestrator.cli.working import Work
from orchestrator.errors import InputError
from orchestrator.files import write_whole
from orchestrator.graph import load_graph, load_topology
from orchestrator.graph.importers import (
    acl_graph,
    ids_graph,
    import_classbench,
    import_metron,
    import_rib,
    import_snort,
    import_topology,
)
from orchestrator.nfs.base import lookup
from orchestrator.nfs.files import Files
from orchestrator.nfs.values import address_text, parse_address, parse_ports

import_app = typer.Typer(help="Turn files of other projects into ours.", no_args_is_help=True)

Source = Annotated[Path, typer.Argument(help="The file to read.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The file to write.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.add_typer(import_app, name="import")


def _write(path: Path, text: str, read_back: Callable[[Path], object]) -> None:
    """Write a file that its own reader takes, or none: what is not read back leaves the old one."""

    def check(new: Path) -> None:
        try:
            read_back(new)
        except InputError as error:
            problems = [text.replace(str(new), str(path)) for text in error.problems]
            problems = [text.replace(new.name, path.name) for text in problems]
            raise InputError([*problems, f"{path}: is not written: it would be refused"]) from None

    write_whole(path, text.encode(), check)


def _load_graph(path: Path) -> object:
    return load_graph(path)


def _load_config(kind: str, key: str) -> Callable[[Path], object]:
    """Reads a file as the NF does whose config has it under the key."""
    config = lookup(kind).Config
    return lambda path: config.model_validate({key: path.name}).with_files(Files(path.parent))


def _done(output: Path, summary: str, as_json: bool, **more: object) -> None:
    """Say what was written."""
    if as_json:
        print_json({"output": str(output), **more})
    else:
        say(f"{output}: {summary}")


@import_app.command(
    "classbench", epilog="Example: orchestrator import classbench acl1.rules -o rules.json"
)
def classbench(
    file: Source,
    output: Output,
    graph: Annotated[bool, typer.Option("--graph", help="Write a graph with one acl.")] = False,
    deny: Annotated[bool, typer.Option("--deny", help="The rules deny.")] = False,
    as_json: Json = False,
) -> None:
    """A ClassBench filter set as a list of acl rules, or as a whole graph."""
    with Work(f"importing {file}", silent=as_json):
        rules, left_out = import_classbench(file, "deny" if deny else "permit")
        document = acl_graph("classbench", rules) if graph else rules
        read_back = _load_graph if graph else _load_config("acl", "rules_file")
        _write(output, json.dumps(document, indent=1) + "\n", read_back)
    if left_out:
        warn(f"{len(left_out)} rules are left out, no packet can match them, like {left_out[0]}")
    _done(output, f"{len(rules)} rules", as_json, rules=len(rules), left_out=left_out)


@import_app.command(
    "rib",
    epilog="Example: orchestrator import rib rib.dat.gz --next-hop 198.51.100.13 -o routes.txt",
)
def rib(
    file: Source,
    output: Output,
    next_hop: Annotated[
        list[str], typer.Option("--next-hop", help="May be given again; origin ASes are spread.")
    ],
    as_json: Json = False,
) -> None:
    """A table of prefixes and origin ASes as a router's routes_file."""
    try:
        hops = [parse_address(text) for text in next_hop]
    except ValueError as error:
        raise InputError(f"--next-hop: {error}") from None
    if output.suffix == ".json":
        raise InputError(f"--output {output}: routes are written as lines, so .json would mislead")
    with Work(f"importing {file}", silent=as_json):
        routes = import_rib(file, hops)
        _write(output, "\n".join(routes.lines) + "\n", _load_config("router", "routes_file"))
    if routes.left_out:
        warn(f"{routes.left_out} prefixes are left out: no next hop is of their IP version")
    if routes.again:
        text = f"{len(routes.again)} times a prefix has another origin, and the first counts"
        warn(f"{text}, like {routes.again[0]}")
    _done(
        output,
        f"{len(routes.lines)} routes",
        as_json,
        routes=len(routes.lines),
        left_out=routes.left_out,
        again=routes.again,
    )


@import_app.command("metron", epilog="Example: orchestrator import metron chain.json -o graph.json")
def metron(
    file: Source,
    output: Output,
    next_hop: Annotated[str, typer.Option("--next-hop", help="Next hop of every route.")] = "",
    virtual: Annotated[
        str, typer.Option("--virtual", help="tcp:ADDRESS:PORT that a load balancer serves.")
    ] = "",
    as_json: Json = False,
) -> None:
    """A Metron service chain (Click blocks, rule files beside it) as a graph."""
    try:
        hop = parse_address(next_hop) if next_hop else None
        service = None
        if virtual:
            protocol, rest = virtual.split(":", 1)
            address, port = rest.rsplit(":", 1)
            if protocol not in ("tcp", "udp"):
                raise ValueError(f"'{protocol}' is not tcp or udp")
            service = protocol, address_text(parse_address(address)), parse_ports(port).low
    except ValueError as error:
        raise InputError(f"--next-hop or --virtual: {error}") from None
    with Work(f"importing {file}", silent=as_json):
        imported = import_metron(file, hop, service)
        _write(output, json.dumps(imported.graph, indent=1) + "\n", _load_graph)
    for line in imported.notes:
        note(line)
    name, nfs = imported.graph["name"], imported.graph["nfs"]
    types = {nf: item["type"] for nf, item in nfs.items()}
    summary = f"{name}, {len(nfs)} NFs"
    _done(output, summary, as_json, graph=name, nfs=types, notes=list(imported.notes))


@import_app.command(
    "snort",
    epilog="Example: orchestrator import snort local.rules --var HOME_NET=any -o signatures.json",
)
def snort(
    file: Source,
    output: Output,
    graph: Annotated[bool, typer.Option("--graph", help="Write a graph with one ids.")] = False,
    skip_unsupported: Annotated[
        bool, typer.Option("--skip-unsupported", help="Leave out what an ids cannot say.")
    ] = False,
    var: Annotated[
        list[str] | None,
        typer.Option("--var", help="NAME=VALUE of a variable; may be given again."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Content rules of Snort or Suricata as an ids's signatures_file, or as a whole graph."""
    variables: dict[str, str] = {}
    for item in var or ():
        name, equals, value = item.partition("=")
        if not (name and equals and value):
            raise InputError(f"--var: '{item}' is not NAME=VALUE, like HTTP_PORTS=[80,8080]")
        variables[name.removeprefix("$")] = value
    with Work(f"importing {file}", silent=as_json):
        imported = import_snort(file, variables)
    told = [str(item) for item in imported.unsupported]
    if told and not skip_unsupported:
        raise InputError(
            [
                *told,
                f"{file}: --skip-unsupported leaves these {imported.skipped} rules or lines out",
            ]
        )
    if not imported.signatures:
        raise InputError([*told, f"{file}: no rule is left"])
    for line in (*told, *imported.replaced):
        warn(line)
    signatures = imported.signatures
    written = ids_graph(signatures) if graph else signatures
    read_back = _load_graph if graph else _load_config("ids", "signatures_file")
    _write(output, json.dumps(written, indent=1) + "\n", read_back)
    summary = f"{len(signatures)} signatures, {imported.skipped} rules or lines left out"
    unsupported = [item._asdict() for item in imported.unsupported]
    _done(
        output,
        summary,
        as_json,
        signatures=len(signatures),
        unsupported=unsupported,
        replaced=imported.replaced,
    )


@import_app.command(
    "topology", epilog="Example: orchestrator import topology pod-topo/topology.json -o pod.json"
)
def topology(
    file: Source,
    output: Output,
    name: Annotated[str, typer.Option(help="Of the topology.")] = "imported",
    as_json: Json = False,
) -> None:
    """A topology of the P4 tutorials or p4-utils: switches, hosts, addresses, links and ports."""
    with Work(f"importing {file}", silent=as_json):
        imported = import_topology(file, name)
        _write(output, json.dumps(imported.topology, indent=1) + "\n", load_topology)
    for line in imported.notes:
        note(line)
    counts = {key: len(imported.topology[key]) for key in ("switches", "hosts", "links")}
    summary = ", ".join(f"{count} {key}" for key, count in counts.items())
    _done(output, summary, as_json, notes=imported.notes, **counts)

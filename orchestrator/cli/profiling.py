"""`orchestrator profile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.output import Json, note, print_json, print_table, warn
from orchestrator.errors import EnvironmentMissing, InputError, unknown
from orchestrator.nfs.base import known_types
from orchestrator.profiles import RuntimeProfile, SwitchProfile, dumped
from orchestrator.profiling.servers import measure_runtime
from orchestrator.profiling.switches import measure_switch
from orchestrator.runtimes import known_runtimes
from orchestrator.targets import known_targets, lookup


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(
        "profile",
        epilog="Examples: orchestrator profile napt --- orchestrator profile softswitch bmv2 --- "
        "orchestrator profile --folder orchestrator/profiles",
    )(profile)


def profile(
    names: Annotated[
        list[str] | None, typer.Argument(help="NFs, runtimes or targets; none: all of them.")
    ] = None,
    runtime: Annotated[
        str,
        typer.Option("--runtime", help="NFs on this runtime only (default: each that has them)."),
    ] = "",
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Write profiles of whole runtimes and targets there."),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Measure everything so often.", min=2)] = 15,
    as_json: Json = False,
) -> None:
    """Measure what NFs and switches cost on this machine (root, two CPUs).

    Times are CPU time of one core, the least of the rounds, which take turns with all that is measured.
    Placement plans with the profiles that are shipped, or with those of the folder that the environment
    variable ORCHESTRATOR_PROFILES names.
    """
    targets = tuple(t for t in known_targets() if lookup(t).engine is not None)
    profiled = (*known_types(), *known_runtimes(), *targets)
    wanted = names or [*known_runtimes(), *targets]
    if problems := [
        unknown("NF, runtime or target", n, profiled) for n in wanted if n not in profiled
    ]:
        raise InputError(problems)
    if runtime and runtime not in known_runtimes():
        raise InputError(f"--runtime: {unknown('runtime', runtime, known_runtimes())}")
    nfs = [n for n in wanted if n in known_types()]
    if folder is not None and nfs:
        raise InputError("--folder: a file has all NFs of its runtime; name runtimes or targets")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    missing: list[str] = []
    servers: list[RuntimeProfile] = []
    switches: list[SwitchProfile] = []
    for name in known_runtimes():
        if (nfs or name in wanted) and runtime in ("", name):
            try:
                servers.append(measure_runtime(name, nfs, rounds=rounds, tell=note))
            except EnvironmentMissing as error:
                missing.append(f"{name}: {error}")
    for name in targets:  # dpdk is a runtime and a target
        if name in wanted and not (runtime and name == runtime):
            try:
                switches.append(measure_switch(name, rounds=rounds, tell=note))
            except EnvironmentMissing as error:
                missing.append(f"{name}: {error}")
    for line in missing:
        warn(line)
    if not servers and not switches:
        raise EnvironmentMissing("nothing could be measured")
    if folder is not None:
        for server in servers:
            (folder / f"{server.name}.json").write_text(dumped(server))
        for switch in switches:
            (folder / f"{switch.name}-switch.json").write_text(dumped(switch))
    if as_json:
        print_json([measured.model_dump() for measured in (*servers, *switches)])
        return
    for server in servers:
        _show_server(server)
    for switch in switches:
        rows = [(size, ns, round(1e9 / ns)) for size, ns in sorted(switch.pass_ns.items())]
        title = f"{switch.name}: {switch.measured}"
        print_table(title, ("bytes#", "ns a pass#", "packets/s#"), rows)


def _show_server(server: RuntimeProfile) -> None:
    rows: list[tuple[object, ...]] = [
        ("(a frame)", size, "", "", round(ns)) for size, ns in sorted(server.frame_ns.items())
    ]
    rows += [
        (nf, p.bytes, p.entries or "few", "new" if p.fresh else "known", round(p.ns))
        for nf, cost in server.nfs.items()
        for p in cost.points
    ]
    columns = ("NF", "bytes#", "entries#", "flow", "ns#")
    print_table(f"{server.name}: {server.measured}", columns, rows)

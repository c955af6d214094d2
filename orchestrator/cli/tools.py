"""`orchestrator shell` and `orchestrator capture`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.networks import find_network
from orchestrator.cli.options import NetworkName
from orchestrator.cli.output import Json, note, print_json, say, warn
from orchestrator.cli.reading import Address, DeviceId, target_of
from orchestrator.errors import InputError
from orchestrator.observation.capture import capture as run
from orchestrator.observation.capture import places
from orchestrator.observation.pcapng import PcapngWriter
from orchestrator.observation.shell import (
    GUARD_ELECTION_ID,
    READER_ELECTION_ID,
    run_shell,
    shell_argv,
    shell_environment,
    writer_election_id,
)


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(
        "shell",
        epilog="Example: orchestrator shell leaf1 --- "
        "echo 'print(tables)' | orchestrator shell leaf1",
    )(shell)
    app.command(
        "capture",
        epilog="Examples: orchestrator capture leaf1:h1 -o h1.pcapng --seconds 5 --- "
        "orchestrator capture server1:edge_nat -o - | wireshark -k -i -",
    )(capture)


def shell(
    switch: Annotated[str, typer.Argument(help="Name of a switch.")],
    network: NetworkName = "",
    address: Address = "",
    device_id: DeviceId = 1,
    write: Annotated[
        bool, typer.Option("--write", help="Be the primary controller: asks first.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Open p4runtime-shell on a switch; it only reads, unless --write.

    Its environment is made on first use. The pipeline is never pushed: entries stay as they are.
    With --json the command line is printed, and not run.
    """
    target = target_of(switch, network, address, device_id)
    client = target.client
    if write and target.live is not None:
        target.live.access.check_owner(
            {
                name: deployed.bundle.owner
                for name, deployed in target.live.journal.deployed().items()
                if switch in deployed.bundle.programs
            }
        )
    if write and not as_json:
        typer.confirm(
            f"--write pushes any other controller of {switch} aside, and what you change there is "
            "not in the journal (`reconcile` would undo it). Go on?",
            abort=True,
            err=True,
        )
    with client:
        if client.pipeline_cookie() is None and client.schema is None:
            note(f"{switch}: no pipeline is loaded, so the shell knows no tables")
    python = shell_environment(note)
    with ExitStack() as stack:
        election = writer_election_id() if write else READER_ELECTION_ID
        if write and target.live is not None and not as_json:
            # Nobody else changes the network meanwhile.
            election = stack.enter_context(target.live.leading()).leadership.term << 64
        argv = shell_argv(python, client.address, client.device_id, election, client.tls)
        if as_json:
            print_json({"device": switch, "command": argv, "writes": write})
            return
        if not write:
            guard = target_of(switch, network, address, device_id).client
            guard.reads_only = False
            stack.enter_context(guard.standing_by(GUARD_ELECTION_ID))
            note(f"{switch}: reading only (another controller stays or becomes primary)")
        code = run_shell(argv)
    raise typer.Exit(code)


def capture(
    where: Annotated[
        str, typer.Argument(help="SWITCH:PORT (a number or what is behind it), or SERVER:NF.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The pcapng file; - is standard output.")
    ] = Path("-"),
    count: Annotated[int, typer.Option(help="Stop after so many frames; 0: no limit.", min=0)] = 0,
    seconds: Annotated[float, typer.Option(help="Stop after so long; 0: Ctrl-C.", min=0)] = 0.0,
    network: NetworkName = "",
    as_json: Json = False,
) -> None:
    """Capture frames with their NSH tags as pcapng, which Wireshark and tshark read.

    SWITCH alone takes all its ports, SERVER alone all its cores. In front of an NF, the frames on
    the service paths that lead through it.
    """
    to_stdout = str(output) == "-"
    if to_stdout and (as_json or sys.stdout.isatty()):
        raise InputError("say where to: --output FILE (or pipe it: ... -o - | wireshark -k -i -)")
    live = find_network(network)
    deployed = live.journal.deployed() if where.partition(":")[2] else {}
    interfaces = places(live, {name: d.bundle for name, d in deployed.items()}, where)
    told = ", ".join(place.description for place in interfaces)
    with ExitStack() as stack:
        try:
            file = sys.stdout.buffer if to_stdout else stack.enter_context(output.open("wb"))
        except OSError as error:
            raise InputError(f"--output {output}: {error.strerror}") from error
        result = run(
            interfaces,
            PcapngWriter(file),
            count=count,
            seconds=seconds,
            ready=lambda: note(f"capturing at {told}"),
        )
    if result.missed:
        warn(f"{result.missed} frames are missing: they came faster than they could be written")
    if as_json:
        print_json(
            {
                "file": str(output),
                "frames": result.frames,
                "bytes": result.bytes,
                "missed": result.missed,
                "places": result.by_place,
            }
        )
    elif to_stdout:
        note(f"{result.frames} frames")
    else:
        say(f"{result.frames} frames written to {output}")

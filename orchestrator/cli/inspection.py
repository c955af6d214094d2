"""The commands `samples` and `doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.networks import find_network
from orchestrator.cli.options import NetworkName
from orchestrator.cli.output import Json, clock_words, print_json, print_table, say
from orchestrator.emulation.doctor import machine_report
from orchestrator.observation.trajectories import listen
from orchestrator.presenters.packets import trajectories_json


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("samples", epilog="Example: orchestrator samples --count 1 --seconds 10")(samples)
    app.command("doctor", epilog="Example: orchestrator doctor --json")(doctor)


def samples(
    network: NetworkName = "",
    count: Annotated[int, typer.Option(help="Stop after so many whole trajectories.")] = 1,
    seconds: Annotated[float, typer.Option(help="Listen for at most so long.")] = 10.0,
    points: Annotated[
        int, typer.Option(help="A trajectory is whole when so many points have seen it.")
    ] = 4,
    as_json: Json = False,
) -> None:
    """Listen at every switch and worker for sampled packets and print their trajectories.

    It listens beside a switch's controller and pushes nobody aside; BMv2 sends packets to its controller
    only, so there it fails beside one. Times are each device's own clock (switch clocks start at 0 and
    are not synchronised).
    """
    best, names = listen(find_network(network), count, seconds, points)
    if as_json:
        print_json(trajectories_json(best, names))
        return
    for label, seen in best:
        print_table(
            f"Trajectory of label {label:#010x}, graph {names.get(seen[0].graph_id, '?')}",
            ("hop#", "device", "seen at", "its clock", "SPI#", "SI#", "bytes#"),
            (
                (i, p.device, p.what, clock_words(p.device_us), p.spi, p.si or "", p.length)
                for i, p in enumerate(seen, start=1)
            ),
        )
    if not best:
        say(
            "no sampled packet was seen; is traffic flowing, and verification.sampling_rate above 0?"
        )


def doctor(as_json: Json = False) -> None:
    """Say what this machine has and lacks, what each part is for, and how to get it."""
    checks = machine_report()
    if as_json:
        print_json(
            [
                {
                    "name": check.name,
                    "present": check.present,
                    "detail": check.detail,
                    "needed_for": check.needed_for,
                    "how_to_get": check.get,
                }
                for check in checks
            ]
        )
        return
    print_table(
        "This machine",
        ("part", "has", "detail", "needed for", "how to get it"),
        (
            (
                c.name,
                "yes" if c.present else "no",
                c.detail,
                c.needed_for,
                "" if c.present else c.get,
            )
            for c in checks
        ),
    )

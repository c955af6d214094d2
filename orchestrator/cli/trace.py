"""`orchestrator trace`: what really happened to a packet, beside what `explain` predicts."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.networks import find_network
from orchestrator.cli.options import NetworkName
from orchestrator.cli.output import Json, clock_words, note, print_json, print_table, say, warn
from orchestrator.files import write_whole
from orchestrator.observation.frames import between_hosts, frame_text
from orchestrator.observation.pcapng import OUTBOUND, PcapngWriter
from orchestrator.observation.tracing import Traced, reported, trace_packet
from orchestrator.presenters.packets import traced_json


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("trace", epilog="Example: orchestrator trace --from h1 --to h3:80")(trace)


def trace(
    source: Annotated[str, typer.Option("--from", help="The host that sends.")],
    target: Annotated[
        str, typer.Option("--to", help="h2, h2:80, h2:53/udp, h2/icmp, h2:80/6tcp, an address.")
    ],
    seconds: Annotated[float, typer.Option(help="Listen for at most so long.", min=0.1)] = 5.0,
    frame: Annotated[
        Path | None,
        typer.Option(
            help="Write the packet to this pcapng file for its host to send within --seconds, where "
            "this machine cannot; what comes to hosts is not looked at."
        ),
    ] = None,
    network: NetworkName = "",
    as_json: Json = False,
) -> None:
    """Send one real packet that all trusted points report, and compare with what `explain` predicts.

    Exit code 1 when they disagree. Needs the graph's sampling rate above 0; and on BMv2,
    which knows no roles, no other controller beside it.
    """
    live = find_network(network)

    def make(identification: int) -> bytes:
        return between_hosts(live.topology, source, target, identification=identification)

    def hand_over(data: bytes) -> None:
        assert frame is not None
        file = io.BytesIO()
        writer = PcapngWriter(file)
        number = writer.interface(source, "a packet to send")
        writer.packet(number, time.time_ns(), data, direction=OUTBOUND)
        write_whole(frame, file.getvalue())
        note(f"listening; have {source} send {frame}, as by `tcpreplay -i INTERFACE {frame}`")

    traced = trace_packet(live, source, make, seconds, hand_over if frame else None)
    if as_json:
        print_json(traced_json(traced))
    else:
        _print(traced, source)
    if traced.disagreements:
        raise typer.Exit(1)


def _print(traced: Traced, source: str) -> None:
    say(
        f"{source} sent {_plain(frame_text(traced.frame).summary)} "
        f"(graph {traced.graph}, label {traced.label:#010x})"
    )
    open_points = [(reported(point), point) for point in traced.points]
    rows: list[tuple[object, ...]] = []
    for seen in traced.expected:
        opening = next((item for item in open_points if item[0] == seen), None)
        if opening is None:
            rows.append((seen.device, seen.what, "NOT REPORTED", ""))
        else:
            open_points.remove(opening)
            rows.append((seen.device, seen.what, "reported", clock_words(opening[1].device_us)))
    rows += [
        (seen.device, seen.what, "NOT PREDICTED", clock_words(point.device_us))
        for seen, point in open_points
    ]
    print_table("Predicted and seen", ("device", "what", "seen", "its clock"), rows)
    say(f"predicted: {_plain(traced.predicted.verdict)}")
    for arrival in traced.delivered or ():
        say(f"happened: {arrival.host} receives {_plain(frame_text(arrival.frame).summary)}")
    if traced.delivered == ():
        say("happened: no host received it")
    for told in traced.notes:
        say(_plain(told))
    for told in traced.disagreements:
        warn(told)
    if traced.disagreements:
        say("[bold red]the network does not do what explain predicts[/]")
    else:
        say("[bold green]the network does what explain predicts[/]")


def _plain(text: str) -> str:
    return text.replace("[", "\\[")

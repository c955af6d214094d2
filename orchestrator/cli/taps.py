"""`orchestrator verify tap|ends`: the customer's own ends, of which the provider knows no key."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.output import Json, print_json, say, warn
from orchestrator.errors import InputError, StoreError
from orchestrator.verification import evidence, keys, tapping
from orchestrator.verification.manifest import check as check_manifest
from orchestrator.verification.manifest import read as read_manifest
from orchestrator.verification.tapped import beside
from orchestrator.verification.taps import Ends, TapWatcher, compare, read
from orchestrator.verification.trajectories import Trajectory, trajectories

TapFile = Annotated[Path, typer.Argument(help="What `verify tap` has written at an end.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(
        "tap",
        epilog="Example: orchestrator verify tap eth0 --tap-key tap.key -o inside.tap --seconds 60",
    )(tap_command)
    app.command(
        "ends", epilog="Example: orchestrator verify ends inside.tap outside.tap --loss-bound 0.001"
    )(ends_command)


def tap_command(
    interface: Annotated[str, typer.Argument(help="An interface of the customer's own.")],
    tap_key: Annotated[
        Path, typer.Option(help="A key that only the taps have (verify key sampling).")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to make.")],
    rate: Annotated[float, typer.Option(help="Share of packets.", min=0, max=1)] = 0.01,
    seconds: Annotated[float, typer.Option(help="How long; left out: until Ctrl-C.", min=0)] = 0.0,
    as_json: Json = False,
) -> None:
    """Write down watched packets at an end, as they are sent and come. Says so once it listens.

    With segmentation offload a host's tap sees larger frames than its network: switch it off there
    (ethtool -K IF tso off gso off gro off).
    """
    key = keys.sampling_key(tap_key, "--tap-key")
    stopped: list[int] = []
    until = time.monotonic() + seconds if seconds else float("inf")

    def ready() -> None:
        said = {"ready": True, "interface": interface, "file": str(output)}
        say(
            json.dumps(said)
            if as_json
            else f"{interface}: watching, until Ctrl-C or the time is up"
        )

    with tapping.listening(interface) as port:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _frame: stopped.append(number))
        try:
            made = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(made, "w", encoding="ascii") as file:
                seen = tapping.tap(
                    port,
                    TapWatcher(key, rate),
                    (interface, keys.commitment(key), rate),
                    file,
                    ended=lambda: bool(stopped) or time.monotonic() > until,
                    ready=ready,
                )
        except OSError as error:
            raise StoreError(f"{output}: {error.strerror}") from error
    if as_json:
        print_json({"packets": seen})
    else:
        say(f"{output}: {seen} watched packets")


def ends_command(
    one: TapFile,
    other: TapFile,
    loss_bound: Annotated[
        float, typer.Option(help="The share that may be lost, NFs' drops included.", min=0, max=1)
    ] = 0.001,
    settle: Annotated[
        float,
        typer.Option(help="Leave packets of so many seconds at begin and end out.", min=0),
    ] = 2.0,
    log: Annotated[
        Path | None, typer.Option(help="The CLE's folder: compare with what points told, too.")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="With --log: the verification manifest.")
    ] = None,
    tap_key: Annotated[Path | None, typer.Option(help="With --log: the taps' key.")] = None,
    as_json: Json = False,
) -> None:
    """What became of watched packets from one end to the other, both ways.

    That is: how many were lost, changed, injected, and how long they took.

    With --log also whether points told of the share of packets that they had to and of the outputs that
    came, and whether packets that they watch have better service.

    Exit code 1 when something contradicts the bound. Delays are by the clocks of both ends.
    """
    taps = {path: read(path) for path in (one, other)}
    ways = {
        f"{a} -> {b}": compare(taps[a], taps[b], loss_bound, round(settle * 1e6))
        for a, b in ((one, other), (other, one))
    }
    beside_records = {}
    if log is not None or manifest is not None or tap_key is not None:
        asked = _asked(log, manifest, tap_key)
        for a, b in ((one, other), (other, one)):
            compared = beside(taps[a], taps[b], *asked, loss_bound, round(settle * 1e6))
            beside_records[f"{a} -> {b}"] = compared
    if as_json:
        more = {way: {"records": asdict(compared)} for way, compared in beside_records.items()}
        print_json({way: _document(ends) | more.get(way, {}) for way, ends in ways.items()})
    else:
        for way, ends in ways.items():
            _show(way, ends)
        for way, compared in beside_records.items():
            say(f"{way}: points told of {compared.told} packets, not of {compared.others}")
            for problem in compared.problems:
                warn(f"{way}: {problem}")
    if any(compared.problems for compared in (*ways.values(), *beside_records.values())):
        raise typer.Exit(1)


def _asked(
    log: Path | None, manifest: Path | None, tap_key: Path | None
) -> tuple[bytes, list[Trajectory], float]:
    """The taps' key, what points told, and of which share they were to tell."""
    if log is None or manifest is None or tap_key is None:
        raise InputError("--log, --manifest and --tap-key: all are needed, or none")
    signed = read_manifest(manifest)
    check_manifest(signed, None, None)
    agreed = signed.manifest
    if agreed.granularity == "headers":
        raise InputError(f"{manifest}: records have headers only; taps know packets by more")
    told = evidence.told(log, agreed.roles.cle)
    key = keys.sampling_key(tap_key, "--tap-key")
    return key, trajectories(told.records), agreed.sampling.packets


def _document(ends: Ends) -> dict[str, object]:
    return {
        "sent": ends.sent,
        "lost": ends.lost,
        "changed": ends.changed,
        "injected": ends.injected,
        "missed": ends.missed,
        "delay_us": {f"p{share}": ends.delay_us(share) for share in (50, 95, 99)},
        "problems": list(ends.problems),
    }


def _show(way: str, ends: Ends) -> None:
    delay = ends.delay_us(50), ends.delay_us(99)
    told = f", delay p50 {delay[0]} us, p99 {delay[1]} us" if ends.delays_us else ""
    say(
        f"{way}: {ends.sent} watched, {ends.lost} lost, {ends.changed} changed, "
        f"{ends.injected} injected{told}"
    )
    if ends.missed:
        warn(f"{way}: the taps had no room for {ends.missed} frames, which counts for the network")
    for problem in ends.problems:
        warn(f"{way}: {problem}")

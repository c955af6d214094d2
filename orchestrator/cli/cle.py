"""`orchestrator verify cle`: the central logging entity, and what others find out about its log."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.bundle.codec import read as read_bundle
from orchestrator.cli.certified import client_files
from orchestrator.cli.collecting import collect, switches_of
from orchestrator.cli.options import takes
from orchestrator.cli.output import Json, print_json, print_table, say, warn
from orchestrator.cli.verify import public_of
from orchestrator.clients.channel import TlsFiles
from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.clients.vnf import WorkerClient
from orchestrator.clients.witness import ROLE, SwitchWitness
from orchestrator.errors import InputError, ServerError
from orchestrator.files import read_regular
from orchestrator.network.inventory import Inventory, load_inventory
from orchestrator.verification import keys
from orchestrator.verification import manifest as manifests
from orchestrator.verification.cle.archive import put
from orchestrator.verification.cle.audit import audit as look
from orchestrator.verification.cle.columns import compact as write
from orchestrator.verification.cle.columns import query as ask
from orchestrator.verification.cle.running import Credentials, Terms, log_folder, run
from orchestrator.verification.cle.seals import read_heads
from orchestrator.verification.cle.service import credentials
from orchestrator.verification.keys import private_key, report_key
from orchestrator.verification.manifest import VerificationManifest
from orchestrator.verification.watching import EpochTaker, step_seconds, tell

cle_app = typer.Typer(
    help="The central logging entity: seals what points tell.", no_args_is_help=True
)

Folder = Annotated[Path, typer.Argument(help="The CLE's folder.")]
PublicKey = Annotated[Path, typer.Option("--cle", help="The CLE's public key (verify key new).")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    cle_app.command(
        "collect",
        epilog="Example: orchestrator verify cle collect eth0 manifest.json --sampling-key watch.key "
        "--bundle campus.bundle --network leaf-spine --collector server1 --cle unix:/run/cle.sock",
    )(collect)
    app.add_typer(cle_app, name="cle")


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What `verify cle serve` was asked for."""

    folder: Folder
    key: Annotated[Path, typer.Option(help="Its signing key.")]
    listen: Annotated[str, typer.Option(help="unix:/path.sock or HOST:PORT.")]
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate of the CLE.")] = None
    tls_key: Annotated[Path | None, typer.Option(help="Its PEM key.")] = None
    tls_ca: Annotated[Path | None, typer.Option(help="Who signs shippers' certificates.")] = None
    shipper: Annotated[
        list[str] | None,
        typer.Option(help="CN=POINT,...: for which points a certificate speaks (repeatable)."),
    ] = None
    rate: Annotated[float, typer.Option(help="Records/s of one point at most.", min=1)] = 200_000.0
    retention_days: Annotated[
        float,
        typer.Option(
            help="Remove segments older than this; 0: none. What is to stay goes to Parquet first "
            "(verify cle compact).",
            min=0,
        ),
    ] = 0.0
    as_json: Json = False


@cle_app.command(
    "serve",
    epilog="Example: orchestrator verify cle serve /var/lib/cle --key cle.pem --listen 192.0.2.1:9600 "
    "--tls-cert cle.crt --tls-key cle.key --tls-ca ca.crt --shipper server1=server1.1,server1.2",
)
@takes(ServeOptions)
def serve(options: ServeOptions) -> None:
    """Take records until Ctrl-C. Says `{"ready": true, "address": ...}` once it does.

    Published heads are in FOLDER/heads.jsonl: for the customer, who keeps them.
    """
    signing = private_key(options.key, "--key")
    own, shippers = (
        _credentials(options.tls_cert, options.tls_key, options.tls_ca),
        _shippers(options.shipper or []),
    )
    if (own is None) != (shippers is None):
        raise InputError(
            "--tls-cert, --tls-key and --tls-ca belong with --shipper: who speaks for what"
        )
    if own is None and not options.listen.startswith("unix:"):
        warn(f"{options.listen} without certificates: whoever can connect tells what he likes")
    options.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def ready(address: str) -> None:
        say(json.dumps({"ready": True, "address": address}))

    terms = Terms(own, shippers, options.rate, retention_days=options.retention_days)
    run(options.folder, signing, options.listen, terms, ready)


@cle_app.command(
    "audit",
    epilog="Example: orchestrator verify cle audit /var/lib/cle --cle cle.pub --kept heads.jsonl",
)
def audit(
    folder: Folder,
    cle: PublicKey,
    kept: Annotated[
        list[Path] | None,
        typer.Option(help="Heads that somebody kept, as published (repeatable)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Whether the log is what the CLE sealed, and leads through the heads that others kept.

    Exit code 1 when it is or does not.
    """
    heads = [head for path in kept or () for head in read_heads(path)]
    audited = look(log_folder(folder), public_of(cle), heads)
    if as_json:
        problems = list(audited.problems)
        print_json({"first": audited.first, "last": audited.last, "problems": problems})
    else:
        for problem in audited.problems:
            warn(problem)
        word = "NOT as it was sealed" if audited.problems else "as it was sealed"
        say(f"{folder}: entries {audited.first} to {audited.last}, {len(heads)} kept heads: {word}")
    if audited.problems:
        raise typer.Exit(1)


@cle_app.command(
    "archive", epilog="Example: orchestrator verify cle archive /var/lib/cle campus.bundle"
)
def archive(
    folder: Folder,
    bundle: Annotated[list[Path], typer.Argument(help="Bundles that are to run, or were.")],
    as_json: Json = False,
) -> None:
    """Keep bundles in FOLDER/archive, by digest: `verify check` finds them there."""
    for path in bundle:
        read_bundle(path)  # all are looked at before any is kept
    kept = {str(path): put(folder, read_regular(path, str(path))) for path in bundle}
    if as_json:
        print_json(kept)
        return
    for name, digest in kept.items():
        say(f"{name}: {digest}")


@cle_app.command("compact", epilog="Example: orchestrator verify cle compact /var/lib/cle")
def compact(folder: Folder, as_json: Json = False) -> None:
    """Write closed segments into FOLDER/parquet, by graph, hour and kind; each once."""
    written = write(folder)
    if as_json:
        print_json({"segments": written})
    else:
        say(f"{folder}: {written} segments written")


@cle_app.command(
    "query",
    epilog="Example: orchestrator verify cle query /var/lib/cle "
    '"SELECT kind, count(*) FROM records GROUP BY kind"',
)
def query(
    folder: Folder,
    sql: Annotated[str, typer.Argument(help="A SELECT over the table `records` (DuckDB).")],
    as_json: Json = False,
) -> None:
    """Ask the records: those in Parquet, and the newer segments. Nothing else is read or written."""
    columns, rows = ask(folder, sql)
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        print_table("", columns, rows)


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What `verify cle watch` was asked for."""

    manifest: Annotated[Path, typer.Argument(help="The verification manifest, signed by both.")]
    sampling_key: Annotated[Path, typer.Option(help="The sampling key of customer and CLE.")]
    network: Annotated[
        str,
        typer.Option("--network", "-n", help="Tell workers of this network, by its inventory."),
    ] = ""
    point: Annotated[
        list[str] | None,
        typer.Option(help="POINT=ADDRESS of a worker's management API (repeatable)."),
    ] = None
    collector: Annotated[
        str, typer.Option(help="The server behind which `collect` runs: tell switches, too.")
    ] = ""
    bundle: Annotated[
        Path | None, typer.Option(help="With --collector: a bundle of the graph (for its number).")
    ] = None
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate of the CLE.")] = None
    tls_key: Annotated[Path | None, typer.Option(help="Its PEM key.")] = None
    tls_ca: Annotated[Path | None, typer.Option(help="Who signs workers' certificates.")] = None
    once: Annotated[bool, typer.Option("--once", help="Tell them now, and end.")] = False
    as_json: Json = False


@cle_app.command(
    "watch",
    epilog="Example: orchestrator verify cle watch manifest.json --sampling-key watch.key "
    "--network leaf-spine --tls-cert cle.crt --tls-key cle.key --tls-ca ca.crt",
)
@takes(WatchOptions)
def watch(options: WatchOptions) -> None:
    """Tell points the key epochs as they come and go, until Ctrl-C; they keep what they were told.

    Exit code 7 with --once when a point could not be told.
    """
    signed = manifests.read(options.manifest)
    manifests.check(signed, None, None)
    agreed = signed.manifest
    key = keys.agreed_key(options.sampling_key, agreed.sampling.key, str(options.manifest))
    tls = client_files(options.tls_cert, options.tls_key, options.tls_ca)
    addresses = _addresses(options.point or [])
    points: dict[str, Callable[[], AbstractContextManager[EpochTaker]]] = {}
    if options.network:
        inventory = load_inventory(options.network)
        there = {w.name: w.address for w in inventory.workers if w.name in agreed.points}
        addresses = there | addresses
        if options.collector:
            if options.bundle is None:
                raise InputError("--collector and --bundle belong together")
            points |= _switches(agreed, key, inventory, options.collector, options.bundle, tls)
    for name, address in addresses.items():
        points[name] = partial(WorkerClient, name, address, tls=tls)
    if not points:
        raise InputError("give --network or --point: who is to be told")
    if missing := set(agreed.points) - set(points):
        warn(f"{', '.join(sorted(missing))}: of the manifest, and told by nobody here")
    before: dict[str, object] | None = None
    while True:
        now = datetime.now(UTC)
        failed = tell(agreed, key, points, now)
        told: dict[str, object] = {"epochs": list(agreed.epochs_at(now)), "failed": failed}
        if told != before and options.as_json:
            print_json(told)
        elif told != before:
            _print_told(told["epochs"], failed)
        before = told
        if options.once:
            if failed:
                raise typer.Exit(ServerError.exit_code)
            return
        time.sleep(step_seconds(agreed))


def _switches(
    agreed: VerificationManifest,
    key: bytes,
    inventory: Inventory,
    server: str,
    bundle: Path,
    tls: TlsFiles | None,
) -> dict[str, Callable[[], SwitchWitness]]:
    """The switches of a manifest as points that take epochs, each in a P4Runtime role of the CLE's."""
    switches = switches_of(agreed, inventory.topology, server, bundle)

    def point(name: str) -> SwitchWitness:
        address = inventory.pipelines[name]
        role = f"{ROLE}-{agreed.graph}"
        # The lowest id: where a switch knows no roles (BMv2) its controller is not pushed aside.
        session = SwitchClient(
            name, address.address, address.device_id, tls=tls, role=role, election_id=1
        )
        reports = partial(report_key, key, agreed.graph, name)
        return SwitchWitness(name, session, switches.graph_id, switches.mac, reports, time.time)

    return {name: partial(point, name) for name in switches.names if name in inventory.pipelines}


def _print_told(epochs: object, failed: dict[str, str]) -> None:
    for name, why in failed.items():
        warn(f"{name}: {why}")
    say(f"epochs {epochs}: {'all points know' if not failed else f'{len(failed)} do not'}")


def _addresses(words: list[str]) -> dict[str, str]:
    addresses: dict[str, str] = {}
    for word in words:
        name, equals, address = word.partition("=")
        if not name or not equals or not address:
            raise InputError(f"--point {word}: POINT=ADDRESS is expected")
        addresses[name] = address
    return addresses


def _credentials(cert: Path | None, key: Path | None, ca: Path | None) -> Credentials | None:
    given = [path for path in (cert, key, ca) if path is not None]
    if not given:
        return None
    if cert is None or key is None or ca is None:
        raise InputError("--tls-cert, --tls-key and --tls-ca belong together")
    return credentials(cert, key, ca)


def _shippers(words: list[str]) -> dict[str, tuple[str, ...]] | None:
    by_shipper: dict[str, tuple[str, ...]] = {}
    for word in words:
        name, equals, points = word.partition("=")
        if not name or not equals or not all(points.split(",")):
            raise InputError(f"--shipper {word}: CN=POINT,POINT is expected")
        by_shipper[name] = tuple(points.split(","))
    return by_shipper or None

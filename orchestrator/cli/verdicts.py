"""`orchestrator verify trajectories` and `verify check`: ways of watched packets, and verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.bundle.codec import read as read_bundle
from orchestrator.cli.options import takes
from orchestrator.cli.output import Json, print_json, print_table, say, warn
from orchestrator.cli.verify import digest_of, public_of
from orchestrator.errors import InputError
from orchestrator.placement.topologies import resolve_topology
from orchestrator.verification import keys
from orchestrator.verification.cle.archive import bundles
from orchestrator.verification.cle.seals import read_heads
from orchestrator.verification.clocks import Clocks, sandwiches, steps
from orchestrator.verification.evidence import told
from orchestrator.verification.intended import Intended, intended
from orchestrator.verification.manifest import check as check_manifest
from orchestrator.verification.manifest import read
from orchestrator.verification.trajectories import Trajectory, picture, trajectories, words
from orchestrator.verification.verdicts import Judged, asked, judge

Folder = Annotated[Path, typer.Argument(help="The CLE's folder, or a copy of it.")]
CleKey = Annotated[Path, typer.Option("--cle", help="The CLE's public key.")]
Bundles = Annotated[
    list[Path] | None,
    typer.Option(
        "--bundle",
        help="A bundle that was to run then (repeatable); left out: what `verify cle archive` has kept.",
    ),
]
TopologyName = Annotated[
    str, typer.Option("--topology", "-t", help="A topology file, or the name of a shipped one.")
]
Kept = Annotated[
    list[Path] | None, typer.Option(help="Heads of the log that somebody kept (repeatable).")
]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(
        "trajectories",
        epilog="Example: orchestrator verify trajectories /var/lib/cle --cle cle.pub "
        "--bundle campus.bundle -t leaf-spine --drops",
    )(trajectories_command)
    app.command(
        "check",
        epilog="Example: orchestrator verify check /var/lib/cle manifest.json --bundle campus.bundle "
        "-t leaf-spine --sampling-key watch.key --kept heads.jsonl",
    )(check)


@dataclass(frozen=True, slots=True)
class TrajectoryOptions:
    """What `verify trajectories` was asked for."""

    folder: Folder
    cle: CleKey
    bundle: Bundles = None
    topology: TopologyName = "leaf-spine"
    label: Annotated[str, typer.Option(help="Only of this label (0x12ab34cd).")] = ""
    flow: Annotated[str, typer.Option(help="Only of this flow, by its hash (0x1a2b).")] = ""
    drops: Annotated[bool, typer.Option("--drops", help="Only what was dropped.")] = False
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="Only those whose begin or end nobody told.")
    ] = False
    limit: Annotated[int, typer.Option(help="At most so many.", min=1)] = 20
    as_json: Json = False

    def wanted(self, ways: Iterable[Trajectory]) -> list[Trajectory]:
        """Those that were asked for."""
        label, flow = _number("--label", self.label), _number("--flow", self.flow)
        return [
            way
            for way in ways
            if (label is None or way.packet[0] == label)
            and (flow is None or way.flow == flow)
            and (not self.drops or way.drops)
            and (not self.incomplete or not way.complete)
        ]


@takes(TrajectoryOptions)
def trajectories_command(options: TrajectoryOptions) -> None:
    """The ways of watched packets, as the points told them, in the order of the chain.

    Between two points a time is an interval, since nobody sets their clocks alike; both ways to a point
    and back together are known to a few us.
    """
    meant = _intended(_bundles(options.folder, options.bundle), options.topology)
    ways = trajectories(told(options.folder, public_of(options.cle)).records)
    clocks = Clocks(ways)
    wanted = options.wanted(ways)
    shown = wanted[: options.limit]
    if options.as_json:
        print_json([_json(way, meant, clocks) for way in shown])
        return
    for way in shown:
        for line in picture(way, meant, steps(way, clocks)):
            say(line)
        for point, ways_us in sandwiches(way):
            say(f"  to {meant.name(point)} and back: {ways_us}")
    rest = f", the first {options.limit}" if len(wanted) > len(shown) else ""
    say(f"{len(wanted)} trajectories{rest}")


def check(
    folder: Folder,
    manifest: Annotated[Path, typer.Argument(help="The verification manifest, signed by both.")],
    sampling_key: Annotated[Path, typer.Option(help="The sampling key of customer and CLE.")],
    bundle: Bundles = None,
    topology: TopologyName = "leaf-spine",
    kept: Kept = None,
    settle: Annotated[
        float, typer.Option(help="Leave packets of the last seconds to the next time.", min=0)
    ] = 2.0,
    as_json: Json = False,
) -> None:
    """Verdicts by the manifest: completeness, and path. Exit code 1 when something contradicts it.

    First the log itself is looked at, and the manifest's signatures: nothing is judged by others.
    """
    signed = read(manifest)
    check_manifest(signed, None, None)
    agreed = signed.manifest
    paths = _bundles(folder, bundle)
    if agreed.references.bundle not in map(digest_of, paths):
        raise InputError(f"--bundle: none is the one that {manifest} refers to")
    key = keys.agreed_key(sampling_key, agreed.sampling.key, str(manifest))
    heads = [head for path in kept or () for head in read_heads(path)]
    evidence = told(folder, agreed.roles.cle, heads)
    meant = _intended(paths, topology, agreed.graph if bundle is None else "")
    if meant.graph != agreed.graph:
        raise InputError(f"--bundle: is of '{meant.graph}', the manifest of '{agreed.graph}'")
    watched = asked(trajectories(evidence.records), agreed, key, round(settle * 1e6))
    judged = judge(watched, evidence, meant, agreed)
    if as_json:
        print_json(_verdicts(judged))
    else:
        _print(judged)
    if judged.findings:
        raise typer.Exit(1)


def _verdicts(judged: Judged) -> dict[str, object]:
    return {
        "packets": judged.packets,
        "records": judged.records,
        "completeness": all(f.verdict != "completeness" for f in judged.findings),
        "path": all(f.verdict != "path" for f in judged.findings),
        "findings": [
            {
                "verdict": f.verdict,
                "what": f.what,
                "count": f.count,
                "of": f.of,
                "evidence": list(f.evidence),
            }
            for f in judged.findings
        ],
    }


def _print(judged: Judged) -> None:
    rows = [(f.verdict, f.what, f.count, f.of) for f in judged.findings]
    if rows:
        print_table("Contradictions", ("verdict", "what", "count#", "of#"), rows)
    for finding in judged.findings:
        for line in finding.evidence:
            warn(f"{finding.what}: {line}")
    word = "CONTRADICTED" if rows else "as agreed"
    say(f"{judged.packets} packets, {judged.records} records: {word}")
    if not judged.packets:
        warn("no packet was judged: nothing was watched, or all of it is too young")


def _bundles(folder: Path, given: list[Path] | None) -> list[Path]:
    paths = given or bundles(folder)
    if not paths:
        raise InputError(f"--bundle: none is given, and {folder} has none (verify cle archive)")
    return paths


def _intended(paths: Sequence[Path], topology: str, graph: str = "") -> Intended:
    """What bundles mean: all of them, or those of a graph."""
    read_bundles = [read_bundle(path).bundle for path in paths]
    read_bundles = [bundle for bundle in read_bundles if bundle.graph == (graph or bundle.graph)]
    if len({bundle.graph for bundle in read_bundles}) > 1:
        raise InputError("--bundle: bundles of one graph are expected")
    return intended(read_bundles, resolve_topology(topology))


def _number(option: str, text: str) -> int | None:
    try:
        return int(text, 0) if text else None
    except ValueError:
        raise InputError(f"{option} {text}: a number like 0x1a2b is expected") from None


def _json(trajectory: Trajectory, meant: Intended, clocks: Clocks) -> dict[str, object]:
    return {
        "label": f"{trajectory.packet[0]:#010x}",
        "flow": f"{trajectory.flow:#06x}",
        "ingress_us": trajectory.packet[1],
        "complete": trajectory.complete,
        "sandwiches": [
            {"to": meant.name(some.point), "ways_us": list(some.ways)}
            for some in sandwiches(trajectory)
        ],
        "records": [
            {
                "point": meant.name(r.point),
                "kind": r.kind.name,
                "spi": r.path >> 8,
                "si": r.si,
                "what": words(r),
                "boot": f"{r.boot:016x}",
                "sequence": r.sequence,
                "wall_us": r.wall_us,
                "after_us": None if span is None else list(span),
            }
            for r, span in zip(trajectory.records, steps(trajectory, clocks), strict=True)
        ],
    }

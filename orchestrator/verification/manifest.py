"""The verification manifest (vNFO, 4.3): what customer and provider agree on, signed by both.

One JSON document: `{"manifest": {...}, "signatures": {"customer": "...", "provider": "..."}}`. They
are Ed25519 over `PURPOSE` and the canonical JSON of the manifest (sorted keys, no spaces).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

import servernf
from orchestrator.errors import InputError
from orchestrator.files import read_small
from orchestrator.model.bundle import Bundle
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.manifest import COLLECTORS
from orchestrator.model.plan import Core
from orchestrator.nfs.files import explain, located
from orchestrator.targets.pipelines import capability_for
from orchestrator.units import Name, parse_name
from orchestrator.verification.keys import epoch_of, public_text, signed_by
from servernf.wire.witness import Epoch, Witness

FORMAT = 1
PURPOSE = b"orchestrator verification manifest\0"
SIGNERS = ("customer", "provider")
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Roles(_Document):
    """Public keys, hexadecimal."""

    customer: Digest
    provider: Digest
    cle: Digest


class Epochs(_Document):
    """Number 1 begins at `first`; each lasts `seconds`, and `overlap_seconds` into the next."""

    first: AwareDatetime
    seconds: Annotated[int, Field(ge=10, le=10**8)]
    overlap_seconds: Annotated[int, Field(ge=1, le=10**6)]


class Sampling(_Document):
    """Shares of packets and of flows that are watched; `key` is the commitment to the sampling key."""

    packets: Share
    flows: Share = 0.0
    key: Digest


class Metric(_Document):
    """A performance metric, and how far it may be above the reference's (3.2, Delta)."""

    name: Name
    percentile: Annotated[float, Field(gt=0, lt=100)] = 95.0
    delta_us: Amount


class Price(_Document):
    """What is paid for a resource, and by what share the bill may differ (3.3, Delta, both ways)."""

    resource: Literal["cpu_seconds", "memory_byte_seconds", "network_bytes"]
    price: Amount
    delta: Share


class MeantSoftware(_Document):
    """SHA-256 of what is meant to run: the installed servernf, and the bundle's file."""

    servernf: Digest
    bundle: Digest


def _point(text: str) -> str:
    core = Core.named(text)
    parse_name(text if core is None else core.server)
    return text


Point = Annotated[str, AfterValidator(_point)]
"""A device's name, or a core's."""


class VerificationManifest(_Document):
    """What is verified of a graph, and how."""

    format: Literal[1]
    graph: Name
    roles: Roles
    nfs: tuple[Name, ...]
    """Of the graph, all."""
    points: tuple[Point, ...]
    """Who must report, by name: all workers, and switches whose pipelines make records."""
    epochs: Epochs
    sampling: Sampling
    granularity: Literal["headers", "packets", "packets+state"] = "packets"
    header_bytes: Annotated[int, Field(ge=14, le=65_535)] = 128
    shims: Literal["measured", "isolated"] = "measured"
    loss_bound: Share = 0.001
    """Share of records that may be missing where a network is honest."""
    metrics: tuple[Metric, ...] = ()
    billing: tuple[Price, ...] = ()
    references: MeantSoftware
    retention_days: Annotated[int, Field(ge=1, le=36_500)] = 30

    def epochs_at(self, at: datetime) -> tuple[int, ...]:
        """Numbers of the epochs that are valid at a time: none before the first, two in an overlap."""
        since = (at - self.epochs.first).total_seconds()
        if since < 0:
            return ()
        number, into = divmod(since, self.epochs.seconds)
        latest = int(number) + 1
        overlaps = latest > 1 and into < self.epochs.overlap_seconds
        return (latest - 1, latest) if overlaps else (latest,)

    def settled_at(self, at: datetime) -> int | None:
        """The epoch that all points have at a time, if they change within the overlap; None: none yet.

        They may be half an overlap late or early, their clocks included.
        """
        since = (at - self.epochs.first).total_seconds() - self.epochs.overlap_seconds / 2
        return None if since < 0 else int(since // self.epochs.seconds) + 1

    def epoch(self, key: bytes, number: int) -> Epoch:
        """A key epoch."""
        return epoch_of(key, self.graph, number, self.sampling.packets, self.sampling.flows)

    def witness(self, key: bytes, at: datetime) -> Witness | None:
        """What points are told at a time; None before the first epoch."""
        numbers = self.epochs_at(at)
        epochs = tuple(self.epoch(key, number) for number in numbers)
        has_state = self.granularity == "packets+state"
        return Witness(epochs, self.headers, has_state) if epochs else None

    @property
    def headers(self) -> int:
        """Bytes of a frame in a record; 0: all."""
        return self.header_bytes if self.granularity == "headers" else 0

    def canonical(self) -> bytes:
        """The bytes that are signed."""
        return json.dumps(
            self.model_dump(mode="json"), sort_keys=True, separators=(",", ":")
        ).encode()


class Signed(_Document):
    """A manifest and the signatures that it has so far, hexadecimal, by role."""

    manifest: VerificationManifest
    signatures: dict[Literal["customer", "provider"], Annotated[str, Field(max_length=128)]] = {}

    def text(self) -> bytes:
        """The file."""
        return (json.dumps(self.model_dump(mode="json"), indent=2) + "\n").encode()


def new(
    graph: ServiceGraph,
    bundle: Bundle,
    references: MeantSoftware,
    sampling: Sampling,
    roles: Roles,
    *,
    switches: bool = False,
) -> Signed:
    """A manifest of a compiled graph with what is usual; it is edited, then signed. `switches`: those
    that the graph has entries on and whose pipelines make records are points, too."""
    first = datetime.now(UTC).replace(microsecond=0)
    manifest = VerificationManifest(
        format=FORMAT,
        graph=graph.name,
        roles=roles,
        nfs=tuple(graph.nfs),
        points=(*points_of(bundle), *(sorted(reporting(bundle)) if switches else ())),
        epochs=Epochs(first=first, seconds=3600, overlap_seconds=60),
        sampling=sampling,
        references=references,
    )
    return Signed(manifest=manifest)


def points_of(bundle: Bundle) -> tuple[str, ...]:
    """The points that a bundle's packets come to: its workers."""
    return tuple(sorted(str(Core(w.server, w.core)) for w in bundle.workers))


def reporting(bundle: Bundle) -> frozenset[str]:
    """Switches of a bundle whose pipelines can tell a CLE of packets."""
    return frozenset(
        name for name in bundle.programs if capability_for(bundle, name).table_sizes.get(COLLECTORS)
    )


def read(path: Path) -> Signed:
    """The manifest of a file."""
    try:
        raw: Any = json.loads(read_small(path, str(path)))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON document: {error}") from None
    try:
        return Signed.model_validate(raw)
    except ValidationError as error:
        raise InputError([located(str(path), t) for t in explain(error, Signed)]) from None


def sign(signed: Signed, role: str, key: Ed25519PrivateKey) -> Signed:
    """With the signature of a role; InputError if the key is not the one that the manifest names."""
    if role not in SIGNERS:
        raise InputError(f"--role {role}: a manifest is signed by {' and '.join(SIGNERS)}")
    named = getattr(signed.manifest.roles, role)
    if public_text(key) != named:
        raise InputError(f"the key is not that of the {role} in the manifest ({named})")
    signature = key.sign(PURPOSE + signed.manifest.canonical()).hex()
    signatures = cast("Mapping[str, str]", signed.signatures)
    return Signed.model_validate(
        {"manifest": signed.manifest, "signatures": {**signatures, role: signature}}
    )


def check(
    signed: Signed, graph: ServiceGraph | None, bundle: Bundle | None, bundle_digest: str = ""
) -> None:
    """InputError with everything that is wrong: signatures, terms, and against graph and bundle."""
    problems = [*_terms(signed.manifest), *_signatures(signed)]
    if graph is not None:
        problems += _against_graph(signed.manifest, graph)
    if bundle is not None:
        problems += _against_bundle(signed.manifest, bundle, bundle_digest)
    if problems:
        raise InputError(problems)


def _signatures(signed: Signed) -> Iterator[str]:
    message = PURPOSE + signed.manifest.canonical()
    for role in SIGNERS:
        text = signed.signatures.get(role)  # type: ignore[call-overload]
        if text is None:
            yield f"signatures.{role}: is missing"
            continue
        try:
            raw = bytes.fromhex(text)
        except ValueError:
            raw = b""
        if not signed_by(getattr(signed.manifest.roles, role), raw, message):
            yield f"signatures.{role}: is not one of this manifest by the key in roles.{role}"


def _terms(manifest: VerificationManifest) -> Iterator[str]:
    roles = manifest.roles
    if len({roles.customer, roles.provider, roles.cle}) < 3:
        yield "roles: customer, provider and cle must have keys of their own"
    for name in ("nfs", "points"):
        names = getattr(manifest, name)
        if len(set(names)) < len(names):
            yield f"{name}: a name is given twice"
    if manifest.epochs.overlap_seconds * 2 > manifest.epochs.seconds:
        yield "epochs.overlap_seconds: must be at most half of epochs.seconds"
    if manifest.shims == "isolated":
        yield "shims: 'isolated': shims are in the worker's process (valid: measured)"


def _against_graph(manifest: VerificationManifest, graph: ServiceGraph) -> Iterator[str]:
    if manifest.graph != graph.name:
        yield f"graph: '{manifest.graph}', but the service graph is '{graph.name}'"
    for name in sorted(set(manifest.nfs) - set(graph.nfs)):
        yield f"nfs: the graph has no NF '{name}'"
    for name in sorted(set(graph.nfs) - set(manifest.nfs)):
        yield f"nfs: NF '{name}' of the graph is missing"


def _against_bundle(manifest: VerificationManifest, bundle: Bundle, digest: str) -> Iterator[str]:
    if manifest.graph != bundle.graph:
        yield f"graph: '{manifest.graph}', but the bundle is of '{bundle.graph}'"
    points = points_of(bundle)
    names = {*points, *bundle.programs}
    for name in sorted(set(manifest.points) - names):
        yield f"points: the bundle has nothing on '{name}' (it has: {', '.join(sorted(names))})"
    for name in sorted(set(points) - set(manifest.points)):
        yield f"points: '{name}' of the bundle is missing"
    for name in sorted((set(manifest.points) & set(bundle.programs)) - reporting(bundle)):
        pipeline, target = bundle.pipeline_of[name]
        yield f"points: '{name}' cannot report: pipeline {pipeline} on {target} has no {COLLECTORS}"
    if digest and digest != manifest.references.bundle:
        yield f"references.bundle: {manifest.references.bundle}, but the file's is {digest}"


def servernf_digest() -> str:
    """SHA-256 of the servernf that is installed here: names and contents of its files."""
    root = Path(servernf.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.suffix in (".py", ".c", ".h", ".proto")):
        name, data = str(path.relative_to(root)).encode(), path.read_bytes()
        digest.update(len(name).to_bytes(4, "big") + name)
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()

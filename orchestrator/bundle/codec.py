"""A bundle as one zip file: binary update batches, pipelines, worker configs, manifest with digests.

`manifest.json` names every member with its SHA-256; reading checks them. The same bundle always gives
the same bytes. No pickle: protobuf and JSON only. What `compile -o` writes holds the topology, too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finsy.proto import p4r
from google.protobuf.message import DecodeError
from google.protobuf.text_format import ParseError
from pydantic import TypeAdapter

from orchestrator.clients.encoding import Inserts, RawUpdate
from orchestrator.clients.p4info import Schema, flood_update
from orchestrator.errors import InputError
from orchestrator.model.bundle import Bundle, Slo, Story
from orchestrator.model.entries import (
    FIRST_REMOTE_COPY,
    ChainHop,
    FloodGroup,
    ServerChain,
    SwitchProgram,
    TableEntry,
    WorkerProgram,
)
from orchestrator.model.match import Prefix
from orchestrator.model.plan import ClassMap, Core, Hop, Plan, Region, Slice
from orchestrator.model.topology import Topology
from orchestrator.targets.pipeline import Slot
from orchestrator.targets.shipped import SPECIALISED, Artifact, artifact, register, slots_of
from orchestrator.units import Name

FORMAT = 1
MAGIC = b"PK"
"""What every bundle begins with, and no graph does."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
_TOPOLOGY = "topology.json"
_TOPOLOGIES = TypeAdapter(Topology)
_NAMES = TypeAdapter[str](Name)
_GRAPH_IDS = range(1, 1 << 10)


@dataclasses.dataclass(frozen=True, slots=True)
class Packed:
    """A bundle, and what else its file says.

    `topology` is what it was compiled for, without TLS files; None: it came from a journal.
    `foreign` are shipped pipelines of which it carries another build than this version ships.
    """

    bundle: Bundle
    topology: Topology | None
    foreign: tuple[str, ...]
    source: str


def serialised(bundle: Bundle) -> dict[str, Inserts]:
    """The entries of a graph by switch, in the binary form in which a bundle has them."""
    schema_of = _schemas(bundle)
    return {
        switch: schema_of[switch].inserts(program.entries, bundle.graph)
        for switch, program in bundle.switches.items()
    }


def dump(
    bundle: Bundle,
    entries: Mapping[str, Inserts] | None = None,
    *,
    topology: Topology | None = None,
) -> bytes:
    """The bundle as a zip file; `entries` are what `serialised` made of it, if that is known."""
    entries = serialised(bundle) if entries is None else entries
    members: dict[str, bytes | bytearray] = {}
    for pipeline, target in sorted(set(bundle.pipeline_of.values())):
        shipped = artifact(pipeline, target)
        members[f"pipelines/{shipped.name}.p4info.txtpb"] = shipped.p4info_text
        members[f"pipelines/{shipped.name}.json"] = shipped.device_config
        slots = [[slot.instance, slot.block, slot.nf] for slot in slots_of(pipeline)]
        members[f"pipelines/{shipped.name}.slots.json"] = _json(slots)
    schema_of = _schemas(bundle)
    for kind, programs in (("fabric", bundle.fabric), ("switches", bundle.switches)):
        for switch, program in programs.items():
            schema = schema_of[switch]
            name = f"{kind}/{switch}"
            inserts = (
                schema.inserts(program.entries, bundle.graph)
                if kind == "fabric"
                else entries[switch]
            )
            floods = [RawUpdate.of(flood_update(f, p4r.Update.INSERT)) for f in program.floods]
            batch = members[f"{name}.entries.bin"] = inserts.data
            if floods:
                members[f"{name}.entries.bin"] = batch + b"".join(f.part() for f in floods)
            activation = schema.inserts(program.activation, bundle.graph)
            members[f"{name}.activation.bin"] = activation.data
    members["workers.json"] = _json([_worker_document(worker) for worker in bundle.workers])
    members["plan.json"] = _json(
        dataclasses.asdict(bundle.plan)
        | {"tree_of": [[*pair, tree] for pair, tree in bundle.plan.tree_of.items()]}
    )
    members["removed.json"] = _json(bundle.removed)
    members["explanation.json"] = _json([dataclasses.asdict(story) for story in bundle.stories])
    if topology is not None:
        members[_TOPOLOGY] = _TOPOLOGIES.dump_json(_public(topology))
    manifest = {
        "format": FORMAT,
        "graph": bundle.graph,
        "owner": bundle.owner,
        "graph_id": bundle.graph_id,
        "topology": bundle.topology,
        "sampling_rate": bundle.sampling_rate,
        "pipeline_of": bundle.pipeline_of,
        "block_use": bundle.block_use,
        "warnings": bundle.warnings,
        "slos": {name: dataclasses.asdict(slo) for name, slo in bundle.slos.items()},
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in members.items()},
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in {"manifest.json": _json(manifest), **members}.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def is_bundle(path: Path) -> bool:
    """Whether a file is a bundle, whole or not, by its content; one that cannot be read is not."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read(path: Path) -> Packed:
    """A bundle from a file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    return unpack(data, str(path))


def load(data: bytes, source: str) -> Bundle:
    """The bundle of a zip file; InputError when it is damaged or of another format."""
    return unpack(data, source).bundle


_NO_BUNDLE = (LookupError, ValueError, TypeError, AttributeError, DecodeError, ParseError)


def unpack(data: bytes, source: str) -> Packed:
    """All that a zip file says; InputError when it is damaged or of another format."""
    members = _members(data, source)
    try:
        manifest = json.loads(members["manifest.json"])
        if manifest.get("format") != FORMAT:
            raise InputError(
                f"{source}: bundle format {manifest.get('format')}; this version reads {FORMAT}"
            )
        _check_digests(members, manifest["sha256"], source)
        topology = members.get(_TOPOLOGY)
        pipelines = _pipelines(members, manifest, source)
        return Packed(
            _bundle(members, manifest, pipelines),
            None if topology is None else _TOPOLOGIES.validate_json(topology),
            _foreign(pipelines),
            source,
        )
    except _NO_BUNDLE as error:
        raise InputError(f"{source}: not a bundle ({type(error).__name__}: {error})") from error


def _members(data: bytes, source: str) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    # A damaged archive may also seem to be encrypted, of another method, or to end early.
    except (zipfile.BadZipFile, zlib.error, RuntimeError, OSError, EOFError, ValueError) as error:
        raise InputError(f"{source}: not a bundle ({error})") from error


def _check_digests(members: dict[str, bytes], digests: dict[str, str], source: str) -> None:
    for name, digest in digests.items():
        if hashlib.sha256(members.get(name, b"")).hexdigest() != digest:
            raise InputError(f"{source}: {name} is damaged (its digest is not the manifest's)")
    if extra := sorted(members.keys() - digests.keys() - {"manifest.json"}):
        raise InputError(f"{source}: {extra[0]} is not in its manifest")


def _pipelines(
    members: dict[str, bytes], manifest: dict[str, Any], source: str
) -> dict[tuple[str, str], Artifact]:
    """The builds that a bundle carries; specialised ones are known by name from now on."""
    found: dict[tuple[str, str], Artifact] = {}
    for pipeline, target in sorted({(p, t) for p, t in manifest["pipeline_of"].values()}):
        special = pipeline.startswith(SPECIALISED)
        try:
            name = pipeline if special else artifact(pipeline, target).name
        except InputError as error:
            raise InputError(f"{source}: {error}") from error
        build = Artifact(
            name, *(members[f"pipelines/{name}.{kind}"] for kind in ("p4info.txtpb", "json"))
        )
        if special:
            if name != f"{SPECIALISED}-{build.cookie:016x}":
                raise ValueError(f"{name} is not the pipeline of that name")
            slots = json.loads(members[f"pipelines/{name}.slots.json"])
            register(build, tuple(Slot(*slot) for slot in slots))
        found[pipeline, target] = build
    return found


def _foreign(pipelines: Mapping[tuple[str, str], Artifact]) -> tuple[str, ...]:
    other = (p for p, build in pipelines.items() if artifact(*p).cookie != build.cookie)
    return tuple(sorted({pipeline for pipeline, _ in other}))


def _public(topology: Topology) -> Topology:
    """Without what is only this machine's: where files are."""
    switches = {n: dataclasses.replace(s, tls=None) for n, s in topology.switches.items()}
    servers = {n: dataclasses.replace(s, tls=None) for n, s in topology.servers.items()}
    return dataclasses.replace(topology, switches=switches, servers=servers, source="")


def _bundle(
    members: dict[str, bytes],
    manifest: dict[str, Any],
    pipelines: Mapping[tuple[str, str], Artifact],
) -> Bundle:
    pipeline_of = {switch: (p, t) for switch, (p, t) in manifest["pipeline_of"].items()}
    # By the bundle's own P4Info: this version may ship another build, with other numbers.
    schemas = {pipeline: Schema(build.p4info()) for pipeline, build in pipelines.items()}
    programs: dict[str, dict[str, SwitchProgram]] = {"fabric": {}, "switches": {}}
    for name in members:
        kind, _, rest = name.partition("/")
        switch, dot, _ = rest.partition(".entries.bin")
        if kind in programs and dot:
            schema = schemas[pipeline_of[switch]]
            entries, floods = _unbatch(schema, members[name])
            activation, _ = _unbatch(schema, members[f"{kind}/{switch}.activation.bin"])
            programs[kind][switch] = SwitchProgram(entries, activation, floods)
    if missing := pipeline_of.keys() ^ programs["fabric"].keys():
        raise ValueError(f"{min(missing)} has no pipeline or no entries of the fabric")
    if manifest["graph_id"] not in _GRAPH_IDS:
        raise ValueError(f"graph id {manifest['graph_id']} is none of 1 to {_GRAPH_IDS[-1]}")
    return Bundle(
        graph=_NAMES.validate_python(manifest["graph"]),
        owner=manifest["owner"],
        graph_id=manifest["graph_id"],
        topology=manifest["topology"],
        sampling_rate=manifest["sampling_rate"],
        pipeline_of=pipeline_of,
        fabric=programs["fabric"],
        switches=programs["switches"],
        workers=tuple(_worker(item) for item in json.loads(members["workers.json"])),
        plan=_plan(json.loads(members["plan.json"])),
        block_use=manifest["block_use"],
        stories=tuple(Story(**item) for item in json.loads(members["explanation.json"])),
        warnings=tuple(manifest["warnings"]),
        removed=tuple((origin, why) for origin, why in json.loads(members["removed.json"])),
        slos={name: Slo(**item) for name, item in manifest["slos"].items()},
    )


def _schemas(bundle: Bundle) -> dict[str, Schema]:
    """The schema of each switch, one for all of a pipeline: P4Info takes long to parse."""
    pipelines = {p: Schema(artifact(*p).p4info()) for p in set(bundle.pipeline_of.values())}
    return {switch: pipelines[pipeline] for switch, pipeline in bundle.pipeline_of.items()}


def _unbatch(schema: Schema, data: bytes) -> tuple[tuple[TableEntry, ...], tuple[FloodGroup, ...]]:
    entries: list[TableEntry] = []
    floods: list[FloodGroup] = []
    for update in p4r.WriteRequest.FromString(data).updates:
        if update.entity.HasField("table_entry"):
            entries.append(schema.decode(update.entity.table_entry)[1])
        else:
            group = update.entity.packet_replication_engine_entry.multicast_group_entry
            # BMv2 knows only the older of the two ways to name a port.
            copies = [(r.instance, r.egress_port) for r in group.replicas]  # pyright: ignore[reportDeprecated]
            ports = tuple(port for instance, port in copies if instance < FIRST_REMOTE_COPY)
            remote = tuple(port for instance, port in copies if instance >= FIRST_REMOTE_COPY)
            floods.append(FloodGroup(group.multicast_group_id, ports, "bundle", remote))
    return tuple(entries), tuple(floods)


def _worker_document(worker: WorkerProgram) -> dict[str, Any]:
    """As JSON; configs are not copied, since a router's may be half a million routes."""
    chains = [dataclasses.asdict(chain) for chain in worker.chains]
    return {
        "server": worker.server,
        "core": worker.core,
        "nfs": {name: list(spec) for name, spec in worker.nfs.items()},
        "chains": chains,
    }


def _worker(item: dict[str, Any]) -> WorkerProgram:
    return WorkerProgram(
        item["server"],
        item["core"],
        {name: (kind, config) for name, (kind, config) in item["nfs"].items()},
        tuple(
            ServerChain(
                chain["spi"],
                chain["si"],
                tuple(ChainHop(**hop) for hop in chain["hops"]),
                tuple(chain["outputs"]),
            )
            for chain in item["chains"]
        ),
    )


def _plan(item: dict[str, Any]) -> Plan:
    return Plan(
        switch_of=item["switch_of"],
        cores_of=tuple(tuple(Core(**core) for core in cores) for cores in item["cores_of"]),
        dispatch=tuple(tuple(_class_map(m) for m in maps) for maps in item["dispatch"]),
        tree_of={(source, target): tree for source, target, tree in item["tree_of"]},
        hops=tuple(Hop(**hop) for hop in item["hops"]),
        latency_us=item["latency_us"],
        core_load=item["core_load"],
        status=item["status"],
        objective=item["objective"],
        notes=tuple(item["notes"]),
        slot_of=item.get("slot_of", {}),
    )


def _class_map(item: dict[str, Any]) -> ClassMap:
    return ClassMap(
        tuple(item["traffics"]),
        tuple(Region(_prefix(r["inside"]), _prefix(r["outside"])) for r in item["regions"]),
        tuple(Slice(Core(**s["core"]), s["low"], s["high"]) for s in item["slices"]),
    )


def _prefix(item: dict[str, Any] | None) -> Prefix | None:
    return None if item is None else Prefix(**item)


def _json(value: Any) -> bytes:
    # No indentation: Python's encoder in C knows none.
    return (json.dumps(value, sort_keys=True) + "\n").encode()

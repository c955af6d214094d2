"""A bundle as one zip file: binary update batches, pipelines, worker configs, manifest with digests.

`manifest.json` names every member with its SHA-256; reading checks them. The same bundle always gives
the same bytes. No pickle: protobuf and JSON only. What `compile -o` writes holds the topology, too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from finsy.proto import p4r
from google.protobuf.message import DecodeError
from google.protobuf.text_format import ParseError
from pydantic import TypeAdapter

from orchestrator.bundle import archive, signing
from orchestrator.bundle.documents import (
    BundleManifest,
    read_manifest,
    read_plan,
    read_removed,
    read_slots,
    read_stories,
    read_workers,
)
from orchestrator.bundle.index import Index, PartPlace, Serialised
from orchestrator.clients.encoding import Inserts, RawUpdate
from orchestrator.clients.p4info import Schema, flood_update
from orchestrator.errors import InputError, SwitchError
from orchestrator.files import read_regular, read_start
from orchestrator.garbage import large_frozen_data
from orchestrator.graph import check_topology
from orchestrator.model.builds import Build
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import (
    FIRST_REMOTE_COPY,
    Entries,
    FloodGroup,
    LazyEntries,
    NodePart,
    PipelineProgram,
    TableEntry,
    WorkerProgram,
    Written,
)
from orchestrator.model.provenance import placed, places_of
from orchestrator.model.topology import Topology, public
from orchestrator.targets import lookup
from orchestrator.targets.pipelines import SHIPPED, SPECIALISED, Pipelines, build_for, p4info

FORMAT = 2
_MANIFEST = "manifest.json"
_TOPOLOGY = "topology.json"
_PLACES = ".places.txt"
"""Places of the rules of a device's entries, a line each: what devices are not told."""
_TOPOLOGIES = TypeAdapter(Topology)
_KNOWN = 1 << 16
"""Entries that are remembered while a bundle is read: devices with one access list share most."""

_Whole = dict[tuple[int, str], tuple[TableEntry, TableEntry]]
"""(id, place) -> (the very entry, the same with its place)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Packed:
    """A bundle, and what else its file says.

    `topology` is what it was compiled for, without TLS files; None: it came from a journal.
    `foreign` are shipped pipelines of which it carries another build than this version ships. `signer`
    is the fingerprint of the key that signed it, empty: nobody did; `trusted` says that this user trusts
    that key.
    """

    bundle: Bundle
    topology: Topology | None
    foreign: tuple[str, ...]
    source: str
    signer: str = ""
    trusted: bool = False


def serialised(bundle: Bundle) -> dict[str, Serialised]:
    """The entries of a graph by switch, in the binary form in which a bundle has them."""
    schema_of = _schemas(bundle)
    by_device: dict[str, Serialised] = {}
    for switch, program in bundle.programs.items():
        schema, runs = schema_of[switch], _runs(program.entries)
        form = _form(schema, bundle.graph)
        data = (_run(some, schema, bundle.graph, form) for some in runs)
        by_device[switch] = Serialised(program.entries, data, map(_places, runs))
    return by_device


def _runs(entries: Sequence[TableEntry]) -> Sequence[Sequence[TableEntry]]:
    """Entries in parts, as far as they are made of such."""
    return [part.entries for part in entries.parts] if isinstance(entries, Entries) else [entries]


def _run(
    entries: Sequence[TableEntry], schema: Schema, graph: str, form: bytes
) -> bytes | bytearray | memoryview:
    """Inserts of entries; they are copied where they were read in this form."""
    if isinstance(entries, LazyEntries):
        written = entries.written
        if written is not None and written.form == form:
            return written.data
    return schema.inserted(entries, graph)


def _form(schema: Schema, graph: str) -> bytes:
    """What the bytes of an entry depend on besides the entry."""
    info = schema.p4info.SerializeToString(deterministic=True)
    return blake2b(graph.encode() + b"\0" + info, digest_size=16).digest()


def dump(
    bundle: Bundle,
    entries: Mapping[str, Serialised] | None = None,
    *,
    topology: Topology | None = None,
    key: Ed25519PrivateKey | None = None,
) -> bytes:
    """The bundle as a zip file; `entries` are what `serialised` made of it, if that is known.

    `key` signs it.
    """
    entries = serialised(bundle) if entries is None else entries
    members: dict[str, bytes | bytearray] = {}
    pipelines = Pipelines.of(bundle.builds)
    for pipeline, target in sorted(set(bundle.pipeline_of.values())):
        build = pipelines.build(pipeline, target)
        members[f"pipelines/{build.name}.p4info.txtpb"] = build.p4info_text
        members[f"pipelines/{build.name}{lookup(target).suffix}"] = build.device_config
        slots = [[slot.instance, slot.block, slot.nf] for slot in build.slots]
        members[f"pipelines/{build.name}.slots.json"] = _json(slots)
    schema_of = _schemas(bundle)
    for kind, programs in (("fabric", bundle.fabric), ("programs", bundle.programs)):
        for switch, program in programs.items():
            name = f"{kind}/{switch}"
            inserts = entries[switch] if kind == "programs" else None
            batch, activation = _batches(schema_of[switch], program, bundle.graph, inserts)
            members[f"{name}.entries.bin"] = batch
            members[f"{name}.activation.bin"] = activation
            listed = map(_places, _runs(program.entries)) if inserts is None else inserts.places
            places = "\n".join(listed).encode()
            if places.strip():
                members[f"{name}{_PLACES}"] = places
    members["workers.json"] = _json([_worker_document(worker) for worker in bundle.workers])
    members["plan.json"] = _json(
        dataclasses.asdict(dataclasses.replace(bundle.plan, core_load={}))
        | {
            "tree_of": [[*pair, tree] for pair, tree in bundle.plan.tree_of.items()],
            "core_load": [
                [dataclasses.asdict(core), load] for core, load in bundle.plan.core_load.items()
            ],
        }
    )
    members["removed.json"] = _json(bundle.removed)
    members["explanation.json"] = _json([dataclasses.asdict(story) for story in bundle.stories])
    if topology is not None:
        members[_TOPOLOGY] = _TOPOLOGIES.dump_json(public(topology))
    manifest = {
        "format": FORMAT,
        "graph": bundle.graph,
        "owner": bundle.owner,
        "graph_id": bundle.graph_id,
        "topology": bundle.topology,
        "sampling_rate": bundle.sampling_rate,
        "devices": [dataclasses.asdict(device) for device in bundle.devices.values()],
        "endpoints": bundle.endpoints,
        "block_use": bundle.block_use,
        "warnings": bundle.warnings,
        "slos": {name: dataclasses.asdict(slo) for name, slo in bundle.slos.items()},
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in members.items()},
    }
    document = _json(manifest)
    signed = {} if key is None else {signing.MEMBER: signing.signature(key, document)}
    return archive.pack({_MANIFEST: document, **signed, **members})


def is_bundle(path: Path) -> bool:
    """Whether a file is a bundle, whole or not, by its content; one that cannot be read is not."""
    return read_start(path, len(archive.MAGIC)) == archive.MAGIC


def read(path: Path) -> Packed:
    """A bundle from a file; InputError if keys are trusted ($ORCHESTRATOR_TRUST) and none signed it."""
    trusted = signing.trusted_keys()
    packed = unpack(read_regular(path, str(path), archive.MAX_FILE_BYTES), str(path))
    if trusted and packed.signer not in trusted:
        who = f"is signed by {packed.signer}" if packed.signer else "is not signed"
        raise InputError(f"{path}: {who}; trusted are only {', '.join(trusted)} (--trust)")
    return dataclasses.replace(packed, trusted=bool(trusted))


def load(data: bytes, source: str, index: Index | None = None) -> Bundle:
    """The bundle of a zip file that this user's journal keeps; InputError when it is damaged.

    With its `index` the entries of its programs are made when one is asked for.
    """
    with large_frozen_data():
        return _unpacked(data, source, ours=True, index=index).bundle


def unpack(data: bytes, source: str) -> Packed:
    """All that a stranger's zip file says; InputError when it is damaged or of another format.

    Its update batches are what this version would write for what it reads in them, byte for byte: so
    nothing is in them that is not in `bundle` (default entries, other kinds of updates, odd encodings).
    """
    return _unpacked(data, source, ours=False)


_NO_BUNDLE = (
    *(LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError),
    *(DecodeError, ParseError, SwitchError),
)


def _unpacked(data: bytes, source: str, *, ours: bool, index: Index | None = None) -> Packed:
    members = archive.unpack(data, source)
    try:
        manifest = read_manifest(members[_MANIFEST], FORMAT, source)
        signed = members.pop(signing.MEMBER, None)
        _check_digests(members, manifest.sha256, source)
        topology = members.get(_TOPOLOGY)
        builds = _pipelines(members, manifest, source)
        return Packed(
            _bundle(members, manifest, builds, ours, index or {}),
            None if topology is None else _topology(topology),
            _foreign(builds),
            source,
            signing.signer_of(signed, members[_MANIFEST]) if signed is not None else "",
        )
    except _NO_BUNDLE as error:
        raise InputError(f"{source}: not a bundle ({type(error).__name__}: {error})") from error


def _check_digests(members: dict[str, bytes], digests: dict[str, str], source: str) -> None:
    for name, digest in digests.items():
        if hashlib.sha256(members.get(name, b"")).hexdigest() != digest:
            raise InputError(f"{source}: {name} is damaged (its digest is not the manifest's)")
    if extra := sorted(members.keys() - digests.keys() - {_MANIFEST}):
        raise InputError(f"{source}: {extra[0]} is not in its manifest")


_Builds = Mapping[tuple[str, str], Build]


def _pipelines(members: dict[str, bytes], manifest: BundleManifest, source: str) -> _Builds:
    """The builds that a bundle carries."""
    builds: dict[tuple[str, str], Build] = {}
    for pipeline, target in sorted(set(manifest.pipeline_of.values())):
        special = pipeline.startswith(SPECIALISED)
        try:
            name = pipeline if special else SHIPPED.build(pipeline, target).name
        except InputError as error:
            raise InputError(f"{source}: {error}") from error
        slots = f"pipelines/{name}.slots.json"
        builds[pipeline, target] = build = Build(
            name,
            members[f"pipelines/{name}.p4info.txtpb"],
            members[f"pipelines/{name}{lookup(target).suffix}"],
            read_slots(members[slots], slots) if special else (),
        )
        if special and name != f"{SPECIALISED}-{build.cookie:016x}":
            raise ValueError(f"{name} is not the pipeline of that name")
    return builds


def _foreign(pipelines: _Builds) -> tuple[str, ...]:
    shipped = {p: build for p, build in pipelines.items() if not p[0].startswith(SPECIALISED)}
    other = (p for p, build in shipped.items() if SHIPPED.build(*p).cookie != build.cookie)
    return tuple(sorted({pipeline for pipeline, _ in other}))


def _topology(data: bytes) -> Topology:
    """What a topology file could say: ids, names, ports and links are those of a network."""
    topology = _TOPOLOGIES.validate_json(data)
    check_topology(topology)
    return topology


def _bundle(
    members: dict[str, bytes], manifest: BundleManifest, builds: _Builds, ours: bool, index: Index
) -> Bundle:
    # By the bundle's own P4Info: this version may ship another build, with other numbers.
    schemas = {pipeline: Schema.of(p4info(build)) for pipeline, build in builds.items()}
    shared: dict[tuple[str, str], dict[bytes, TableEntry]] = {name: {} for name in schemas}
    whole: _Whole = {}
    pipeline_of = manifest.pipeline_of
    programs: dict[str, dict[str, PipelineProgram]] = {"fabric": {}, "programs": {}}
    for name in members:
        kind, _, rest = name.partition("/")
        switch, dot, _ = rest.partition(".entries.bin")
        if kind not in programs or not dot:
            continue
        schema, same = schemas[pipeline_of[switch]], shared[pipeline_of[switch]]
        late = f"{kind}/{switch}.activation.bin"
        places = members.get(f"{kind}/{switch}{_PLACES}", b"").decode()
        if kind == "programs" and switch in index:
            batch = members[name], places
            entries, floods = _unmade(schema, batch, index[switch], manifest.graph)
        else:
            entries, floods = _unbatch(schema, members[name], same)
            entries = _placed(entries, places, whole) if places else entries
        activation, _ = _unbatch(schema, members[late], same)
        programs[kind][switch] = program = PipelineProgram(entries, activation, floods)
        if not ours:
            written = _batches(schema, program, manifest.graph)
            for member, data in zip((name, late), written, strict=True):
                if members[member] != data:
                    raise ValueError(f"{member} holds more than entries that a compiler writes")
    if missing := pipeline_of.keys() ^ programs["fabric"].keys():
        raise ValueError(f"{min(missing)} has no pipeline or no entries of the fabric")
    return Bundle(
        graph=manifest.graph,
        owner=manifest.owner,
        graph_id=manifest.graph_id,
        topology=manifest.topology,
        sampling_rate=manifest.sampling_rate,
        devices={device.name: device for device in manifest.known()},
        fabric=programs["fabric"],
        programs=programs["programs"],
        workers=read_workers(members["workers.json"]),
        plan=read_plan(members["plan.json"]),
        block_use=manifest.block_use,
        stories=read_stories(members["explanation.json"]),
        warnings=manifest.warnings,
        endpoints=manifest.endpoints,
        removed=read_removed(members["removed.json"]),
        slos=manifest.slo_of(),
        builds=tuple(
            {p: build for (p, _), build in builds.items() if p.startswith(SPECIALISED)}.values()
        ),
    )


def _batches(
    schema: Schema, program: PipelineProgram, graph: str, inserts: Inserts | None = None
) -> tuple[bytes | bytearray, bytes | bytearray]:
    """Entries with groups, and what puts them in force, as members of a bundle."""
    inserts = schema.inserts(program.entries, graph) if inserts is None else inserts
    floods = [RawUpdate.of(flood_update(f, p4r.Update.INSERT)) for f in program.floods]
    batch = inserts.data
    if floods:
        batch = batch + b"".join(f.part() for f in floods)
    return batch, schema.inserts(program.activation, graph).data


def _places(entries: Sequence[TableEntry]) -> str:
    """The places of the rules of entries, a line each."""
    if isinstance(entries, LazyEntries) and entries.written is not None:
        return entries.written.places
    return "\n".join([places_of(entry.origin) for entry in entries])


def _placed(entries: Sequence[TableEntry], places: str, named: _Whole) -> tuple[TableEntry, ...]:
    """Entries with the places of their rules; what `known` has, of devices before, is the same here."""
    in_places: list[TableEntry] = []
    if len(named) > _KNOWN:
        named.clear()
    for entry, place in zip(entries, places.split("\n"), strict=True):
        if not place:
            in_places.append(entry)
            continue
        pair = named.get((id(entry), place))
        if pair is None:
            whole = entry._replace(origin=placed(entry.origin, place))
            pair = named[id(entry), place] = entry, whole
        in_places.append(pair[1])
    return tuple(in_places)


def _schemas(bundle: Bundle) -> dict[str, Schema]:
    """The schema of each switch, one for all of a pipeline: P4Info takes long to parse."""
    builds = {switch: build_for(bundle, switch) for switch in bundle.pipeline_of}
    schemas = {build: Schema.of(p4info(build)) for build in set(builds.values())}
    return {switch: schemas[build] for switch, build in builds.items()}


def _unbatch(
    schema: Schema, data: bytes, shared: dict[bytes, TableEntry]
) -> tuple[tuple[TableEntry, ...], tuple[FloodGroup, ...]]:
    """Entries and groups of a batch; what `known` has, of devices before, is the same object here."""
    entries: list[TableEntry] = []
    floods: list[FloodGroup] = []
    if len(shared) > _KNOWN:
        shared.clear()
    for update in p4r.WriteRequest.FromString(data).updates:
        if update.entity.HasField("table_entry"):
            message = update.entity.table_entry
            written = message.SerializeToString()
            entry = shared.get(written)
            if entry is None:
                entry = shared[written] = schema.decode(message)[1]
            entries.append(entry)
        else:
            group = update.entity.packet_replication_engine_entry.multicast_group_entry
            # BMv2 knows only the older of the two ways to name a port.
            copies = [(r.instance, r.egress_port) for r in group.replicas]  # pyright: ignore[reportDeprecated]
            ports = tuple(port for instance, port in copies if instance < FIRST_REMOTE_COPY)
            remote = tuple(port for instance, port in copies if instance >= FIRST_REMOTE_COPY)
            floods.append(FloodGroup(group.multicast_group_id, ports, "bundle", remote))
    return tuple(entries), tuple(floods)


def _unmade(
    schema: Schema, stored: tuple[bytes, str], places: Sequence[PartPlace], graph: str
) -> tuple[Entries, tuple[FloodGroup, ...]]:
    """Entries, as bytes, and groups of a batch; ValueError where the places are not its own."""
    form, view, text = _form(schema, graph), memoryview(stored[0]), stored[1]
    parts: list[NodePart] = []

    def write(entries: Sequence[TableEntry]) -> tuple[bytes | bytearray, str]:
        try:
            return schema.inserted(entries, graph), _places(entries)
        except (SwitchError, KeyError):
            return b"", ""  # no entries of this pipeline

    def made(some: memoryview, lines: str) -> tuple[TableEntry, ...]:
        entries = _unbatch(schema, bytes(some), {})[0]
        return _placed(entries, lines, {}) if lines.strip() else entries

    at = letter = 0
    for place in places:
        some = view[at : (at := at + place.size)]
        lines = text[letter : letter + place.letters] if text else "\n" * place.letters
        letter += place.letters + 1
        written = Written(some, lines, form, write)
        make = partial(made, some, lines)
        entries = LazyEntries(make, place.tables, place.key, written, ranked=place.ranked)
        parts.append(NodePart(place.node, entries, place.refs))
    rest, floods = _unbatch(schema, bytes(view[at:]), {})
    if rest or at > len(view) or (text and letter != len(text) + 1):
        raise ValueError("the places of its entries are another bundle's")
    return Entries(parts), floods


def _worker_document(worker: WorkerProgram) -> dict[str, Any]:
    """As JSON; configs are not copied, since a router's may be half a million routes."""
    chains = [dataclasses.asdict(chain) for chain in worker.chains]
    return {
        "server": worker.server,
        "core": worker.core,
        "nfs": {name: list(spec) for name, spec in worker.nfs.items()},
        "chains": chains,
        **({"places": worker.places} if worker.places else {}),
    }


def _json(value: Any) -> bytes:
    # No indentation: Python's encoder in C knows none.
    return (json.dumps(value, sort_keys=True) + "\n").encode()

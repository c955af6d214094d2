"""Bundles as files: round trip, the same bytes every time, damage noticed, no secrets."""

from __future__ import annotations

import hashlib
import io
import json
import random
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from finsy.proto import p4i, p4r
from google.protobuf import text_format
from networks import campus, compiled, in_memory, topology

from orchestrator.bundle.codec import dump, load, unpack
from orchestrator.deployment.fitting import for_network
from orchestrator.errors import InputError
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import PipelineProgram

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return compiled(campus(), warnings=("a warning",)).bundle


@pytest.fixture(scope="module")
def data(bundle: Bundle) -> bytes:
    return dump(bundle)


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def repacked(data: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    parts = members(data)
    change(parts)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()


def comparable(bundle: Bundle) -> Bundle:
    """As JSON and P4Runtime carry it: lists for tuples in configs, a flood group without its origin."""

    def program(p: PipelineProgram) -> PipelineProgram:
        def plain(entries: Any) -> Any:
            return tuple(e._replace(keys=tuple((n, (*k,)) for n, k in e.keys)) for e in entries)

        floods = tuple(flood._replace(origin="") for flood in p.floods)
        return PipelineProgram(plain(p.entries), plain(p.activation), floods)

    return replace(
        bundle,
        fabric={name: program(p) for name, p in bundle.fabric.items()},
        programs={name: program(p) for name, p in bundle.programs.items()},
        workers=tuple(
            replace(
                worker,
                nfs={n: (k, json.loads(json.dumps(c))) for n, (k, c) in worker.nfs.items()},
            )
            for worker in bundle.workers
        ),
    )


def test_round_trip(bundle: Bundle, data: bytes) -> None:
    assert comparable(load(data, "x")) == comparable(bundle)


def test_a_second_configuration_of_an_nf_is_no_strange_name(bundle: Bundle) -> None:
    """As journals have it while an NF goes on with another configuration."""
    (worker, *others) = bundle.workers
    nfs = {f"{name}~2": spec for name, spec in worker.nfs.items()}
    chains = tuple(
        replace(c, hops=tuple(replace(h, nf=h.nf and f"{h.nf}~2") for h in c.hops))
        for c in worker.chains
    )
    again = replace(bundle, workers=(replace(worker, nfs=nfs, chains=chains), *others))
    assert comparable(load(dump(again), "x")) == comparable(again)


def test_a_loaded_bundle_is_dumped_to_the_same_bytes(data: bytes) -> None:
    assert dump(load(data, "x")) == data


def test_the_same_graph_compiles_to_the_same_bytes(data: bytes) -> None:
    assert dump(compiled(campus(), warnings=("a warning",)).bundle) == data


def test_a_loaded_bundle_deploys(data: bytes) -> None:
    result = replace(compiled(campus()), bundle=load(data, "x"))
    network = in_memory(result)
    assert all(len(list(switch.entries())) for switch in network.switches.values())


def test_the_manifest_names_every_member(data: bytes) -> None:
    parts = members(data)
    named = set(json.loads(parts["manifest.json"])["sha256"])
    assert named == set(parts) - {"manifest.json"}
    for kind in ("fabric", "programs"):
        assert f"{kind}/leaf1.entries.bin" in named


def test_no_sampling_keys_are_in_a_bundle(data: bytes) -> None:
    """They are made when a graph is deployed, and kept in the journal only."""
    for name, content in members(data).items():
        if not name.startswith("pipelines/"):
            assert b"key0" not in content, name
            assert b"trajectory" not in content, name


def loaded_or_refused(data: bytes) -> Bundle | str:
    try:
        return load(data, "some/file.bundle")
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("seed", range(8))
def test_a_flipped_bit_is_noticed(data: bytes, bundle: Bundle, seed: int) -> None:
    """An InputError that names the file, or no harm (zip has spare bits)."""
    chance = random.Random(seed)
    for _ in range(60):
        damaged = bytearray(data)
        at = chance.randrange(len(data))
        damaged[at] ^= 1 << chance.randrange(8)
        loaded = loaded_or_refused(bytes(damaged))
        if isinstance(loaded, str):
            assert loaded.startswith("some/file.bundle: ")
        else:
            assert comparable(loaded) == comparable(bundle), at


@pytest.mark.parametrize("length", [0, 1, 100, -1, -1000])
def test_a_file_cut_short_is_no_bundle(data: bytes, length: int) -> None:
    with pytest.raises(InputError, match=r"^x: not a bundle"):
        load(data[:length], "x")


def _set(name: str, value: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda files: files.update({name: value})


def _drop(name: str) -> Callable[[dict[str, bytes]], None]:
    return lambda files: (files.pop(name), None)[1]


def _leaf(pipeline: str, name: str = "leaf1", **other: str) -> dict[str, str]:
    device = {"name": name, "kind": "switch", "target": "bmv2", "pipeline": pipeline, "runtime": ""}
    return device | other


def _manifest(**values: Any) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        manifest = json.loads(files["manifest.json"])
        for name, value in values.items():
            if value is None:
                del manifest[name]
            else:
                manifest[name] = value
        files["manifest.json"] = json.dumps(manifest).encode()

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("workers.json", b"[]"), "workers.json is damaged"),
        (_set("programs/leaf1.entries.bin", b""), "programs/leaf1.entries.bin is damaged"),
        (_drop("plan.json"), "plan.json is damaged"),
        (_drop("manifest.json"), "not a bundle"),
        (_set("manifest.json", b"{"), "not a bundle"),
        (_set("manifest.json", b"[1]"), "not a bundle"),
        (_manifest(format=99), "bundle format 99; this version reads"),
        (_manifest(format=None), "bundle format None"),
        (_manifest(sha256=None), "not a bundle"),
        (_manifest(graph_id=None), "not a bundle"),
        (_set("programs/evil.entries.bin", b""), "not in its manifest"),
    ],
)
def test_a_file_that_was_changed_says_where(
    data: bytes, change: Callable[[dict[str, bytes]], None], words: str
) -> None:
    with pytest.raises(InputError) as caught:
        load(repacked(data, change), "some.bundle")
    assert str(caught.value).startswith("some.bundle: ")
    assert words in str(caught.value)


def resealed(data: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    """Changed by somebody who knows the format: the digests are right."""

    def seal(files: dict[str, bytes]) -> None:
        change(files)
        digests = {
            n: hashlib.sha256(c).hexdigest() for n, c in files.items() if n != "manifest.json"
        }
        _manifest(sha256=digests)(files)

    return repacked(data, seal)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("programs/leaf1.entries.bin", b"\xff\xff"), "not a bundle"),
        (_set("programs/leaf1.entries.bin", b"\x22\x06\x12\x04\x12\x02\x08\x07"), "not a bundle"),
        (_set("pipelines/edge_v1model.p4info.txtpb", b"tables {"), "not a bundle"),
        (_set("topology.json", b'{"name": 7}'), "not a bundle"),
        (_drop("fabric/leaf1.entries.bin"), "leaf1 has no pipeline or no entries of the fabric"),
        (_drop("pipelines/edge_v1model.json"), "not a bundle"),
        (_set("plan.json", b"[]"), "not a bundle"),
        (_set("workers.json", b'[{"server": 1}]'), "not a bundle"),
        (_manifest(devices=[_leaf("odd")]), "some.bundle: unknown pipeline 'odd'"),
        (_manifest(devices=[_leaf("specialised-1")]), "not a bundle"),
        (_manifest(devices=7), "not a bundle"),
        (_manifest(devices=[_leaf("edge", kind="server")]), "a server has a runtime"),
        (_manifest(devices=[_leaf("edge", kind="oven")]), "not a bundle"),
        (_manifest(devices=[_leaf("edge")] * 2), "two devices have one name"),
        (_manifest(format=1), "some.bundle: bundle format 1; this version reads 2"),
        (_manifest(graph="../other"), "not a bundle"),
        (_manifest(graph_id=1024), "graph id 1024 is none of 1 to 1023"),
    ],
)
def test_one_that_is_wrong_with_right_digests_is_refused_too(
    data: bytes, change: Callable[[dict[str, bytes]], None], words: str
) -> None:
    with pytest.raises(InputError) as caught:
        load(resealed(data, change), "some.bundle")
    assert words in str(caught.value)


def test_a_specialised_pipeline_must_be_the_one_of_its_name(data: bytes) -> None:
    """Its name is a digest: no bundle can put another program in its place."""

    def change(files: dict[str, bytes]) -> None:
        for kind in ("p4info.txtpb", "json", "slots.json"):
            files[f"pipelines/specialised-00.{kind}"] = files[f"pipelines/edge_v1model.{kind}"]
        devices = json.loads(files["manifest.json"])["devices"]
        pipelines = [_leaf("specialised-00", d["name"]) for d in devices if d["kind"] != "server"]
        _manifest(devices=pipelines)(files)

    with pytest.raises(InputError, match="specialised-00 is not the pipeline of that name"):
        load(resealed(data, change), "some.bundle")


def test_entries_are_read_by_the_numbers_of_the_build_they_were_written_for(
    data: bytes, bundle: Bundle
) -> None:
    """A later version may ship another build of the pipeline; deploying says so, reading goes on."""

    def change(files: dict[str, bytes]) -> None:
        name = "pipelines/edge_v1model.p4info.txtpb"
        info = text_format.Parse(files[name], p4i.P4Info())
        table = next(t for t in info.tables if t.preamble.name == "ingress.acl.ipv4")
        old, table.preamble.id = table.preamble.id, 0x02FFFFFF
        files[name] = text_format.MessageToString(info).encode()
        for member in [n for n in files if n.endswith(".entries.bin")]:
            request = p4r.WriteRequest.FromString(files[member])
            for update in request.updates:
                if update.entity.table_entry.table_id == old:
                    update.entity.table_entry.table_id = 0x02FFFFFF
            files[member] = request.SerializeToString()

    packed = unpack(resealed(data, change), "old.bundle")
    assert comparable(packed.bundle) == comparable(bundle)
    assert packed.foreign == ("edge",)
    with pytest.raises(InputError, match=r"old\.bundle: .*another build of pipeline edge.*anew"):
        for_network(packed, topology("leaf-spine"))


def test_what_is_no_zip_file_is_no_bundle() -> None:
    with pytest.raises(InputError, match=r"graph\.json: not a bundle"):
        load(b'{"name": "x"}', "graph.json")

"""Bundles as files: round trip, the same bytes every time, damage noticed, no secrets."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from networks import campus, compiled, in_memory

from orchestrator.bundle.codec import dump, load
from orchestrator.errors import InputError
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import SwitchProgram


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
    found = members(data)
    change(found)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in found.items():
            archive.writestr(name, content)
    return out.getvalue()


def comparable(bundle: Bundle) -> Bundle:
    """As JSON and P4Runtime carry it: lists for tuples in configs, a flood group without its origin."""

    def program(p: SwitchProgram) -> SwitchProgram:
        def plain(entries: Any) -> Any:
            return tuple(e._replace(keys=tuple((n, (*k,)) for n, k in e.keys)) for e in entries)

        floods = tuple(flood._replace(origin="") for flood in p.floods)
        return SwitchProgram(plain(p.entries), plain(p.activation), floods)

    return replace(
        bundle,
        fabric={name: program(p) for name, p in bundle.fabric.items()},
        switches={name: program(p) for name, p in bundle.switches.items()},
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


def test_a_loaded_bundle_is_dumped_to_the_same_bytes(data: bytes) -> None:
    assert dump(load(data, "x")) == data


def test_the_same_graph_compiles_to_the_same_bytes(data: bytes) -> None:
    assert dump(compiled(campus(), warnings=("a warning",)).bundle) == data


def test_a_loaded_bundle_deploys(data: bytes) -> None:
    result = replace(compiled(campus()), bundle=load(data, "x"))
    network = in_memory(result)
    assert all(len(list(switch.entries())) for switch in network.switches.values())


def test_the_manifest_names_every_member(data: bytes) -> None:
    found = members(data)
    named = set(json.loads(found["manifest.json"])["sha256"])
    assert named == set(found) - {"manifest.json"}
    for kind in ("fabric", "switches"):
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
        found = loaded_or_refused(bytes(damaged))
        if isinstance(found, str):
            assert found.startswith("some/file.bundle: ")
        else:
            assert comparable(found) == comparable(bundle), at


@pytest.mark.parametrize("length", [0, 1, 100, -1, -1000])
def test_a_file_cut_short_is_no_bundle(data: bytes, length: int) -> None:
    with pytest.raises(InputError, match=r"^x: not a bundle"):
        load(data[:length], "x")


def _set(name: str, value: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda found: found.update({name: value})


def _drop(name: str) -> Callable[[dict[str, bytes]], None]:
    return lambda found: (found.pop(name), None)[1]


def _manifest(**values: Any) -> Callable[[dict[str, bytes]], None]:
    def change(found: dict[str, bytes]) -> None:
        manifest = json.loads(found["manifest.json"])
        for name, value in values.items():
            if value is None:
                del manifest[name]
            else:
                manifest[name] = value
        found["manifest.json"] = json.dumps(manifest).encode()

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("workers.json", b"[]"), "workers.json is damaged"),
        (_set("switches/leaf1.entries.bin", b""), "switches/leaf1.entries.bin is damaged"),
        (_drop("plan.json"), "plan.json is damaged"),
        (_drop("manifest.json"), "not a bundle"),
        (_set("manifest.json", b"{"), "not a bundle"),
        (_set("manifest.json", b"[1]"), "not a bundle"),
        (_manifest(format=99), "bundle format 99; this version reads"),
        (_manifest(format=None), "bundle format None"),
        (_manifest(sha256=None), "not a bundle"),
        (_manifest(graph_id=None), "not a bundle"),
        (_set("switches/evil.entries.bin", b""), "not in its manifest"),
    ],
)
def test_a_file_that_was_changed_says_where(
    data: bytes, change: Callable[[dict[str, bytes]], None], words: str
) -> None:
    with pytest.raises(InputError) as caught:
        load(repacked(data, change), "some.bundle")
    assert str(caught.value).startswith("some.bundle: ")
    assert words in str(caught.value)


def test_what_is_no_zip_file_is_no_bundle() -> None:
    with pytest.raises(InputError, match=r"graph\.json: not a bundle"):
        load(b'{"name": "x"}', "graph.json")

"""The verification manifest: keys, signatures, epochs, and contradictions, told all at once."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from finsy.proto import p4i
from networks import campus, compiled
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.compile import Compiled
from orchestrator.errors import InputError
from orchestrator.model.manifest import COLLECTORS
from orchestrator.resources import shipped
from orchestrator.targets.pipelines import build_for, p4info
from orchestrator.verification import keys, manifest
from orchestrator.verification.manifest import Epochs, MeantSoftware, Roles, Sampling, Signed

KEY = bytes(range(32))


@pytest.fixture(scope="module")
def result() -> Compiled:
    return compiled(campus())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("keys")
    for role in keys.ROLES:
        keys.new_private(made / f"{role}.pem")
    return made


@pytest.fixture
def signed(result: Compiled, folder: Path) -> Signed:
    roles = Roles.model_validate({r: (folder / f"{r}.pub").read_text().strip() for r in keys.ROLES})
    sampling = Sampling(packets=0.25, key=keys.commitment(KEY))
    references = MeantSoftware(servernf=manifest.servernf_digest(), bundle="0" * 64)
    made = manifest.new(result.graph, result.bundle, references, sampling, roles)
    for role in manifest.SIGNERS:
        made = manifest.sign(made, role, keys.private_key(folder / f"{role}.pem", "--key"))
    return made


def changed(signed: Signed, **parts: Any) -> Signed:
    raw = signed.model_dump(mode="json")
    for name, value in parts.items():
        first, _, second = name.partition("__")
        if second:
            raw["manifest"][first][second] = value
        else:
            raw["manifest"][first] = value
    return Signed.model_validate(raw)


def test_a_signed_one_has_nothing_wrong(signed: Signed, result: Compiled) -> None:
    manifest.check(signed, result.graph, result.bundle, "0" * 64)
    again = Signed.model_validate(json.loads(signed.text()))
    assert again == signed


def test_everything_wrong_is_told_at_once(signed: Signed, result: Compiled) -> None:
    wrong = changed(
        signed,
        nfs=["edge_natt"],
        points=["server9.1"],
        shims="isolated",
        epochs__overlap_seconds=3000,
        roles__cle=signed.manifest.roles.customer,
    )
    with pytest.raises(InputError) as failure:
        manifest.check(wrong, result.graph, result.bundle, "1" * 64)
    told = str(failure.value)
    for part in (
        "roles: customer, provider and cle must have keys of their own",
        "epochs.overlap_seconds: must be at most half",
        "shims: 'isolated'",
        "signatures.customer: is not one of this manifest",
        "signatures.provider: is not one of this manifest",
        "nfs: the graph has no NF 'edge_natt'",
        "points: the bundle has nothing on 'server9.1'",
        "references.bundle",
        *(f"nfs: NF '{name}' of the graph is missing" for name in result.graph.nfs),
        *(f"points: '{name}' of the bundle is missing" for name in signed.manifest.points),
    ):
        assert part in told


def test_a_switch_whose_pipeline_makes_no_records_is_no_point(
    signed: Signed, result: Compiled
) -> None:
    bundle = result.bundle
    build = build_for(bundle, "leaf1")
    info = p4i.P4Info()
    info.CopyFrom(p4info(build))
    tables = [t for t in info.tables if not t.preamble.name.endswith(f".{COLLECTORS}")]
    assert len(tables) == len(info.tables) - 1
    del info.tables[:]
    info.tables.extend(tables)
    own = replace(build, name="own", p4info_text=str(info).encode())
    devices = {**bundle.devices, "leaf1": replace(bundle.devices["leaf1"], pipeline="own")}
    other = replace(bundle, devices=devices, builds=(own,))
    terms = signed.manifest
    made = manifest.new(
        result.graph, other, terms.references, terms.sampling, terms.roles, switches=True
    )
    switches = set(bundle.programs)
    assert switches & set(made.manifest.points) == switches - {"leaf1"}
    every = changed(signed, points=[*terms.points, *switches])
    with pytest.raises(InputError) as failure:
        manifest.check(every, result.graph, other)
    (said,) = (problem for problem in failure.value.problems if "cannot report" in problem)
    assert said == "points: 'leaf1' cannot report: pipeline own on auto has no record.collectors"


def test_only_the_named_keys_sign(signed: Signed, folder: Path) -> None:
    with pytest.raises(InputError, match="not that of the provider"):
        manifest.sign(signed, "provider", keys.private_key(folder / "cle.pem", "--key"))
    with pytest.raises(InputError, match="signed by customer and provider"):
        manifest.sign(signed, "cle", keys.private_key(folder / "cle.pem", "--key"))
    swapped = signed.model_copy(
        update={"signatures": {"customer": signed.signatures["provider"], "provider": "zz"}}
    )
    with pytest.raises(InputError) as failure:
        manifest.check(swapped, None, None)
    assert len(failure.value.problems) == 2


def test_epochs_overlap_and_none_is_missing(signed: Signed) -> None:
    first = datetime(2026, 1, 1, tzinfo=UTC)
    epochs = Epochs(first=first, seconds=100, overlap_seconds=10)
    overlapping = signed.manifest.model_copy(update={"epochs": epochs})

    def at(seconds: float) -> tuple[int, ...]:
        return overlapping.epochs_at(first + timedelta(seconds=seconds))

    assert [at(-1), at(0), at(99), at(100), at(109), at(110), at(205)] == [
        (), (1,), (1,), (1, 2), (1, 2), (2,), (2, 3),
    ]  # fmt: skip
    witness = overlapping.witness(KEY, first + timedelta(seconds=101))
    assert witness is not None
    assert [e.threshold for e in witness.epochs] == [1 << 30] * 2
    assert witness.epochs[0] == keys.epoch_of(KEY, overlapping.graph, 1, 0.25)
    assert len({(e.key0, e.key1) for e in witness.epochs}) == 2
    assert keys.epoch_of(KEY, "another", 1, 0.25) != witness.epochs[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"{", "no JSON document"),
        (b"[]", "manifest.json"),
        (b'{"manifest": {}}', "manifest: the key 'graph' is missing"),
        (b'{"manifest": 1, "more": 2}', "more"),
    ],
)
def test_what_is_no_manifest(tmp_path: Path, text: bytes, says: str) -> None:
    (tmp_path / "manifest.json").write_bytes(text)
    with pytest.raises(InputError, match=says):
        manifest.read(tmp_path / "manifest.json")


def test_secrets_are_private_and_never_overwritten(tmp_path: Path) -> None:
    answered = CliRunner().invoke(app, ["verify", "key", "sampling", str(tmp_path / "w"), "--json"])
    secret = (tmp_path / "w").read_text().strip()
    assert json.loads(answered.stdout)["commitment"] == keys.commitment(bytes.fromhex(secret))
    assert secret not in answered.stdout
    assert (tmp_path / "w").stat().st_mode & 0o777 == 0o600
    for command in ("sampling", "new"):
        again = CliRunner().invoke(app, ["verify", "key", command, str(tmp_path / "w")])
        assert "never overwritten" in str(again.exception)
    assert (tmp_path / "w").read_text().strip() == secret
    with pytest.raises(InputError, match="no unencrypted Ed25519"):
        keys.private_key(tmp_path / "w", "--key")


def test_sign_and_check_from_the_command_line(signed: Signed, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    file.write_bytes(signed.model_copy(update={"signatures": {}}).text())
    words = ["verify", "manifest"]
    assert "signatures.customer" in str(
        CliRunner().invoke(app, [*words, "check", str(file)]).exception
    )
    for role in manifest.SIGNERS:
        options = ["--role", role, "--key", str(folder / f"{role}.pem"), "--json"]
        done = CliRunner().invoke(app, [*words, "sign", str(file), *options])
        assert done.exit_code == 0
    checked = CliRunner().invoke(app, [*words, "check", str(file), "--json"])
    assert json.loads(checked.stdout)["ok"] is True


def test_from_keys_to_a_manifest_that_both_have_signed(tmp_path: Path) -> None:
    """The commands as the three of them would run them."""

    def run(*words: object) -> str:
        done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    graph = shipped("examples") / "branch_office" / "graph.json"
    bundle, made = tmp_path / "graph.bundle", tmp_path / "manifest.json"
    run("compile", graph, "-t", "single", "-o", bundle)
    for role in keys.ROLES:
        run("verify", "key", "new", tmp_path / f"{role}.pem")
    run("verify", "key", "sampling", tmp_path / "watch.key")
    public = [word for role in keys.ROLES for word in (f"--{role}", tmp_path / f"{role}.pub")]
    public += ["--sampling-key", tmp_path / "watch.key"]
    public += ["--flows", "0.02"]
    assert "not signed" in run("verify", "manifest", "new", graph, bundle, "-o", made, *public)
    assert manifest.read(made).manifest.sampling.flows == 0.02
    for role in manifest.SIGNERS:
        key = ("--role", role, "--key", tmp_path / f"{role}.pem")
        run("verify", "manifest", "sign", made, *key)
    told = run("verify", "manifest", "check", made, "--graph", graph, "--bundle", bundle)
    assert "nothing is wrong" in told

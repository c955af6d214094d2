"""From a provider's network over a CLE to the customer's commands; and no key is the provider's.

Oracle: who cheats knows it; the harness (`provider`) says what is found.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path

import grpc
import pytest
from finsy.proto import p4r
from provider import KEY, Cheat, Provider, manifest, result
from test_ends import OWN, taps
from typer.testing import CliRunner

from orchestrator.bundle.codec import dump
from orchestrator.bundle.codec import read as read_bundle
from orchestrator.cli import app
from orchestrator.cli.verify import digest_of
from orchestrator.clients.p4runtime import SwitchClient
from orchestrator.clients.vnf import WorkerClient
from orchestrator.clients.witness import ROLE, SwitchWitness
from orchestrator.deployment.live import LiveNetwork, new_journal
from orchestrator.deployment.operations import deploy_graph
from orchestrator.deployment.savepoint import save
from orchestrator.network.inventory import Inventory
from orchestrator.simulation.control import start, stop
from orchestrator.verification import keys
from orchestrator.verification.cle.intake import Intake
from orchestrator.verification.cle.running import log_folder
from orchestrator.verification.cle.segments import Log
from orchestrator.verification.cle.service import serve as serve_cle
from orchestrator.verification.manifest import (
    SIGNERS,
    Epochs,
    MeantSoftware,
    Roles,
    Signed,
    read,
    sign,
)
from orchestrator.verification.taps import header, line
from servernf.proto import vnf_pb2, vnf_pb2_grpc
from servernf.python.runtime.service import serve
from servernf.python.runtime.worker import Worker
from servernf.ship.shipper import Shipper
from servernf.wire import nsh
from servernf.wire.addresses import device_mac
from servernf.wire.reports import is_report
from servernf.wire.ring import Ring
from servernf.wire.witness import Witness

pytestmark = pytest.mark.slow

RATE = 0.5


@pytest.fixture(scope="module")
def agreed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys, bundle, and the manifest that both have signed."""
    folder = tmp_path_factory.mktemp("agreed")
    publics = {r: keys.public_text(keys.new_private(folder / f"{r}.pem")) for r in keys.ROLES}
    (folder / "g.bundle").write_bytes(dump(result().bundle))
    references = MeantSoftware(servernf="0" * 64, bundle=digest_of(folder / "g.bundle"))
    terms = manifest(RATE).model_copy(
        update={"roles": Roles.model_validate(publics), "references": references}
    )
    signed = Signed(manifest=terms)
    for role in SIGNERS:
        signed = sign(signed, role, keys.private_key(folder / f"{role}.pem", "--key"))
    (folder / "m.json").write_bytes(signed.text())
    (folder / "watch.key").write_text(KEY.hex() + "\n")
    return folder


def logged(provider: Provider, agreed: Path, folder: Path) -> Path:
    """What the provider's points told, at a CLE."""
    with closing(Log(log_folder(folder), keys.private_key(agreed / "cle.pem", "--key"))) as log:
        intake = Intake(log)
        intake.start([])
        provider.ship(intake)
        intake.end()
        (folder / "kept").write_text(log.head.line())
    return folder


def command(
    name: str, folder: Path, agreed: Path, *more: str, archived: bool = False
) -> tuple[int, str, object]:
    words = ["verify", name, str(folder)]
    if name == "check":
        words += [str(agreed / "m.json"), "--sampling-key", str(agreed / "watch.key")]
    else:
        words += ["--cle", str(agreed / "cle.pub")]
    words += [*([] if archived else ["--bundle", str(agreed / "g.bundle")]), *more]
    done = CliRunner().invoke(app, words)
    return done.exit_code, done.stdout, done.exception


def test_an_honest_provider_is_found_to_be_one(agreed: Path, tmp_path: Path) -> None:
    provider = Provider(3, rate=RATE)
    provider.run(60)
    folder = logged(provider, agreed, tmp_path)
    options = ("--settle", "0", "--kept", str(folder / "kept"), "--json")
    code, told, _ = command("check", folder, agreed, *options)
    verdict = json.loads(told)
    assert (code, verdict["findings"], verdict["path"], verdict["completeness"]) == (
        0,
        [],
        True,
        True,
    )
    assert verdict["packets"] > 15
    assert command("check", folder, agreed, "--json")[1].count('"packets": 0') == 1  # too young
    code, told, _ = command("trajectories", folder, agreed, "--json", "--limit", "1000")
    ways = json.loads(told)
    assert (code, all(way["complete"] for way in ways)) == (0, True)
    first = ways[0]
    assert [r["kind"] for r in first["records"]][-2:] == ["HOP", "EXIT"]
    afters = [r["after_us"] for r in first["records"]]
    assert afters[0] is None
    # Nothing comes back from leaf2, which alone would bound what its clock hides.
    assert [most is None for _, most in afters[1:]] == [
        r["point"] == "leaf2" != before["point"] for before, r in pairwise(first["records"])
    ]
    assert all(0 <= least <= most for least, most in afters[1:] if most is not None)
    (server,) = (s for s in first["sandwiches"] if s["to"].startswith("server1."))
    assert 0 <= server["ways_us"][0] <= server["ways_us"][1] <= server["ways_us"][0] + 10
    code, told, _ = command("trajectories", folder, agreed, "--label", first["label"])
    assert "campus/edge_nat out outside" in told
    assert "-> server1." in told
    assert "(after " in told
    assert "and back: " in told
    assert f"flow {first['flow']}" in told
    for options, wanted in (
        (("--drops",), []),
        (("--incomplete",), []),
        (("--flow", first["flow"]), [way for way in ways if way["flow"] == first["flow"]]),
    ):
        assert json.loads(command("trajectories", folder, agreed, *options, "--json")[1]) == wanted
    wrong = command("trajectories", folder, agreed, "--flow", "h1")
    assert "--flow h1: a number like 0x1a2b is expected" in str(wrong[2])


def test_what_the_cle_has_archived_is_what_is_judged_by(agreed: Path, tmp_path: Path) -> None:
    provider = Provider(3, rate=RATE)
    provider.run(30)
    folder = logged(provider, agreed, tmp_path)
    options = ("--settle", "0", "--json")
    assert "verify cle archive" in str(command("check", folder, agreed, *options, archived=True)[2])
    words = ["verify", "cle", "archive", str(folder), str(agreed / "g.bundle"), "--json"]
    for _ in range(2):
        done = CliRunner().invoke(app, words)
        assert list(json.loads(done.stdout).values()) == [digest_of(agreed / "g.bundle")]
    given = command("check", folder, agreed, *options)
    assert command("check", folder, agreed, *options, archived=True) == given
    assert json.loads(given[1])["packets"] > 5
    (kept,) = (folder / "archive").iterdir()
    kept.write_bytes(kept.read_bytes() + b" ")
    said = str(command("check", folder, agreed, *options, archived=True)[2])
    assert "is not the bundle that was archived" in said


def test_a_cheat_is_found_and_told_with_evidence(agreed: Path, tmp_path: Path) -> None:
    def advertised(one: str, other: str, frame: bytes, now: int) -> Iterable[tuple[bytes, int]]:
        changes = one == "leaf1" and not is_report(frame)
        return ((frame[:-4] + b"BUY!" if changes else frame, 0),)

    provider = Provider(3, Cheat(link=advertised), rate=RATE)
    provider.run(40)
    folder = logged(provider, agreed, tmp_path)
    code, told, _ = command("check", folder, agreed, "--settle", "0", "--json")
    (only,) = (f for f in json.loads(told)["findings"] if "changed on its way" in f["what"])
    assert (code, only["verdict"]) == (1, "path")
    assert only["evidence"][0].startswith(("server1.", "leaf2"))


def test_a_log_that_is_not_the_cles_is_not_judged(agreed: Path, tmp_path: Path) -> None:
    provider = Provider(3, rate=RATE)
    provider.run(20)
    folder = logged(provider, agreed, tmp_path)
    (segment,) = log_folder(folder).glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    code, told, error = command("check", folder, agreed)
    assert (code, told) != (0, "")
    assert "seal" in str(error) or "entry" in str(error)
    (agreed / "other.key").write_text("0" * 64 + "\n")
    wrong = command("check", folder, agreed, "--sampling-key", str(agreed / "other.key"))
    assert "is not the one of" in str(wrong[2])


def test_taps_are_compared_with_what_the_points_told(agreed: Path, tmp_path: Path) -> None:
    provider = Provider(3, rate=RATE)
    ends = taps(provider, 40)
    log = logged(provider, agreed, tmp_path)
    files: list[str] = []
    for tap, name in zip(ends, ("inside", "outside"), strict=True):
        lines = [json.dumps(header(name, tap.commitment, tap.rate, tap.began_us)) + "\n"]
        lines += [line(sight) for sight in tap.sights]
        lines += [json.dumps({"ended_us": tap.ended_us, "missed": 0}) + "\n"]
        (tmp_path / name).write_text("".join(lines))
        files.append(str(tmp_path / name))
    (tmp_path / "own.key").write_text(OWN.hex() + "\n")
    words = ["verify", "ends", *files, "--settle", "0", "--json", "--log", str(log)]
    assert "all are needed" in str(CliRunner().invoke(app, words).exception)
    words += ["--manifest", str(agreed / "m.json"), "--tap-key", str(tmp_path / "own.key")]
    there, back = json.loads(CliRunner().invoke(app, words).stdout).values()
    assert there["records"]["told"] > 3
    assert (there["records"]["problems"], back["records"]["told"]) == ([], 0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Of a path that sockets may have in full."""
    with tempfile.TemporaryDirectory(prefix="net-") as made:
        yield Path(made)


@pytest.fixture
def inventory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inventory]:
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    made = start(Provider(1).topology, "mem")
    new_journal("mem", made.folder)
    yield made
    stop("mem")


def test_no_file_and_no_output_of_the_provider_has_a_sampling_key(
    inventory: Inventory, folder: Path
) -> None:
    epoch = keys.epoch_of(KEY, "campus", 1, RATE)
    live = LiveNetwork(inventory)
    deploy_graph(result().graph, live)
    saved = folder / "saved.bundle"
    done = CliRunner().invoke(app, ["bundle", "save", "campus", "-o", str(saved), "--json"])
    assert json.loads(done.stdout)["sha256"] == digest_of(saved)
    assert read_bundle(saved).bundle.workers == live.journal.deployed()["campus"].bundle.workers
    none = CliRunner().invoke(app, ["bundle", "save", "campsu", "-o", str(folder / "none")])
    assert "did you mean 'campus'" in str(none.exception)
    request = vnf_pb2.WitnessRequest(graph="campus")
    request.epochs.add(number=1, key0=epoch.key0, key1=epoch.key1, threshold=epoch.threshold)
    told: list[str] = []
    for worker in inventory.workers:
        with grpc.insecure_channel(worker.address) as channel:
            stub = vnf_pb2_grpc.VnfStub(channel)
            stub.setWitness(request, timeout=60)
            status = stub.getStatus(vnf_pb2.StatusRequest(), timeout=60)
            assert list(status.witnessed_graphs) == ["campus"]
            told.append(str(status))
    secrets = [epoch.key0, epoch.key1]
    boots: list[int] = []

    def known(point: str, boot: int, number: int) -> tuple[int, int]:
        boots.append(boot)
        key = keys.report_key(KEY, "campus", point, boot, number)
        secrets.extend(key)
        return key

    witness = Witness((epoch,))
    later = Witness((epoch, keys.epoch_of(KEY, "campus", 2, RATE)))
    secrets += [later.epochs[1].key0, later.epochs[1].key1]
    for name, address in inventory.pipelines.items():
        session = SwitchClient(name, address.address, address.device_id, role=ROLE)
        with SwitchWitness(
            name, session, result().bundle.graph_id, 1, partial(known, name), time.time
        ) as point:
            for said in (witness, witness, later, later):
                point.set_witness("campus", said)
        first, second = boots
        assert first == second, "another epoch has another key, and the boot goes on"
        boots.clear()
    everything = p4r.Entity(table_entry=p4r.TableEntry())
    # As a controller reads a switch, to keep what is there for a while.
    with live.device("leaf1") as device:
        told += [str(entity) for entity in device.read_entities(everything)]
        assert any("witness" in text for text in told), "the entry is there, without its keys"
        held_back = save(device)
        assert len(held_back) > 1000
    for words in ("status", "reconcile --dry-run", "metrics --once", "tables all"):
        told.append(CliRunner().invoke(app, [*words.split(), "--json"]).stdout)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 2
    held = [path.read_bytes() for path in files] + [text.encode() for text in told]
    held.append(held_back)
    for number in secrets:
        words = [str(number).encode(), f"{number:08x}".encode()]
        words += [number.to_bytes(4, order) for order in ("big", "little")]
        assert not any(word in data for word in words for data in held)
    assert not any(KEY in data or KEY.hex().encode() in data for data in held)


def test_a_worker_is_told_the_epochs_and_its_ring_is_shipped_and_judged(
    agreed: Path, tmp_path: Path
) -> None:
    """A live worker: epochs by command, records over its ring to the CLE, the customer's verdict."""
    signed = read(agreed / "m.json")
    terms = signed.manifest
    now = terms.model_copy(
        update={
            "points": ("server1.1", "server1.2"),
            "epochs": Epochs(
                first=datetime.now(UTC) - timedelta(seconds=100), seconds=3600, overlap_seconds=60
            ),
        }
    )
    renewed = Signed(manifest=now)
    for role in SIGNERS:
        renewed = sign(renewed, role, keys.private_key(agreed / f"{role}.pem", "--key"))
    (tmp_path / "m.json").write_bytes(renewed.text())
    program = next(w for w in result().bundle.workers if w.core == 0)
    mac = device_mac(Provider(1).topology.servers["server1"].id, core=1)
    worker = Worker("server1.1", mac)
    ring = Ring(tmp_path / "ring", create=1 << 20)
    worker.shim.record_to(ring.put)
    server, _, address = serve(worker, f"unix:{tmp_path}/w.sock")
    try:
        with WorkerClient("server1.1", address) as client:
            client.configure("campus", program.nfs, None)
            for chain in program.chains:
                client.service_chain("campus", chain)
        words = ["verify", "cle", "watch", str(tmp_path / "m.json"), "--once", "--json"]
        words += ["--sampling-key", str(agreed / "watch.key")]
        done = CliRunner().invoke(app, [*words, "--point", f"server1.1={address}"])
        assert (done.exit_code, json.loads(done.stdout)["epochs"]) == (0, [1])
        gone = CliRunner().invoke(app, [*words, "--point", f"server1.1=unix:{tmp_path}/no"])
        assert gone.exit_code == 7
    finally:
        server.stop(0).wait()
    chain = next(c for c in program.chains if len(c.hops) == 3 and c.hops[0].port == "inside")
    frame = Provider(1)._packet()[1]
    for at in range(100):
        tag = nsh.Tag(mac, 1, chain.spi, chain.si, label=at, ingress_us=at)
        assert worker.process([nsh.encode(tag, frame)])
    worker.shim.settle()
    folder = tmp_path / "cle"
    with closing(Log(log_folder(folder), keys.private_key(agreed / "cle.pem", "--key"))) as log:
        intake = Intake(log)
        intake.start([])
        cle, where = serve_cle(intake, f"unix:{tmp_path}/cle.sock")
        with grpc.insecure_channel(where) as channel:
            assert Shipper({"server1.1": ring}, channel).ship("server1.1")
        assert ring.peek(1) == b""
        cle.stop(0).wait()
        intake.end()
    words = ["verify", "check", str(folder), str(tmp_path / "m.json"), "--settle", "0", "--json"]
    words += ["--sampling-key", str(agreed / "watch.key"), "--bundle", str(agreed / "g.bundle")]
    done = CliRunner().invoke(app, words)
    told = json.loads(done.stdout)
    assert (done.exit_code, told["findings"]) == (0, [])
    assert 25 < told["packets"] < 75

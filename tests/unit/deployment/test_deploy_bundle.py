"""`deploy BUNDLE` as an operator runs it, where graph.json and its files are gone.

Oracle: the same graph deployed from graph.json onto the same switch and workers.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import ROOT, orchestrator
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from networks import demand, make_graph, one_way, permits, topology
from processes import ProcessNetwork, processes
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap

from orchestrator.bundle.codec import dump
from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.model.entries import Exact, TableEntry
from orchestrator.model.match import Match
from orchestrator.network.inventory import save_inventory
from orchestrator.targets.v1model import COMPILER
from servernf.wire.addresses import GATEWAY_MAC, mac_text

pytestmark = pytest.mark.slow

CAMPUS = ROOT / "examples" / "campus_edge"
SECRETS = "trajectory_sample.manifests"
"""Every deployment makes its own."""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessNetwork]:
    folder = tmp_path_factory.mktemp("cli")
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_STATE_HOME", str(folder))
    patch.setenv("XDG_RUNTIME_DIR", str(folder))
    with processes(topology("single"), "softswitch", folder) as made:
        save_inventory(made.inventory)
        yield made
    patch.undo()


def deploy(network: ProcessNetwork, what: Path, *words: str, expect: int = 0) -> Any:
    """The JSON that `deploy` prints, or its words on standard error."""
    place = ("--network", network.live.name)
    done = orchestrator("deploy", str(what), *place, "--json", *words, expect=expect)
    return json.loads(done.stdout) if done.stdout else done.stderr


def undeploy(network: ProcessNetwork, graph: str) -> None:
    orchestrator("undeploy", graph, "--network", network.live.name)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The campus as a bundle under a name that says nothing, after its sources have gone."""
    folder = tmp_path_factory.mktemp("campus")
    source = shutil.copytree(CAMPUS, folder / "source")
    file = folder / "campus.json"
    orchestrator("compile", str(source / "graph.json"), "-t", "single", "-o", str(file))
    shutil.rmtree(source)
    return file


def on_devices(network: ProcessNetwork) -> set[Any]:
    """Entries of the switch, NFs and service paths of the workers."""
    with network.live.device("switch1") as switch:
        switch.pipeline_cookie()
        present: set[Any] = {
            (i.graph, i.entry.table, frozenset(i.entry.keys), i.entry.priority, i.entry.action,
             frozenset(i.entry.params), i.entry.origin, i.entry.meter)
            for i in (switch.entries() if switch.schema else ())
            if i.entry.table != SECRETS
        }  # fmt: skip
    for core in network.workers:
        with network.live.worker(core) as worker:
            status = worker.status()
        present |= {(core, nf.name, nf.type, nf.config_digest) for nf in status.nfs}
        present |= {(core, p.SerializeToString(deterministic=True)) for p in status.paths}
    return present


def test_it_puts_there_what_its_graph_does(network: ProcessNetwork, compiled: Path) -> None:
    deploy(network, CAMPUS / "graph.json")
    expected = on_devices(network)
    undeploy(network, "campus_edge")
    told = deploy(network, compiled)
    assert (told["graph"], told["updated"]) == ("campus_edge", False)
    assert on_devices(network) == expected
    again = deploy(network, compiled, "--dry-run")
    assert not any(again["changes"].values())
    assert again["updates"]
    undeploy(network, "campus_edge")


def test_it_updates_its_graph_and_is_updated_by_it(
    network: ProcessNetwork, compiled: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(CAMPUS, tmp_path / "source")
    access = json.loads((source / "access.json").read_text())
    del access[-1]
    (source / "access.json").write_text(json.dumps(access))
    deploy(network, source / "graph.json")
    told = deploy(network, compiled, "--dry-run", expect=1)
    assert told["updates"]
    assert told["changes"]["add"] in (1, 2), "a rule of IPv4, IPv6 or both comes, in place"
    assert deploy(network, compiled)["state_lost"] == []
    assert deploy(network, compiled)["changes"] == {"add": 0, "change": 0, "delete": 0}
    assert not any(deploy(network, CAMPUS / "graph.json", "--dry-run")["changes"].values())
    undeploy(network, "campus_edge")


def test_a_number_that_is_taken(network: ProcessNetwork, compiled: Path, tmp_path: Path) -> None:
    """Both were compiled with the same number; the second one gets another."""
    graph = {
        "name": "back",
        "endpoints": {"left": {"hosts": ["h3"]}, "right": {"hosts": ["h4"]}},
        "nfs": {"fw": {"type": "acl", "config": {"rules": [], "default": "permit"}}},
        "edges": [{"from": "left", "to": "fw.inside"}, {"from": "fw.outside", "to": "right"}],
        "traffic": [
            {
                "name": "t",
                "from": "left",
                "to": "right",
                "rate": "1Mbit/s",
                "match": {"ether_type": "0x88cc"},
            }
        ],
    }
    file, bundle = tmp_path / "graph.json", tmp_path / "b"
    file.write_text(json.dumps(graph))
    orchestrator("compile", str(file), "-t", "single", "-o", str(bundle))
    deploy(network, compiled)
    alone = on_devices(network)
    deploy(network, bundle)
    both = on_devices(network)
    assert alone < both
    ids = {d.bundle.graph: d.bundle.graph_id for d in network.live.journal.deployed().values()}
    assert ids == {"campus_edge": 1, "back": 2}
    undeploy(network, "back")
    deploy(network, file)
    assert on_devices(network) == both
    undeploy(network, "campus_edge")
    undeploy(network, "back")


def keys(folder: Path) -> tuple[Path, Path]:
    """A private key and its public one, as PEM files."""
    key = Ed25519PrivateKey.generate()
    private, public = folder / "key.pem", folder / "public.pem"
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    private.write_bytes(key.private_bytes(*form))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def test_a_bundle_writes_nothing_into_anothers_segments(
    network: ProcessNetwork, compiled: Path, tmp_path: Path
) -> None:
    """Denies for all segments of the campus, in a bundle with right digests of another tenant's."""
    deploy(network, compiled)
    before = on_devices(network)
    (theirs,) = network.live.journal.deployed().values()
    (program,) = theirs.bundle.programs.values()
    segments = {
        key.value
        for entry in program.entries
        for name, key in entry.keys
        if name == "segment" and isinstance(key, Exact)
    }
    graph = make_graph(
        {"fw": permits()},
        one_way("left", "fw", "right"),
        name="mallory",
        endpoints={"left": ("h3",), "right": ("h4",)},
        traffic=[demand("left", "right", match=Match(ether_type=0x88CC), rate=1000)],
    )
    here = topology("single")
    mine = compile_graph(CompileRequest(graph, here, graph_id=2)).bundle
    denies = tuple(
        TableEntry(
            "acl.ipv4", (("segment", Exact(s)),), "acl.ipv4.deny", (), 60_000, "fw: rules[0]"
        )
        for s in sorted(segments)
    )
    (own,) = mine.programs.values()
    harmful = replace(mine, programs={"switch1": replace(own, entries=(*own.entries, *denies))})
    for name, bundle in (("mine", mine), ("harmful", harmful)):
        (tmp_path / name).write_bytes(dump(bundle, topology=here))
    for words in ((), ("--dry-run",)):
        told = " ".join(deploy(network, tmp_path / "harmful", *words, expect=2).split())
        assert (
            f"key segment is {min(segments)}, of graph 1; valid for this bundle's graph 2" in told
        )
    assert on_devices(network) == before
    assert network.live.journal.intent() is None
    deploy(network, tmp_path / "mine")
    undeploy(network, "mallory")
    assert on_devices(network) == before
    undeploy(network, "campus_edge")


def test_only_what_a_trusted_key_signed(
    network: ProcessNetwork, compiled: Path, tmp_path: Path
) -> None:
    key, public = keys(tmp_path)
    words = ("compile", str(CAMPUS / "graph.json"), "-t", "single", "-o", str(tmp_path / "signed"))
    orchestrator(*words, "--sign", str(key))
    trust = ("--trust", str(public))
    assert "is not signed; trusted are only SHA256:" in " ".join(
        deploy(network, compiled, *trust, expect=2).split()
    )
    deploy(network, tmp_path / "signed", *trust)
    undeploy(network, "campus_edge")


def test_another_tenants_graph_stays(network: ProcessNetwork, compiled: Path) -> None:
    deploy(network, compiled)
    before = on_devices(network)
    place = ("--network", network.live.name)
    done = orchestrator("deploy", str(compiled), *place, "--owner", "eve", expect=9)
    assert "campus_edge belongs to campus; you are eve" in done.stderr
    assert on_devices(network) == before
    undeploy(network, "campus_edge")


def newer(data: Path, made: Path) -> None:
    """The same with a format of the future."""
    with zipfile.ZipFile(data) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "manifest.json":
                content = json.dumps({**json.loads(content), "format": 99}).encode()
            new.writestr(name, content)


def truncated(data: Path, made: Path) -> None:
    made.write_bytes(data.read_bytes()[:-1000])


def altered(data: Path, made: Path) -> None:
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    made.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "told"),
    [(truncated, "not a bundle"), (altered, "not a bundle"), (newer, "bundle format 99; this")],
)
def test_a_damaged_one_changes_nothing(
    network: ProcessNetwork, compiled: Path, tmp_path: Path, harm: Any, told: str
) -> None:
    before = on_devices(network)
    file = tmp_path / "harmed"
    harm(compiled, file)
    assert f"{file}: {told}" in " ".join(deploy(network, file, expect=2).split())
    assert on_devices(network) == before
    assert network.live.journal.intent() is None


def test_for_another_network(network: ProcessNetwork, tmp_path: Path) -> None:
    file = tmp_path / "bundle"
    orchestrator("compile", str(CAMPUS / "graph.json"), "-t", "leaf-spine", "-o", str(file))
    words = " ".join(deploy(network, file, expect=2).split())
    assert "was compiled for another network than single" in words
    assert "leaf1 is missing" in words


def test_in_memory_on_its_own_topology(compiled: Path, tmp_path: Path) -> None:
    frame = (
        Ether(src="0a:00:00:00:00:01", dst=mac_text(GATEWAY_MAC))
        / IP(src="10.0.1.11", dst="198.51.100.13")
        / UDP(sport=20_000, dport=53)
    )
    wrpcap(str(tmp_path / "one.pcap"), [frame])
    words = ("deploy", str(compiled), "--network", "memory")
    done = orchestrator(*words, "--pcap", str(tmp_path / "one.pcap"), "--json")
    ((_, tally),) = json.loads(done.stdout)["traffic"].items()
    assert (tally["sent"], tally["delivered"]) == (1, 1)
    again = json.loads(orchestrator(*words, "--json").stdout)
    assert (again["network"], again["updated"], again["traffic"]) == ("memory", True, {})
    orchestrator("net", "down", "memory")


def test_it_brings_a_pipeline_that_p4c_made_for_it(
    network: ProcessNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is deployed, there is no p4c."""
    if not shutil.which(COMPILER):
        pytest.skip(f"{COMPILER} is not on PATH")
    file = tmp_path / "bundle"
    key, public = keys(tmp_path)
    words = ("compile", str(CAMPUS / "graph.json"), "-t", "single", "--specialise")
    orchestrator(*words, "-o", str(file), "--sign", str(key))
    deploy(network, CAMPUS / "graph.json", "--specialise")
    expected = on_devices(network)
    assert any(entry[1] == "edge_acl.ipv4" for entry in expected if len(entry) > 4)
    undeploy(network, "campus_edge")
    deploy(network, file)  # p4c makes it again, and it is the same
    undeploy(network, "campus_edge")
    monkeypatch.setenv("PATH", "/nowhere")
    assert "is not on PATH" in deploy(network, file, expect=2)
    deploy(network, file, "--trust", str(public))
    assert on_devices(network) == expected
    undeploy(network, "campus_edge")


def test_on_another_pipeline_than_the_one_that_runs(
    network: ProcessNetwork, compiled: Path, tmp_path: Path
) -> None:
    if not shutil.which(COMPILER):
        pytest.skip(f"{COMPILER} is not on PATH")
    file = tmp_path / "bundle"
    words = ("compile", str(CAMPUS / "graph.json"), "-t", "single", "--specialise")
    orchestrator(*words, "-o", str(file))
    deploy(network, compiled)
    before = on_devices(network)
    told = " ".join(deploy(network, file, expect=8).split())
    assert "switch1 run pipeline edge for campus_edge, and the bundle is for specialised-" in told
    assert on_devices(network) == before
    undeploy(network, "campus_edge")


def test_a_pipeline_of_its_own_is_asked_for_when_compiling(
    network: ProcessNetwork, compiled: Path
) -> None:
    told = deploy(network, compiled, "--specialise", expect=2)
    assert "compile --specialise" in told

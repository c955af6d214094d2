"""A network whose topology requires mutual TLS, driven by the command line: real processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import Authority
from commands import ROOT, orchestrator, orchestrator_json
from live import CAMPUS_EDGE, NEEDS_EMULATION, SWITCHES, own_folders

from orchestrator.emulation import load_state

pytestmark = NEEDS_EMULATION


@pytest.fixture(scope="module", params=SWITCHES)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The folder of the certificates of a running network `secured`."""
    folder = tmp_path_factory.mktemp("tls")
    ours = Authority(folder)
    ours.issue("device")
    ours.issue("controller")
    ours.issue("alice")
    Authority(folder / "theirs").issue("controller")
    topology = json.loads((ROOT / "topologies" / "leaf-spine.json").read_text())
    topology["name"] = "secured"
    topology["tls"] = {
        "ca": "ca.pem",
        "certificate": "controller.pem",
        "key": "controller.key",
        "device_certificate": "device.pem",
        "device_key": "device.key",
    }
    (folder / "secured.json").write_text(json.dumps(topology))
    with own_folders():
        orchestrator("net", "up", str(folder / "secured.json"), "--switch", request.param)
        try:
            yield folder
        finally:
            orchestrator("net", "down", "secured")


def test_all_commands_go_over_tls(site: Path) -> None:
    orchestrator("deploy", str(CAMPUS_EDGE), "-n", "secured")
    assert orchestrator_json("status", "-n", "secured")["graphs"][0]["owner"] == "campus"
    assert not [
        m
        for m in orchestrator_json("status", "-n", "secured")["workers"].values()
        if "unreachable" in m
    ]
    orchestrator("tables", "all", "--diff", "-n", "secured")
    for server in ("server1", "server2", "server1"):
        moved = orchestrator_json("move", "campus_edge/edge_nat", "--to", server, "-n", "secured")
        told = moved["graphs"]["campus_edge"]["state_moved"]
        assert not any("stays behind" in line for line in told), told
    assert told, "state goes from worker to worker by their certificates"
    stranger = [
        *("--tls-certificate", str(site / "theirs" / "controller.pem")),
        *("--tls-key", str(site / "theirs" / "controller.key")),
    ]
    refused = orchestrator("tables", "leaf1", "-n", "secured", *stranger, expect=6)
    assert "leaf1: 127.0.0.1:" in refused.stderr
    assert "refuses the client certificate" in refused.stderr
    wrong = str(site / "theirs" / "ca.pem")
    refused = orchestrator("tables", "leaf1", "-n", "secured", "--tls-ca", wrong, expect=6)
    assert "its certificate is not valid for" in refused.stderr


def test_another_owner_changes_nothing(site: Path) -> None:
    alice = ["--tls-certificate", str(site / "alice.pem"), "--tls-key", str(site / "alice.key")]
    for who in (["--owner", "bob"], alice):
        for command in (
            ["undeploy", "campus_edge"],
            ["deploy", str(CAMPUS_EDGE)],
            ["shell", "leaf1", "--write", "--json"],
        ):
            refused = orchestrator(*command, "-n", "secured", *who, expect=9)
            you = "bob" if "bob" in who else "alice"
            assert f"campus_edge belongs to campus; you are {you}" in refused.stderr
    orchestrator("tables", "all", "--diff", "-n", "secured")
    orchestrator("undeploy", "campus_edge", "-n", "secured", "--owner", "campus")
    assert orchestrator_json("status", "-n", "secured")["graphs"] == []


def test_who_is_no_writer_reads_only(site: Path) -> None:
    """alice's certificate is of the network's CA, but not the controller's: devices say no, not we."""
    state = load_state("secured")
    if {s.target for s in state.switches.values()} == {"bmv2"}:
        pytest.skip("BMv2 knows no writers (docs/LIMITATIONS.md)")
    assert {s.tls.writers for s in state.topology.switches.values() if s.tls} == {("controller",)}
    alice = ["--tls-certificate", str(site / "alice.pem"), "--tls-key", str(site / "alice.key")]
    hers = site / "hers.json"
    ends = {"from": "inside", "to": "outside"}
    graph = {
        "name": "hers",
        "owner": "alice",
        "endpoints": {"inside": {"hosts": ["h1"]}, "outside": {"hosts": ["h3"]}},
        "edges": [ends],
        "traffic": [{"name": "all", **ends, "rate": "1Mbit/s", "packet_size": 500}],
    }
    hers.write_text(json.dumps(graph))
    refused = orchestrator("deploy", str(hers), "-n", "secured", *alice, expect=6)
    assert "the certificate of 'alice' may read this device, not change it" in refused.stderr
    orchestrator("deploy", str(CAMPUS_EDGE), "-n", "secured")
    shown = orchestrator("tables", "leaf1", "trajectory_sample.manifests", "-n", "secured", *alice)
    assert "(secret)" in shown.stdout
    orchestrator("metrics", "-n", "secured", *alice)
    orchestrator("undeploy", "campus_edge", "-n", "secured")

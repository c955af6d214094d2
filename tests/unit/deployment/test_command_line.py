"""Commands as an operator runs them, on devices that `net up` did not start: all is in the inventory.

Oracle: what the commands say of harm that the test has done, and what the devices hold.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import ROOT, orchestrator
from finsy.proto import p4r
from networks import topology
from processes import ProcessNetwork, processes
from support import eventually, json_lines

from orchestrator.deployment.recovery import recover
from orchestrator.network.inventory import save_inventory
from orchestrator.observation.conditions import recorded

pytestmark = pytest.mark.slow

CAMPUS = ROOT / "examples" / "campus_edge" / "graph.json"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessNetwork]:
    folder = tmp_path_factory.mktemp("cli")
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_STATE_HOME", str(folder))
    patch.setenv("XDG_RUNTIME_DIR", str(folder))
    with processes(topology("single"), "softswitch", folder) as made:
        save_inventory(made.inventory)
        run("deploy", str(CAMPUS), "--network", made.live.name)
        yield made
    patch.undo()


def run(*words: str, expect: int = 0) -> str:
    return orchestrator(*words, expect=expect).stdout


def reconcile(network: ProcessNetwork, *words: str, expect: int = 0) -> Any:
    return json.loads(run("reconcile", network.live.name, *words, "--json", expect=expect))


def test_a_foreign_network_is_seen_as_any_other(network: ProcessNetwork) -> None:
    place = ("--network", network.live.name)
    rows = json.loads(run("tables", "switch1", *place, "--json"))
    assert any(row["graph"] == "campus_edge" for row in rows)
    said = run("explain", *place, "--from", "h1", "--to", "h3:80")
    assert "campus_edge" in said
    assert 'orchestrator_device_up{device="switch1"' in run("metrics", *place)
    status = json.loads(run("status", *place, "--json"))
    devices = {device["name"]: device for device in status["devices"]}
    assert devices["switch1"] == {
        "name": "switch1",
        "kind": "switch",
        "target": "softswitch",
        "pipeline": "edge",
        "answers": True,
    }
    assert devices["server1"]["runtime"] == "python"


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("capture", "switch1:h1"), "capturing"),
        (("trace", "--from", "h1", "--to", "h3"), "tracing"),
    ],
)
def test_what_needs_interfaces_says_so(
    network: ProcessNetwork, words: tuple[str, ...], what: str
) -> None:
    place = ("--network", network.live.name)
    done = orchestrator(*words, *place, expect=4)
    assert f"{what}" in done.stderr
    assert "needs the interfaces of its devices" in " ".join(done.stderr.split())


def test_nothing_to_do_says_so(network: ProcessNetwork) -> None:
    assert not reconcile(network, "--dry-run")["drifted"]
    assert "is as its journal says" in run("reconcile", network.live.name)


def test_a_network_is_named_one_way_everywhere(
    network: ProcessNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = network.live.name
    assert "is as its journal says" in run("reconcile", "-n", name)
    run("reconcile", name, "-n", "another", expect=2)
    monkeypatch.setenv("ORCHESTRATOR_NETWORK", "nowhere")
    run("status", expect=5)
    assert "is as its journal says" in run("reconcile", name)
    monkeypatch.setenv("ORCHESTRATOR_NETWORK", name)
    assert json.loads(run("status", "--json"))["devices"]


def test_status_of_one_graph(network: ProcessNetwork) -> None:
    """Its devices and workers; counters that have counted nothing are left out, but with --all."""
    place = ("-n", network.live.name)
    whole = run("status", *place)
    assert "edge_ids.alerts" not in whole
    assert "edge_ids.alerts" in run("status", "--all", *place)
    told = json.loads(run("status", "--graph", "campus_edge", *place, "--json"))
    assert [graph["name"] for graph in told["graphs"]] == ["campus_edge"]
    assert {device["name"] for device in told["devices"]} == {"switch1", "server1"}
    run("status", "--graph", "campus", *place, expect=2)


def test_a_quiet_deploy_says_what_came_of_it(network: ProcessNetwork) -> None:
    said = run("deploy", str(CAMPUS), "-q", "-n", network.live.name)
    assert [line.split(" is ")[0] for line in said.splitlines()] == ["campus_edge"]


def test_a_deleted_entry_is_shown_and_then_put_back(network: ProcessNetwork) -> None:
    with network.live.device("switch1") as other:
        other.pipeline_cookie()
        assert other.schema is not None
        victim = next(
            item for item in other.entries("acl.ipv4") if "access.json" in item.entry.origin
        )
        other.write(other.schema.updates([victim.entry], victim.graph, p4r.Update.DELETE))
    shown = reconcile(network, "--dry-run", expect=1)
    (change,) = shown["devices"][0]["changes"]
    assert (change["kind"], change["table"]) == ("add", "acl.ipv4")
    assert change["graph"] == "campus_edge"
    assert change["rule"].startswith("access.json:")
    assert reconcile(network, "--dry-run", expect=1)["drifted"], "--dry-run changes nothing"
    assert reconcile(network)["devices"][0]["added"] == 1
    assert not reconcile(network, "--dry-run")["drifted"]


def test_a_restarted_switch_is_loaded_anew(network: ProcessNetwork) -> None:
    network.switches["switch1"].restart()
    table = run("reconcile", network.live.name, "--dry-run", "--limit", "3", expect=1)
    assert "no pipeline: it has restarted" in table
    assert reconcile(network)["devices"][0]["lost"]
    assert not reconcile(network, "--dry-run")["drifted"]


def test_a_switch_that_is_gone_is_an_error_of_its_own(network: ProcessNetwork) -> None:
    network.switches["switch1"].kill()
    run("reconcile", network.live.name, expect=6)
    network.switches["switch1"].restart()
    reconcile(network)


def test_status_says_who_leads_and_what_is_not_finished(network: ProcessNetwork) -> None:
    place = ("status", "--network", network.live.name)
    here = f"process {os.getpid()} on "
    now = network.live.journal.deployed()["campus_edge"]
    with network.live.leading() as lead:
        assert f"{here}{os.uname().nodename} is changing the network" in run(*place)
        lead.intend("campus_edge", now)
        status = json.loads(run(*place, "--json"))
        assert status["leader"].startswith(here)
        assert status["unfinished"] == "campus_edge"
    status = json.loads(run(*place, "--json"))
    assert (status["leader"], status["unfinished"]) == (None, "campus_edge")
    said = run("recover", "--network", network.live.name)
    assert "campus_edge" in said
    assert json.loads(run(*place, "--json"))["unfinished"] is None


def test_a_recovery_counts_what_it_looks_at(network: ProcessNetwork) -> None:
    total: list[int] = []
    counts: list[int] = []
    with network.live.leading() as lead:
        lead.intend("campus_edge", None)
        lead.begin(0)
        recovered = recover(
            network.live,
            lead,
            expected=total.append,
            progress=lambda _, count: counts.append(count),
        )
    assert recovered is not None
    assert recovered.outcome == "undone"
    assert total[0] > 0
    assert sum(counts) == total[0]
    assert not reconcile(network, "--dry-run")["drifted"]


def test_watch_ends_by_ctrl_c(network: ProcessNetwork, tmp_path: Path) -> None:
    out = (tmp_path / "out").open("w+")
    words = ["reconcile", network.live.name, "--watch", "--interval", "200ms", "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "orchestrator", *words],
        stdout=out,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as watcher:
        assert watcher.stderr is not None
        assert "watching" in watcher.stderr.readline()
        eventually(lambda: recorded(network.inventory.folder), what="a first answer")
        network.switches["switch1"].restart()

        def repair() -> Any:
            events = json_lines(tmp_path / "out")
            return next((event for event in events if event["event"] == "repair"), None)

        repaired = eventually(repair, what="a repair")
        watcher.send_signal(signal.SIGINT)
        told = watcher.stderr.read()
        assert watcher.wait(20) == 130
    assert "Traceback" not in told
    assert repaired["devices"][0]["lost"]
    out.close()

"""Thirty devices of the thousand that tests/bench/attach_growth.py measures: the outcomes.

Oracle: what the fakes keep, read back through P4Runtime. Blind spot: they execute no packet and check
no entry (the softswitch's and BMv2's tests do).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from finsy.proto import p4r
from many_devices import many_devices
from pods import filtering, pods, topology_file, wires
from typer.testing import CliRunner

from orchestrator.attachment.attach import attach
from orchestrator.cli import app
from orchestrator.cli.crowds import MOST
from orchestrator.deployment.access import Access
from orchestrator.deployment.live import LiveNetwork
from orchestrator.deployment.operations import deploy_graph, undeploy_graph
from orchestrator.deployment.reconciling import inspect, reconcile
from orchestrator.errors import InputError, NetworkError
from orchestrator.graph import load_graph, load_topology
from orchestrator.network.inventory import PipelineAddress, load_inventory, save_inventory
from orchestrator.observation.health import read_network

pytestmark = pytest.mark.slow

COUNT, RULES = 30, 30
NAME = f"pods-{COUNT}"
DEAD = "p1l3"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNetwork]:
    patch, folder = pytest.MonkeyPatch(), tmp_path_factory.mktemp("many")
    patch.setenv("XDG_STATE_HOME", str(folder))
    topology = pods(COUNT)
    with many_devices(range(1, COUNT + 1), wires(topology)) as addresses:
        there = load_topology(topology_file(topology, addresses, folder))
        attached = attach(there, NAME, Access.from_environment())
        assert set(attached.loaded) == set(topology.switches)
        yield LiveNetwork(load_inventory(NAME))
    patch.undo()


@pytest.fixture
def one_dead(live: LiveNetwork) -> Iterator[None]:
    """A leaf does not answer."""
    inventory = live.inventory
    nowhere = PipelineAddress("127.0.0.1:1", inventory.pipelines[DEAD].device_id)
    save_inventory(replace(inventory, pipelines={**inventory.pipelines, DEAD: nowhere}))
    yield
    save_inventory(inventory)


def test_many_devices_are_deployed_to_updated_and_repaired(
    live: LiveNetwork, tmp_path: Path
) -> None:
    bundle = deploy_graph(load_graph(filtering(live.topology, RULES, tmp_path)).graph, live).bundle
    assert not inspect(live)
    leaves = [name for name, program in bundle.programs.items() if len(program.entries) > RULES]
    assert len(leaves) == 15, "all that have a host inside"

    changed = load_graph(filtering(live.topology, RULES, tmp_path, last=8443)).graph
    done = deploy_graph(changed, live)
    assert done.updated
    assert done.summary.devices.keys() == set(leaves)
    assert all(
        (tables["acl.ipv4"].add, tables["acl.ipv4"].delete) == (1, 1)
        for tables in done.summary.devices.values()
    )
    lists = [
        [e for e in done.bundle.programs[leaf].entries if e.action == "acl.ipv4.deny"]
        for leaf in leaves
    ]
    one_list = {tuple(map(id, entries)) for entries in lists}
    assert len(one_list) == 1, "what all leaves have is one object, also in an update"

    gone = {name: done.bundle.programs[name].entries[3] for name in leaves[:3]}
    for name, entry in gone.items():
        with live.device(name) as other:
            other.pipeline_cookie()
            assert other.schema is not None
            other.write(other.schema.updates([entry], "filtering", p4r.Update.DELETE))
    drifted = {d.device for d in inspect(live).devices if d}
    assert drifted == set(gone)
    drift = reconcile(live)
    assert sum(len(d.difference) for d in drift.devices) == len(gone)
    assert not inspect(live)

    reading = read_network(live)
    entries = {d.name: sum(use.entries for use in d.tables.values()) for d in reading.devices}
    for device in live.inventory.pipelines:
        program = done.bundle.programs.get(device)
        own = (*program.entries, *program.activation) if program else ()
        assert entries[device] == len(own) + len(done.bundle.fabric[device].entries), device
    assert undeploy_graph("filtering", live) == ()
    assert not any(use.entries for d in read_network(live).devices for use in d.tables.values())


def test_a_wrong_wire_among_many_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    topology = pods(20)
    crossed = wires(topology)
    a, b = (crossed[topology.switches[name].id, 1] for name in ("p0l0", "p0l1"))
    crossed[topology.switches["p0l0"].id, 1], crossed[topology.switches["p0l1"].id, 1] = b, a
    with many_devices(range(1, 21), crossed) as addresses:
        there = load_topology(topology_file(topology, addresses, tmp_path))
        with pytest.raises(
            NetworkError, match="p0l0 port 1 reaches p0s0 port 2, the topology says"
        ):
            attach(there, "crossed", Access.from_environment())


@pytest.mark.usefixtures("one_dead")
def test_of_a_crowd_who_is_not_well_is_shown(live: LiveNetwork) -> None:
    told = _run("status")
    assert f"{COUNT - 1} of {COUNT} are well" in told
    assert len([line for line in told.splitlines() if line.startswith("p1l")]) == 1
    told = _run("top", "--count", "1")
    assert f"{COUNT - 1} of {COUNT} are well" in told
    assert len([line for line in told.splitlines() if line.startswith("p1l3 ")]) == 1
    assert len(told.splitlines()) < MOST * 2
    told = _run("net", "status")
    assert f"{COUNT - 1} of {COUNT} are well" in told
    assert "p1l2" not in told


@pytest.mark.usefixtures("one_dead")
def test_everything_or_some_devices_are_shown_if_asked_for(live: LiveNetwork) -> None:
    assert len([line for line in _run("status", "--all").splitlines() if line[:2] == "p1"]) == 10
    shown = _run("status", "--device", "p1l0", "-d", "p1l1")
    assert [line[:4] for line in shown.splitlines() if line[:2] == "p1"] == ["p1l0", "p1l1"]
    told = json.loads(_run("status", "-d", "p1l0", "--json"))
    assert [(d["name"], d["answers"]) for d in told["devices"]] == [("p1l0", True)]
    assert {c["name"] for c in told["conditions"]} == {"p1l0", "p1l0-p1s0", "p1l0-p1s1", "p1l0-h9"}
    (read,) = json.loads(_run("top", "--count", "1", "-d", DEAD, "--json"))["devices"]
    assert read["name"] == DEAD
    assert read["problem"]
    series = _run("metrics", "-d", "p1l0")
    assert 'device="p1l0"' in series
    assert 'device="p1l1"' not in series


def test_a_device_that_is_not_there_is_named(live: LiveNetwork) -> None:
    for words in (["status"], ["top", "--count", "1"], ["metrics"]):
        error = CliRunner().invoke(app, [*words, "--device", "p1l33"]).exception
        assert isinstance(error, InputError)
        assert "--device: unknown device 'p1l33'; did you mean 'p1l3'?" in str(error)


def _run(*words: str) -> str:
    done = CliRunner().invoke(app, [*words])
    assert done.exit_code == 0, done.output
    return done.stdout

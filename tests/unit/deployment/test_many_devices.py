"""Twenty devices of the thousand that tests/bench/attach_growth.py measures: the outcomes.

Oracle: what the fakes keep, read back through P4Runtime. Blind spot: they execute no packet and check
no entry (the softswitch's and BMv2's tests do).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from finsy.proto import p4r
from many_devices import many_devices
from pods import filtering, inventory_of, pods

from orchestrator.deployment.live import LiveNetwork
from orchestrator.deployment.operations import deploy_graph, undeploy_graph
from orchestrator.deployment.presence import look
from orchestrator.deployment.reconciling import inspect, reconcile
from orchestrator.graph import load_graph
from orchestrator.network.inventory import load_inventory, save_inventory
from orchestrator.observation.health import read_network

pytestmark = pytest.mark.slow

COUNT, RULES = 20, 30


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveNetwork]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with many_devices(range(1, COUNT + 1)) as addresses:
        save_inventory(inventory_of(pods(COUNT), addresses, tmp_path))
        yield LiveNetwork(load_inventory(f"pods-{COUNT}"))


def test_many_devices_are_deployed_to_updated_and_repaired(
    live: LiveNetwork, tmp_path: Path
) -> None:
    assert not look(live).silent
    bundle = deploy_graph(load_graph(filtering(live.topology, RULES, tmp_path)).graph, live).bundle
    assert not inspect(live)
    leaves = [name for name, program in bundle.programs.items() if len(program.entries) > RULES]
    assert len(leaves) == 7, "all that have a host inside"

    changed = load_graph(filtering(live.topology, RULES, tmp_path, last=8443)).graph
    done = deploy_graph(changed, live)
    assert done.updated
    assert done.summary.devices.keys() == set(leaves)
    assert all(
        (tables["acl.ipv4"].add, tables["acl.ipv4"].delete) == (1, 1)
        for tables in done.summary.devices.values()
    )

    gone = {name: done.bundle.programs[name].entries[3] for name in leaves[:3]}
    for name, entry in gone.items():
        with live.device(name) as other:
            other.pipeline_cookie()
            assert other.schema is not None
            other.write(other.schema.updates([entry], "filtering", p4r.Update.DELETE))
    drifted = {d.device for d in inspect(live).devices if d}
    assert drifted == set(gone)
    found = reconcile(live)
    assert sum(len(d.difference) for d in found.devices) == len(gone)
    assert not inspect(live)

    reading = read_network(live)
    entries = {d.name: sum(use.entries for use in d.tables.values()) for d in reading.devices}
    for device in live.inventory.pipelines:
        program = done.bundle.programs.get(device)
        own = (*program.entries, *program.activation) if program else ()
        assert entries[device] == len(own) + len(done.bundle.fabric[device].entries), device
    assert undeploy_graph("filtering", live) == ()
    assert not any(use.entries for d in read_network(live).devices for use in d.tables.values())

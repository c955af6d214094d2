"""The inventory of a network: what is written is read, and what a file gets wrong is said.

Oracle: the document itself. That everything goes by it is shown by test_command_line, whose devices no
`net up` has started.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from networks import topology

from orchestrator.deployment.live import LiveNetwork
from orchestrator.errors import InputError, NetworkError
from orchestrator.model.devices import Device
from orchestrator.model.plan import Core
from orchestrator.network.folders import inventories_dir, list_inventories
from orchestrator.network.inventory import (
    Inventory,
    PipelineAddress,
    WorkerAddress,
    forget_inventory,
    load_inventory,
    read_inventory,
    save_inventory,
)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def rack() -> Inventory:
    single = topology("single")
    switches = {n: replace(s, target="softswitch") for n, s in single.switches.items()}
    return Inventory(
        "rack",
        replace(single, switches=switches),
        {"switch1": PipelineAddress("[2001:db8::1]:9559", 1, "fabric")},
        (WorkerAddress("server1.1", Core("server1", 0), "server1.example:50051"),),
        "/run/rack",
        {"server1": "server1.example:50050"},
    )


def test_what_is_written_is_read() -> None:
    assert list_inventories() == []
    save_inventory(rack())
    assert load_inventory("rack") == rack()
    assert list_inventories() == ["rack"]
    assert (inventories_dir() / "rack.json").stat().st_mode & 0o777 == 0o600
    forget_inventory("rack")
    with pytest.raises(NetworkError, match="network"):
        load_inventory("rack")


def test_devices_are_what_runs() -> None:
    switch = rack().topology.switches["switch1"]
    assert rack().devices["switch1"] == Device(
        "switch1", "switch", target=switch.target, pipeline=switch.pipeline
    )
    assert rack().devices["server1"] == Device("server1", "server", runtime="python")


def test_no_name_leads_out_of_the_folder() -> None:
    for name in ("../rack", "a/b", ""):
        with pytest.raises(InputError, match="network name"):
            load_inventory(name)


def _set(*path: str | int, to: object) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = to

    return change


SWITCH = {"address": "127.0.0.1:1", "device_id": 1}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("format", to=2), "format: Input should be 1"),
        (_set("passwords", to=[]), "passwords: Extra inputs are not permitted"),
        (_set("folder", to="here"), "folder: "),
        (_set("topology", "switches", "switch1", "target", to="bmv3"), "topology: "),
        (
            _set("topology", "switches", "switch1", "target", to="auto"),
            "topology: switch1: 'auto' does not say which target runs",
        ),
        (_set("topology", "servers", "server1", "runtime", to="rust"), "topology: "),
        (_set("topology", "links", 0, "a", to="nowhere"), "topology: "),
        (_set("pipelines", "switch2", to=SWITCH), "pipelines: unknown device with a pipeline"),
        (_set("pipelines", to={}), "pipelines: no address of switch1"),
        (_set("pipelines", "switch1", "device_id", to="one"), "pipelines.switch1.device_id: "),
        (
            _set("pipelines", "switch1", "address", to="file:///etc"),
            "switch1: address 'file:///etc' is none of HOST:PORT, ",
        ),
        (_set("agents", "server9", to="h:1"), "agents: unknown server 'server9'"),
        (_set("agents", "server1", to="h"), "agent of server1: address 'h' is none of"),
        (_set("workers", 0, "core", "server", to="server9"), "workers.0: unknown server"),
        (_set("workers", 0, "core", "index", to=99), "workers.0: server1 has cores 0.."),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, change: Callable[[Any], None], said: str) -> None:
    save_inventory(rack())
    document = json.loads((inventories_dir() / "rack.json").read_text())
    change(document)
    file = tmp_path / "rack.json"
    file.write_text(json.dumps(document))
    with pytest.raises(InputError) as told:
        read_inventory(file)
    assert f"{file}: {said}" in str(told.value)


def test_a_network_of_before_keeps_its_workers_names() -> None:
    """Its workers call themselves so until it is started anew (docs/decisions/0119)."""
    worker = WorkerAddress("server1-core1", Core("server1", 0), "server1.example:50051")
    save_inventory(replace(rack(), workers=(worker,)))
    assert LiveNetwork(load_inventory("rack")).worker_name(Core("server1", 0)) == "server1-core1"

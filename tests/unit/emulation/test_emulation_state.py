"""State files: what is written is read back, privately; damage is explained."""

from __future__ import annotations

import ipaddress
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.emulation.state import (
    HostState,
    NetworkState,
    ServerState,
    SwitchState,
    WorkerState,
    load_handle,
    load_state,
    save_state,
)
from orchestrator.emulation.status import net_status
from orchestrator.errors import InputError, NetworkError
from orchestrator.model.topology import Host, Link, Server, SmartNic, Switch, Topology
from orchestrator.network.folders import list_networks, networks_dir, run_dir, state_file

ADDRESSES = (ipaddress.ip_interface("10.0.0.2/24"), ipaddress.ip_interface("fd00::2/64"))
GATEWAYS = (ipaddress.ip_address("10.0.0.1"), ipaddress.ip_address("fd00::1"))


def state() -> NetworkState:
    topology = Topology(
        name="lab",
        switches={"s1": Switch("s1", 1, "auto", "edge", {"rules": 10})},
        servers={"server1": Server("server1", 2, 4, 2, 2_000_000_000, 1 << 34)},
        smartnics={"nic1": SmartNic("nic1", "server1", 100)},
        hosts={"h1": Host("h1", 0x0A0000000001, ADDRESSES, GATEWAYS)},
        links=(Link("s1", 1, "h1", 0, 10**10, 5),),
        trees=2,
        source="/some/lab.json",
    )
    worker = WorkerState(
        name="server1.1",
        server="server1",
        core=0,
        mac=0x020000020001,
        api="unix:/run/x.sock",
        pid=12,
        interface="core1",
        log="/run/x.log",
    )
    switch = SwitchState("s1", "bmv2", 1, "127.0.0.1:5", 11, 510, {1: "o3fa2s1p1"}, "/run/s1.log")
    return NetworkState(
        name="lab",
        id="3fa2",
        phase="running",
        topology=topology,
        created=time.time(),
        run_dir="/run/orchestrator/lab",
        namespace=1,
        supervisor=10,
        switches={"s1": switch},
        servers={"server1": ServerState("server1", 13, "eth0", (worker,))},
        hosts={"h1": HostState("h1", 14, "eth0", 0x0A0000000001, ADDRESSES, GATEWAYS)},
    )


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def test_round_trip() -> None:
    save_state(state_ := state())
    assert load_state("lab") == state_
    assert list_networks() == ["lab"]


def test_files_are_private_and_nothing_else_is_left() -> None:
    save_state(state())
    save_state(replace(state(), phase="starting"))
    assert [path.name for path in networks_dir().iterdir()] == ["lab.json"]
    assert state_file("lab").stat().st_mode & 0o777 == 0o600
    assert networks_dir().stat().st_mode & 0o777 == 0o700


def test_state_folder_that_was_open_is_closed() -> None:
    networks_dir().chmod(0o755)
    assert networks_dir().stat().st_mode & 0o777 == 0o700


def test_unknown_network_names_the_nearest() -> None:
    save_state(state())
    with pytest.raises(NetworkError, match=r"unknown network 'lap'; did you mean 'lab'\?"):
        load_state("lap")


def test_a_name_never_leaves_the_folder() -> None:
    with pytest.raises(InputError):
        load_state("../../etc/passwd")


def test_a_file_of_another_version_can_still_be_taken_down() -> None:
    save_state(state())
    raw = json.loads(state_file("lab").read_text())
    del raw["topology"]
    state_file("lab").write_text(json.dumps(raw))
    with pytest.raises(NetworkError, match=r"another version.*net down lab"):
        load_state("lab")
    assert load_handle("lab").id == "3fa2"


def test_a_damaged_file_is_named() -> None:
    networks_dir()
    state_file("lab").write_text("{")
    with pytest.raises(NetworkError, match=r"lab\.json is damaged"):
        load_handle("lab")


def test_a_pid_alone_does_not_make_a_network_alive() -> None:
    """After a reboot the recorded pids may be anybody's, this test's for one."""
    save_state(replace(state(), supervisor=os.getpid()))
    (status,) = net_status("lab")
    assert status.health == "crashed"
    assert not any(c.alive for c in status.components)


def test_sockets_live_in_the_runtime_folder(tmp_path: Path) -> None:
    assert run_dir("lab") == tmp_path / "orchestrator" / "lab"


def test_a_runtime_folder_that_is_not_ours_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "absent"))
    assert not run_dir("lab").is_relative_to(tmp_path / "absent")

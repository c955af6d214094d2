"""What is missing is said before anything is changed; the machine's report; free ports."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path

import pytest

from orchestrator.emulation import environment, machine_report, net_up
from orchestrator.emulation.children import FreePorts, log_end, spawn, stop, wait_ready
from orchestrator.errors import EnvironmentMissing, InputError, NetworkError
from orchestrator.model.topology import Topology
from orchestrator.network.folders import list_networks

NOTHING = Topology("lab", {}, {}, {}, {}, (), 1)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def test_without_root_nothing_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(EnvironmentMissing, match=r"needs root \(run it with sudo\).*memory"):
        net_up(NOTHING)
    assert list(tmp_path.iterdir()) == []


def test_everything_missing_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda name: None)  # pyright: ignore
    monkeypatch.setattr(environment, "mininet_folder", lambda: None)
    with pytest.raises(EnvironmentMissing) as e:
        environment.require_emulation()
    for part in (
        "root",
        "mininet, ip, ethtool, mnexec",
        "apt-get install mininet ethtool iproute2",
    ):
        assert part in str(e.value)


def test_our_own_scripts_are_not_taken_for_mininet(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mininet").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert environment.mininet_folder() != tmp_path


def test_report_names_what_each_thing_is_for() -> None:
    checks = machine_report()
    assert len({check.name for check in checks}) == len(checks)
    assert all(check.detail and check.needed_for and check.get for check in checks)
    assert next(check for check in checks if check.name == "Python").present
    assert list_networks() == []


def test_a_held_port_is_nobody_elses_but_a_grpc_servers() -> None:
    port = FreePorts().hold  # keeps its object, so the socket stays open
    number = port()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", number))
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        server.bind(("127.0.0.1", number))
        server.listen()


def test_children_announce_themselves(tmp_path: Path) -> None:
    program = (
        'import time; print(\'{"ready": true, "grpc_addr": "x"}\', flush=True); time.sleep(60)'
    )
    child = spawn("sw", [sys.executable, "-c", program], tmp_path / "sw.log", env=os.environ)
    wait_ready([child])
    stop([child])
    assert child.ready == {"ready": True, "grpc_addr": "x"}
    assert child.process.returncode == -15


def test_a_child_that_ends_early_is_quoted(tmp_path: Path) -> None:
    program = "raise SystemExit('no such interface')"
    child = spawn("sw", [sys.executable, "-c", program], tmp_path / "sw.log", env=os.environ)
    with pytest.raises(NetworkError, match=r"sw did not start:\nno such interface"):
        wait_ready([child])


def test_a_child_that_never_answers(tmp_path: Path) -> None:
    child = spawn("sw", ["sleep", "60"], tmp_path / "sw.log", env=os.environ)
    with pytest.raises(NetworkError, match="sw is not ready after 0 s"):
        wait_ready([child], timeout=0.05)
    stop([child])


def test_the_end_of_a_log_that_is_not_there(tmp_path: Path) -> None:
    assert log_end(tmp_path / "absent") == ""


def test_a_cle_that_servers_cannot_reach_is_refused_before_anything_is_done() -> None:
    with pytest.raises(InputError, match=r"--cle 192.0.2.1:9600: .* unix:/PATH"):
        net_up(NOTHING, cle="192.0.2.1:9600")

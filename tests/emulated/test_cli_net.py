"""`orchestrator net ...` and Ctrl-C, as a user meets them.

Oracle: exit codes, what is printed, and the machine before and after. Blind spot: forwarding, which
`test_campus_edge` looks at.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from commands import command_line, orchestrator, orchestrator_json
from live import CAMPUS_EDGE, NEEDS_EMULATION, SWITCHES, Live, network, own_folders
from support import eventually

from orchestrator.clients.vnf import WorkerClient
from orchestrator.emulation import load_state
from orchestrator.emulation.state import load_handle
from orchestrator.emulation.sweep import interfaces
from orchestrator.errors import NetworkError
from orchestrator.network.folders import list_networks

pytestmark = NEEDS_EMULATION

INTERRUPTED = (130, -signal.SIGINT)
"""A shell says 130 for both; Python ends itself by the signal when it came during an import."""


def left_behind(folder: Path) -> list[str]:
    """The command lines of processes that were started with this test's folders."""
    mine = f"XDG_RUNTIME_DIR={folder}".encode()
    commands: list[str] = []
    for pid in set(filter(str.isdigit, os.listdir("/proc"))) - {str(os.getpid())}:
        with suppress(OSError):
            if mine in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                commands.append(Path(f"/proc/{pid}/cmdline").read_text())
    return commands


def gone(network_id: str, folder: Path) -> bool:
    """No process, no interface, no file of a network; for `eventually`."""
    assert list_networks() == []
    assert left_behind(folder) == []
    assert interfaces(network_id) == []
    assert [path for path in folder.rglob("*") if not path.is_dir()] == []
    return True


@pytest.fixture
def folder() -> Iterator[Path]:
    with own_folders() as base:
        yield base


@pytest.mark.parametrize("switch", SWITCHES)
def test_up_status_down(folder: Path, switch: str) -> None:
    up = orchestrator_json("net", "up", "single", "--switch", switch, "--name", "cli")
    assert up == {"name": "cli", "switches": {"switch1": switch}}
    state = load_state("cli")
    assert state.phase == "running"

    (status,) = orchestrator_json("net", "status")
    assert (status["name"], status["health"]) == ("cli", "running")
    kinds = [c["kind"] for c in status["components"]]
    assert {k: kinds.count(k) for k in kinds} == {
        "supervisor": 1,
        "switch": 1,
        "server": 1,
        "agent": 1,
        "worker": 3,
        "host": 4,
    }
    assert all(c["alive"] and c["pid"] > 0 for c in status["components"])
    assert "switch1" in orchestrator("net", "status", "cli").stdout

    again = orchestrator("net", "up", "single", "--name", "cli", expect=5)
    assert "'cli' is up already" in again.stderr

    assert orchestrator_json("net", "down", "cli") == {"name": "cli", "down": True}
    assert orchestrator_json("net", "status") == []
    assert "no network is running" in orchestrator("net", "status").stdout
    eventually(lambda: gone(state.id, folder))


def test_text_output_and_progress(folder: Path) -> None:
    """Results on standard output, progress on standard error."""
    up = orchestrator("net", "up", "single", "--switch", "softswitch", "--name", "cli")
    assert up.stdout.startswith("network cli is up: 1 switches (softswitch), 3 workers, 4 hosts")
    assert "4 hosts" not in up.stderr
    assert "softswitch" in up.stderr
    assert orchestrator("net", "down").stdout == "network cli is down\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("net", "up", "leaf-spin"), 2, "leaf-spine"),
        (("net", "up", "/nowhere/topology.json"), 2, "/nowhere/topology.json"),
        (("net", "up", "single", "--switch", "ovs"), 2, "auto, bmv2, dpdk, softswitch"),
        (("net", "up", "single", "--name", "no/slash"), 2, "no/slash"),
        (("net", "down", "nosuch"), 5, "unknown network 'nosuch'"),
        (("net", "status", "nosuch"), 5, "unknown network 'nosuch'"),
        (("net", "down"), 5, "running: none"),
        (("status",), 5, "running: none"),
        (("deploy", str(CAMPUS_EDGE), "--network", "nosuch"), 5, "unknown network 'nosuch'"),
        (("undeploy", "campus_edge"), 5, "running: none"),
        (("tables", "leaf1"), 5, "running: none"),
        (("net", "frobnicate"), 2, "frobnicate"),
    ],
)
def test_wrong_words(folder: Path, words: tuple[str, ...], code: int, said: str) -> None:
    done = orchestrator(*words, expect=code)
    assert said in done.stderr, done.stderr
    assert done.stdout == ""
    assert list_networks() == []


@pytest.mark.parametrize("seconds", [0.0, 0.3, 0.8])
def test_interrupted_net_up_leaves_nothing(folder: Path, seconds: float) -> None:
    """Ctrl-C reaches the whole foreground group, whatever `net up` is doing."""
    words = command_line("net", "up", "leaf-spine", "--switch", "softswitch", "--name", "cli")
    up = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    network_id = eventually(_recorded, interval=0.005)
    time.sleep(seconds)
    os.killpg(up.pid, signal.SIGINT)
    said = up.communicate(timeout=120)[0]

    if up.returncode == 0:
        pytest.skip(f"this machine starts the network in less than {seconds} s")
    assert up.returncode in INTERRUPTED, said
    assert "Traceback" not in said
    eventually(lambda: gone(network_id, folder))


def _recorded() -> str:
    with suppress(NetworkError):
        return load_handle("cli").id
    return ""


@pytest.fixture(scope="module", params=SWITCHES)
def leaf_spine(request: pytest.FixtureRequest) -> Iterator[Live]:
    with network("leaf-spine", request.param, f"cli-{request.param}") as live:
        yield live


def test_interrupted_deploy_is_rolled_back(leaf_spine: Live) -> None:
    """The signal comes when the first workers are told; afterwards none is, and deploying works.

    A change that is in force before the signal comes stays, wholly: then it is tried again.
    """
    workers = leaf_spine.state.workers
    for _ in range(5):
        _interrupted(leaf_spine)
        if not orchestrator_json("status", "--network", leaf_spine.name)["graphs"]:
            break
        leaf_spine.comes_to_ping("h1", "198.51.100.13")
        orchestrator("undeploy", "campus_edge", "--network", leaf_spine.name)
    else:
        pytest.fail("the change was always in force before the signal came")
    assert not [w.name for w in workers if _functions(leaf_spine, w.name)]
    live = leaf_spine.network
    for name in leaf_spine.state.switches:
        with live.device(name) as client:
            if client.pipeline_cookie() is not None:
                assert list(client.entries()) == []

    done = orchestrator("deploy", str(CAMPUS_EDGE), "--network", leaf_spine.name, "--json")
    assert json.loads(done.stdout)["graph"] == "campus_edge"
    leaf_spine.comes_to_ping("h1", "198.51.100.13")
    orchestrator("undeploy", "campus_edge", "--network", leaf_spine.name)


def _interrupted(live: Live) -> None:
    """Start a deploy, and interrupt it once a worker has functions."""
    words = command_line("deploy", str(CAMPUS_EDGE), "--network", live.name)
    deploy = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )

    def begun() -> bool:
        return deploy.poll() is not None or any(
            _functions(live, w.name) for w in live.state.workers
        )

    eventually(begun, interval=0.001)
    os.killpg(deploy.pid, signal.SIGINT)
    said = deploy.communicate(timeout=120)[0]
    assert deploy.returncode in INTERRUPTED, said
    assert "Traceback" not in said


def _functions(live: Live, worker: str) -> list[str]:
    (address,) = (w.api for w in live.state.workers if w.name == worker)
    with WorkerClient(worker, address) as session:
        return [nf.name for nf in session.status().nfs]


def test_a_command_in_a_host(leaf_spine: Live) -> None:
    """Its words, terminal and exit code are its own, options that look like ours, too."""
    name = leaf_spine.name
    done = orchestrator("net", "exec", "-n", name, "h1", "ip", "-4", "-o", "addr", "show")
    assert "10.0.1.11" in done.stdout
    orchestrator("net", "exec", "-n", name, "h1", "sh", "-c", "exit 3", expect=3)
    refused = orchestrator("net", "exec", "-n", name, "h11", "true", expect=5)
    assert "did you mean 'h1'?" in refused.stderr


def test_wrong_deployments(leaf_spine: Live, tmp_path: Path) -> None:
    broken = tmp_path / "graph.json"
    broken.write_text('{"name": "x"')
    done = orchestrator("deploy", str(broken), "--network", leaf_spine.name, expect=2)
    assert "graph.json" in done.stderr
    done = orchestrator("undeploy", "campus_edg", "--network", leaf_spine.name, expect=8)
    assert "unknown graph 'campus_edg'" in done.stderr
    done = orchestrator("tables", "leaf9", "--network", leaf_spine.name, expect=5)
    assert "unknown device with a pipeline 'leaf9'; did you mean 'leaf" in done.stderr

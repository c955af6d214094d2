"""Devices die, links fall, a journal is emptied: what `deploy`, `reconcile` and `recover` do then.

Oracle: pings between hosts, exit codes, what is printed. Blind spot: BMv2.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import orchestrator, orchestrator_json
from live import FIREWALL, NEEDS_EMULATION, OWN_SWITCHES, Live, guard_graph, network
from support import eventually

from orchestrator.emulation import load_state

pytestmark = NEEDS_EMULATION
NAME = "faults"


@pytest.fixture(scope="module", params=OWN_SWITCHES)
def live(request: pytest.FixtureRequest) -> Iterator[Live]:
    with network("leaf-spine", request.param, NAME) as started:
        yield started


@pytest.fixture(scope="module")
def graph(live: Live) -> str:
    """A firewall on a server between the two leaves, which pings come to."""
    return guard_graph(live.folder, FIREWALL)


def kill(device: str) -> None:
    (status,) = orchestrator_json("net", "status", NAME)
    pid = next(c["pid"] for c in status["components"] if c["name"] == device)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: _is_dead(device), what=f"the end of {device}")


def _is_dead(device: str) -> bool:
    (status,) = orchestrator_json("net", "status", NAME)
    assert any(c["name"] == device and not c["alive"] for c in status["components"])
    return True


def cores() -> list[str]:
    return list(orchestrator_json("status", "-n", NAME)["workers"])


def flows(live: Live) -> bool:
    return live.pings("h1", live.state.hosts["h3"].addresses[0].ip.exploded)


def test_a_dead_worker_a_dead_spine_and_a_lost_journal(live: Live, graph: str) -> None:
    orchestrator("deploy", graph, "-n", NAME)
    assert flows(live)
    (worker,) = cores()
    kill(worker)
    assert orchestrator("reconcile", NAME, "--dry-run", expect=1).stderr.count(worker)
    moved = orchestrator("deploy", graph, "-n", NAME)
    assert worker in moved.stderr
    assert cores() != [worker]
    assert flows(live)

    restarted = orchestrator("net", "restart", worker, "-n", NAME)
    assert "reconcile" in restarted.stdout
    orchestrator("reconcile", NAME)
    assert load_state(NAME).phase == "running"

    kill("spine1")
    assert "spine1" in orchestrator("deploy", graph, "-n", NAME).stderr
    assert flows(live)
    orchestrator("net", "restart", "spine1", "-n", NAME)
    assert "reconcile" in orchestrator("deploy", graph, "-n", NAME, expect=8).stderr
    orchestrator("reconcile", NAME)
    orchestrator("undeploy", "guard", "-n", NAME)
    orchestrator("deploy", graph, "-n", NAME)

    journal = Path(os.environ["XDG_STATE_HOME"]) / "orchestrator" / "journal" / f"{NAME}.sqlite"
    for end in ("-wal", "-shm", ""):
        journal.with_name(journal.name + end).unlink(missing_ok=True)
    journal.touch()
    for words in (("status", "-n", NAME), ("reconcile", NAME), ("undeploy", "guard", "-n", NAME)):
        assert "--adopt" in orchestrator(*words, expect=10).stderr
    orchestrator("recover", "-n", NAME, "--adopt", graph)
    assert "as its journal says" in orchestrator("reconcile", NAME).stdout
    assert flows(live)


def test_a_link_that_is_down(live: Live, graph: str) -> None:
    orchestrator("deploy", graph, "-n", NAME)
    for spine in ("spine1", "spine2"):
        link = next(x for x in live.state.topology.links if {x.a, x.b} == {"leaf2", spine})
        switch, port = (link.a, link.a_port) if link.a == "leaf2" else (link.b, link.b_port)
        interface = live.state.switches[switch].interfaces[port]
        subprocess.run(["ip", "link", "set", interface, "down"], check=True)
        try:
            assert "is down" in orchestrator("net", "status", NAME).stderr
            assert interface in orchestrator("deploy", graph, "-n", NAME).stderr
            assert flows(live)
        finally:
            subprocess.run(["ip", "link", "set", interface, "up"], check=True)

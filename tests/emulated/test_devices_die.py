"""A worker, a server, a spine and a link die in a live network that `reconcile --watch` keeps.

Oracle: what `whatif --live NETWORK --fail` showed before, pings between hosts, what the watch tells.
Blind spots: how long it takes (tests/bench/failover.py), BMv2.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from commands import command_line, orchestrator, orchestrator_json
from live import FIREWALL, NEEDS_EMULATION, OWN_SWITCHES, Live, guard_graph, network
from support import eventually, json_lines

from orchestrator.deployment.journal import Journal
from orchestrator.emulation import load_state
from orchestrator.model.bundle import Bundle
from orchestrator.observation.conditions import recorded
from orchestrator.observation.liveness import UP

pytestmark = NEEDS_EMULATION
NAME = "dying"


@pytest.fixture(scope="module", params=OWN_SWITCHES)
def live(request: pytest.FixtureRequest) -> Iterator[Live]:
    with network("leaf-spine", request.param, NAME) as started:
        yield started


@pytest.fixture(autouse=True)
def graph(live: Live) -> Iterator[None]:
    """A firewall on a server between the leaves; what a test has left dead runs again after it."""
    orchestrator("deploy", guard_graph(live.folder, FIREWALL), "-n", NAME)
    eventually(lambda: flows(live), what="the first packets")
    yield
    for device in dead_devices():
        orchestrator("net", "restart", device, "-n", NAME)
    orchestrator("reconcile", NAME)
    orchestrator("undeploy", "guard", "-n", NAME)


def flows(live: Live) -> bool:
    """Pings pass, by way of the worker."""
    return live.pings("h1", live.state.hosts["h3"].addresses[0].ip.exploded)


def dead_devices() -> list[str]:
    (status,) = orchestrator_json("net", "status", NAME)
    kinds = ("switch", "worker")
    return [c["name"] for c in status["components"] if not c["alive"] and c["kind"] in kinds]


def deployed() -> Bundle:
    return Journal(NAME).deployed()["guard"].bundle


def foreseen(*fail: str) -> Any:
    """How `whatif` says that the graph would be placed."""
    words = [word for what in fail for word in ("--fail", what)]
    (scenario,) = orchestrator_json("whatif", "--live", NAME, *words)["scenarios"]
    return placement(scenario["graphs"]["guard"])


def placement(graph: Any) -> tuple[Any, ...]:
    return graph["device_of"], graph["cores_of"], sorted(map(tuple, graph["hops"]))


def placed() -> tuple[Any, ...]:
    plan = deployed().plan
    cores = [[str(core) for core in group] for group in plan.cores_of]
    return plan.device_of, cores, sorted((h.source, h.target, h.tree) for h in plan.hops)


class Watch:
    """A watch that runs, and what it has told."""

    def __init__(self, process: subprocess.Popen[str], folder: str, out: Any) -> None:
        self.process, self.folder, self._out = process, folder, out

    @property
    def events(self) -> list[dict[str, Any]]:
        return json_lines(self._out)

    def comes(self, event: str, **fields: Any) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            wanted = {"event": event, **fields}
            return next((e for e in self.events if wanted.items() <= e.items()), None)

        return eventually(found, what=f"{event} {fields}")


@contextmanager
def watching(live: Live) -> Generator[Watch]:
    """`orchestrator reconcile --watch`, until Ctrl-C; all devices are up when the block begins."""
    out, folder = live.folder / "events", live.state.run_dir
    with out.open("w") as file:
        process = subprocess.Popen(
            command_line("reconcile", live.name, "--watch", "--json"),
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
        )
    with process:
        try:
            count = len(live.state.switches) + len(live.state.workers)
            count += len(live.state.topology.links)
            eventually(
                lambda: [c.state for c in recorded(folder).values()] == [UP] * count,
                what="all are up",
            )
            yield Watch(process, folder, out)
        finally:
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=60)
        assert process.returncode == 130, told
        assert "Traceback" not in told


def pid_of(kind: str, name: str) -> int:
    (status,) = orchestrator_json("net", "status", NAME)
    return next(c["pid"] for c in status["components"] if (c["kind"], c["name"]) == (kind, name))


def busy_worker() -> str:
    (worker,) = deployed().workers
    return f"{worker.server}.{worker.core + 1}"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_ends_or_hangs_is_started_again(live: Live, number: signal.Signals) -> None:
    worker, before = busy_worker(), placed()
    old = pid_of("worker", worker)
    with watching(live) as watch:
        os.kill(old, number)
        watch.comes("condition", name=worker, state="down")
        assert not watch.comes("restart", worker=worker)["problem"]
        eventually(lambda: flows(live), what="packets through the new worker")
        watch.comes("condition", name=worker, state="up", before="down")
    assert pid_of("worker", worker) != old
    assert placed() == before
    assert "as its journal says" in orchestrator("reconcile", NAME).stdout


def test_a_dead_server_is_left_as_whatif_said(live: Live) -> None:
    server = deployed().workers[0].server
    wanted = foreseen(f"node:{server}")
    workers = [w.name for w in load_state(NAME).workers if w.server == server]
    agent = pid_of("agent", f"{server}-agent")
    with watching(live) as watch:
        os.kill(agent, signal.SIGSTOP)  # nobody starts anything there
        try:
            for pid in [pid_of("worker", worker) for worker in workers]:
                os.kill(pid, signal.SIGKILL)
            watch.comes("placement", graph="guard")
            eventually(lambda: flows(live), what="packets through another server")
            assert placed() == wanted
        finally:
            os.kill(agent, signal.SIGCONT)
        for worker in workers:  # what is free again is started again
            watch.comes("condition", name=worker, state="up", before="down")
        assert placed() == wanted, "what is back moves nothing"
    assert "as its journal says" in orchestrator("reconcile", NAME).stdout


def test_a_dead_spine_is_gone_round_and_taken_in_again(live: Live) -> None:
    spine = spine_of()
    wanted = foreseen(f"node:{spine}")
    with watching(live) as watch:
        os.kill(pid_of("switch", spine), signal.SIGKILL)
        watch.comes("placement", graph="guard")
        eventually(lambda: flows(live), what="packets over the other spine")
        assert placed() == wanted
        orchestrator("net", "restart", spine, "-n", NAME)
        repair = watch.comes("repair")
        assert [d["device"] for d in repair["devices"] if d["lost"]] == [spine]
        assert placed() == wanted
    assert flows(live)
    assert "as its journal says" in orchestrator("reconcile", NAME).stdout


def test_a_cut_link_is_gone_round(live: Live) -> None:
    spine = spine_of()
    link = next(x for x in live.state.topology.links if {x.a, x.b} == {"leaf1", spine})
    wanted = foreseen(f"link:{link.a}-{link.b}")
    port = link.a_port if link.a == "leaf1" else link.b_port
    interface = load_state(NAME).switches["leaf1"].interfaces[port]
    with watching(live) as watch:
        subprocess.run(["ip", "link", "set", interface, "down"], check=True)
        try:
            watch.comes("condition", kind="link", name=f"{link.a}-{link.b}", state="down")
            watch.comes("placement", graph="guard")
            eventually(lambda: flows(live), what="packets over another link")
            assert placed() == wanted
        finally:
            subprocess.run(["ip", "link", "set", interface, "up"], check=True)
        watch.comes("condition", name=f"{link.a}-{link.b}", state="up", before="down")
    assert flows(live)


def spine_of() -> str:
    """The spine between the leaves that the graph's packets cross."""
    hop = next(h for h in deployed().plan.hops if _crosses(h.source, h.target))
    return f"spine{hop.tree % 2 + 1}"


def _crosses(a: str, b: str) -> bool:
    return {a[-1], b[-1]} == {"1", "2"}

"""kill -9 of the controller, of the worker that state leaves or of the one it goes to, in a live move.

Oracle: the mappings that workers have: one owner, who has all of them, or none where that was
killed; and flows that go on come to that owner. Blind spot: what is lost on the way
(test_moves.py), workers that are killed without a move (test_standbys.py).
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import orchestrator
from live import NEEDS_EMULATION, Live, network
from move_load import moving, open_flows
from support import eventually

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "recovery"))
from recovery_controller import Job, do, run

from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.emulation import load_state
from orchestrator.errors import ReportedError
from orchestrator.graph import load_graph
from orchestrator.model.bundle import Bundle
from orchestrator.model.plan import Core
from orchestrator.placement.running import Moving, running_of

pytestmark = [NEEDS_EMULATION, pytest.mark.slow]

GRAPH, NAME, FLOWS = "updated", "killed", 200
VICTIMS = ("controller", "source", "target")


class Site:
    """A live network with a NAPT that moves between two servers."""

    def __init__(self, live: Live) -> None:
        self.live = live
        file = live.folder / "graph.json"
        file.write_text(json.dumps(moving()))
        self.graph = load_graph(file).graph
        topology = live.network.topology
        do(self.job(compile_graph(CompileRequest(self.graph, topology)).bundle))

    @property
    def running(self) -> Bundle:
        return self.live.network.journal.deployed()[GRAPH].bundle

    @property
    def core(self) -> Core:
        (only,) = running_of(self.running).cores_of["nat"]
        return only

    def job(self, bundle: Bundle) -> Job:
        return Job.change(self.live.network.inventory, GRAPH, bundle)

    def mappings(self) -> dict[Core, int]:
        """How many each worker has; AssertionError while one does not answer."""
        counts: dict[Core, int] = {}
        for core in self.live.network.cores:
            try:
                with self.live.network.worker(core) as worker:
                    count = worker.metrics().get(f"{GRAPH}/nat.mappings", 0)
            except ReportedError as error:
                raise AssertionError(str(error)) from error
            counts |= {core: count} if count else {}
        return counts

    def opened(self) -> None:
        """All flows have a mapping, and one worker has them all: the one that the journal names."""
        open_flows(self.live.state, FLOWS)
        eventually(lambda: self.mappings() == {self.core: FLOWS}, what="one owner of all")

    def moved(self, victim: str = "", step: int = 0) -> int | None:
        """Move it to the other server, with a kill at a step, and put all in order again."""
        source = self.core
        target = Core({"server1": "server2", "server2": "server1"}[source.server], source.index)
        request = CompileRequest(
            self.graph,
            self.live.network.topology,
            beside=self.running,
            moving=Moving("nat", target),
        )
        bundle = compile_graph(request).bundle
        cores = {"source": source, "target": target}
        name = self.live.network.worker_name(cores[victim]) if victim in cores else ""
        pid = next((w.pid for w in load_state(NAME).workers if w.name == name), 0)
        steps = run(self.job(bundle), step, pid)
        if victim:
            do(Job(self.live.network.inventory))  # without the one that is gone
        if pid and not load_state(NAME).process(pid).is_alive:
            orchestrator("net", "restart", name, "-n", NAME)
            do(Job(self.live.network.inventory))
            orchestrator("reconcile", NAME)
        return steps


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with network("leaf-spine", "softswitch", NAME) as live:
        yield Site(live)


def killed(site: Site, victim: str, step: int) -> int:
    """How many mappings there are after a kill at a step."""
    site.opened()
    site.moved(victim, step)
    left = eventually(lambda: (site.mappings(),), what="all workers answer")[0]
    assert len(left) <= 1, f"{victim} at {step}: one owner, not {left}"
    count = sum(left.values())
    assert count in ((FLOWS,) if victim == "controller" else (0, FLOWS)), f"{victim} at {step}"
    assert left.keys() <= {site.core}, f"{victim} at {step}: {left}, and packets go to {site.core}"
    site.opened()
    return count


def steps_of(site: Site) -> int:
    site.opened()
    steps = site.moved()
    assert steps is not None
    site.opened()
    return steps


def test_whoever_is_killed_in_a_move_flows_have_one_owner(site: Site) -> None:
    steps = steps_of(site)
    for victim, part in zip(VICTIMS, (3, 2, 2), strict=True):
        killed(site, victim, random.Random(victim).randrange(steps // part, steps))


@pytest.mark.exhaustive
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("victim", VICTIMS)
def test_wherever_it_is_killed(site: Site, victim: str) -> None:
    left = [killed(site, victim, step) for step in range(1, steps_of(site) + 1)]
    print(f"{victim}: {len(left)} kills, {left.count(FLOWS)} kept all mappings")

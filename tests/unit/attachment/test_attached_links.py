"""Links of an attached network are tried by frames, and a cut one is routed around; without root.

Oracle: what the test itself cut. Blind spot: BMv2 and real links (tests/emulated/test_own_mininet.py).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fake_agents import FakeAgent, agent
from support import eventually
from typer.testing import CliRunner
from wired import OFFICE, End, Wired, wired

from orchestrator.attachment.attach import attach
from orchestrator.cli import app
from orchestrator.deployment.access import Access
from orchestrator.deployment.live import LiveNetwork
from orchestrator.deployment.operations import deploy_graph
from orchestrator.errors import NetworkError
from orchestrator.graph import load_graph, load_topology
from orchestrator.network.fabric import Fabric
from orchestrator.network.inventory import forget_inventory, load_inventory
from orchestrator.observation.conditions import links_down, recorded
from orchestrator.observation.liveness import DOWN, UP, Subject
from orchestrator.upkeep.events import Event, PlacedAnew, RepairProblem, SubjectChanged
from orchestrator.upkeep.keeper import NetworkKeeper

pytestmark = pytest.mark.slow

NAMES = ("leaf1", "leaf2", "spine1", "spine2")
LINKS: list[tuple[End, End]] = [
    (("leaf1", 2), ("spine1", 1)),
    (("leaf1", 3), ("spine2", 1)),
    (("leaf2", 2), ("spine1", 2)),
    (("leaf2", 3), ("spine2", 2)),
]
SERVER_PORT = ("leaf2", 4)
INTERVAL_S = 1.0


class Site:
    """An attached network with a deployed graph."""

    def __init__(self, switches: Wired, server: FakeAgent) -> None:
        self.switches, self.server = switches, server
        self.events: list[Event] = []

    def opened(self) -> LiveNetwork:
        inventory = load_inventory("rack")
        return LiveNetwork(inventory, Access(), links_down=lambda: links_down(inventory))

    def cut(self, end: End) -> None:
        del self.switches.wires[self.switches.wires.pop(end)]

    def join(self, end: End, other: End) -> None:
        self.switches.wires |= {end: other, other: end}

    def state(self, link: str) -> str:
        folder = load_inventory("rack").folder
        condition = recorded(folder).get(Subject("link", link))
        return condition.state if condition else ""

    def spines(self) -> set[str]:
        """Over which ones tagged frames go."""
        network = self.opened()
        bundle = network.journal.deployed()["office"].bundle
        fabric = Fabric(network.topology)
        hops = bundle.plan.hops
        crossed = {n for hop in hops for n in fabric.path(hop.source, hop.target, hop.tree)}
        return crossed & {"spine1", "spine2"}

    @contextmanager
    def kept(self) -> Generator[None]:
        """A watch goes on; all links are known to be up when the block begins."""
        keeper = NetworkKeeper(self.opened, None, INTERVAL_S, probes_links=True)

        def keep() -> None:
            try:
                self.events.extend(keeper.run())
            except NetworkError:  # its inventory is gone
                return

        thread = threading.Thread(target=keep, daemon=True)
        thread.start()
        links = ("leaf1-spine1", "leaf1-spine2", "leaf2-spine1", "leaf2-spine2", "leaf2-v1")
        eventually(lambda: all(self.state(link) == UP for link in links), what="links are up")
        try:
            yield
        finally:
            forget_inventory("rack")
            thread.join(60)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with wired(NAMES, dict(LINKS)) as switches, agent("v1", tmp_path) as (server, address):
        switches.sinks[SERVER_PORT] = server.deliver
        host = {"gateways": ["10.0.1.1"]}
        raw = {
            "name": "rack",
            "trees": 2,
            "switches": {name: {"address": switches.address(name)} for name in NAMES},
            "servers": {"v1": {"address": address, "cores": 2, "reserved_cores": 1}},
            "hosts": {
                "h1": {**host, "addresses": ["10.0.1.11/24"]},
                "h2": {**host, "addresses": ["10.0.1.12/24"]},
            },
            "links": [
                {"a": "leaf1", "a_port": 1, "b": "h1"},
                {"a": "leaf2", "a_port": 1, "b": "h2"},
                {"a": SERVER_PORT[0], "a_port": SERVER_PORT[1], "b": "v1"},
                *({"a": a, "a_port": p, "b": b, "b_port": q} for (a, p), (b, q) in LINKS),
            ],
        }
        (tmp_path / "rack.json").write_text(json.dumps(raw))
        (tmp_path / "graph.json").write_text(json.dumps(OFFICE))
        topology = load_topology(tmp_path / "rack.json")
        attach(topology, "rack", Access())
        made = Site(switches, server)
        deploy_graph(load_graph(tmp_path / "graph.json").graph, made.opened())
        yield made


def test_a_cut_link_is_routed_around_and_taken_in_again(site: Site) -> None:
    (used,) = site.spines()
    (other,) = {"spine1", "spine2"} - {used}
    link = f"leaf1-{used}"
    end, far = next(pair for pair in LINKS if pair[0][0] == "leaf1" and pair[1][0] == used)
    with site.kept():
        site.cut(end)
        eventually(
            lambda: [e for e in site.events if isinstance(e, PlacedAnew)], what="placed anew"
        )
        assert site.spines() == {other}
        assert site.state(link) == DOWN
        assert [f"{down.a}-{down.b}" for down in site.opened().links_down()] == [link]
        site.join(end, far)
        eventually(lambda: site.state(link) == UP, what="the link is up")
    changed = {str(e.change.subject) for e in site.events if isinstance(e, SubjectChanged)}
    assert changed == {f"link {link}"}


def test_a_cut_link_to_a_server(site: Site) -> None:
    with site.kept():
        sink = site.switches.sinks.pop(SERVER_PORT)
        eventually(lambda: site.state("leaf2-v1") == DOWN, what="the link is down")
        problem = eventually(
            lambda: [e for e in site.events if isinstance(e, RepairProblem)], what="a problem"
        )
        assert "link leaf2-v1: no frame has arrived" in problem[0].text
        (told,) = json.loads(CliRunner().invoke(app, ["net", "status", "--json"]).stdout)
        assert [line.partition(": ")[0] for line in told["links_down"]] == ["link leaf2-v1"]
        site.switches.sinks[SERVER_PORT] = sink
        eventually(lambda: site.state("leaf2-v1") == UP, what="the link is up")

"""What conditions mean for a network: pure, on a shipped topology."""

from __future__ import annotations

from dataclasses import replace

import pytest
from networks import topology

from orchestrator.errors import InputError
from orchestrator.model.away import Away
from orchestrator.model.plan import Core
from orchestrator.network.inventory import Inventory, PipelineAddress, WorkerAddress
from orchestrator.observation.liveness import DOWN, SUSPECT, UP, Condition, State, Subject
from orchestrator.units import seconds
from orchestrator.upkeep import outage

CORES = [Core(server, index) for server in ("server1", "server2") for index in range(3)]
INVENTORY = Inventory(
    "net",
    topology("leaf-spine"),
    {name: PipelineAddress("127.0.0.1:1", s.id) for name, s in topology().switches.items()},
    tuple(WorkerAddress(str(c), c, "unix:/w") for c in CORES),
    "/run/net",
)


def conditions(state: State, *subjects: tuple[str, str]) -> outage.Conditions:
    return {Subject(kind, name): Condition(state, 1.0, "why") for kind, name in subjects}  # type: ignore[arg-type]


def worker(core: Core) -> tuple[str, str]:
    return "worker", str(core)


def test_only_what_is_down_is_away() -> None:
    states = {
        **conditions(UP, ("switch", "leaf1")),
        **conditions(SUSPECT, ("switch", "leaf2"), worker(CORES[0])),
        **conditions(DOWN, ("switch", "spine1"), worker(CORES[1]), ("link", "leaf1-spine2")),
    }
    away = outage.away(INVENTORY, states)
    assert away.devices == {"spine1": "spine1: why"}
    assert away.cores == {CORES[1]: "server1.2: why"}
    assert [{link.a, link.b} for link in away.links] == [{"leaf1", "spine2"}]
    silent = outage.silent(INVENTORY, states)
    assert (silent.devices, silent.cores, silent.links) == (away.devices, away.cores, away.links)


def test_nothing_down_is_nothing_away() -> None:
    assert outage.away(INVENTORY, conditions(SUSPECT, ("switch", "leaf1"))) == Away()


def test_a_link_takes_its_server_and_a_host_only_itself() -> None:
    links = {
        end: f"{link.a}-{link.b}" for link in INVENTORY.topology.links for end in (link.a, link.b)
    }
    states = conditions(DOWN, ("link", links["server1"]), ("link", links["h1"]))
    away = outage.away(INVENTORY, states)
    assert set(away.cores) == set(CORES[:3])
    assert set(away.hosts) == {"h1"}
    assert outage.lost_servers(INVENTORY.topology, CORES, away) == {"server1"}


def test_a_server_is_lost_with_the_last_of_several_workers() -> None:
    most = outage.silent(INVENTORY, conditions(DOWN, *map(worker, CORES[:2])))
    assert not outage.lost_servers(INVENTORY.topology, CORES, most)
    all_of_it = outage.silent(INVENTORY, conditions(DOWN, *map(worker, CORES[:3])))
    assert outage.lost_servers(INVENTORY.topology, CORES, all_of_it) == {"server1"}
    alone = replace(all_of_it, cores={CORES[0]: "why"})
    assert not outage.lost_servers(INVENTORY.topology, [CORES[0]], alone), "its only worker"


@pytest.mark.parametrize(
    ("text", "value"), [("500ms", 0.5), ("2", 2.0), ("0.25", 0.25), ("3 s", 3.0)]
)
def test_intervals(text: str, value: float) -> None:
    assert seconds(text, "--interval", 0.1, 3600) == pytest.approx(value)


@pytest.mark.parametrize("text", ["10ms", "2h", "", "-1", "soon", "7200"])
def test_wrong_intervals(text: str) -> None:
    with pytest.raises(InputError, match="--interval: "):
        seconds(text, "--interval", 0.1, 3600)

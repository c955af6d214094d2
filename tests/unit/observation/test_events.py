"""`orchestrator events` on a network in memory: EVE records of whose graph, by which line, as they come.

Oracle: the frames that were sent, and EVE's names.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from networks import ids, make_graph, napt, one_way, topology
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from support import eventually
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.deployment.live import LiveNetwork, new_journal
from orchestrator.deployment.operations import deploy_graph
from orchestrator.errors import InputError, OwnerError
from orchestrator.graph import load_graph
from orchestrator.observation.events import EventStream, EventsWanted
from orchestrator.simulation.control import start, stop
from orchestrator.simulation.hosts import Hosts
from servernf.wire.addresses import GATEWAY_MAC, mac_text

pytestmark = pytest.mark.slow

CLIENT, SERVER = "10.0.1.11", "198.51.100.13"
NETWORK = "told"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNetwork]:
    """Two tenants: red's firewall has its rules in a file, blue translates what its ids looks at."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    inventory = start(topology(), NETWORK)
    new_journal(NETWORK, inventory.folder)
    live = LiveNetwork(inventory)
    folder = tmp_path_factory.mktemp("red")
    rules = [{"protocol": "udp", "action": "deny"}, {"protocol": "tcp", "action": "permit"}]
    (folder / "fw.json").write_text(json.dumps(rules, indent=None).replace("{", "\n{"))
    red: dict[str, Any] = {
        "name": "red",
        "owner": "red",
        "endpoints": {"in": {"hosts": ["h2"]}, "out": {"hosts": ["h4"]}},
        "nfs": {"fw": {"type": "stateful_firewall", "config": {"rules_file": "fw.json"}}},
        "edges": [{"from": "in", "to": "fw.inside"}, {"from": "fw.outside", "to": "out"}],
        "traffic": [{"name": "t", "from": "in", "to": "out", "rate": "1Mbit/s"}],
    }
    (folder / "graph.json").write_text(json.dumps(red))
    deploy_graph(load_graph(folder / "graph.json").graph, live)
    alone = {"inside": ("h1",), "outside": ("h3",)}
    nfs = {"ids": ids(action="alert"), "nat": napt()}
    way = one_way("inside", "ids", "nat", "outside")
    deploy_graph(make_graph(nfs, way, name="blue", endpoints=alone), live)
    yield live
    stop(NETWORK)
    patch.undo()


def frame(host: str, layer: Any) -> bytes:
    """From a host to the one of its graph."""
    hosts = topology().hosts
    to = {"h1": "h3", "h2": "h4"}[host]
    ether = Ether(src=mac_text(hosts[host].mac), dst=mac_text(GATEWAY_MAC))
    ip = IP(src=str(hosts[host].addresses[0].ip), dst=str(hosts[to].addresses[0].ip))
    return bytes(ether / ip / layer)


def told(*words: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(app, ("events", *words, "--json"), catch_exceptions=False)
    return [json.loads(line) for line in result.stdout.splitlines()]


def send(network: LiveNetwork, host: str, layer: Any) -> None:
    hosts = Hosts(network.inventory.hosts)
    hosts.send(host, frame(host, layer))
    hosts.close()


def test_a_firewall_names_the_line_that_dropped(network: LiveNetwork) -> None:
    send(network, "h2", UDP(sport=4000, dport=53))
    (drop,) = told("--graph", "red")
    assert drop["event_type"] == "drop"
    assert (drop["src_port"], drop["dest_port"], drop["proto"]) == (4000, 53, "UDP")
    assert drop["drop"]["reason"] == "denied"
    assert drop["nf"] == {
        "graph": "red", "name": "fw", "type": "stateful_firewall", "owner": "red",
        "rule": "fw.json:2",
    }  # fmt: skip


def test_alerts_and_mappings_have_the_names_of_eve(network: LiveNetwork) -> None:
    send(network, "h1", TCP(sport=4000, dport=80, flags="S"))
    send(network, "h1", TCP(sport=4000, dport=80, flags="A", seq=1) / b"an evil thing")
    (alert,) = told("--type", "alert")
    assert alert["alert"]["signature_id"] == 1
    assert alert["alert"]["action"] == "allowed"
    assert (alert["src_ip"], alert["dest_ip"]) == ("10.0.1.11", "198.51.100.13")
    mapping = told("--type", "nat", "--graph", "blue")[0]
    assert mapping["nat"]["event"] == "nat44_bib_create"
    assert mapping["nat"]["post_src_ip"].startswith("203.0.113.")


def test_an_owner_sees_its_own_only(network: LiveNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    send(network, "h2", UDP(sport=4001, dport=53))
    assert {record["nf"]["owner"] for record in told("--owner", "red")} == {"red"}
    monkeypatch.delenv("ORCHESTRATOR_OWNER", raising=False)
    with pytest.raises(OwnerError, match="red belongs to red; you are test"):
        told("--owner", "test", "--graph", "red")
    monkeypatch.delenv("ORCHESTRATOR_OWNER", raising=False)
    with pytest.raises(InputError, match="unknown deployed graph 'rde'; did you mean 'red'"):
        told("--graph", "rde")


def test_followed_events_are_those_that_come(network: LiveNetwork) -> None:
    following = EventStream(network, EventsWanted(("red",), frozenset({"drop"})))
    came: list[dict[str, Any]] = []

    def follow() -> None:
        came.extend(record for record in following.records() if record is not None)

    thread = threading.Thread(target=follow)
    thread.start()

    def seen() -> bool:
        send(network, "h2", UDP(sport=5000, dport=99))
        return any(record["dest_port"] == 99 for record in came)

    try:
        eventually(seen)
    finally:
        following.stop()
        thread.join()
    assert {record["dest_port"] for record in came} == {99}, "what was kept before is not told"


def test_a_file_gets_a_record_a_line_for_its_owner_only(
    network: LiveNetwork, tmp_path: Path
) -> None:
    send(network, "h2", UDP(sport=4002, dport=53))
    path = tmp_path / "eve.json"
    for _ in range(2):
        CliRunner().invoke(app, ("events", "-o", str(path)), catch_exceptions=False)
    lines = path.read_text().splitlines()
    assert len(lines) == 2 * len(told())
    assert all({"timestamp", "event_type", "host"} <= json.loads(line).keys() for line in lines)
    assert path.stat().st_mode & 0o777 == 0o600


def test_people_read_a_line_an_event(network: LiveNetwork) -> None:
    send(network, "h2", UDP(sport=4003, dport=53))
    result = CliRunner().invoke(app, ("events", "--graph", "red"), catch_exceptions=False)
    last = result.stdout.splitlines()[-1]
    assert "UDP  10.0.1.12:4003  ->  198.51.100.14:53  dropped: denied  by fw.json:2" in last

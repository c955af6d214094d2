"""A network in memory as a process: what is deployed there as anywhere, and packets that tell.

Oracle: what hosts receive.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from networks import both_ways, campus, make_graph, napt, one_way, topology
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from support import eventually

from orchestrator.deployment.access import Access
from orchestrator.deployment.live import LiveNetwork, new_journal
from orchestrator.deployment.operations import deploy_graph, undeploy_graph
from orchestrator.deployment.reconciling import reconcile
from orchestrator.errors import InputError, NetworkError, OwnerError
from orchestrator.model.graph import ServiceGraph
from orchestrator.network.folders import list_inventories
from orchestrator.network.inventory import Inventory, forget_inventory
from orchestrator.simulation.control import is_alive, start, stop
from orchestrator.simulation.hosts import Hosts
from servernf.wire.addresses import GATEWAY_MAC, mac_text

pytestmark = pytest.mark.slow

SERVER = "198.51.100.13"


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inventory]:
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    made = start(topology(), "mem")
    new_journal("mem", made.folder)
    yield made
    stop("mem")
    patch.undo()


@pytest.fixture
def network(inventory: Inventory) -> Iterator[LiveNetwork]:
    live = LiveNetwork(inventory)
    yield live
    for graph in live.journal.deployed():
        undeploy_graph(graph, live)


@pytest.fixture
def hosts(inventory: Inventory) -> Iterator[Hosts]:
    running = Hosts(inventory.hosts)
    yield running
    running.close()


def datagram(number: int, port: int = 53, source_port: int = 4000) -> bytes:
    ether = Ether(src=mac_text(topology().hosts["h1"].mac), dst=mac_text(GATEWAY_MAC))
    ip = IP(src="10.0.1.11", dst=SERVER, id=number)
    return bytes(ether / ip / UDP(sport=source_port, dport=port) / b"12345678")


def fw(port: int = 23) -> ServiceGraph:
    rules = [{"protocol": "udp", "dst_port": port, "action": "deny"}]
    nfs = {"fw": ("acl", {"rules": rules, "default": "permit"})}
    return make_graph(nfs, one_way("inside", "fw", "outside"), name="fw")


def passes(hosts: Hosts, port: int) -> bool:
    return [d.host for d in hosts.send("h1", datagram(1, port))] == ["h3"]


def test_a_graph_is_deployed_updated_and_taken_off(network: LiveNetwork, hosts: Hosts) -> None:
    assert not passes(hosts, 53)
    assert not deploy_graph(fw(23), network).updated
    assert (passes(hosts, 23), passes(hosts, 24)) == (False, True)
    done = deploy_graph(fw(24), network)
    assert done.updated
    assert (passes(hosts, 23), passes(hosts, 24)) == (True, False)
    assert set(network.journal.deployed()) == {"fw"}
    assert not undeploy_graph("fw", network)
    assert not passes(hosts, 23)


def test_frames_take_the_time_of_their_links(network: LiveNetwork, hosts: Hosts) -> None:
    deploy_graph(fw(), network)
    frame = datagram(1)
    (first,) = hosts.send("h1", frame)
    (delivery,) = hosts.send("h1", frame)
    latencies = [link.latency_us for link in network.topology.links]
    assert delivery.at_us - first.at_us >= 2 * min(latencies) > 0


def test_no_packet_is_lost_while_a_graph_is_updated(
    network: LiveNetwork, inventory: Inventory
) -> None:
    """Numbered datagrams that both versions let pass, sent as fast as they go, under three updates."""
    deploy_graph(fw(23), network)
    sent: list[int] = []
    came: list[int] = []
    over = threading.Event()

    def send() -> None:
        mine = Hosts(inventory.hosts)
        while not over.is_set():
            sent.append(len(sent) % 65_536)
            came.extend(IP(d.frame[14:]).id for d in mine.send("h1", datagram(sent[-1])))
        mine.close()

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for port in (24, 25, 26):
            begun = len(sent)
            deploy_graph(fw(port), network)
            eventually(lambda begun=begun: len(sent) > begun + 1)
    finally:
        over.set()
        sender.join()
    assert came == sent


def test_what_an_nf_knows_outlives_commands_and_updates(network: LiveNetwork, hosts: Hosts) -> None:
    def translating(port: int) -> ServiceGraph:
        rules = [{"protocol": "tcp", "dst_port": port, "action": "deny"}]
        nfs = {"fw": ("acl", {"rules": rules, "default": "permit"}), "nat": napt()}
        return make_graph(nfs, both_ways("inside", "fw", "nat", "outside"))

    deploy_graph(translating(1), network)
    (delivery,) = hosts.send("h1", datagram(1))
    there = IP(delivery.frame[14:])
    assert deploy_graph(translating(2), LiveNetwork(network.inventory)).updated
    ether = Ether(src=mac_text(topology().hosts["h3"].mac), dst=mac_text(GATEWAY_MAC))
    for port, receivers in ((there[UDP].sport, ["h1"]), (there[UDP].sport + 1, [])):
        answer = ether / IP(src=SERVER, dst=there.src) / UDP(sport=53, dport=port) / b"12345678"
        assert [d.host for d in hosts.send("h3", bytes(answer))] == receivers


def test_another_owners_graph_is_refused(
    network: LiveNetwork, inventory: Inventory, hosts: Hosts
) -> None:
    deploy_graph(fw(23), network)
    stranger = LiveNetwork(inventory, Access(owner="mallory"))
    with pytest.raises(OwnerError, match="fw belongs to test; you are mallory"):
        undeploy_graph("fw", stranger)
    with pytest.raises(OwnerError):
        deploy_graph(fw(53), stranger)
    assert passes(hosts, 53)


def test_a_restarted_switch_is_empty_until_it_is_reconciled(
    network: LiveNetwork, hosts: Hosts
) -> None:
    deploy_graph(campus(), network)
    assert passes(hosts, 53)
    hosts.restart("leaf1")
    assert not passes(hosts, 53)
    reconcile(network)
    assert passes(hosts, 53)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda hosts: hosts.restart("leaf9"), "unknown switch or worker 'leaf9'"),
        (lambda hosts: hosts.send("h9", b""), "unknown host 'h9'"),
        (lambda hosts: hosts.advance(-1), "known requests"),
    ],
)
def test_what_the_network_does_not_know_is_refused(hosts: Hosts, ask: object, words: str) -> None:
    assert callable(ask)
    with pytest.raises(NetworkError, match=words):
        ask(hosts)
    assert hosts.advance(0) == []


def test_a_name_is_one_networks(inventory: Inventory) -> None:
    with pytest.raises(NetworkError, match="'mem' is a network that was started here"):
        start(topology(), "mem")
    assert is_alive("mem")


def test_it_ends_when_it_is_forgotten_or_nobody_asks(inventory: Inventory) -> None:
    gone, idle = start(topology("single"), "gone"), start(topology("single"), "idle", idle_s=0.1)
    waiting = Hosts(gone.hosts)
    forget_inventory("gone")
    eventually(lambda: not Path(gone.folder).exists())
    waiting.ended()
    waiting.close()
    eventually(lambda: not Path(idle.folder).exists())
    assert list_inventories() == ["mem"]


def test_a_path_that_no_socket_has_is_refused(
    inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 80)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with pytest.raises(InputError, match=r"longer than 107 bytes: use a shorter --name"):
        start(topology("single"), "deep")
    assert list_inventories() == ["mem"]

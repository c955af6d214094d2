"""The commands `move` and `drain` on a network in memory: what they do, tell and refuse.

Oracle: the core that `status` of the workers names, and the NAPT's outside port of a flow that goes on.
Blind spot: packets that come meanwhile (test_state_moves.py, tests/emulated/test_moves.py).
"""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import pytest
from networks import both_ways, demand, make_graph, one_way, topology
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from typer.testing import CliRunner, Result

from orchestrator.cli import app
from orchestrator.deployment.live import LiveNetwork, new_journal
from orchestrator.deployment.operations import deploy_graph, undeploy_graph
from orchestrator.errors import ReportedError
from orchestrator.model.graph import PlacementRules
from orchestrator.model.match import Match
from orchestrator.simulation.control import start, stop
from orchestrator.simulation.hosts import Hosts
from servernf.wire.addresses import GATEWAY_MAC, mac_text

pytestmark = pytest.mark.slow

NAME = "moving"
NAT = {"type": "napt", "config": {"addresses": ["203.0.113.1"]}}


class Bench:
    """A network in memory with a NAPT, and a flow through it."""

    def __init__(self) -> None:
        self.inventory = start(topology(), NAME)
        new_journal(NAME, self.inventory.folder)
        self.network = LiveNetwork(self.inventory)
        spec = ("napt", NAT["config"])
        ends = ("inside", "outside")
        self.graph = make_graph(
            {"nat": spec},
            both_ways("inside", "nat", "outside"),
            name="g",
            traffic=[demand(a, b, match=Match(version=4)) for a, b in (ends, ends[::-1])],
        )
        deploy_graph(self.graph, self.network)

    def core(self, graph: str = "g") -> list[str]:
        """The workers that run a graph."""
        cores: list[str] = []
        for core in self.network.cores:
            with self.network.worker(core) as worker:
                names = [nf.name for nf in worker.status().nfs]
            cores += [self.network.worker_name(core)] * any(n.startswith(graph) for n in names)
        return cores

    def port(self) -> int:
        """The outside port by which the flow is known."""
        ether = Ether(src=mac_text(topology().hosts["h1"].mac), dst=mac_text(GATEWAY_MAC))
        packet = IP(src="10.0.1.11", dst="198.51.100.13") / UDP(sport=4000, dport=53) / b"12345678"
        hosts = Hosts(self.inventory.hosts)
        try:
            (delivery,) = hosts.send("h1", bytes(ether / packet))
        finally:
            hosts.close()
        return IP(delivery.frame[14:])[UDP].sport


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Generator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
        yield Bench()
        stop(NAME)


def run(*words: str, expect: int = 0) -> Result:
    done = CliRunner().invoke(app, [*words, "-n", NAME])
    error = done.exception
    code = error.exit_code if isinstance(error, ReportedError) else done.exit_code
    assert code == expect, f"{words}: {code}: {done.output}{error!r}"
    return done


def refused(*words: str, expect: int = 2) -> str:
    """What the command says, that changes nothing."""
    return str(run(*words, expect=expect).exception)


def told(*words: str) -> Any:
    return json.loads(run(*words, "--json").stdout)


def elsewhere(name: str) -> str:
    """Another core of the same server."""
    server, core = name.rsplit(".", 1)
    return f"{server}.{int(core) % 3 + 1}"


def test_an_nf_moves_with_its_state_to_a_core_a_server_and_back(bench: Bench) -> None:
    port = bench.port()
    (first,) = bench.core()
    servers = {"server1": "server2", "server2": "server1"}
    (target,) = {other for here, other in servers.items() if first.startswith(here)}
    wanted = elsewhere(first)
    plan = run("move", "g/nat", "--to", wanted, "--dry-run", expect=1).stdout
    assert "everything from " in plan
    assert bench.core() == [first], "a plan changes nothing"
    foreseen = json.loads(
        run("move", "g/nat", "--to", wanted, "--dry-run", "--json", expect=1).stdout
    )
    assert (foreseen["state_lost"], len(foreseen["state_moved"])) == ([], 1)
    done = told("move", "g/nat", "--to", wanted)["graphs"]["g"]
    assert (bench.core(), bench.port(), done["state_lost"]) == ([wanted], port, [])
    (moved,) = done["state_moved"]
    assert moved.startswith("nat: everything from ")
    shown = run("move", "g/nat", "--to", target).stdout
    assert "nat: everything from " in shown
    assert bench.core()[0].startswith(target)
    assert bench.port() == port
    run("move", "g/nat", "--to", bench.core()[0], "--dry-run", expect=0)


def test_some_buckets_move(bench: Bench) -> None:
    port, (core,) = bench.port(), bench.core()
    done = told("move", "g/nat", "--buckets", "0-15,63", "--to", elsewhere(core))["graphs"]["g"]
    assert done["state_moved"][0].startswith("nat: 17 of 64 buckets from ")
    assert len(bench.core()) == 2
    assert bench.port() == port
    told("move", "g/nat", "--to", core)
    assert (bench.core(), bench.port()) == ([core], port)


@pytest.fixture
def six(bench: Bench) -> Generator[list[str]]:
    """A firewall on two cores, beside the NAPT: for IPv6."""
    ends = ("inside", "outside")
    graph = make_graph(
        {"fw": ("stateful_firewall", {"default": "permit"}, {"min_workers": 2})},
        both_ways("inside", "fw", "outside"),
        name="six",
        traffic=[demand(a, b, match=Match(version=6)) for a, b in (ends, ends[::-1])],
    )
    deploy_graph(graph, bench.network)
    yield bench.core("six")
    undeploy_graph("six", bench.network)


def way(host: str) -> tuple[str, list[str]]:
    """The core that a host's flow comes to, and by which entries of the classes, as `explain` has it."""
    explained = told("explain", "--from", host, "--to", "h3:22/6tcp", "--network-wide")
    (core,) = [hop["device"] for hop in explained["hops"] if hop["kind"] == "server"]
    steps = [step for hop in explained["hops"] for step in hop.get("steps", ())]
    classes = [step["rule"] for step in steps if step["table"] == "dispatch.classes"]
    return core, classes


def test_a_flow_space_moves_is_shown_and_comes_back_with_its_buckets(
    bench: Bench, six: list[str]
) -> None:
    hosts = ("h1", "h2")
    before = {host: way(host)[0] for host in hosts}
    assert set(before.values()) <= set(six)
    (target,) = set(six) - {before["h1"]}
    moved = ("move", "six/fw", "--inside", "2001:db8:1::11/128", "--to", target)
    plan = run(*moved, "--dry-run", expect=1).stdout
    assert "state moves: fw: inside 2001:db8:1::11/128 in " in plan
    told(*moved)
    assert way("h1") == (target, ["to fw.inside@server: flow space"])
    assert way("h2") == (before["h2"], ["to fw.inside@server: inside-outside + outside-inside"])
    (space,) = told("status")["flow_spaces"]
    assert (space["graph"], space["nf"], space["inside"]) == ("six", "fw", "2001:db8:1::11/128")
    assert (space["taken"], space["most"]) == (1, 64)
    shown = run("status").stdout
    assert "inside 2001:db8:1::11/128" in shown
    assert "1 of 64" in shown
    why = refused("move", "six/fw", "--inside", "2001:db8:1::/64", "--to", before["h1"])
    assert "meets inside 2001:db8:1::11/128, which is elsewhere already" in why
    told("move", "six/fw", "--to", before["h1"])
    assert {host: way(host) for host in hosts} == dict.fromkeys(hosts, (before["h1"], []))
    assert told("status")["flow_spaces"] == []


def test_a_server_is_drained_and_used_again(bench: Bench) -> None:
    port, (core,) = bench.port(), bench.core()
    server = core.partition(".")[0]
    done = told("drain", server)
    assert not bench.core()[0].startswith(server)
    assert bench.port() == port
    assert done["graphs"]["g"]["state_moved"]
    why = refused("move", "g/nat", "--to", core)
    assert f"to: {core} is cordoned (`orchestrator uncordon {core}`)" in why
    assert "nothing is to move on moving" in run("drain", server).stdout
    assert told("drain", server, "--undo") == {"network": NAME, "cordoned": []}
    assert not bench.core()[0].startswith(server), "nothing moves back"
    assert "unknown cordoned device or core" in refused("drain", server, "--undo")


@pytest.mark.parametrize(
    ("words", "expect", "expected"),
    [
        (("move", "nat", "--to", "server1"), 2, "nf: 'nat' must be GRAPH/NF"),
        (("move", "h/nat", "--to", "server1"), 8, "unknown graph 'h'"),
        (("move", "g/natt", "--to", "server1"), 2, "unknown NF on a server 'natt'; did you mean"),
        (("move", "g/nat", "--to", "server3"), 2, "to: unknown core or server 'server3'; did you"),
        (("move", "g/nat", "--to", "server1.9"), 2, "to: unknown core or server 'server1."),
        (("move", "g/nat", "--to", "{core}", "--buckets", "64"), 2, "buckets: 64 is not among 64"),
        (("move", "g/nat", "--to", "{core}", "--buckets", "9-2"), 2, "did you mean 2-9?"),
        (("move", "g/nat", "--to", "{core}", "--buckets", "x"), 2, "buckets: 'x' is no number and"),
        (("move", "g/nat", "--to", "{other}", "--buckets", "1"), 2, "buckets are on one server"),
        (
            ("move", "g/nat", "--to", "{core}", "--inside", "10.0.1.0/28"),
            2,
            "flow space: what answers nat from outside shows its bucket, and no flow space within it",
        ),
        (("move", "g/nat", "--to", "{core}", "--inside", "x"), 2, "inside: 'x' is not"),
        (
            ("move", "g/nat", "--to", "{core}", "--outside", "10.1.1.1/8"),
            2,
            "outside: '10.1.1.1/8'",
        ),
        (("move", "g/nat", "--to", "{core}", "--outside", "::/0"), 2, "outside: ::/0 is all flows"),
        (("drain", "server3"), 2, "unknown switch, server or core 'server3'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_wrong_is_told_once_and_nothing_changes(
    bench: Bench, words: tuple[str, ...], expect: int, expected: str
) -> None:
    port, (core,) = bench.port(), bench.core()
    other = "server2.1" if core.startswith("server1") else "server1.1"
    why = refused(*(word.format(core=core, other=other) for word in words), expect=expect)
    assert expected in why
    assert "\n" not in why
    assert (bench.core(), bench.port()) == ([core], port)


def test_a_core_that_another_graph_has_is_none_to_move_to(bench: Bench) -> None:
    (core,) = bench.core()
    other = make_graph(
        {"slow": ("traffic_shaper", {"rate": "10Mbit/s", "burst": 15140, "queue": 151400})},
        one_way("inside", "slow", "outside"),
        name="other",
        traffic=[demand(match=Match(ether_type=0x88CC))],
    )
    deploy_graph(other, bench.network)
    try:
        (taken,) = bench.core("other")
        why = refused("move", "g/nat", "--to", taken)
        assert f"to: {taken} runs other, and a core is one graph's" in why
        assert bench.core() == [core]
    finally:
        undeploy_graph("other", bench.network)


def test_an_nf_that_its_graph_pins_stays_on_that_server(bench: Bench) -> None:
    (core,) = bench.core()
    server = core.partition(".")[0]
    deploy_graph(replace(bench.graph, placement=PlacementRules({"nat": server})), bench.network)
    other = "server2" if server == "server1" else "server1"
    why = refused("move", "g/nat", "--to", other)
    assert f"to: nat is pinned to {server} by " in why
    deploy_graph(bench.graph, bench.network)
    assert bench.core() == [core]


def test_a_graph_moves_to_a_runtime_as_a_whole(bench: Bench) -> None:
    assert "nothing is to move on moving" in run("move", "g", "--runtime", "python").stdout
    assert "runtime: unknown runtime 'dpdk'" in refused("move", "g", "--runtime", "dpdk")
    assert "unknown graph 'h'" in str(run("move", "h", "--runtime", "python", expect=8).exception)
    assert "nf: 'g' must be GRAPH/NF" in refused("move", "g", "--to", "server2")
    assert "name one of its NFs" in refused("move", "g", "--runtime", "python", "--buckets", "1")

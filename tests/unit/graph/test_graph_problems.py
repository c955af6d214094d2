"""Every bad input of a graph and its exact text: where, what, and what would be valid."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import InputError, unknown
from orchestrator.graph import check_hosts, load_graph, load_topology
from orchestrator.nfs import known_types

GOOD: dict[str, Any] = {
    "name": "edge",
    "owner": "campus",
    "endpoints": {"inside": {"hosts": ["h1", "h2"]}, "outside": {"hosts": ["h3"]}},
    "nfs": {
        "edge_acl": {"type": "acl", "config": {"rules": [{"action": "permit"}]}},
        "edge_nat": {"type": "napt", "config": {"addresses": ["203.0.113.1"]}},
    },
    "edges": [
        {"from": "inside", "to": "edge_acl.inside"},
        {"from": "edge_acl.outside", "to": "edge_nat.inside"},
        {"from": "edge_nat.outside", "to": "outside"},
        {"from": "outside", "to": "edge_nat.outside"},
        {"from": "edge_nat.inside", "to": "edge_acl.outside"},
        {"from": "edge_acl.inside", "to": "inside"},
    ],
    "traffic": [
        {"name": "up", "from": "inside", "to": "outside", "rate": "10Mbit/s"},
        {"name": "down", "from": "outside", "to": "inside", "rate": 1e6, "packet_size": 1200},
    ],
}

Change = Callable[[dict[str, Any]], Any]


def setting(path: str, value: Any) -> Change:
    """Set `a.b.0.c` of the graph."""

    def change(graph: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        node: Any = graph
        for part in parents:
            node = node[int(part) if isinstance(node, list) else part]
        node[int(last) if isinstance(node, list) else last] = value

    return change


def removing(path: str) -> Change:
    def change(graph: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        node: Any = graph
        for part in parents:
            node = node[int(part) if isinstance(node, list) else part]
        del node[int(last) if isinstance(node, list) else last]

    return change


RULE = "nfs.edge_acl.config.rules.0"
CASES: list[tuple[Change, list[str]]] = [
    (
        setting("nfs.edge_nat.type", "natt"),
        [
            f"nfs.edge_nat.type: {unknown('NF type', 'natt', known_types())}",
        ],
    ),
    (
        setting("trafic", []),
        [
            "unknown key 'trafic'; did you mean 'traffic'? (known: edges, endpoints, name, nfs, "
            "owner, placement, traffic, verification)"
        ],
    ),
    (
        setting("nfs.edge_nat.worker", {}),
        [
            "nfs.edge_nat: unknown key 'worker'; did you mean 'workers'? "
            "(known: config, state, type, workers)"
        ],
    ),
    (
        setting("nfs.edge_nat.config.address", "x"),
        [
            "nfs.edge_nat.config: unknown key 'address'; did you mean 'addresses'? (known: "
            "addresses, filtering, ipv6, max_mappings_per_address, ports, timeouts_s)"
        ],
    ),
    (
        setting("nfs.edge_nat.config.timeouts_s", {"tpc_established": 3}),
        [
            "nfs.edge_nat.config.timeouts_s: unknown key 'tpc_established'; did you mean "
            "'tcp_established'? (known: icmp, tcp_established, tcp_transitory, udp)"
        ],
    ),
    (
        setting(RULE + ".port", 80),
        [
            "nfs.edge_acl.config.rules[0]: unknown key 'port'; did you mean 'src_port'? (known: "
            "action, dst, dst_port, ether_type, icmp_code, icmp_type, later_fragment, protocol, "
            "src, src_port, tcp_flags, "
            "version, vlan)"
        ],
    ),
    (removing("name"), ["the key 'name' is missing"]),
    (
        removing("nfs.edge_nat.config.addresses"),
        ["nfs.edge_nat.config: the key 'addresses' is missing"],
    ),
    (removing(RULE + ".action"), ["nfs.edge_acl.config.rules[0]: the key 'action' is missing"]),
    (
        setting(RULE + ".action", "alow"),
        [
            "nfs.edge_acl.config.rules[0].action: unknown value 'alow' (known: deny, permit)",
        ],
    ),
    (
        setting(RULE + ".src", "10.0.0.1/24"),
        [
            "nfs.edge_acl.config.rules[0].src: '10.0.0.1/24' has bits behind its length; did you "
            "mean '10.0.0.0/24'?"
        ],
    ),
    (
        setting(RULE + ".src", "10.0.0/33"),
        [
            "nfs.edge_acl.config.rules[0].src: '10.0.0/33' is not a prefix (like 10.0.0.0/8 or "
            "2001:db8::/32)"
        ],
    ),
    (
        setting(RULE + ".src", "10.0.0.0/33"),
        ["nfs.edge_acl.config.rules[0].src: '10.0.0.0/33': the prefix length must be 0 to 32"],
    ),
    (
        setting(RULE + ".src", 10),
        ["nfs.edge_acl.config.rules[0].src: 10 is not a prefix in quotes, like '10.0.0.0/8'"],
    ),
    (
        setting(RULE + ".dst_port", "90-80"),
        [
            "nfs.edge_acl.config.rules[0].dst_port: '90-80': the range is empty; did you mean "
            "'80-90'?"
        ],
    ),
    (
        setting(RULE + ".dst_port", 70000),
        ["nfs.edge_acl.config.rules[0].dst_port: '70000': ports end at 65535"],
    ),
    (
        setting(RULE + ".dst_port", "http"),
        [
            "nfs.edge_acl.config.rules[0].dst_port: 'http' is not a port or a range of ports like "
            "'8000-8100'"
        ],
    ),
    (
        setting(RULE + ".protocol", "tpc"),
        [
            "nfs.edge_acl.config.rules[0].protocol: unknown protocol 'tpc'; did you mean 'tcp'? "
            "(known: 0..255, icmp, icmpv6, tcp, udp)"
        ],
    ),
    (
        setting(RULE + ".protocol", 256),
        ["nfs.edge_acl.config.rules[0].protocol: 256 is not a protocol (0..255)"],
    ),
    (
        setting(RULE + ".tcp_flags", "0x12/0x02"),
        [
            "nfs.edge_acl.config.rules[0].tcp_flags: '0x12/0x02' can never match: the value has "
            "bits outside the mask"
        ],
    ),
    (
        setting(RULE + ".tcp_flags", "syn"),
        [
            "nfs.edge_acl.config.rules[0].tcp_flags: 'syn' is not 'value/mask' of TCP flags, like "
            "'0x02/0x12'"
        ],
    ),
    (
        setting(RULE, {"action": "deny", "src": "10.0.0.0/8", "dst": "2001:db8::/32"}),
        ["nfs.edge_acl.config.rules[0]: this can never match: it asks for IPv4 and IPv6 at once"],
    ),
    (
        setting(RULE, {"action": "deny", "protocol": "icmp", "dst_port": 3}),
        ["nfs.edge_acl.config.rules[0]: this can never match: protocol icmp has no ports"],
    ),
    (
        setting("traffic.0.match", {"ether_type": "0x0806", "protocol": "tcp"}),
        [
            "traffic[0].match: this can never match: EtherType 0x0806 is not IP, but the other "
            "keys ask for IP"
        ],
    ),
    (
        setting("traffic.0.match", {"later_fragment": True, "dst_port": 80}),
        [
            "traffic[0].match: this can never match: a later fragment has no ports, "
            "no TCP flags, no ICMP type and code"
        ],
    ),
    (
        setting("nfs.edge_nat.config.addresses", ["203.0.113.1", "203.0.113.1"]),
        ["nfs.edge_nat.config.addresses: 203.0.113.1 is given twice"],
    ),
    (
        setting("nfs.edge_nat.config.addresses", ["2001:db8::1"]),
        ["nfs.edge_nat.config.addresses[0]: '2001:db8::1' is not an IPv4 address"],
    ),
    (
        setting("nfs.edge_nat.config.ports", [9, 3]),
        ["nfs.edge_nat.config: ports [9, 3] are empty; did you mean [3, 9]?"],
    ),
    (
        setting("nfs.edge_nat.workers", {"min": 3, "max": 2}),
        ["nfs.edge_nat.workers: max 2 is below min 3"],
    ),
    (
        setting("nfs.edge_acl.config.rules_file", "rulse.txt"),
        [
            "nfs.edge_acl.config: rulse.txt: unknown file 'rulse.txt'; did you mean 'rules.txt'? "
            "(known: graph.json, rules.txt)"
        ],
    ),
    (
        setting("nfs.edge_acl.config.rules_file", "rules.txt"),
        [
            "nfs.edge_acl.config: rules.txt:2:12: expected a destination prefix like '10.0.0.0/8', "
            "found the end of the line",
            "nfs.edge_acl.config: rules.txt:3:1: a ClassBench rule begins with '@'",
        ],
    ),
    (
        setting("endpoints.outside.hosts", ["h2"]),
        ["endpoints.outside.hosts[0]: host 'h2' is already in endpoint 'inside'"],
    ),
    (
        setting("endpoints.outside.hosts", []),
        ["endpoints.outside.hosts: must not be empty"],
    ),
    (
        setting("endpoints.edge_nat", {"hosts": ["h4"]}),
        [
            "endpoints.edge_nat: an NF has the same name",
            *(
                f"edges[{i}].{end}: 'edge_nat' is an endpoint: it has no ports, write 'edge_nat'"
                for i, end in ((1, "to"), (2, "from"), (3, "to"), (4, "from"))
            ),
            "traffic[0].to: no path of edges leads from 'inside' to 'outside'",
            "traffic[1].to: no path of edges leads from 'outside' to 'inside'",
        ],
    ),
    (
        setting("edges.0.from", "insid"),
        [
            "edges[0].from: unknown endpoint or NF 'insid'; did you mean 'inside'? (known: "
            "edge_acl, edge_nat, inside, outside)",
            "traffic[0].to: no path of edges leads from 'inside' to 'outside'",
        ],
    ),
    (
        setting("edges.0.to", "edge_acl.insde"),
        [
            "edges[0].to: unknown port of 'edge_acl' 'insde'; did you mean 'inside'? (known: "
            "inside, outside)",
            "traffic[0].to: no path of edges leads from 'inside' to 'outside'",
        ],
    ),
    (
        setting("edges.0.to", "edge_acl"),
        [
            "edges[0].to: 'edge_acl' is an NF: name its port, 'edge_acl.inside' or "
            "'edge_acl.outside'",
            "traffic[0].to: no path of edges leads from 'inside' to 'outside'",
        ],
    ),
    (
        lambda g: g["edges"].append({"from": "edge_nat.outside", "to": "inside"}),
        [
            "edges[6].from: 'edge_nat.outside' already leads to 'outside' (edges[2]); an output has "
            "one edge"
        ],
    ),
    (
        setting("edges.2.to", "edge_acl.inside"),
        [
            "edges: packets can go round for ever: edge_acl.inside -> edge_nat.inside -> "
            "edge_acl.inside",
            "traffic[0].to: no path of edges leads from 'inside' to 'outside'",
        ],
    ),
    (
        setting("traffic.1.name", "up"),
        ["traffic[1].name: 'up' is already the name of traffic[0]"],
    ),
    (
        setting("traffic.1.to", "insde"),
        [
            "traffic[1].to: unknown endpoint 'insde'; did you mean 'inside'? (known: inside, outside)"
        ],
    ),
    (setting("traffic.0.rate", "-5Mbit/s"), ["traffic[0].rate: -5Mbit/s is negative"]),
    (
        setting("traffic.0.rate", "5Mbps"),
        [
            "traffic[0].rate: '5Mbps': unknown unit 'Mbps' (known: bit/s, kbit/s, Mbit/s, Gbit/s, "
            "Tbit/s)"
        ],
    ),
    (
        setting("traffic.0.rate", "fast"),
        ["traffic[0].rate: 'fast' is not a quantity like '100Mbit/s'"],
    ),
    (setting("traffic.0.rate", 0), ["traffic[0].rate: must be above 0"]),
    (
        setting("traffic.0.slo", {"min_rate": "20Mbit/s"}),
        ["traffic[0]: slo.min_rate (20000000 bit/s) is above rate (10000000 bit/s)"],
    ),
    (
        setting("traffic.0.packet_size", 20),
        ["traffic[0].packet_size: input should be greater than or equal to 60, not 20"],
    ),
    (
        setting("traffic.0.new_flows_per_second", 1251),
        [
            "traffic[0]: new_flows_per_second (1251) is above the 1250 packets/s that rate and "
            "packet_size make"
        ],
    ),
    (
        setting("traffic.0.new_flows_per_second", -1),
        ["traffic[0].new_flows_per_second: input should be greater than or equal to 0, not -1"],
    ),
    (
        setting("verification", {"sampling_rate": 1.5}),
        ["verification.sampling_rate: input should be less than or equal to 1, not 1.5"],
    ),
    (
        setting("name", "Edge 1"),
        [
            "name: 'Edge 1' is not a name: lower-case letters, digits, '_' and '-', beginning with "
            "a letter, at most 64"
        ],
    ),
    (setting("nfs", []), ["nfs: must be an object, not []"]),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.txt").write_text(
        "@10.0.0.0/8 0.0.0.0/0 0 : 65535 80 : 80 0x06/0xFF 0x0000/0x0000\n@10.0.0.0/8\n10.0.0.0/8\n"
    )
    return tmp_path


def load(graph: Any) -> Any:
    Path("graph.json").write_text(graph if isinstance(graph, str) else json.dumps(graph))
    return load_graph("graph.json")


def problems(graph: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        load(graph)
    return [problem.removeprefix("graph.json: ") for problem in caught.value.problems]


@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda i: CASES[i][1][0][:50])
def test_problem(folder: Path, case: int) -> None:
    change, expected = CASES[case]
    graph = copy.deepcopy(GOOD)
    change(graph)
    assert problems(graph) == expected


def test_the_good_graph_is_good(folder: Path) -> None:
    loaded = load(GOOD)
    assert loaded.warnings == ()
    assert loaded.graph.traffic[0].rate == 10_000_000
    assert loaded.graph.source == "graph.json"


def test_problems_of_all_kinds_are_told_at_once(folder: Path) -> None:
    graph = copy.deepcopy(GOOD)
    graph["nfs"]["edge_nat"]["type"] = "natt"
    graph["nfs"]["edge_acl"]["config"]["rules"][0]["src"] = "x"
    graph["edges"][0]["from"] = "insid"
    graph["traffic"][1]["name"] = "up"
    assert [problem.split(":")[0] for problem in problems(graph)] == [
        "nfs.edge_acl.config.rules[0].src",
        "nfs.edge_nat.type",
        "edges[0].from",
        "traffic[1].name",
    ]


def test_problems_of_configs_are_told_beside_those_of_the_schema(folder: Path) -> None:
    graph = copy.deepcopy(GOOD)
    graph["nfs"]["edge_nat"]["config"]["addresses"] = ["x"]
    graph["traffic"][0]["rate"] = "fast"
    told = problems(graph)
    assert told[0].startswith("traffic[0].rate")
    assert told[1].startswith("nfs.edge_nat.config.addresses[0]: 'x' is not an IP address")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{\n  "name": edge\n}', "graph.json:2:11: Expecting value"),
        ('{"name": "a", "name": "b"}', "the key 'name' is given twice in one object"),
        ('{"name": NaN}', "NaN is not JSON"),
        ("[]", "graph.json: must be an object, not []"),
        ("[" * 100_000, "is nested too deeply"),
        ("", "graph.json:1:1: Expecting value"),
    ],
)
def test_broken_json(folder: Path, text: str, expected: str) -> None:
    assert any(expected in p or expected in f"graph.json: {p}" for p in problems(text))


def test_not_utf_8(folder: Path) -> None:
    Path("graph.json").write_bytes(b'{"name": "\xff"}')
    with pytest.raises(InputError, match=r"^graph.json: byte 10: is not UTF-8 text$"):
        load_graph("graph.json")


def test_no_such_file(folder: Path) -> None:
    with pytest.raises(InputError, match=r"graph\.jsn: unknown file 'graph\.jsn'"):
        load_graph("graph.jsn")


def test_unconnected_output_and_idle_nf_are_warnings(folder: Path) -> None:
    graph = copy.deepcopy(GOOD)
    graph["nfs"]["spare"] = {"type": "acl", "config": {}}
    graph["nfs"]["branch"] = {
        "type": "router",
        "config": {"routes": [{"prefix": "0.0.0.0/0"}, {"prefix": "10.9.0.0/16", "port": "lab"}]},
    }
    graph["edges"][2]["to"] = "branch.inside"
    graph["edges"].append({"from": "branch.outside", "to": "outside"})
    assert load(graph).warnings == (
        "graph.json: edges: no edge leaves 'branch.lab': packets that leave there are dropped",
        "graph.json: nfs.spare: no traffic ever reaches it",
    )


def test_hosts_and_next_hops_against_a_topology(folder: Path) -> None:
    graph = copy.deepcopy(GOOD)
    graph["endpoints"]["outside"]["hosts"] = ["h33"]
    with pytest.raises(InputError) as caught:
        check_hosts(load(graph).graph, load_topology("leaf-spine"))
    assert caught.value.problems == (
        "graph.json: endpoints.outside.hosts[0]: unknown host of topology leaf-spine 'h33'; did you "
        "mean 'h3'? (known: h1, h2, h3, h4)",
    )


def test_many_problems_of_one_config_are_counted(tmp_path: Path) -> None:
    graph = copy.deepcopy(GOOD)
    graph["nfs"]["edge_acl"]["config"]["rules"] = [{"action": "allow"}] * 5000
    path = tmp_path / "g.json"
    path.write_text(json.dumps(graph))
    with pytest.raises(InputError) as error:
        load_graph(path)
    assert len(error.value.problems) == 21
    last = f"{path}: nfs.edge_acl.config: and 4980 more problems like these"
    assert error.value.problems[-1] == last

"""Importers: what they write loads, and what they cannot say they list."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.equivalence import compare
from orchestrator.errors import InputError
from orchestrator.graph import load_graph, load_topology
from orchestrator.graph.importers import acl_graph, import_classbench, import_metron, import_rib
from orchestrator.nfs.files import Files
from orchestrator.nfs.router import RouterConfig
from orchestrator.nfs.values import parse_address
from orchestrator.resources import shipped

pytestmark = pytest.mark.slow

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
HOP4, HOP6 = parse_address("198.51.100.13"), parse_address("2001:db8:2::13")


def shared(name: str) -> Path:
    """A file of ../shared/data; skips by name without it."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"../shared/data/{name} is not here")
    return path


def loaded(graph: dict[str, Any], tmp_path: Path) -> list[str]:
    """The types of the graph's NFs, once it has been loaded from a file."""
    (tmp_path / "graph.json").write_text(json.dumps(graph))
    return [nf.type for nf in load_graph(tmp_path / "graph.json").graph.nfs.values()]


def test_classbench(tmp_path: Path) -> None:
    file = tmp_path / "a.rules"
    file.write_text("@10.0.0.0/8 0.0.0.0/0 0 : 65535 80 : 81 0x06/0xFF 0x1000/0x1000\n")
    rules, left_out = import_classbench(file, "deny")
    assert not left_out
    assert rules == [
        {
            "src": "10.0.0.0/8",
            "dst_port": "80-81",
            "protocol": "tcp",
            "tcp_flags": "0x10/0x10",
            "version": 4,
            "action": "deny",
        }
    ]
    assert loaded(acl_graph("g", rules), tmp_path) == ["acl"]
    file.write_text("@10.0.0.0/8 0.0.0.0/0 0 : 65535 80 - 81 0x06/0xFF\n")
    with pytest.raises(InputError, match=r"a\.rules:1:\d+: expected a destination port range"):
        import_classbench(file)


def test_classbench_rules_that_no_packet_can_match(tmp_path: Path) -> None:
    file = tmp_path / "fw2.rules"
    rule = "@10.0.0.0/8\t0.0.0.0/0\t0 : 65535\t{ports}\t{protocol}/0xFF\n"
    impossible = rule.format(ports="80 : 80", protocol="0x01")
    file.write_text(impossible + rule.format(ports="0 : 65535", protocol="0x02"))
    rules, left_out = import_classbench(file)
    assert left_out == [f"{file}:1: protocol icmp has no ports"]
    assert [item["protocol"] for item in rules] == [2]
    assert loaded(acl_graph("g", rules), tmp_path) == ["acl"]
    output = tmp_path / "rules.json"
    done = CliRunner().invoke(app, ["import", "classbench", str(file), "-o", str(output)])
    assert "1 rules are left out" in done.output
    assert f"{file}:1" in done.output.replace("\n", "")
    assert len(json.loads(output.read_text())) == 1
    graph = acl_graph("g", [])
    graph["nfs"]["acl"]["config"] = {"rules_file": file.name}
    (tmp_path / "graph.json").write_text(json.dumps(graph))
    compiled = compile_graph(
        CompileRequest(load_graph(tmp_path / "graph.json").graph, load_topology("single"))
    )
    (warning,) = compiled.bundle.warnings
    assert warning.endswith("nfs.acl: fw2.rules:1 can never match: protocol icmp has no ports")
    file.write_text(impossible)
    with pytest.raises(InputError, match="has no rules that a packet can match"):
        import_classbench(file)


def test_rib(tmp_path: Path) -> None:
    file = tmp_path / "rib.dat.gz"
    file.write_bytes(
        gzip.compress(b"; a comment\n1.0.0.0/24\t15169\n1.0.4.0/24\t7\n2001::/16\t3\n")
    )
    lines, left_out, _ = import_rib(file, [HOP4])
    assert lines == ["1.0.0.0/24 198.51.100.13 outside", "1.0.4.0/24 198.51.100.13 outside"]
    assert left_out == 1
    assert len(import_rib(file, [HOP4, HOP6])[0]) == 3
    file.write_bytes(gzip.compress(b"# a comment\n1.0.0.0\t24\t15169\n1.0.4.0\t24\t7_8,9\n"))
    assert import_rib(file, [HOP4]) == (lines, 0, [])
    file.write_bytes(gzip.compress(b"15169\n"))
    with pytest.raises(
        InputError, match=r"gz:1: a line is 'prefix origin-AS' \(pyasn\), 'address length"
    ):
        import_rib(file, [HOP4])
    file.write_bytes(gzip.compress(b"1.0.0.1/24\t1\n"))
    with pytest.raises(InputError, match=r"rib\.dat\.gz:1: .*did you mean '1\.0\.0\.0/24'"):
        import_rib(file, [HOP4])
    file.write_bytes(b"no gzip")
    with pytest.raises(InputError, match="cannot be unpacked"):
        import_rib(file, [HOP4])


def test_the_shared_rib_is_a_routes_file(tmp_path: Path) -> None:
    lines, left_out, _ = import_rib(shared("rib/ipv6_20151101.dat.gz"), [HOP6])
    assert (len(lines), left_out) == (27_693, 606_138)
    (tmp_path / "routes.txt").write_text("\n".join(lines))
    config = RouterConfig.model_validate({"routes_file": "routes.txt"}).with_files(Files(tmp_path))
    assert len(config.all_routes) == len(lines)


def test_rib_with_several_origins_gives_one_route(tmp_path: Path) -> None:
    file, output = tmp_path / "moas.dat", tmp_path / "routes.txt"
    file.write_text("203.0.113.0/24 64500\n198.51.100.0/24 7\n203.0.113.0/24 64505\n")
    arguments = ["import", "rib", str(file), "-o", str(output)]
    arguments += ["--next-hop", "198.51.100.13", "--next-hop", "198.51.100.14", "--json"]
    told = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert told["again"] == [f"203.0.113.0/24 at {file}:3: 64505, not 64500"]
    first, _, _ = import_rib(file, [HOP4])
    assert len(first) == told["routes"] == len(output.read_text().splitlines()) == 2
    config = RouterConfig.model_validate({"routes_file": output.name}).with_files(Files(tmp_path))
    assert len(config.all_routes) == 2


def test_rib_of_bgpdump(tmp_path: Path) -> None:
    file = tmp_path / "dump"
    entry = "TABLE_DUMP2|0|B|198.51.100.9|64500|203.0.113.0/24|64500 {origin}|IGP|198.51.100.9|0|0"
    file.write_text("\n".join(entry.format(origin=o) for o in ("64510", "64510", "{64511,64512}")))
    imported = import_rib(file, [HOP4])
    assert imported.lines == ["203.0.113.0/24 198.51.100.13 outside"]
    assert imported.again == [f"203.0.113.0/24 at {file}:3: 64511_64512, not 64510"]
    for text in ("TABLE_DUMP2|0|W|1|2|203.0.113.0/24", '{"0.0.0.0/0":[]}', "10.0.0.0/8 192.0.2.1"):
        file.write_text(text)
        with pytest.raises(InputError, match="bgpdump -m"):
            import_rib(file, [HOP4])


@pytest.mark.parametrize(
    ("kind", "text", "more"),
    [
        ("rib", "203.0.113.0/24 64500", ("--next-hop", "198.51.100.13")),
        ("classbench", "@10.0.0.0/8 0.0.0.0/0 0 : 65535 80 : 81 0x06/0xFF", ()),
        ("classbench", "@10.0.0.0/8 0.0.0.0/0 0 : 65535 80 : 81 0x06/0xFF", ("--graph",)),
        ("snort", 'alert tcp any any -> any 80 (content:"a"; sid:1;)', ()),
        ("snort", 'alert tcp any any -> any 80 (content:"a"; sid:1;)', ("--graph",)),
    ],
)
def test_what_its_reader_would_refuse_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, text: str, more: tuple[str, ...]
) -> None:
    source, output = tmp_path / "source", tmp_path / "out.txt"
    source.write_text(text)
    arguments = ["import", kind, str(source), "-o", str(output), *more]

    def refuse(_: Files, path: Path, name: str) -> str:
        assert path != source
        raise InputError(f"{name}:1: is refused")

    if kind == "rib":  # which reads its source in the same way
        assert CliRunner().invoke(app, arguments).exit_code == 0
    output.write_text("old")
    monkeypatch.setattr("orchestrator.nfs.files.Files._data_of", refuse)
    error = CliRunner().invoke(app, arguments).exception
    assert isinstance(error, InputError)
    assert "out.txt:1: is refused" in error.problems[0]
    assert output.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.txt", "source"]


CHAIN = "metron/metron-srv-flowdisp-add-dualport-firewall-router-napt.json"
BALANCED = "metron/metron-srv-flowdisp-add-singleport-router-mon-lb.json"
CLASSES = "metron/metron-net-mac-add-singleport-fw-8rules-hw-napt.json"


def test_metron_firewall_router_napt(tmp_path: Path) -> None:
    imported = import_metron(shared(CHAIN), HOP4, None)
    assert loaded(imported.graph, tmp_path) == ["acl", "router", "napt"]
    acl, router, napt = imported.graph["nfs"].values()
    assert len(acl["config"]["rules"]) == 643
    assert acl["config"]["rules"][0] == {"src": "34.0.0.0/10", "version": 4, "action": "permit"}
    assert len(router["config"]["routes"]) == 3117
    assert napt["config"] == {"addresses": ["10.0.0.2"], "ports": [1024, 65535]}


def test_metron_load_balancer_needs_a_service(tmp_path: Path) -> None:
    path = shared(BALANCED)
    with pytest.raises(InputError, match="--virtual"):
        import_metron(path, HOP4, None)
    imported = import_metron(path, HOP4, ("tcp", "203.0.113.80", 80))
    assert loaded(imported.graph, tmp_path) == ["router", "l4_load_balancer"]
    assert {"from": "nf1.outside", "to": "nf2.outside"} in imported.graph["edges"]


def test_metron_negations_and_twice_nat(tmp_path: Path) -> None:
    imported = import_metron(shared(CLASSES), None, None)
    assert loaded(imported.graph, tmp_path) == ["acl", "napt", "dnat"]
    acl, napt, dnat = imported.graph["nfs"].values()
    assert len(acl["config"]["rules"]) < 40
    assert napt["config"] == {"addresses": ["10.0.0.4"], "ports": [1000, 65535]}
    assert dnat["config"] == {"address": "192.168.23.5"}
    assert "nf2_rw1_2: left out, no packet reaches it" in imported.notes


@pytest.mark.parametrize("name", [CHAIN, BALANCED, CLASSES])
def test_metron_chains_compile(name: str, tmp_path: Path) -> None:
    # An address that the chain's own router has a route for, or nothing reaches the load balancer.
    graph = import_metron(shared(name), HOP4, ("tcp", "139.165.51.0", 80)).graph
    (tmp_path / "graph.json").write_text(json.dumps(graph))
    loaded_graph = load_graph(tmp_path / "graph.json").graph
    topology = load_topology(shipped("topologies") / "leaf-spine.json")
    compiled = compile_graph(CompileRequest(loaded_graph, topology))
    assert compiled.bundle.workers
    driver = compare(loaded_graph, topology, compiled.bundle, 300)
    assert not driver.differences


def test_metron_lists_what_no_nf_does(tmp_path: Path) -> None:
    classes = ["src ether host 00:00:00:00:00:0a", "ip ttl 4", "ip proto nonsense"]
    entries = [
        {"trafficClass": text, "outputPort": 0, "priority": rank, "action": "allow"}
        for rank, text in enumerate(classes)
    ]
    with pytest.raises(InputError) as error:
        import_metron(chain(tmp_path, "IPFilter", entries[1:]), None, None)
    told = "\n".join(error.value.problems)
    assert "priority 1: 'ip' is not supported" in told
    assert "priority 2: 'nonsense' is no protocol" in told
    with pytest.raises(InputError, match="priority 0: 'src ether host"):
        import_metron(chain(tmp_path, "IPFilter", entries[:1]), None, None)


def chain(
    tmp_path: Path, block: str, entries: list[dict[str, Any]], file: str = "rules.json"
) -> Path:
    """A file with a chain of one block."""
    (tmp_path / "rules.json").write_text(json.dumps({"entries": entries}))
    one = {"block": block, "instance": "b", "configArgs": "FILE", "configFile": file}
    move = {"block": "Queue", "instance": "a", "configArgs": "", "configFile": ""}
    link = {"src": {"instance": "a", "port": 0}, "dst": {"instance": "b", "port": 0}}
    ends = (("source", "nf1"), ("nf1", "destination"))
    service = {
        "name": "One",
        "processors": [{"name": "nf1", "blocks": [move, one], "graph": [link]}],
        "topology": {"server": [{"src": {"entity": a}, "dst": {"entity": b}} for a, b in ends]},
    }
    path = tmp_path / "chain.json"
    path.write_text(json.dumps({"apps": {"m": {"add": {"serviceChains": [service]}}}}))
    return path


def test_metron_outputs_that_are_not_linked_drop(tmp_path: Path) -> None:
    entries: list[dict[str, Any]] = [
        {
            "trafficClass": f"ip proto {name}",
            "outputPort": output,
            "priority": rank,
            "action": "allow",
        }
        for rank, (name, output) in enumerate((("tcp", 0), ("udp", 1), ("icmp", 2)))
    ]

    def actions(*links: tuple[int, str]) -> list[str]:
        path = chain(tmp_path, "IPClassifier", entries)
        raw = json.loads(path.read_text())
        (processor,) = raw["apps"]["m"]["add"]["serviceChains"][0]["processors"]
        for name, kind in (("t", "ToDevice"), ("d", "Discard")):
            block = {"block": kind, "instance": name, "configArgs": "", "configFile": ""}
            processor["blocks"].append(block)
        processor["graph"] += [
            {"src": {"instance": "b", "port": port}, "dst": {"instance": target, "port": 0}}
            for port, target in links
        ]
        path.write_text(json.dumps(raw))
        graph = import_metron(path, None, None).graph
        assert loaded(graph, tmp_path) == ["acl"]
        return [rule["action"] for rule in graph["nfs"]["nf1"]["config"]["rules"]]

    assert actions((0, "t")) == ["permit", "deny", "deny"]
    assert actions((0, "t"), (2, "t")) == ["permit", "deny", "permit"]
    assert actions((1, "t")) == ["deny", "permit", "deny"]
    assert actions((0, "t"), (1, "d")) == ["permit", "deny", "deny"]
    assert actions((-1, "t")) == ["permit"] * 3
    entries[1]["outputPort"] = "one"
    with pytest.raises(InputError, match="priority 1: outputPort 'one' is no number"):
        actions((0, "t"))


def test_metron_rule_files_of_another_machine_are_beside_the_chain(tmp_path: Path) -> None:
    entries = [{"priority": 1, "trafficClass": "src net 10.0.0.0/8", "action": "allow"}]
    path = chain(tmp_path, "IPFilter", entries, "/home/someone/apps/rules.json")
    assert loaded(import_metron(path, None, None).graph, tmp_path) == ["acl"]
    path = chain(tmp_path, "IPFilter", entries, "/home/someone/apps/others.json")
    with pytest.raises(
        InputError, match=r"'/home/someone/apps/others\.json' is outside of the graph's folder"
    ):
        import_metron(path, None, None)
    path.write_text(json.dumps({"apps": {"m": {"remove": {}}}}))
    with pytest.raises(InputError, match="no file with one Metron service chain: 'add' is missing"):
        import_metron(path, None, None)


def test_metron_traffic_classes(tmp_path: Path) -> None:
    text = "allow (src net 10.0.0.1/24 or src net 11.0.0.0/8) && dst tcp port == 80"
    entries = [
        {"priority": 2, "trafficClass": "deny all", "action": "deny"},
        {"priority": 1, "trafficClass": text, "action": "allow"},
    ]
    graph = import_metron(chain(tmp_path, "IPFilter", entries), None, None).graph
    assert loaded(graph, tmp_path) == ["acl"]
    both = {"protocol": "tcp", "dst_port": "80", "version": 4, "action": "permit"}
    assert graph["nfs"]["nf1"]["config"]["rules"] == [
        {"src": "10.0.0.0/24", **both},
        {"src": "11.0.0.0/8", **both},
        {"version": 4, "action": "deny"},
    ]
    with pytest.raises(InputError, match="Click element RadixIPLookup is not supported"):
        import_metron(chain(tmp_path, "RadixIPLookup", entries), None, None)

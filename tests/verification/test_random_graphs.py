"""Whole random graphs (NFs, shape, rules): the bundle does what the unsplit graph does.

`ORCHESTRATOR_RANDOM_GRAPHS=500` looks at so many; hypothesis makes a failing graph small by itself.
"""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st
from test_shapes import shared_address

from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.equivalence import compare
from orchestrator.errors import CompileError, InfeasibleError, InputError
from orchestrator.graph import load_graph, load_topology
from orchestrator.model.bundle import Bundle
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.topology import Topology
from orchestrator.oracle import Driver

GRAPHS = int(os.environ.get("ORCHESTRATOR_RANDOM_GRAPHS", "25"))
PACKETS = 250
HOSTS = {"inside": ["h1", "h2"], "outside": ["h3"], "dmz": ["h4"]}
PREFIXES = (
    *("10.0.1.11/32", "10.0.1.12/32", "10.0.1.0/24", "10.0.1.8/29", "0.0.0.0/0", "10.0.0.0/8"),
    *("198.51.100.13/32", "198.51.100.14/32", "198.51.100.0/24", "203.0.113.0/24"),
    *("2001:db8:1::/64", "2001:db8:2::/64", "2001:db8:2::13/128", "::/0"),
)
PORTS = st.sampled_from(["0", "80", "53", "20-25", "1024-65535", "1000-3000", "8000-8100"])


@st.composite
def matches(draw: st.DrawFn) -> dict[str, Any]:
    """Match keys that can be asked together."""
    match: dict[str, Any] = {}
    version = draw(st.sampled_from([4, 4, 6, None]))
    of_version = [p for p in PREFIXES if (":" in p) == (version == 6)]
    if version is not None:
        match["version"] = version
        for side in ("src", "dst"):
            if draw(st.booleans()):
                match[side] = draw(st.sampled_from(of_version))
    protocol = draw(st.sampled_from(["tcp", "udp", "icmp", 47, None, None]))
    if protocol is not None:
        match["protocol"] = "icmpv6" if (protocol, version) == ("icmp", 6) else protocol
    if protocol in ("tcp", "udp"):
        for side in ("src_port", "dst_port"):
            if draw(st.integers(0, 2)) == 0:
                match[side] = draw(PORTS)
    if protocol == "tcp" and draw(st.integers(0, 3)) == 0:
        match["tcp_flags"] = draw(st.sampled_from(["0x02/0x12", "0x10/0x10", "0x00/0x3f"]))
    if protocol == "udp" and not match.keys() & {"src_port", "dst_port"} and draw(st.booleans()):
        match["later_fragment"] = draw(st.booleans())
    return match


@st.composite
def rules(draw: st.DrawFn, largest: int = 6) -> list[dict[str, Any]]:
    actions = st.sampled_from(["permit", "deny"])
    return [
        {**draw(matches()), "action": draw(actions)} for _ in range(draw(st.integers(0, largest)))
    ]


@st.composite
def acls(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "type": "acl",
        "config": {
            "rules": draw(rules()),
            "default": draw(st.sampled_from(["permit", "deny"])),
            "reverse": draw(st.sampled_from(["permit", "mirror", "same"])),
        },
    }


@st.composite
def routers(draw: st.DrawFn) -> dict[str, Any]:
    chosen = draw(st.sets(st.sampled_from(PREFIXES), min_size=1, max_size=7))
    routes: list[dict[str, Any]] = []
    for prefix in sorted(chosen):
        inward = prefix.startswith(("10.", "2001:db8:1"))
        route: dict[str, Any] = {"prefix": prefix}
        route["port"] = "inside" if inward else draw(st.sampled_from(["outside", "dmz", "outside"]))
        if draw(st.booleans()):
            hops = {"inside": "10.0.1.11", "outside": "198.51.100.13", "dmz": "198.51.100.14"}
            if ":" not in prefix:
                route["next_hop"] = hops[route["port"]]
        routes.append(route)
    return {"type": "router", "config": {"routes": routes}}


@st.composite
def firewalls(draw: st.DrawFn) -> dict[str, Any]:
    keep = [r for r in draw(rules(4)) if not r.get("later_fragment")]
    inbound = [r for r in draw(rules(3)) if not r.get("later_fragment")]
    return {
        "type": "stateful_firewall",
        "config": {
            "rules": keep,
            "inbound_rules": inbound,
            "default": draw(st.sampled_from(["permit", "deny"])),
            "non_ip": draw(st.sampled_from(["pass", "drop"])),
        },
        "workers": {"min": draw(st.integers(1, 2))},
    }


NATS = st.sampled_from(
    [
        {"type": "static_nat", "config": {"pairs": [{"inside": i, "outside": o}]}}
        for i, o in (("10.0.1.11", "203.0.113.11"), ("10.0.1.12", "203.0.113.12"))
    ]
)
NAPTS = st.builds(
    lambda addresses, low: {
        "type": "napt",
        "config": {"addresses": addresses},
        "workers": {"min": low},
    },
    st.sampled_from([["203.0.113.1"], ["203.0.113.1", "203.0.113.2"]]),
    st.integers(1, 2),
)
IDSES = st.builds(
    lambda ports, low: {
        "type": "ids",
        "config": {
            "signatures": [{"id": 1, "content": "marker", "protocol": "tcp", "ports": ports}]
        },
        "workers": {"min": low},
    },
    st.sampled_from([["80"], ["1-1023"], ["53", "8000-8100"]]),
    st.integers(1, 2),
)
MONITORS = st.just({"type": "flow_monitor", "workers": {"min": 2}})
DEDUPS = st.just({"type": "dedup", "config": {"window_ms": 10}, "workers": {"min": 2}})
URL_FILTERS = st.builds(
    lambda reset, malformed, low: {
        "type": "url_filter",
        "config": {
            "rules": [{"host": "*.example", "path": "/x/*", "action": "deny"}],
            "malformed": malformed,
            "reset": reset,
        },
        "workers": {"min": low},
    },
    st.booleans(),
    st.sampled_from(["permit", "deny"]),
    st.integers(1, 2),
)
DNS_GUARDS = st.builds(
    lambda block, answers: {
        "type": "dns_guard",
        "config": {"block": block, "answers": answers},
        "workers": {"min": 2},
    },
    st.sampled_from([[], ["ads.example"], ["example", "ok.test"]]),
    st.sampled_from(["asked", "any"]),
)
AES = st.builds(
    lambda kind: {
        "type": kind,
        "config": {"key_environment": "ORCHESTRATOR_TEST_KEY", "spi": 4097},
    },
    st.sampled_from(["aes_encrypt", "aes_decrypt"]),
)
STATELESS = st.one_of(acls(), acls(), routers(), NATS)
SHAPERS = st.just(
    {"type": "traffic_shaper", "config": {"rate": "3Mbit/s", "burst": 3000, "queue": 9000}}
)
STREAMS = st.one_of(IDSES, URL_FILTERS, DNS_GUARDS)
ANY = st.one_of(STATELESS, STATELESS, firewalls(), NAPTS, MONITORS, DEDUPS, STREAMS, AES, SHAPERS)


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    """A chain there and back; routers may branch to the dmz, straight or into a later function."""
    nfs = {f"nf{i}": nf for i, nf in enumerate(draw(st.lists(ANY, min_size=1, max_size=5)))}
    assume(sum(nf["type"] == "napt" for nf in nfs.values()) <= 1)
    there = ["inside", *nfs, "outside"]

    def port(node: str, side: str) -> str:
        return f"{node}.{side}" if node in nfs else node

    edges = [{"from": port(a, "outside"), "to": port(b, "inside")} for a, b in pairwise(there)]
    back = [{"from": port(b, "inside"), "to": port(a, "outside")} for a, b in pairwise(there)]
    two_ways = draw(st.booleans())
    edges += back if two_ways else []
    demands = [("inside", "outside")] + ([("outside", "inside")] if two_ways else [])
    for index, (name, nf) in enumerate(list(nfs.items())):
        if nf["type"] == "router" and any(
            route["port"] == "dmz" for route in nf["config"]["routes"]
        ):
            later = [port(n, "inside") for n in list(nfs)[index + 1 :]]
            edges.append({"from": f"{name}.dmz", "to": draw(st.sampled_from(["dmz", *later]))})
    asked = draw(st.sampled_from([{}, {}, {"version": 4}, {"protocol": "tcp"}]))
    return {
        "name": "random",
        "endpoints": {name: {"hosts": hosts} for name, hosts in HOSTS.items()},
        "nfs": nfs,
        "edges": edges,
        "traffic": [
            {"name": f"t{i}", "from": a, "to": b, "rate": "10Mbit/s", "match": asked}
            for i, (a, b) in enumerate(demands)
        ],
    }


def compiled(
    raw: dict[str, Any], topology: str, folder: Path
) -> tuple[ServiceGraph, Topology, Bundle]:
    """A graph that was drawn, its network and bundle; another one is drawn where it cannot be."""
    file = folder / "graph.json"
    file.write_text(json.dumps(raw))
    try:
        graph = load_graph(file).graph
        network = load_topology(topology)
        return graph, network, compile_graph(CompileRequest(graph, network)).bundle
    except (InputError, InfeasibleError, CompileError):
        reject()


def agree(driver: Driver, raw: dict[str, Any]) -> None:
    """No packet made a difference, but where two of inside share an address by intent."""
    told = [f"{d}\n    {d.frame.hex()}" for d in driver.differences if not shared_address(d)]
    assert not told, "\n".join([*told[:3], json.dumps(raw)])


@pytest.mark.parametrize("topology", ["leaf-spine", "single"])
@settings(
    max_examples=GRAPHS,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(graphs())
def test_a_random_graph_equals_its_bundle(
    topology: str, tmp_path: Path, raw: dict[str, Any]
) -> None:
    graph, network, bundle = compiled(raw, topology, tmp_path)
    agree(compare(graph, network, bundle, PACKETS), raw)

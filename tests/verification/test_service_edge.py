"""examples/service_edge: its expected outcome, in the reference and in the bundle; all in switches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.vxlan import VXLAN

from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.apply import apply_bundle
from orchestrator.graph import load_graph, load_topology
from orchestrator.oracle import ReferenceNetwork
from orchestrator.resources import shipped
from orchestrator.simulation.memory import MemoryNetwork

EXAMPLE = Path(shipped("examples")) / "service_edge"
FLOWS: list[dict[str, Any]] = json.loads((EXAMPLE / "expected.json").read_text())
VIRTUAL = {4: "203.0.113.80", 6: "2001:db8:80::80"}
CLIENT = {4: "198.51.100.13", 6: "2001:db8:2::13"}
GATEWAY = "06:00:00:00:00:01"
Send = Callable[[bytes], list[tuple[str, bytes]]]
LATER_US = 10_000_000
"""Enough for the policer's bucket to be full again."""


def reference(topology: str) -> Send:
    graph = load_graph(EXAMPLE / "graph.json").graph
    network = ReferenceNetwork(graph, load_topology(topology), now_us=LATER_US)
    return lambda frame: list(network.send("h3", frame))


def bundle(topology: str) -> Send:
    graph, physical = load_graph(EXAMPLE / "graph.json").graph, load_topology(topology)
    network = MemoryNetwork(physical)
    apply_bundle(compile_graph(CompileRequest(graph, physical)).bundle, network, None, first=True)
    network.advance(LATER_US)
    return lambda frame: [(d.host, d.frame) for d in network.send("h3", frame)]


def frame_of(flow: dict[str, Any]) -> Ether:
    version, ttl = flow.get("version", 4), flow.get("ttl", 64)
    target = flow.get("address", VIRTUAL[version])
    kind = TCP if flow["protocol"] == "tcp" else UDP
    l4 = kind(sport=40000, dport=flow["dst_port"])
    ip = (
        IP(src=CLIENT[4], dst=target, ttl=ttl)
        if version == 4
        else IPv6(src=CLIENT[6], dst=target, hlim=ttl)
    )
    headers = Ether(src="0a:00:00:00:00:03", dst=GATEWAY) / ip / l4
    return Ether(bytes(headers / bytes(flow["bytes"] - len(headers))))


@pytest.mark.parametrize("topology", ["leaf-spine", "single"])
@pytest.mark.parametrize("system", [reference, bundle], ids=["reference", "bundle"])
@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow["name"])
def test_expected(flow: dict[str, Any], system: Callable[[str], Send], topology: str) -> None:
    send, frame = system(topology), frame_of(flow)
    received = [delivery for _ in range(flow["packets"]) for delivery in send(bytes(frame))]
    copies = [Ether(data) for host, data in received if host == "h4"]
    served = [(host, Ether(data)) for host, data in received if host in ("h1", "h2")]
    assert (len(served), len(copies)) == (flow["delivered"], flow["copied"])
    assert len(copies) + len(served) == len(received)
    assert len({host for host, _ in served}) <= 1
    for _, got in served:
        assert (got[Dot1Q].vlan, got[Dot1Q].prio) == (80, 3)
        marked = got[IP].tos if IP in got else got[IPv6].tc
        assert marked >> 2 == flow["dscp"]
    for copy in copies:
        assert (copy[IP].dst, copy[VXLAN].vni) == ("198.51.100.14", 5000)
        assert bytes(copy[VXLAN].payload) == bytes(frame)


@pytest.mark.parametrize("topology", ["leaf-spine", "single"])
def test_no_server_is_needed(topology: str) -> None:
    graph = load_graph(EXAMPLE / "graph.json").graph
    compiled = compile_graph(CompileRequest(graph, load_topology(topology))).bundle
    assert {story.kind for story in compiled.stories} == {"switch"}
    assert compiled.workers == ()

"""The reference network on the shipped examples: what passes, who drops, where it is delivered."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from orchestrator.graph import load_graph, load_topology
from orchestrator.model.headers import ACK, ICMP, PSH, SYN, TCP, UDP
from orchestrator.model.packet import Packet
from orchestrator.nfs.values import parse_address
from orchestrator.oracle import ReferenceNetwork, frames
from orchestrator.resources import shipped
from servernf.wire.addresses import BROADCAST_MAC, GATEWAY_MAC

pytestmark = pytest.mark.slow

TOPOLOGY = load_topology("leaf-spine")
EXPECTED: dict[str, Any] = json.loads(
    (shipped("examples") / "campus_edge" / "expected.json").read_text()
)
PROTOCOLS = {"tcp": TCP, "udp": UDP, "icmp": ICMP}


def network(example: str) -> ReferenceNetwork:
    return ReferenceNetwork(
        load_graph(shipped("examples") / example / "graph.json").graph, TOPOLOGY
    )


def address_of(host: str, version: int = 4) -> int:
    return next(int(a.ip) for a in TOPOLOGY.hosts[host].addresses if a.version == version)


def frame_of(
    flow: dict[str, Any], data: bytes = b"x" * 20, *, flags: int = SYN, seq: int = 0
) -> bytes:
    """The first packet of a flow of expected.json."""
    version, protocol = flow.get("version", 4), PROTOCOLS[flow["protocol"]]
    src = address_of(flow["from"], version)
    dst = (
        parse_address(flow["address"])[1] if "address" in flow else address_of(flow["to"], version)
    )
    port = flow.get("dst_port", 0)
    if protocol == TCP:
        l4 = frames.tcp(40000, port, seq=seq, flags=flags, data=data)
    elif protocol == UDP:
        l4 = frames.udp(40000, port, data)
    else:
        l4 = frames.icmp(8, 0, struct.pack("!HH", 7, 1) + data)
    l4 = frames.with_checksum(version, src, dst, protocol, l4)
    packet = frames.ip(version, src, dst, protocol, l4)
    mac = TOPOLOGY.hosts[flow["from"]].mac
    return frames.ethernet(packet, frames.ether_type_of(version), src=mac)


@pytest.mark.parametrize("flow", EXPECTED["flows"], ids=lambda flow: flow["name"])
def test_campus_flows(flow: dict[str, Any]) -> None:
    campus = network("campus_edge")
    delivered = campus.send(flow["from"], frame_of(flow))
    if flow["passes"]:
        assert [host for host, _ in delivered] == [flow.get("to", flow.get("via"))]
    else:
        assert delivered == []
        assert campus.trace[-1].where.startswith(flow["dropped_by"])


@pytest.mark.parametrize("case", EXPECTED["signatures"], ids=lambda case: case["name"])
def test_campus_signatures(case: dict[str, Any]) -> None:
    campus, seq = network("campus_edge"), 1
    verdicts: list[bool] = []
    for payload in case["payloads"]:
        frame = frame_of(case, payload.encode(), flags=ACK | PSH, seq=seq)
        verdicts.append(bool(campus.send(case["from"], frame)))
        seq += len(payload)
    assert verdicts == [True] * (len(verdicts) - 1) + [False]
    assert campus.trace[-1].where.startswith(case["dropped_by"])


def test_the_outside_sees_the_pool_and_its_answer_comes_back() -> None:
    campus = network("campus_edge")
    flow = {"from": "h1", "to": "h3", "protocol": "udp", "dst_port": 5001}
    [(host, frame)] = campus.send("h1", frame_of(flow))
    seen = Packet.parse(frame)
    assert (host, seen.eth_dst, seen.eth_src) == ("h3", TOPOLOGY.hosts["h3"].mac, GATEWAY_MAC)
    assert seen.src in {parse_address(text)[1] for text in EXPECTED["pool"]}
    l4 = frames.with_checksum(4, seen.dst, seen.src, UDP, frames.udp(5001, seen.src_port or 0))
    packet = frames.ip(4, seen.dst, seen.src, UDP, l4)
    answer = frames.ethernet(packet, 0x0800, src=TOPOLOGY.hosts["h3"].mac)
    [(host, frame)] = campus.send("h3", answer)
    assert (host, Packet.parse(frame).dst_port) == ("h1", 40000)


def arp(host: str, target: str) -> bytes:
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + TOPOLOGY.hosts[host].mac.to_bytes(6, "big")
    body += address_of(host).to_bytes(4, "big") + bytes(6)
    body += parse_address(target)[1].to_bytes(4, "big")
    return frames.ethernet(body, 0x0806, src=TOPOLOGY.hosts[host].mac, dst=BROADCAST_MAC)


@pytest.mark.parametrize(
    ("host", "target", "own"),
    [
        ("h1", "10.0.1.1", True),
        ("h3", "198.51.100.1", True),
        ("h3", "203.0.113.1", True),
        ("h1", "203.0.113.1", False),
        ("h1", "10.0.1.12", False),
    ],
)
def test_arp_for_the_network(host: str, target: str, own: bool) -> None:
    campus = network("campus_edge")
    assert campus.send(host, arp(host, target)) == []
    assert (campus.trace[-1].verdict == "for the network") == own


def test_what_never_enters() -> None:
    campus = network("campus_edge")
    assert campus.send("h9", b"") == []
    assert campus.trace[-1].verdict == "is on no endpoint of the graph"
    assert campus.send("h1", b"short") == []
    assert "malformed" in campus.trace[-1].verdict
    assert campus.send("h1", frames.ethernet(b"", 0x88CC, src=1)) == []
    assert campus.trace[-1].verdict == "no traffic of the graph asks for it"


def test_delivery_by_mac() -> None:
    branch = network("branch_office")
    frame = frame_of({"from": "h3", "to": "h1", "protocol": "udp", "dst_port": 9})
    to_mac = TOPOLOGY.hosts["h2"].mac.to_bytes(6, "big") + frame[6:]
    assert branch.send("h3", to_mac) == [("h2", to_mac)], "the MAC decides, unchanged"
    everybody = b"\xff" * 6 + frame[6:]
    assert branch.send("h3", everybody) == [("h1", everybody), ("h2", everybody)]
    assert branch.send("h3", b"\x0a\x09" + frame[2:]) == []
    assert branch.trace[-1].verdict == "no such host: dropped"

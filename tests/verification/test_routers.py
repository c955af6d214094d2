"""traceroute, path MTU discovery and ping through chains in memory, as hosts see them.

Oracle: what the RFCs let a host expect. That reference and bundle agree on all packets: test_shapes.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, ICMPv6ND_RS, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from test_shapes import FIREWALL, NAPT, chain

from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.apply import apply_bundle
from orchestrator.graph import load_graph, load_topology
from orchestrator.model.manifest import new_manifest
from orchestrator.simulation.memory import MemoryNetwork
from servernf.wire.addresses import GATEWAY_MAC, mac_text

pytestmark = pytest.mark.slow

GATEWAY = mac_text(GATEWAY_MAC)
H1, H3 = "10.0.1.11", "198.51.100.13"
ROUTER, ROUTER6 = "192.0.2.1", "2001:db8:9::1"
TELLS: dict[str, Any] = {
    "type": "router",
    "config": {
        "routes": [
            {"prefix": "198.51.100.0/24"},
            {"prefix": "10.0.1.0/24", "port": "inside"},
            {"prefix": "203.0.113.0/24", "port": "inside"},
            {"prefix": "2001:db8:2::/64"},
            {"prefix": "2001:db8:1::/64", "port": "inside"},
        ],
        "errors": {"addresses": [ROUTER, ROUTER6], "mtu": 1300},
    },
}
SILENT = {
    **TELLS,
    "config": {"routes": [*TELLS["config"]["routes"], {"prefix": "0.0.0.0/0"}, {"prefix": "::/0"}]},
}
DNAT: dict[str, Any] = {"type": "dnat", "config": {"address": "198.51.100.14"}}


class Net:
    """Hosts h1 (inside) and h3 (outside) and a chain between them."""

    def __init__(self, folder: Path, *nfs: dict[str, Any]) -> None:
        file = folder / "graph.json"
        file.write_text(json.dumps(chain("routers", list(nfs))))
        graph, topology = load_graph(file).graph, load_topology("leaf-spine")
        bundle = compile_graph(CompileRequest(graph, topology)).bundle
        self.kinds = {story.unit: story.kind for story in bundle.stories}
        self.memory = MemoryNetwork(topology)
        self.topology = topology
        apply_bundle(bundle, self.memory, new_manifest(bundle.graph_id, 0.05), first=True)

    def send(self, host: str, packet: Packet, dst: str = GATEWAY) -> list[tuple[str, Packet]]:
        frame = Ether(src=mac_text(self.topology.hosts[host].mac), dst=dst) / packet
        delivered = self.memory.send(host, bytes(frame))
        self.memory.advance(1000)
        return [(d.host, Ether(d.frame)) for d in delivered]


CHAINS: dict[str, list[dict[str, Any]]] = {
    "router": [TELLS],
    "router napt": [TELLS, NAPT],
    "firewall napt router": [FIREWALL, {**NAPT, "workers": {"max": 1}}, TELLS],
    "dnat router": [DNAT, TELLS],
}


@pytest.mark.parametrize("name", CHAINS)
def test_traceroute(name: str, tmp_path: Path) -> None:
    """UDP probes: the router says that the first one's time is over, the second arrives."""
    net = Net(tmp_path, *CHAINS[name])
    for ttl in (1, 2):
        probe = IP(src=H1, dst=H3, ttl=ttl) / UDP(sport=40_000, dport=33_434 + ttl) / bytes(24)
        ((host, got),) = net.send("h1", probe)
        if ttl == 2:
            assert host == ("h4" if name == "dnat router" else "h3")
            assert got[IP].ttl == 1
            continue
        assert host == "h1"
        assert (got[IP].src, got[IP].dst, got[ICMP].type) == (ROUTER, H1, 11)
        quoted = IP(bytes(got[ICMP].payload))
        assert (quoted.src, quoted.dst) == (H1, H3)
        assert (quoted[UDP].sport, quoted[UDP].dport) == (40_000, 33_435)


@pytest.mark.parametrize("name", CHAINS)
def test_path_mtu_discovery(name: str, tmp_path: Path) -> None:
    net = Net(tmp_path, *CHAINS[name])
    net.send("h1", IP(src=H1, dst=H3) / TCP(sport=40_000, dport=80, flags="S", seq=1))

    def segment(size: int) -> Packet:
        tcp = TCP(sport=40_000, dport=80, flags="A", seq=2, ack=1)
        return IP(src=H1, dst=H3, flags="DF") / tcp / bytes(size - 40)

    ((host, got),) = net.send("h1", segment(1301))
    assert host == "h1"
    assert (got[ICMP].type, got[ICMP].code, got[ICMP].nexthopmtu) == (3, 4, 1300)
    quoted = IP(bytes(got[ICMP].payload))
    assert (quoted.src, quoted.dst, quoted[TCP].sport, quoted[TCP].dport) == (H1, H3, 40_000, 80)
    if name != "firewall napt router":  # there nobody has answered yet
        ((host, _),) = net.send("h1", segment(1300))
        assert host in ("h3", "h4")


def test_a_switch_routes_and_only_what_goes_no_further_comes_to_a_server(tmp_path: Path) -> None:
    kinds = Net(tmp_path, TELLS).kinds
    assert {kind for unit, kind in kinds.items() if ".routes" in unit} == {"switch"}
    assert {kind for unit, kind in kinds.items() if "@server" in unit} == {"server"}


@pytest.mark.parametrize("nfs", [[SILENT], [TELLS]], ids=["silent", "tells"])
def test_gateways_answer_ping(nfs: list[dict[str, Any]], tmp_path: Path) -> None:
    net = Net(tmp_path, *nfs)
    gateways = [str(g) for g in net.topology.hosts["h1"].gateways]
    assert len(gateways) == 2
    for gateway in gateways:
        six = ":" in gateway
        if six:
            ask = IPv6(src="2001:db8:1::11", dst=gateway) / ICMPv6EchoRequest(id=7, data=b"x" * 56)
        else:
            ask = IP(src=H1, dst=gateway) / ICMP(type=8, id=7) / Raw(b"x" * 56)
        ((host, got),) = net.send("h1", ask)
        assert (host, got.src) == ("h1", GATEWAY)
        if six:
            assert (got[IPv6].src, got[ICMPv6EchoReply].id) == (gateway, 7)
        else:
            assert (got[IP].src, got[ICMP].type, got[ICMP].id) == (gateway, 0, 7)


def test_what_is_local_stays_local(tmp_path: Path) -> None:
    """With default routes: DHCP, mDNS, solicitations, link-local, martians, a neighbour's frames."""
    net = Net(tmp_path, SILENT)
    neighbour = mac_text(net.topology.hosts["h2"].mac)
    udp = UDP(sport=1, dport=2) / b"12345678"
    assert net.send("h1", IP(src=H1, dst="8.8.8.8") / udp) == [], "nobody there has it"
    assert net.send("h1", IP(src=H1, dst=H3) / udp)
    dhcp = UDP(sport=68, dport=67) / BOOTP() / DHCP(options=[("message-type", "discover"), "end"])
    for dst, packet in (
        ("ff:ff:ff:ff:ff:ff", IP(src=H1, dst="255.255.255.255") / dhcp),
        ("01:00:5e:00:00:fb", IP(src=H1, dst="224.0.0.251") / udp),
        ("ff:ff:ff:ff:ff:ff", IP(src=H1, dst=H3) / udp),
        (neighbour, IP(src=H1, dst=H3) / udp),
        ("33:33:00:00:00:02", IPv6(src="2001:db8:1::11", dst="ff02::2") / ICMPv6ND_RS()),
        (GATEWAY, IPv6(src="2001:db8:1::11", dst="fe80::2") / udp),
        (GATEWAY, IP(src=H1, dst="169.254.1.1") / udp),
        (GATEWAY, IP(src=H1, dst="127.0.0.1") / udp),
    ):
        assert net.send("h1", packet, dst) == [], packet.summary()

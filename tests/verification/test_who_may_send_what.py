"""Hosts that send from addresses of others, servers that write tags of other tenants.

Oracle for sources: the reference interpreter, which looks at the endpoint and not at entries. For tags:
a server in strange hands writes every tag that any table of the network knows; what reaches a host or an
NF of a tenant that it does not serve is a leak. Blind spot: switches in strange hands.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from networks import both_ways, ids, make_graph, permits, topology
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.apply import apply_bundle
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import Exact
from orchestrator.model.graph import PlacementRules, ServiceGraph
from orchestrator.model.match import Prefix
from orchestrator.oracle import ReferenceNetwork
from orchestrator.simulation.memory import MemoryNetwork
from servernf.wire import nsh
from servernf.wire.addresses import GATEWAY_MAC, device_mac, mac_text

WHERE = topology("leaf-spine")
TENANTS = {"alice": ("server1", ["h1"], ["h3"]), "bob": ("server2", ["h2"], ["h4"])}
"""By graph: the server that it runs on, its hosts inside and outside."""


def tenant(name: str, number: int) -> Bundle:
    server, inside, outside = TENANTS[name]
    graph = make_graph(
        {"guard": ids(), "late": permits()},
        both_ways("inside", "guard", "late", "outside"),
        name=name,
        endpoints={"inside": inside, "outside": outside},
    )
    pins = PlacementRules(pinned={"guard": server})
    return compile_graph(
        CompileRequest(replace(graph, placement=pins), WHERE, graph_id=number)
    ).bundle


def two_tenants() -> tuple[MemoryNetwork, dict[str, Bundle]]:
    bundles = {name: tenant(name, number) for number, name in enumerate(TENANTS, start=1)}
    network = MemoryNetwork(WHERE)
    for name, bundle in bundles.items():
        apply_bundle(bundle, network, None, first=name == "alice")
    return network, bundles


def known_paths(bundles: dict[str, Bundle]) -> set[tuple[int, int]]:
    """Every (SPI, SI) that a switch or a worker of the network knows."""
    paths = {(c.spi, c.si) for b in bundles.values() for w in b.workers for c in w.chains}
    for bundle in bundles.values():
        for program in bundle.programs.values():
            for entry in program.entries:
                keys = dict(entry.keys)
                if entry.table == "flowtag_arrival.paths":
                    spi, si = keys["spi"], keys["si"]
                    assert isinstance(spi, Exact)
                    assert isinstance(si, Exact)
                    paths.add((spi.value, si.value))
    return paths


def activity(network: MemoryNetwork, bundle: Bundle) -> int:
    """What the tenant's segments and workers have seen."""
    entries = sum(
        installed.packets
        for switch in network.switches.values()
        for installed in switch.entries()
        if dict(installed.entry.keys).get("segment") is not None and installed.graph == bundle.graph
    )
    return entries + sum(w.metrics()["frames_in"] for w in workers(network, bundle))


def workers(network: MemoryNetwork, bundle: Bundle) -> list[Any]:
    return [w for core, w in network.workers.items() if core in bundle.plan.cores_of[0]]


def test_a_server_reaches_no_tenant_that_it_does_not_serve() -> None:
    network, bundles = two_tenants()
    devices = [device_mac(s.id) for s in WHERE.switches.values()]
    devices += [device_mac(s.id, core=c + 1) for s in WHERE.servers.values() for c in range(4)]
    inner = bytes(Ether(dst="ff:ff:ff:ff:ff:ff") / IP(src="10.0.1.11", dst="198.51.100.13") / UDP())
    before = activity(network, bundles["bob"])
    own = {(h.spi, h.si) for w in bundles["alice"].workers for c in w.chains for h in c.hops}
    reached = 0
    for spi, si in sorted(known_paths(bundles)):
        for mac in devices:
            tag = nsh.Tag(dst_mac=mac, src_mac=device_mac(1), spi=spi, si=si)
            network.emit("server1", 0, nsh.encode(tag, inner))
            network.run()
            delivered = network.taken()
            assert not delivered or (spi, si) in own, (mac_text(mac), spi, si)
            reached += len(delivered)
    assert activity(network, bundles["bob"]) == before, "bob's tables and workers saw nothing"
    assert reached, "alice's own ways out still work: the attack was not empty"


def guarded(**inside: Any) -> ServiceGraph:
    graph = make_graph({"late": permits()}, both_ways("inside", "late", "outside"), guarded=True)
    endpoints = {**graph.endpoints, "inside": replace(graph.endpoints["inside"], **inside)}
    return replace(graph, endpoints=endpoints)


def from_h1(source: str, **_: Any) -> bytes:
    mac = mac_text(WHERE.hosts["h1"].mac)
    ether = Ether(src=mac, dst=mac_text(GATEWAY_MAC))
    if ":" in source:
        return bytes(ether / IPv6(src=source, dst="2001:db8:2::13") / UDP())
    return bytes(ether / IP(src=source, dst="198.51.100.13") / UDP())


def delivered(graph: ServiceGraph, source: str) -> bool:
    """Whether h1 is heard, on switches as in the reference."""
    network = MemoryNetwork(WHERE)
    apply_bundle(compile_graph(CompileRequest(graph, WHERE)).bundle, network, None, first=True)
    got = [(d.host, d.frame) for d in network.send("h1", from_h1(source))]
    assert got == ReferenceNetwork(graph, WHERE).send("h1", from_h1(source))
    return bool(got)


def test_a_host_is_heard_from_its_own_addresses_only() -> None:
    graph = guarded()
    own = [str(address.ip) for address in WHERE.hosts["h1"].addresses]
    assert all(delivered(graph, source) for source in own)
    others = ("10.0.1.12", "8.8.8.8", "0.0.0.0", "127.0.0.1", "2001:db8:1::12", "fe80::1", "::")
    assert not any(delivered(graph, source) for source in others)


def test_networks_behind_an_endpoint_and_no_guard() -> None:
    networks = guarded(prefixes=(Prefix(4, 0xAC100000, 12), Prefix(6, 0xFC << 120, 7)))
    assert delivered(networks, "172.16.0.1")
    assert delivered(networks, "fd00::1")
    assert not delivered(networks, "172.32.0.1")
    assert delivered(guarded(source_guard=False), "8.8.8.8")

"""`deploy --network memory`: the same bundle on switches and workers in this process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from orchestrator.bundle.codec import Packed
from orchestrator.cli.graphs import print_entries, print_stories
from orchestrator.cli.output import print_json, print_table, say, warn
from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.apply import apply_bundle
from orchestrator.deployment.fitting import for_network
from orchestrator.deployment.memory import MemoryNetwork
from orchestrator.errors import InputError
from orchestrator.graph import functions_of
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import Exact
from orchestrator.model.graph import ServiceGraph, Traffic
from orchestrator.model.topology import Host, IpAddress, Topology
from orchestrator.observation.captures import Capture
from orchestrator.observation.frames import header_of
from orchestrator.placement.topologies import resolve_topology
from orchestrator.targets.block import ADMISSION_TABLES
from orchestrator.verification.manifest import new_manifest
from servernf.wire.addresses import GATEWAY_MAC, mac_text

_SOURCE_PORT = 40_000
_DEFAULT_PORTS = {"tcp": 80, "udp": 5000}
_STEP_US = 1000


@dataclass(slots=True)
class Tally:
    """What became of the packets of one traffic."""

    sent: int = 0
    delivered: int = 0
    answered: int = 0
    answers_delivered: int = 0


def run_in_memory(
    source: ServiceGraph | Packed, topology: str, pcap: Path | None, as_json: bool
) -> None:
    """Compile, apply, send packets, print what happened.

    Without a `topology` a bundle runs on its own, a graph on leaf-spine.
    """
    if isinstance(source, Packed):
        if pcap is None:
            raise InputError(
                f"{source.source}: --network memory: a bundle holds no packets to send: give some with "
                "--pcap, or deploy graph.json, whose traffic says them"
            )
        physical = source.topology if source.topology and not topology else None
        physical = physical or resolve_topology(topology or "leaf-spine")
        bundle = for_network(source, physical)
    else:
        physical = resolve_topology(topology or "leaf-spine")
        bundle = compile_graph(CompileRequest(source, physical)).bundle
        for warning in bundle.warnings:
            warn(warning)
    network = MemoryNetwork(physical)
    manifest = new_manifest(bundle.graph_id, bundle.sampling_rate)
    apply_bundle(bundle, network, manifest, first=True)
    if isinstance(source, Packed):
        assert pcap is not None
        tallies = {f"{pcap}": _replay(_first_host(bundle, network), network, pcap)}
    elif pcap is not None:
        host = source.endpoints[source.traffic[0].ingress].hosts[0]
        tallies = {f"{pcap}": _replay(host, network, pcap)}
    else:
        tallies = {t.name: _exchange(source, physical, network, t) for t in source.traffic}
    hits = Counter[tuple[str, str]]()
    for name, switch in network.switches.items():
        for installed in switch.entries():
            if installed.packets and installed.graph == bundle.graph:
                hits[name, installed.entry.table] += installed.packets
    counts = bundle.entries_by_table()
    if as_json:
        print_json(
            {
                "graph": bundle.graph,
                "network": "memory",
                "entries": {switch: dict(tables) for switch, tables in counts.items()},
                "traffic": {
                    name: {
                        "sent": t.sent,
                        "delivered": t.delivered,
                        "answered": t.answered,
                        "answers_delivered": t.answers_delivered,
                    }
                    for name, t in tallies.items()
                },
                "hits": {f"{switch}.{table}": n for (switch, table), n in sorted(hits.items())},
            }
        )
        return
    print_stories(bundle)
    print_entries(counts)
    print_table(
        "Packets on the network in memory",
        ("traffic", "sent#", "delivered#", "answers sent#", "answers delivered#"),
        (
            (name, t.sent, t.delivered, t.answered, t.answers_delivered)
            for name, t in tallies.items()
        ),
    )
    print_table(
        "Entries that packets hit",
        ("device", "table", "packets#"),
        ((switch, table, n) for (switch, table), n in sorted(hits.items())),
    )
    say(f"{bundle.graph} ran in memory on {physical.name}; nothing is left of it")


def _first_host(bundle: Bundle, network: MemoryNetwork) -> str:
    """The first host, by name, whose frames the graph admits."""
    admitted = {
        (switch, key.value)
        for switch, program in bundle.programs.items()
        for entry in program.entries
        if entry.table in ADMISSION_TABLES
        for name, key in entry.keys
        if name == "ingress_port" and isinstance(key, Exact)
    }
    places = network.fabric.attachments.items()
    hosts = [name for name, at in places if (at.switch, at.port) in admitted]
    if not hosts:
        raise InputError(f"{bundle.graph}: the bundle admits no host's frames")
    return min(hosts)


def _replay(host: str, network: MemoryNetwork, pcap: Path) -> Tally:
    """Send a capture's frames from a host."""
    topology = network.topology
    tally, capture = Tally(), Capture(pcap, header_of(topology, topology.hosts[host]))
    for frame in capture.frames():
        tally.sent += 1
        tally.delivered += len(network.send(host, frame))
        network.advance(_STEP_US)
    if warning := capture.warning():
        warn(warning)
    return tally


def _exchange(
    graph: ServiceGraph, topology: Topology, network: MemoryNetwork, traffic: Traffic
) -> Tally:
    """Packets of a traffic to every host of its egress, and to the addresses of NFs.

    Who gets one answers it.
    """
    tally = Tally()
    targets = [
        *(a.ip for h in graph.endpoints[traffic.egress].hosts for a in topology.hosts[h].addresses),
        *(
            ip_address(address.to_bytes(4 if version == 4 else 16, "big"))
            for function in functions_of(graph).values()
            for _, version, address in function.owned_addresses()
        ),
    ]
    for source in graph.endpoints[traffic.ingress].hosts:
        for target in targets:
            for packet in _packets(topology.hosts[source], target, traffic):
                tally.sent += 1
                for delivery in network.send(source, bytes(packet)):
                    tally.delivered += 1
                    answer = _answer(Ether(delivery.frame), topology.hosts[delivery.host])
                    if answer is not None:
                        tally.answered += 1
                        back = network.send(delivery.host, bytes(answer))
                        tally.answers_delivered += len(back)
                network.advance(_STEP_US)
    return tally


def _packets(source: Host, target: IpAddress, traffic: Traffic) -> Iterator[Packet]:
    """One packet a protocol that the traffic's match allows."""
    match, version = traffic.match, target.version
    ours = [a.ip for a in source.addresses if a.version == version]
    if not ours or match.version not in (None, version):
        return
    layer = IP if version == 4 else IPv6
    frame = Ether(src=mac_text(source.mac), dst=mac_text(GATEWAY_MAC))
    head = frame / layer(src=str(ours[0]), dst=str(target))
    if match.protocol in (None, 6):
        yield head / TCP(sport=_SOURCE_PORT, dport=_port(traffic, "tcp"), flags="S")
    if match.protocol in (None, 17):
        yield head / UDP(sport=_SOURCE_PORT, dport=_port(traffic, "udp")) / b"hello"
    if match.protocol in (None, 1, 58) and match.dst_port is None:
        yield head / (ICMP(id=7) if version == 4 else ICMPv6EchoRequest(id=7))


def _port(traffic: Traffic, protocol: str) -> int:
    wanted = traffic.match.dst_port
    return wanted.low if wanted is not None else _DEFAULT_PORTS[protocol]


def _answer(packet: Packet, host: Host) -> Packet | None:
    """What a host would answer to what it received, if that is for an address of its own."""
    frame = Ether(src=packet.dst, dst=packet.src)
    ip = packet.getlayer(IP) or packet.getlayer(IPv6)
    if ip is None or ip_address(ip.dst) not in {address.ip for address in host.addresses}:
        return None
    head = frame / type(ip)(src=ip.dst, dst=ip.src)
    if TCP in packet:
        tcp = packet[TCP]
        return head / TCP(sport=tcp.dport, dport=tcp.sport, flags="SA", ack=tcp.seq + 1)
    if UDP in packet:
        return head / UDP(sport=packet[UDP].dport, dport=packet[UDP].sport) / b"hello back"
    if ICMP in packet and packet[ICMP].type == 8:
        return head / ICMP(type=0, id=packet[ICMP].id, seq=packet[ICMP].seq)
    if ICMPv6EchoRequest in packet:
        return head / ICMPv6EchoReply(id=packet[ICMPv6EchoRequest].id)
    return None

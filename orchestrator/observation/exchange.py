"""Packets through a network in memory: a capture's, or some made from a graph's traffic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from orchestrator.errors import InputError
from orchestrator.graph import functions_of
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import Exact
from orchestrator.model.graph import ServiceGraph, Traffic
from orchestrator.model.topology import Host, IpAddress, Topology
from orchestrator.network.fabric import Fabric
from orchestrator.observation.captures import Capture
from orchestrator.observation.frames import header_of
from orchestrator.simulation.hosts import Hosts
from orchestrator.targets.block import ADMISSION_TABLES
from servernf.wire.addresses import GATEWAY_MAC, mac_text

_SOURCE_PORT = 40_000
_DEFAULT_PORTS = {"tcp": 80, "udp": 5000}
_STEP_US = 1000


@dataclass(slots=True)
class ExchangeTally:
    """What became of the packets of one traffic."""

    sent: int = 0
    delivered: int = 0
    answered: int = 0
    answers_delivered: int = 0


def first_host(bundle: Bundle, topology: Topology) -> str:
    """The first host, by name, whose frames a graph admits."""
    admitted = {
        (switch, key.value)
        for switch, program in bundle.programs.items()
        for entry in program.entries
        if entry.table in ADMISSION_TABLES
        for name, key in entry.keys
        if name == "ingress_port" and isinstance(key, Exact)
    }
    places = Fabric(topology).attachments.items()
    hosts = [name for name, at in places if (at.switch, at.port) in admitted]
    if not hosts:
        raise InputError(f"{bundle.graph}: the bundle admits no host's frames")
    return min(hosts)


def replay(host: str, topology: Topology, hosts: Hosts, pcap: Path) -> tuple[ExchangeTally, str]:
    """Send a capture's frames from a host; the second is what there is to say of the capture, or ""."""
    tally, capture = ExchangeTally(), Capture(pcap, header_of(topology, topology.hosts[host]))
    for frame in capture.frames():
        tally.sent += 1
        tally.delivered += len(hosts.send(host, frame))
        tally.delivered += len(hosts.advance(_STEP_US))
    return tally, capture.warning()


def exchange(
    graph: ServiceGraph, topology: Topology, hosts: Hosts, traffic: Traffic
) -> ExchangeTally:
    """Packets of a traffic to every host of its egress, and to the addresses of NFs.

    Who gets one answers it.
    """
    tally = ExchangeTally()
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
                for delivery in hosts.send(source, bytes(packet)):
                    tally.delivered += 1
                    answer = _answer(Ether(delivery.frame), topology.hosts[delivery.host])
                    if answer is not None:
                        tally.answered += 1
                        tally.answers_delivered += len(hosts.send(delivery.host, bytes(answer)))
                tally.delivered += len(hosts.advance(_STEP_US))
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
    ip: Any = packet.getlayer(IP) or packet.getlayer(IPv6)
    if ip is None or ip_address(ip.dst) not in {address.ip for address in host.addresses}:
        return None
    head = frame / type(ip)(src=ip.dst, dst=ip.src)
    if TCP in packet:
        tcp: Any = packet[TCP]
        return head / TCP(sport=tcp.dport, dport=tcp.sport, flags="SA", ack=tcp.seq + 1)
    if UDP in packet:
        return head / UDP(sport=packet[UDP].dport, dport=packet[UDP].sport) / b"hello back"
    if ICMP in packet and packet[ICMP].type == 8:
        return head / ICMP(type=0, id=packet[ICMP].id, seq=packet[ICMP].seq)
    if ICMPv6EchoRequest in packet:
        return head / ICMPv6EchoReply(id=packet[ICMPv6EchoRequest].id)
    return None

"""neighbor: answers to ARP, neighbour solicitations and pings of gateways, byte for byte.

Oracle: scapy builds the expected answers, checksums included.
"""

from __future__ import annotations

from typing import Any

import pytest
from edge_switch import GATEWAY, HOST_MAC, HOST_PORT, EdgeSwitch, ether, ip_number, summed
from scapy.layers.inet import ICMP, IP, IPOption_NOP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet

from orchestrator.model.entries import Lpm
from servernf.wire.addresses import GATEWAY_MAC

HOST, ASKED = "10.0.1.11", "10.0.1.1"
HOST6, ASKED6 = "2001:db8:1::11", "2001:db8:1::1"
PADDING = b"\0" * 18


@pytest.fixture
def switch() -> EdgeSwitch:
    made = EdgeSwitch()
    for table, action, address, bits in (
        ("arp", "answer_arp", ASKED, 32),
        ("nd", "answer_solicitation", ASKED6, 128),
    ):
        made.add(
            f"neighbor.{table}",
            {"ingress_port": HOST_PORT, "target": Lpm(ip_number(address), bits)},
            action,
            {"mac": GATEWAY_MAC},
        )
    return made


@pytest.fixture
def pinged(switch: EdgeSwitch) -> EdgeSwitch:
    for version, address in ((4, ASKED), (6, ASKED6)):
        switch.add(
            f"neighbor.echo_ipv{version}",
            {"ingress_port": HOST_PORT, "mac": GATEWAY_MAC, "target": ip_number(address)},
            "answer_echo",
        )
    return switch


@pytest.mark.parametrize("size", [0, 1, 56, 1400])
@pytest.mark.parametrize("tags", [(), (100,)])
def test_a_gateway_answers_ping(pinged: EdgeSwitch, size: int, tags: tuple[int, ...]) -> None:
    data = bytes(range(256)) * 6
    for ask, answer in (
        (
            IP(src=HOST, dst=ASKED, ttl=3, id=7) / ICMP(type=8, id=9, seq=2),
            IP(src=ASKED, dst=HOST, ttl=64, id=7) / ICMP(type=0, id=9, seq=2),
        ),
        (
            IPv6(src=HOST6, dst=ASKED6, hlim=3) / ICMPv6EchoRequest(id=9, seq=2),
            IPv6(src=ASKED6, dst=HOST6, hlim=64) / ICMPv6EchoReply(id=9, seq=2),
        ),
    ):
        for vid in tags:
            ask, answer = Dot1Q(vlan=vid) / ask, Dot1Q(vlan=vid) / answer
        asked = Ether(src=HOST_MAC, dst=GATEWAY) / ask / data[:size]
        answered = Ether(src=GATEWAY, dst=HOST_MAC) / answer / data[:size]
        assert pinged.one(asked) == (HOST_PORT, bytes(answered))


@pytest.mark.parametrize(
    "packet",
    [
        IP(src=HOST, dst="10.0.1.2") / ICMP(type=8),
        IP(src=HOST, dst=ASKED) / ICMP(type=13),
        IP(src=HOST, dst=ASKED) / ICMP(type=0),
        IP(src=HOST, dst=ASKED, flags="MF") / ICMP(type=8),
        IP(src=HOST, dst=ASKED, options=[IPOption_NOP()] * 4) / ICMP(type=8),
        IPv6(src=HOST6, dst=ASKED6) / IPv6ExtHdrFragment(nh=58) / ICMPv6EchoRequest(),
    ],
)
def test_what_is_no_ping_of_a_gateway(pinged: EdgeSwitch, packet: Packet) -> None:
    assert pinged.send(Ether(src=HOST_MAC, dst=GATEWAY) / packet) == []


def test_a_ping_in_a_frame_for_others(pinged: EdgeSwitch) -> None:
    ping = IP(src=HOST, dst=ASKED) / ICMP(type=8)
    assert pinged.send(Ether(src=HOST_MAC, dst="0a:00:00:00:00:77") / ping) == []


def request(target: str = ASKED, **fields: Any) -> Packet:
    values = {"op": 1, "hwsrc": HOST_MAC, "psrc": HOST, "hwdst": "00:00:00:00:00:00"} | fields
    return ARP(pdst=target, **values)


def solicitation(target: str = ASKED6, hop_limit: int = 255, **fields: Any) -> bytes:
    return bytes(
        Ether(src=HOST_MAC, dst="33:33:ff:00:00:01")
        / IPv6(src=HOST6, dst="ff02::1:ff00:1", hlim=hop_limit)
        / ICMPv6ND_NS(tgt=target, **fields)
        / ICMPv6NDOptSrcLLAddr(lladdr=HOST_MAC)
    )


@pytest.mark.parametrize("tags", [(), (100,), (100, 7)])
def test_an_arp_request_gets_its_answer(switch: EdgeSwitch, tags: tuple[int, ...]) -> None:
    asking: Any = Ether(src=HOST_MAC, dst="ff:ff:ff:ff:ff:ff")
    answering: Any = Ether(src=GATEWAY, dst=HOST_MAC)
    for vid in tags:
        asking, answering = asking / Dot1Q(vlan=vid), answering / Dot1Q(vlan=vid)
    answer = ARP(op=2, hwsrc=GATEWAY, psrc=ASKED, hwdst=HOST_MAC, pdst=HOST)
    got = switch.one(bytes(asking / request()) + PADDING)
    assert got == (HOST_PORT, bytes(answering / answer) + PADDING)


@pytest.mark.parametrize(
    "asked",
    [
        request("10.0.1.2"),
        request(op=2),
        request(hwtype=6),
        request(ptype=0x86DD),
        request(hwlen=8),
        request(plen=16),
    ],
    ids=["other address", "reply", "other hardware", "other protocol", "MAC size", "address size"],
)
def test_other_arp_is_not_answered(switch: EdgeSwitch, asked: ARP) -> None:
    assert switch.send(ether(asked, dst="ff:ff:ff:ff:ff:ff")) == []


def test_only_the_port_of_the_entry_is_answered(switch: EdgeSwitch) -> None:
    assert switch.send(ether(request()), 2) == []


def test_a_solicitation_gets_its_advertisement(switch: EdgeSwitch) -> None:
    expected = (
        Ether(src=GATEWAY, dst=HOST_MAC)
        / IPv6(src=ASKED6, dst=HOST6, hlim=255)
        / ICMPv6ND_NA(tgt=ASKED6, R=1, S=1, O=1)
        / ICMPv6NDOptDstLLAddr(lladdr=GATEWAY)
    )
    port, answer = switch.one(solicitation())
    assert (port, answer.hex()) == (HOST_PORT, bytes(expected).hex())
    assert summed(answer) == answer


@pytest.mark.parametrize(
    "frame",
    [
        solicitation("2001:db8:1::2"),
        solicitation(hop_limit=254),
        solicitation(code=1),
        bytes(
            Ether(src=HOST_MAC, dst="33:33:ff:00:00:01")
            / IPv6(src="::", dst="ff02::1:ff00:1", hlim=255)
            / ICMPv6ND_NS(tgt=ASKED6)
        ),
        bytes(
            Ether(src=HOST_MAC, dst=GATEWAY)
            / IPv6(src=HOST6, dst="ff02::1", hlim=255)
            / ICMPv6ND_NA(tgt=ASKED6)
            / ICMPv6NDOptDstLLAddr(lladdr=HOST_MAC)
        ),
    ],
    ids=["other address", "hop limit", "code", "duplicate address detection", "advertisement"],
)
def test_other_neighbour_discovery_is_not_answered(switch: EdgeSwitch, frame: bytes) -> None:
    assert switch.send(frame) == []


def test_a_request_that_is_not_answered_goes_on(switch: EdgeSwitch) -> None:
    """ARP between hosts of an endpoint is a frame like any other."""
    switch.classify(1)
    switch.deliver_all(1)
    frame = bytes(ether(request("10.0.1.2")))
    assert switch.one(frame) == (2, frame)


def test_an_answered_request_is_no_sample(switch: EdgeSwitch) -> None:
    switch.add(
        "trajectory_sample.manifests",
        {"graph": 0},
        "watch",
        {"key0": 1, "key1": 2, "below": 2**32 - 1},
    )
    switch.one(ether(request()))
    assert not switch.soft.packet_ins

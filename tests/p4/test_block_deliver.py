"""deliver: the end of a path (docs/architecture.md, Delivery at an endpoint)."""

from __future__ import annotations

import pytest
from edge_switch import (
    FABRIC_PORT,
    GATEWAY,
    HOST_MAC,
    PEER_MAC,
    EdgeSwitch,
    ether,
    ip_number,
    mac_number,
    segment,
)
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP

from orchestrator.model.entries import Lpm
from servernf.wire import nsh
from servernf.wire.addresses import GATEWAY_MAC, device_mac

AT = segment(1)
REMOTE_MAC = "0a:00:00:00:00:03"
HERE, THERE = ("10.0.1.12", "2001:db8:1::12"), ("10.0.1.13", "2001:db8:1::13")


def delivery() -> EdgeSwitch:
    """PEER at port 2; REMOTE at switch 9 behind a fabric port."""
    switch = EdgeSwitch()
    switch.classify(AT)
    away = {"mac": device_mac(9), "spi": 7, "si": 254}
    switch.deliver_all(AT, 2, mac=PEER_MAC)
    switch.add("deliver.mac", {"segment": AT, "dst": mac_number(REMOTE_MAC)}, "to_switch", away)
    switch.add("deliver.mac", {"segment": AT, "dst": GATEWAY_MAC}, "resolve")
    for addresses, mac, action, where in (
        (HERE, PEER_MAC, "host_at_port", {"port": 2}),
        (THERE, REMOTE_MAC, "host_at_switch", away),
    ):
        for address in addresses:
            version = 6 if ":" in address else 4
            switch.add(
                f"deliver.ipv{version}",
                {"segment": AT, "dst": ip_number(address)},
                action,
                {"host_mac": mac_number(mac), "gateway_mac": GATEWAY_MAC, **where},
            )
    switch.add(
        "fabric.devices", {"device": Lpm(device_mac(9), 32)}, "forward", {"port": FABRIC_PORT}
    )
    return switch


def to(address: str) -> IP | IPv6:
    if ":" in address:
        return IPv6(src="fd00::1", dst=address) / UDP(sport=1, dport=2)
    return IP(src="10.9.9.9", dst=address) / UDP(sport=1, dport=2)


def test_a_hosts_mac_gets_the_frame_unchanged() -> None:
    switch = delivery()
    for payload in (to("8.8.8.8"), to("fd00::2"), ARP(pdst="8.8.8.8"), b"?" * 46):
        frame = bytes(ether(payload, dst=PEER_MAC))
        assert switch.one(frame) == (2, frame)


def test_another_switchs_host_gets_it_by_its_switch() -> None:
    frame = bytes(ether(to("8.8.8.8"), dst=REMOTE_MAC))
    port, sent = delivery().one(frame)
    tag, inner = nsh.decode(sent) or pytest.fail("no tag")
    assert (port, tag.dst_mac, tag.spi, tag.si) == (FABRIC_PORT, device_mac(9), 7, 254)
    assert inner == frame


@pytest.mark.parametrize("address", HERE)
def test_the_gateway_resolves_a_local_host(address: str) -> None:
    frame = ether(to(address))
    expected = ether(to(address), dst=PEER_MAC, src=GATEWAY)
    assert delivery().one(frame) == (2, bytes(expected))


@pytest.mark.parametrize("address", THERE)
def test_the_gateway_resolves_a_remote_host(address: str) -> None:
    tag, inner = nsh.decode(delivery().one(ether(to(address)))[1]) or pytest.fail("no tag")
    assert tag.dst_mac == device_mac(9)
    assert inner == bytes(ether(to(address), dst=REMOTE_MAC, src=GATEWAY))


def test_who_is_no_host_of_the_endpoint_gets_nothing() -> None:
    switch = delivery()
    assert switch.send(ether(to("10.0.1.99"))) == []
    assert switch.send(ether(to("2001:db8:1::99"))) == []
    assert switch.send(ether(ARP(pdst="10.0.1.12"))) == [], "no address to resolve"
    assert switch.send(ether(to(HERE[0]), dst="0a:00:00:00:00:99")) == []


@pytest.mark.parametrize("dst", ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:fb", "33:33:00:00:00:01"])
def test_broadcast_and_multicast_reach_every_host(dst: str) -> None:
    switch = delivery()
    switch.flood_group(321, 2, 3, 4)
    switch.add("deliver.floods", {"segment": AT}, "flood", {"group": 321})
    frame = bytes(ether(to("10.0.1.255"), dst=dst))
    assert sorted(switch.send(frame)) == [(2, frame), (3, frame), (4, frame)]


def test_without_a_flood_group_it_reaches_nobody() -> None:
    assert delivery().send(ether(to("10.0.1.255"), dst="ff:ff:ff:ff:ff:ff")) == []


def test_other_segments_hosts_are_not_reached() -> None:
    switch = delivery()
    switch.classify(AT + 1, port=2)
    assert switch.send(ether(to(HERE[0]), dst=PEER_MAC, src=HOST_MAC), 2) == []

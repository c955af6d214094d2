"""dispatch: which core owns a packet.

Oracle: CRC-16/ARC and prefix arithmetic in Python, written apart from P4 and softswitch.
"""

from __future__ import annotations

import ipaddress
import random
from typing import Any

import pytest
from edge_switch import FABRIC_PORT, EdgeSwitch, ether, ip_number, segment
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, UDPerror
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
from scapy.packet import Packet, Raw

from orchestrator.model.entries import Between, Key, Lpm, Ternary
from servernf.wire import nsh
from servernf.wire.addresses import device_mac
from servernf.wire.buckets import hash_of

AT = segment(1)
INSIDE, OUTSIDE, POOL = "10.0.1.11", "198.51.100.13", "203.0.113.1"


def core(number: int) -> int:
    return device_mac(9, core=number)


def spreading(action: str, cores: int = 4) -> EdgeSwitch:
    """`cores` (a power of two) owning equal prefixes of the hash."""
    switch = EdgeSwitch()
    switch.classify(AT)
    switch.add("dispatch.spread", {"segment": AT}, action)
    bits = cores.bit_length() - 1
    for index in range(cores):
        keys: dict[str, Key | int] = {"segment": AT}
        if bits:
            keys["hash"] = Lpm(index << 16 - bits, bits)
        params = {"mac": core(index + 1), "spi": 7, "si": 255, "traffic_class": index}
        switch.add("dispatch.next", keys, "to_device", params)
    switch.add("fabric.devices", {"device": Lpm(core(0), 32)}, "forward", {"port": FABRIC_PORT})
    return switch


def owner(switch: EdgeSwitch, payload: Packet) -> int:
    """The core that a frame is sent to."""
    tag, _ = nsh.decode(switch.one(ether(payload))[1]) or pytest.fail("no tag")
    assert tag.dst_mac >> 16 == core(0) >> 16
    return tag.dst_mac & 0xFFFF


def udp(src: str, dst: str, sport: int = 1000, dport: int = 53) -> Packet:
    ip: Any = IPv6 if ":" in src else IP
    return ip(src=src, dst=dst) / UDP(sport=sport, dport=dport)


@pytest.mark.parametrize("action", ["by_source", "by_destination", "by_pair"])
@pytest.mark.parametrize("version", [4, 6])
def test_the_hash_of_the_chosen_address_names_the_core(action: str, version: int) -> None:
    switch = spreading(action)
    chance = random.Random(version)
    met = set()
    for _ in range(60):
        src, dst = (
            str(ipaddress.ip_address(chance.getrandbits(20) | ip_number(base)))
            for base in (("10.0.0.0", "20.0.0.0") if version == 4 else ("2001:db8::", "fd00::"))
        )
        a, b = ip_number(src), ip_number(dst)
        chosen = {"by_source": a, "by_destination": b, "by_pair": a ^ b}[action]
        expected = (hash_of(chosen) >> 14) + 1
        assert owner(switch, udp(src, dst)) == expected
        met.add(expected)
    assert met == {1, 2, 3, 4}


def test_by_pair_is_symmetric_and_knows_no_ports() -> None:
    switch = spreading("by_pair")
    for last in range(1, 40):
        there = owner(switch, udp(f"10.0.0.{last}", OUTSIDE, sport=last))
        back = owner(switch, udp(OUTSIDE, f"10.0.0.{last}", sport=53, dport=last))
        assert there == back


def test_by_source_keeps_all_of_an_address_together() -> None:
    switch = spreading("by_source")
    packets = [
        udp(INSIDE, OUTSIDE),
        udp(INSIDE, "8.8.8.8", 5, 6),
        IP(src=INSIDE, dst="9.9.9.9") / TCP(),
        IP(src=INSIDE, dst="9.9.9.9") / ICMP(),
        IP(src=INSIDE, dst="9.9.9.9", frag=7, proto=17) / Raw(b"x" * 16),
    ]
    assert len({owner(switch, packet) for packet in packets}) == 1


@pytest.mark.parametrize("action", ["by_source", "by_destination", "by_pair"])
def test_icmp_errors_follow_the_flow_that_they_quote(action: str) -> None:
    """Turned round: the error goes the other way than the packet that caused it."""
    switch = spreading(action)
    for last in range(1, 30):
        inside = f"10.0.0.{last}"
        flow = udp(OUTSIDE, inside)  # in the direction of the error
        cause = IPerror(src=inside, dst=OUTSIDE) / UDPerror(sport=53, dport=1000)
        error = IP(src="192.0.2.254", dst=inside) / ICMP(type=11) / cause
        assert owner(switch, error) == owner(switch, flow)


def test_icmpv6_errors_do_so_too() -> None:
    switch = spreading("by_destination")
    for last in range(1, 30):
        inside, outside = f"2001:db8:1::{last:x}", "2001:db8:2::1"
        cause = IPv6(src=inside, dst=outside) / UDP(sport=53, dport=1000) / Raw(b"x" * 8)
        error = IPv6(src="2001:db8:9::1", dst=inside) / ICMPv6DestUnreach() / cause
        assert owner(switch, error) == owner(switch, udp(outside, inside))


class TestOwners:
    """Cores that own ranges of a pool address's ports and ICMP identifiers."""

    BOUNDS = ((1024, 22527), (22528, 44031), (44032, 65535))

    @pytest.fixture
    def switch(self) -> EdgeSwitch:
        made = spreading("by_owner", cores=1)
        for index, (low, high) in enumerate(self.BOUNDS):
            made.add(
                "dispatch.owner",
                {
                    "segment": AT,
                    "address": ip_number(POOL),
                    "has_port": Ternary(1, 1),
                    "port": Between(low, high),
                },
                "to_device",
                {"mac": core(index + 11), "spi": 7, "si": 255, "traffic_class": 9},
                1,
            )
        return made

    def share(self, port: int) -> int:
        return next((i + 11 for i, (low, high) in enumerate(self.BOUNDS) if low <= port <= high), 1)

    @pytest.mark.parametrize("port", [0, 1023, 1024, 22527, 22528, 44031, 44032, 65535])
    def test_a_range_has_one_owner(self, switch: EdgeSwitch, port: int) -> None:
        expected = self.share(port)
        assert owner(switch, udp(OUTSIDE, POOL, dport=port)) == expected
        assert owner(switch, IP(src=OUTSIDE, dst=POOL) / TCP(dport=port)) == expected
        reply = ICMP(type=0, id=port)
        assert owner(switch, IP(src=OUTSIDE, dst=POOL) / reply) == expected

    @pytest.mark.parametrize("port", [1024, 44032])
    def test_errors_go_to_the_owner_of_the_quoted_port(self, switch: EdgeSwitch, port: int) -> None:
        quoted = [
            UDP(sport=port, dport=53),
            TCP(sport=port, dport=80),
            ICMP(type=8, id=port),
        ]
        for cause in quoted:
            inner = bytes(IP(src=POOL, dst=OUTSIDE) / cause)[:28]
            error = IP(src="192.0.2.1", dst=POOL) / ICMP(type=3, code=1) / Raw(inner)
            assert owner(switch, error) == self.share(port)

    def test_without_a_port_the_hash_decides(self, switch: EdgeSwitch) -> None:
        later = IP(src=OUTSIDE, dst=POOL, frag=7, proto=17) / Raw(b"\xff" * 16)
        assert owner(switch, later) == 1
        assert owner(switch, IP(src=OUTSIDE, dst=POOL, proto=47) / Raw(b"x" * 20)) == 1
        assert owner(switch, udp("2001:db8::1", "2001:db8::2", dport=2000)) == 1

    def test_a_whole_address_needs_no_port(self, switch: EdgeSwitch) -> None:
        whole = "203.0.113.2"
        switch.add(
            "dispatch.owner",
            {"segment": AT, "address": ip_number(whole)},
            "to_device",
            {"mac": core(20), "spi": 7, "si": 255, "traffic_class": 9},
            1,
        )
        later = IP(src=OUTSIDE, dst=whole, frag=7, proto=17) / Raw(b"\xff" * 16)
        assert owner(switch, later) == 20
        assert owner(switch, udp(OUTSIDE, whole, dport=1)) == 20


class TestClasses:
    """Regions of addresses, each with slices of its own."""

    WEB, REST = segment(4094), segment(4095)

    def classed(self, how: str, field: str, region: dict[str, Key | int]) -> EdgeSwitch:
        """A region on core 1, all others on cores 2 and 3 by halves of the hash."""
        switch = EdgeSwitch()
        switch.classify(AT)
        switch.add("dispatch.spread", {"segment": AT}, how)
        for keys, number, rank in ((region, self.WEB, 9), ({}, self.REST, 1)):
            switch.add(
                "dispatch.classes",
                {"segment": AT, **keys},
                f"class_by_{field}",
                {"segment": number},
                rank,
            )
        halves: list[dict[str, Key | int]] = [{"hash": Lpm(0, 1)}, {"hash": Lpm(1 << 15, 1)}]
        for at, keys, number in (
            (self.WEB, {}, 1),
            (self.REST, halves[0], 2),
            (self.REST, halves[1], 3),
        ):
            params = {"mac": core(number), "spi": 7, "si": 255, "traffic_class": number}
            switch.add("dispatch.next", {"segment": at, **keys}, "to_device", params)
        switch.add("fabric.devices", {"device": Lpm(core(0), 32)}, "forward", {"port": FABRIC_PORT})
        return switch

    @staticmethod
    def prefix(text: str) -> Ternary:
        """A prefix over the 128 bits of a flow address."""
        net = ipaddress.ip_network(text)
        host_bits = net.max_prefixlen - net.prefixlen
        return Ternary(int(net.network_address), (1 << 128) - (1 << host_bits))

    @pytest.mark.parametrize("field", ["source", "destination", "pair"])
    def test_a_region_has_its_own_cores(self, field: str) -> None:
        switch = self.classed("by_class", field, {"src": self.prefix("10.1.0.0/16")})
        met = set()
        for last in range(1, 40):
            assert owner(switch, udp(f"10.1.{last}.7", OUTSIDE)) == 1
            src, dst = f"10.2.{last}.7", f"198.51.100.{last}"
            a, b = ip_number(src), ip_number(dst)
            chosen = {"source": a, "destination": b, "pair": a ^ b}[field]
            expected = 2 + (hash_of(chosen) >> 15)
            assert owner(switch, udp(src, dst)) == expected
            met.add(expected)
        assert met == {2, 3}

    def test_the_way_back_and_errors_meet_their_region(self) -> None:
        switch = self.classed("by_class", "pair", {"dst": self.prefix("10.1.0.0/16")})
        assert owner(switch, udp(OUTSIDE, INSIDE)) != 1
        inside = "10.1.2.3"
        assert owner(switch, udp(OUTSIDE, inside)) == 1
        cause = IPerror(src=inside, dst=OUTSIDE) / UDPerror(sport=53, dport=1000)
        # The router that complains is in no region; what it quotes is.
        assert owner(switch, IP(src="192.0.2.254", dst=inside) / ICMP(type=11) / cause) == 1
        later = IP(src=OUTSIDE, dst=inside, frag=7, proto=17) / Raw(b"x" * 16)
        assert owner(switch, later) == 1

    def test_ipv6_regions(self) -> None:
        switch = self.classed("by_class", "source", {"src": self.prefix("2001:db8:1::/48")})
        assert owner(switch, udp("2001:db8:1::5", "2001:db8:2::1")) == 1
        assert owner(switch, udp("2001:db8:3::5", "2001:db8:2::1")) != 1

    def test_owners_come_before_classes(self) -> None:
        region = {"dst": self.prefix("2001:db8:1::/48")}
        switch = self.classed("by_owner_or_class", "destination", region)
        keys: dict[str, Key | int] = {"segment": AT, "address": ip_number(POOL)}
        params = {"mac": core(20), "spi": 7, "si": 255, "traffic_class": 9}
        switch.add("dispatch.owner", keys, "to_device", params, 1)
        assert owner(switch, udp(OUTSIDE, POOL)) == 20
        assert owner(switch, udp("2001:db8:9::1", "2001:db8:1::7")) == 1
        assert owner(switch, udp("2001:db8:9::1", "2001:db8:7::7")) in (2, 3)


def test_nothing_to_dispatch_is_delivered() -> None:
    switch = EdgeSwitch()
    switch.classify(AT)
    switch.deliver_all(AT)
    assert switch.one(ether(udp(INSIDE, OUTSIDE)))[0] == 2

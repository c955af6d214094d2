"""acl: ordered rules. The three instances (acl, steer, split) are one block.

Oracle: for random rules and packets, a first-match in a few lines of Python.
"""

from __future__ import annotations

import random

import pytest
from edge_switch import EdgeSwitch, ether, forwarding, ip_number, segment
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6Unknown, IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1Q
from scapy.packet import Packet, Raw

from orchestrator.model.entries import Between, Key, Ternary

INSTANCES = ("acl", "steer", "split")
IS_TCP, IS_UDP, HAS_PORTS, IS_LATER = (
    Ternary(6, 255),
    Ternary(17, 255),
    Ternary(1, 3),
    Ternary(2, 2),
)


UNTAGGED = Ternary(0, 0x1FFF)
TAGS = (
    None,
    Dot1Q(vlan=5),
    Dot1Q(vlan=5, prio=7) / Dot1Q(vlan=6),
    Dot1Q(vlan=6) / Dot1Q(vlan=5),
    Dot1Q(),
)


def vlan(number: int) -> Ternary:
    return Ternary(1 << 12 | number, 0x1FFF)


def passes(switch: EdgeSwitch, payload: Packet) -> bool:
    return len(switch.send(ether(payload))) == 1


def packet(src: str = "10.0.0.1", dst: str = "192.0.2.1", **ip: int) -> IP:
    return IP(src=src, dst=dst, **ip)


@pytest.mark.parametrize("instance", INSTANCES)
class TestEveryInstance:
    def test_a_miss_permits(self, instance: str) -> None:
        switch, at = forwarding()
        switch.add(f"{instance}.ipv4", {"segment": at + 1}, "deny", {}, 9)
        assert passes(switch, packet() / TCP())
        assert switch.hits(f"{instance}.ipv4") == 0

    def test_deny_drops_and_counts(self, instance: str) -> None:
        switch, at = forwarding()
        switch.add(f"{instance}.ipv4", {"segment": at, "protocol": IS_TCP}, "deny", {}, 9)
        assert not passes(switch, packet() / TCP())
        assert passes(switch, packet() / UDP())
        assert switch.hits(f"{instance}.ipv4") == 1

    def test_priority_decides(self, instance: str) -> None:
        switch, at = forwarding()
        web: dict[str, Key | int] = {
            "segment": at,
            "protocol": IS_TCP,
            "l4": HAS_PORTS,
            "dst_port": Between(80, 80),
        }
        switch.add(f"{instance}.ipv4", {"segment": at}, "deny", {}, 1)
        switch.add(f"{instance}.ipv4", web, "permit", {}, 3)
        switch.add(
            f"{instance}.ipv4",
            {**web, "src": Ternary(ip_number("10.9.0.0"), 0xFFFF0000)},
            "deny",
            {},
            2,
        )
        assert passes(switch, packet("10.9.0.1") / TCP(dport=80))
        assert not passes(switch, packet("10.9.0.1") / TCP(dport=81))

    def test_go_to_another_segment(self, instance: str) -> None:
        switch, at = forwarding()
        switch.deliver_all(segment(77), 33)
        switch.add(
            f"{instance}.ipv4",
            {"segment": at, "dst": Ternary(ip_number("192.0.2.1"), 0xFFFFFFFF)},
            "go_to",
            {"segment": segment(77)},
            9,
        )
        assert switch.one(ether(packet() / UDP()))[0] == 33
        assert switch.one(ether(packet(dst="192.0.2.2") / UDP()))[0] == 2

    @pytest.mark.parametrize("payload", [packet() / TCP(), IPv6() / UDP(), ARP(op=2)])
    def test_the_outermost_vlan(self, instance: str, payload: Packet) -> None:
        switch, at = forwarding()
        table = {IP: "ipv4", IPv6: "ipv6"}.get(type(payload), "other")
        switch.add(f"{instance}.{table}", {"segment": at, "vlan": vlan(5)}, "deny", {}, 9)
        assert [passes(switch, tags / payload if tags else payload) for tags in TAGS] == [
            True, False, False, True, True,
        ]  # fmt: skip
        switch, at = forwarding()
        switch.add(f"{instance}.{table}", {"segment": at, "vlan": UNTAGGED}, "deny", {}, 9)
        assert [passes(switch, tags / payload if tags else payload) for tags in TAGS] == [
            False, True, True, True, True,
        ]  # fmt: skip

    def test_ipv6_and_others_have_their_own_rules(self, instance: str) -> None:
        switch, at = forwarding()
        source = Ternary(ip_number("2001:db8:1::"), ((1 << 48) - 1) << 80)
        switch.add(f"{instance}.ipv6", {"segment": at, "src": source}, "deny", {}, 2)
        arp = Ternary(0x0806, 0xFFFF)
        switch.add(f"{instance}.other", {"segment": at, "ether_type": arp}, "deny", {}, 2)
        assert not passes(switch, IPv6(src="2001:db8:1::5", dst="2001:db8:2::5") / UDP())
        assert passes(switch, IPv6(src="2001:db8:2::5", dst="2001:db8:1::5") / UDP())
        assert not passes(switch, ARP(pdst="10.0.0.9"))
        assert not passes(switch, Dot1Q(vlan=5) / ARP(pdst="10.0.0.9"))
        assert passes(switch, packet() / UDP())
        assert len(switch.send(bytes(ether(b"x" * 46)))) == 1

    @pytest.mark.parametrize(
        ("low", "high", "inside"),
        [(0, 0, False), (1, 65535, True), (79, 80, True), (80, 81, True), (81, 90, False)],
    )
    def test_ranges_include_their_ends(
        self, instance: str, low: int, high: int, inside: bool
    ) -> None:
        switch, at = forwarding()
        ports = Between(low, high)
        switch.add(
            f"{instance}.ipv4", {"segment": at, "l4": HAS_PORTS, "src_port": ports}, "deny", {}, 2
        )
        assert passes(switch, packet() / UDP(sport=80)) is not inside


class TestFragments:
    """A fragment has no ports and never matches as port 0."""

    LATER = packet(frag=5, proto=17) / Raw(bytes(UDP(sport=0, dport=0)) + b"x" * 8)
    LATER6 = (
        IPv6(src="2001:db8::1", dst="2001:db8::2")
        / IPv6ExtHdrFragment(nh=17, offset=5, m=0, id=1)
        / Raw(b"\0" * 16)
    )
    FIRST = packet(flags="MF") / UDP(sport=0, dport=0) / Raw(b"x" * 8)

    @pytest.mark.parametrize("frame", [LATER, LATER6], ids=["IPv4", "IPv6"])
    def test_a_later_fragment_never_matches_port_0(self, frame: Packet) -> None:
        switch, at = forwarding()
        zero = Between(0, 0)
        for table in ("acl.ipv4", "acl.ipv6"):
            keys = {"segment": at, "l4": HAS_PORTS, "dst_port": zero}
            switch.add(table, keys, "deny", {}, 2)  # type: ignore[arg-type]
        assert passes(switch, frame)

    def test_a_first_fragment_has_ports(self) -> None:
        switch, at = forwarding()
        switch.add(
            "acl.ipv4", {"segment": at, "l4": HAS_PORTS, "dst_port": Between(0, 0)}, "deny", {}, 2
        )
        assert not passes(switch, self.FIRST)

    @pytest.mark.parametrize("frame", [LATER, LATER6], ids=["IPv4", "IPv6"])
    def test_later_fragments_can_be_asked_for(self, frame: Packet) -> None:
        switch, at = forwarding()
        for table in ("acl.ipv4", "acl.ipv6"):
            keys = {"segment": at, "l4": IS_LATER, "protocol": IS_UDP}
            switch.add(table, keys, "deny", {}, 2)  # type: ignore[arg-type]
        assert not passes(switch, frame)
        assert passes(switch, self.FIRST)
        assert passes(switch, packet() / UDP())

    def test_icmp_has_no_ports_either(self) -> None:
        switch, at = forwarding()
        switch.add("acl.ipv4", {"segment": at, "l4": HAS_PORTS}, "deny", {}, 2)
        assert passes(switch, packet() / ICMP())
        assert not passes(switch, packet() / TCP())

    def test_icmp_type_and_code_are_where_ports_are(self) -> None:
        switch, at = forwarding()
        keys = {"segment": at, "l4": Ternary(4, 4), "src_port": Between(8, 8)}
        for table in ("acl.ipv4", "acl.ipv6"):
            switch.add(table, {**keys, "dst_port": Between(2, 2)}, "deny", {}, 2)  # type: ignore[dict-item]
        assert not passes(switch, packet() / ICMP(type=8, code=2))
        assert passes(switch, packet() / ICMP(type=8, code=1))
        assert passes(switch, packet() / UDP(sport=8, dport=2))
        assert passes(switch, packet(frag=9, proto=1) / Raw(b"\x08\x02" * 8))
        assert passes(switch, IPv6() / ICMPv6Unknown(type=8, code=1, msgbody=b"1234"))
        assert not passes(switch, IPv6() / ICMPv6Unknown(type=8, code=2, msgbody=b"1234"))

    def test_flags_are_a_first_fragments_only(self) -> None:
        switch, at = forwarding()
        syn = {"segment": at, "protocol": IS_TCP, "l4": HAS_PORTS, "tcp_flags": Ternary(2, 0x12)}
        switch.add("acl.ipv4", syn, "deny", {}, 2)  # type: ignore[arg-type]
        assert not passes(switch, packet() / TCP(flags="S"))
        assert passes(switch, packet() / TCP(flags="SA"))
        assert passes(switch, packet(frag=9, proto=6) / Raw(bytes(TCP(flags="S"))))


def test_random_rules_match_first_as_in_python() -> None:
    chance = random.Random(7)
    switch, at = forwarding()
    rules: list[tuple[int, int, int, int, int, int, bool]] = []
    for rank in range(60):
        length = chance.choice([0, 8, 30, 31, 32])
        mask = (1 << length) - 1 << 32 - length
        src = ip_number(f"10.0.0.{chance.randrange(8)}") & mask
        low = chance.randrange(10)
        high = chance.randrange(low, 10)
        protocol = chance.choice([0, 6, 17])
        deny = chance.random() < 0.5
        rules.append((src, mask, low, high, protocol, rank, deny))
        keys: dict[str, Key | int] = {
            "segment": at,
            "l4": HAS_PORTS,
            "dst_port": Between(low, high),
        }
        if mask:
            keys["src"] = Ternary(src, mask)
        if protocol:
            keys["protocol"] = Ternary(protocol, 255)
        switch.add("acl.ipv4", keys, "deny" if deny else "permit", {}, 100 - rank)
    outcomes = set()
    for _ in range(400):
        last, port = chance.randrange(10), chance.randrange(12)
        kind = chance.choice([TCP, UDP])
        number, protocol = ip_number(f"10.0.0.{last}"), 6 if kind is TCP else 17
        denied = next(
            (
                deny
                for src, mask, low, high, wanted, _, deny in rules
                if number & mask == src and low <= port <= high and wanted in (0, protocol)
            ),
            False,
        )
        outcomes.add(denied)
        assert passes(switch, packet(f"10.0.0.{last}") / kind(dport=port)) is not denied
    assert outcomes == {True, False}

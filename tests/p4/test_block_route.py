"""route: longest prefix, next hop, TTL. Oracle: scapy's checksums, Python's longest match."""

from __future__ import annotations

import ipaddress
import random

import pytest
from edge_switch import (
    GATEWAY,
    PEER_MAC,
    EdgeSwitch,
    ether,
    ip_number,
    mac_number,
    segment,
    summed,
)
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from orchestrator.model.entries import Key, Lpm
from servernf.wire.addresses import GATEWAY_MAC

AT = segment(1)
VIA, DIRECT = segment(2), segment(3)
VIA_PORT, DIRECT_PORT = 21, 22


def router(*routes: tuple[str, str]) -> EdgeSwitch:
    """`routes`: (prefix, 'via' | 'connected' | 'unreachable')."""
    switch = EdgeSwitch()
    switch.classify(AT)
    switch.deliver_all(VIA, VIA_PORT, mac=PEER_MAC)
    switch.deliver_all(DIRECT, DIRECT_PORT)
    switch.add("route.segments_routed", {"segment": AT}, "route_here", {"gateway_mac": GATEWAY_MAC})
    for text, kind in routes:
        prefix = ipaddress.ip_network(text)
        keys: dict[str, Key | int] = {"segment": AT}
        if prefix.prefixlen:
            keys["dst"] = Lpm(int(prefix.network_address), prefix.prefixlen)
        params = {
            "via": {"mac": mac_number(PEER_MAC), "gateway_mac": GATEWAY_MAC, "segment": VIA},
            "connected": {"segment": DIRECT},
            "unreachable": {},
        }[kind]
        action = {"via": "next_hop"}.get(kind, kind)
        switch.add(f"route.ipv{prefix.version}", keys, action, params)
    return switch


def to(dst: str, ttl: int = 64) -> Packet:
    if ":" in dst:
        return IPv6(src="2001:db8:1::1", dst=dst, hlim=ttl) / UDP(sport=1, dport=2)
    return IP(src="10.0.0.1", dst=dst, ttl=ttl) / UDP(sport=1, dport=2)


@pytest.mark.parametrize(
    ("default", "special", "dst"),
    [("0.0.0.0/0", "192.0.2.0/24", "192.0.2.9"), ("::/0", "2001:db8:5::/48", "2001:db8:5::9")],
)
class TestBothVersions:
    def test_a_next_hop_gets_the_frame(self, default: str, special: str, dst: str) -> None:
        switch = router((special, "via"))
        expected = ether(to(dst, 63), src=GATEWAY, dst=PEER_MAC)
        assert switch.one(ether(to(dst))) == (VIA_PORT, bytes(expected))

    def test_connected_leaves_the_macs(self, default: str, special: str, dst: str) -> None:
        switch = router((special, "connected"))
        assert switch.one(ether(to(dst))) == (DIRECT_PORT, bytes(ether(to(dst, 63))))

    def test_the_longest_prefix_wins(self, default: str, special: str, dst: str) -> None:
        switch = router((default, "via"), (special, "connected"))
        assert switch.one(ether(to(dst)))[0] == DIRECT_PORT
        other = "2001:db9::1" if ":" in dst else "8.8.8.8"
        assert switch.one(ether(to(other)))[0] == VIA_PORT

    def test_an_unreachable_hole(self, default: str, special: str, dst: str) -> None:
        switch = router((default, "via"), (special, "unreachable"))
        assert switch.send(ether(to(dst))) == []

    def test_no_route_drops(self, default: str, special: str, dst: str) -> None:
        assert router(("126.0.0.0/8", "via")).send(ether(to(dst))) == []

    @pytest.mark.parametrize(("ttl", "left"), [(255, 254), (2, 1), (1, None), (0, None)])
    def test_ttl(self, default: str, special: str, dst: str, ttl: int, left: int | None) -> None:
        got = router((default, "connected")).send(ether(to(dst, ttl)))
        if left is None:
            assert got == []
        else:
            assert got == [(DIRECT_PORT, bytes(ether(to(dst, left))))]
            assert got[0][1] == summed(got[0][1])


def test_what_is_not_ip_is_dropped() -> None:
    switch = router(("0.0.0.0/0", "connected"), ("::/0", "connected"))
    assert switch.send(ether(ARP(pdst="8.8.8.8"))) == []
    assert switch.send(ether(b"x" * 46)) == []


MARTIANS = {
    4: (
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "169.254.1.1",
        "224.0.0.5",
        "240.0.0.1",
        "255.255.255.255",
    ),
    6: ("::", "::1", "fe80::1", "febf::1", "ff02::1", "ff0e::9"),
}
NEIGHBOURS = {
    4: ("1.0.0.0", "126.255.255.255", "128.0.0.1", "169.253.9.9", "169.255.0.1", "223.255.255.255"),
    6: ("::2", "fec0::1", "fe7f::1", "feff::1", "2001:db8::1"),
}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("field", ["src", "dst"])
def test_martians_go_nowhere_and_their_neighbours_do(version: int, field: str) -> None:
    """RFC 1812, 5.3.7; RFC 3927, 7; RFC 4291, 2.5.6."""
    switch = router(("0.0.0.0/0", "connected"), ("::/0", "connected"))
    plain = to("8.8.8.8") if version == 4 else to("2001:db8:5::9")
    for address in (*MARTIANS[version], *NEIGHBOURS[version]):
        packet = plain.copy()
        setattr(packet, field, address)
        passes = address in NEIGHBOURS[version]
        assert bool(switch.send(ether(packet))) == passes, address


@pytest.mark.parametrize(
    ("dst", "src", "passes"),
    [
        (GATEWAY, PEER_MAC, True),
        (PEER_MAC, GATEWAY, True),  # another router of the graph has sent it
        (PEER_MAC, "0a:00:00:00:00:77", False),
        ("ff:ff:ff:ff:ff:ff", PEER_MAC, False),
        ("01:00:5e:00:00:fb", PEER_MAC, False),
    ],
)
def test_frames_for_others(dst: str, src: str, passes: bool) -> None:
    """RFC 1812, 5.3.4 and 3.4: a router sends on what a link layer gives it as its own."""
    switch = router(("0.0.0.0/0", "via"))
    assert bool(switch.send(ether(to("8.8.8.8"), src=src, dst=dst))) == passes


TOLD, TOLD_PORT = segment(4), 23


@pytest.mark.parametrize("mtu", [0xFFFF, 1300])
@pytest.mark.parametrize("six", [False, True])
def test_what_goes_no_further_goes_as_it_is_to_who_tells_of_it(mtu: int, six: bool) -> None:
    switch = EdgeSwitch()
    switch.classify(AT)
    switch.deliver_all(DIRECT, DIRECT_PORT)
    switch.deliver_all(TOLD, TOLD_PORT)
    told = {"gateway_mac": GATEWAY_MAC, "mtu": mtu, "segment": TOLD}
    switch.add("route.segments_routed", {"segment": AT}, "route_and_tell", told)
    prefix, inside, beyond = ("192.0.2.0", "192.0.2.9", "198.51.100.9")
    if six:
        prefix, inside, beyond = ("2001:db8:5::", "2001:db8:5::9", "2001:db8:6::9")
    keys: dict[str, Key | int] = {"segment": AT, "dst": Lpm(ip_number(prefix), 48 if six else 24)}
    switch.add(f"route.ipv{6 if six else 4}", keys, "connected", {"segment": DIRECT})
    header = 48 if six else 28

    def sent(dst: str, ttl: int, length: int) -> bytes:
        return bytes(ether(to(dst, ttl) / bytes(length - header)))

    for dst, ttl, length, port in (
        (inside, 64, 1300, DIRECT_PORT),
        (inside, 64, 1301, DIRECT_PORT if mtu == 0xFFFF else TOLD_PORT),
        (inside, 1, 100, TOLD_PORT),
        (inside, 0, 100, TOLD_PORT),
        (beyond, 64, 100, TOLD_PORT),
    ):
        frame = sent(dst, ttl, length)
        expected = frame if port == TOLD_PORT else sent(dst, ttl - 1, length)
        assert switch.one(frame) == (port, expected), (dst, ttl, length)


def test_segments_that_do_not_route_pass_by() -> None:
    switch = router(("0.0.0.0/0", "via"))
    frame = bytes(ether(to("8.8.8.8", 1)))
    switch.classify(DIRECT, port=2)
    assert switch.one(frame, 2) == (DIRECT_PORT, frame)


def test_checksums_of_all_ttls_and_protocols() -> None:
    """The incremental update meets both zeros of ones' complement."""
    switch = router(("0.0.0.0/0", "connected"))
    chance = random.Random(3)
    for ttl in range(2, 256):
        for _ in range(4):
            payload = IP(
                src="10.0.0.1", dst="8.8.8.8", ttl=ttl, proto=253, id=chance.getrandbits(16)
            )
            got = switch.one(ether(payload / bytes(8)))[1]
            assert got == summed(got), (ttl, Ether(got)[IP].id)


def test_random_tables_agree_with_python() -> None:
    chance = random.Random(5)
    networks = {
        ipaddress.ip_network((ip_number("10.0.0.0") | chance.getrandbits(10), length), strict=False)
        for length in (22, 24, 27, 30, 31, 32)
        for _ in range(12)
    }
    kinds = {network: chance.choice(["via", "connected", "unreachable"]) for network in networks}
    switch = router(*((str(network), kind) for network, kind in kinds.items()))
    met = set()
    for low in range(0, 1024, 3):
        address = ipaddress.ip_address(ip_number("10.0.0.0") | low)
        covering = [network for network in networks if address in network]
        kind = kinds[max(covering, key=lambda n: n.prefixlen)] if covering else "unreachable"
        met.add(kind)
        port = {"via": [VIA_PORT], "connected": [DIRECT_PORT], "unreachable": []}[kind]
        assert [p for p, _ in switch.send(ether(to(str(address))))] == port, address
    assert len(met) == 3

"""acl, router, static_nat and the load balancer against docs/functions."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw
from servernf_support import (
    DST_MAC,
    SECOND,
    SRC_MAC,
    assert_checksums,
    call,
    echo,
    ether,
    make,
    tcp,
    udp,
)

from orchestrator.errors import InputError
from servernf.python.network_function import NetworkFunction

pytestmark = pytest.mark.slow

A, B = "10.0.0.7", "198.51.100.9"


def passes(nf: NetworkFunction, frame: bytes, port: str = "inside") -> bool:
    first = call(nf, frame, port)[0]
    assert call(nf, frame, port)[0] == first, "the cached decision differs"
    return first is not None


class TestAcl:
    @staticmethod
    def only(**match: object) -> NetworkFunction:
        return make("acl", rules=[{**match, "action": "permit"}], default="deny", reverse="same")

    @pytest.mark.parametrize(
        ("match", "frame", "expected"),
        [
            ({"src": "10.0.0.0/8"}, udp(A, 1, B, 2), True),
            ({"src": "10.0.0.0/29"}, udp("10.0.0.8", 1, B, 2), False),
            ({"dst": "0.0.0.0/0"}, udp(A, 1, B, 2), True),
            ({"dst": "::/0"}, udp(A, 1, B, 2), False),
            ({"dst": "0.0.0.0/0"}, ether(ARP()), False),
            ({}, ether(ARP()), True),
            ({"ether_type": "0x0806"}, ether(ARP()), True),
            ({"ether_type": "0x0806"}, ether(Dot1Q(vlan=5) / ARP()), True),
            ({"ether_type": "0x0806"}, udp(A, 1, B, 2), False),
            ({"version": 6}, ether(IPv6() / UDP() / Raw(b"x" * 8)), True),
            ({"version": 4}, ether(IPv6() / UDP() / Raw(b"x" * 8)), False),
            ({"protocol": "tcp"}, tcp(A, 1, B, 2), True),
            ({"protocol": "icmp"}, echo(A, B, 1), True),
            ({"protocol": "icmpv6"}, ether(IPv6() / ICMPv6EchoRequest()), True),
            ({"protocol": 132}, ether(IP(proto=132) / Raw(b"x" * 12)), True),
            ({"protocol": 0}, ether(ARP()), False),
            ({"src_port": 53}, udp(A, 53, B, 2), True),
            ({"src_port": "50-53"}, tcp(A, 54, B, 2), False),
            ({"dst_port": "50-53"}, tcp(A, 54, B, 50), True),
            ({"dst_port": "0-65535"}, echo(A, B, 1), False),
            (
                {"dst_port": "0-65535"},
                ether(IP(frag=1, proto=17) / Raw(b"x" * 8)),
                False,
            ),
            (
                {"dst_port": 7},
                ether(IPv6() / IPv6ExtHdrFragment(m=1) / UDP(dport=7) / Raw(b"x" * 8)),
                True,
            ),
            (
                {"dst_port": 7},
                ether(IPv6() / IPv6ExtHdrFragment(offset=1, nh=17) / Raw(b"\0\x07" * 8)),
                False,
            ),
            ({"tcp_flags": "0x02/0x12"}, tcp(A, 1, B, 2, "S"), True),
            ({"tcp_flags": "0x02/0x12"}, tcp(A, 1, B, 2, "SA"), False),
            ({"tcp_flags": "0x00/0x02"}, udp(A, 1, B, 2), False),
            ({"tcp_flags": "0x02/0x02"}, udp(A, 1, B, 2), False),
            ({"icmp_type": 8}, echo(A, B, 1), True),
            ({"icmp_type": 8, "icmp_code": 1}, echo(A, B, 1), False),
            ({"icmp_code": 0}, ether(IPv6() / ICMPv6EchoRequest()), True),
            ({"icmp_type": 128}, ether(IPv6() / ICMPv6EchoRequest()), True),
            ({"icmp_type": 8}, ether(IP(frag=1, proto=1) / Raw(b"\x08\x00" * 4)), False),
            ({"icmp_type": 8}, ether(IPv6(nh=1) / Raw(b"\x08\x00" * 4)), False),
            ({"icmp_code": 0}, udp(A, 0, B, 0), False),
            ({"later_fragment": True}, ether(IP(frag=1, proto=6) / Raw(b"x")), True),
            ({"later_fragment": True}, udp(A, 1, B, 2), False),
            ({"later_fragment": False}, udp(A, 1, B, 2, flags=1), True),
        ],
    )
    def test_match(self, match: dict[str, object], frame: bytes, expected: bool):
        assert passes(self.only(**match), frame) is expected
        assert passes(self.only(**match), frame, "outside") is expected

    def test_first_match_wins(self):
        rules = [
            {"dst_port": 22, "action": "deny"},
            {"dst": B, "action": "permit"},
            {"action": "deny"},
        ]
        nf = make("acl", rules=rules, default="permit")
        assert not passes(nf, tcp(A, 1, B, 22))
        assert passes(nf, tcp(A, 1, B, 23))
        assert not passes(nf, tcp(A, 1, A, 23))
        assert nf.drops == {"denied": 4}

    @pytest.mark.parametrize(
        ("reverse", "there", "back"),
        [("permit", True, True), ("mirror", False, True), ("same", True, False)],
    )
    def test_reverse(self, reverse: str, there: bool, back: bool):
        rule = {"src": "10.0.0.0/8", "src_port": 5, "dst_port": 80, "action": "permit"}
        nf = make("acl", rules=[rule], default="deny", reverse=reverse)
        assert passes(nf, tcp(A, 5, B, 80), "outside") is there
        assert passes(nf, tcp(B, 80, A, 5), "outside") is back

    def test_configuration_errors_come_together(self):
        with pytest.raises(InputError) as caught:
            make(
                "acl",
                rules=[
                    {"src": "10.0.0.1/8", "action": "allow"},
                    {"dst_port": 70000, "tcp_flags": "2", "proto": 6, "action": "permit"},
                ],
                rules_file="x.rules",
            )
        text = "\n".join(caught.value.problems)
        for line in (
            "g/acl.rules[0].src: '10.0.0.1/8' is no prefix: 10.0.0.1/8 has host bits set",
            "g/acl.rules[0].action: unknown choice 'allow'",
            "g/acl.rules[1].dst_port: must be a port",
            'g/acl.rules[1].tcp_flags: must be "value/mask"',
            "g/acl.rules[1].proto: unknown key 'proto'; did you mean 'protocol'?",
            "g/acl.default: must be one of permit, deny, not None",
            "g/acl.rules_file: unknown key 'rules_file'; did you mean 'rules'?",
        ):
            assert line in text


class TestRouter:
    GATEWAY, HOP1, HOP6 = "06:00:00:00:00:01", "02:00:00:05:00:00", "02:00:00:06:00:00"

    def router(self) -> NetworkFunction:
        return make(
            "router",
            routes=[
                {"prefix": "198.51.0.0/16", "next_hop": "192.0.2.1"},
                {"prefix": "198.51.100.0/24"},
                {"prefix": "198.51.100.9/32", "next_hop": "192.0.2.1", "port": "dmz"},
                {"prefix": "2001:db8::/32", "next_hop": "2001:db8::1"},
                {"prefix": "10.0.0.0/8", "port": "inside"},
            ],
            neighbors={"192.0.2.1": self.HOP1, "2001:DB8:0::1": self.HOP6},
            gateway_mac=self.GATEWAY,
        )

    def test_longest_prefix_wins(self):
        nf = self.router()
        assert nf.ports == ("inside", "outside", "dmz")
        for _ in range(2):  # looked up, then cached
            left, packet = call(nf, udp(A, 1, "198.51.7.7", 2), "inside")
            assert (left, packet.dst, packet.src) == ("outside", self.HOP1, self.GATEWAY)
            left, packet = call(nf, udp(A, 1, "198.51.100.8", 2), "inside")
            assert (left, packet.dst, packet.src) == ("outside", DST_MAC, SRC_MAC)
            left, packet = call(nf, udp(A, 1, B, 2), "outside")
            assert (left, packet.dst, packet[IP].ttl) == ("dmz", self.HOP1, 63)
            assert_checksums(packet)
        assert call(nf, udp(B, 1, A, 2), "outside")[0] == "inside"

    def test_ipv6(self):
        frame = ether(IPv6(dst="2001:db8::9", hlim=2) / UDP() / Raw(b"x" * 8))
        left, packet = call(self.router(), frame, "inside")
        assert (left, packet[IPv6].hlim, packet.dst) == ("outside", 1, self.HOP6)

    def test_vlan_stays(self):
        frame = ether(Dot1Q(vlan=7) / IP(src=A, dst=B) / UDP() / Raw(b"x" * 8))
        _, packet = call(self.router(), frame, "inside")
        assert (packet[Dot1Q].vlan, packet[IP].ttl, packet.dst) == (7, 63, self.HOP1)

    def test_drops(self):
        nf = self.router()
        assert call(nf, udp(A, 1, "192.0.2.9", 2), "inside")[0] is None
        assert call(nf, ether(ARP()), "inside")[0] is None
        for ttl, left in ((0, None), (1, None), (2, "dmz")):
            assert call(nf, udp(A, 1, B, 2, ttl=ttl), "inside")[0] == left
        assert nf.drops == {"no_route": 1, "not_ip": 1, "ttl": 2}

    def test_default_route_alone(self):
        nf = make("router", routes=[{"prefix": "0.0.0.0/0"}])
        assert call(nf, udp(A, 1, B, 2), "inside")[0] == "outside"

    def test_configuration_errors_come_together(self):
        with pytest.raises(InputError) as caught:
            make(
                "router",
                routes=[{"prefix": "10.0.0.0/33"}, {"next_hop": "192.0.2.1", "via": 1}],
                neighbors={"192.0.2.2": "zz"},
            )
        text = "\n".join(caught.value.problems)
        for line in (
            "g/router.neighbors['192.0.2.2']: must be a MAC address",
            "g/router.routes[0].prefix: '10.0.0.0/33' is no prefix",
            "g/router.routes[1].prefix: is required",
            "g/router.routes[1].next_hop: 192.0.2.1 has no MAC in neighbors",
            "g/router.routes[1].next_hop: needs gateway_mac",
            "g/router.routes[1].via: unknown key 'via'",
        ):
            assert line in text


class TestStaticNat:
    PAIRS = (
        {"inside": A, "outside": "203.0.113.5"},
        {"inside": "2001:db8::7", "outside": "2001:db8:1::5"},
    )

    def nat(self) -> NetworkFunction:
        return make("static_nat", pairs=list(self.PAIRS))

    @pytest.mark.parametrize(
        "frame", [udp(A, 1, B, 2), tcp(A, 1, B, 2), echo(A, B, 1), udp(A, 1, B, 2, flags=1)]
    )
    def test_from_inside(self, frame: bytes):
        left, packet = call(self.nat(), frame, "inside")
        assert (left, packet[IP].src, packet[IP].dst) == ("outside", "203.0.113.5", B)
        assert_checksums(packet)

    def test_from_outside(self):
        left, packet = call(self.nat(), tcp(B, 1, "203.0.113.5", 2), "outside")
        assert (left, packet[IP].dst) == ("inside", A)
        assert_checksums(packet)

    def test_later_fragment(self):
        frame = ether(IP(src=A, dst=B, frag=5, proto=17) / Raw(b"payload!"))
        _, packet = call(self.nat(), frame, "inside")
        assert (packet[IP].src, bytes(packet[Raw])) == ("203.0.113.5", b"payload!")
        assert_checksums(packet)

    def test_ipv6(self):
        for payload, field in (
            (UDP(sport=1, dport=2) / Raw(b"x" * 8), "chksum"),
            (TCP(sport=1, dport=2), "chksum"),
            (ICMPv6EchoRequest(id=3), "cksum"),
        ):
            frame = ether(IPv6(src="2001:db8::7", dst="2001:db8::9") / payload)
            _, packet = call(self.nat(), frame, "inside")
            assert packet[IPv6].src == "2001:db8:1::5"
            got = getattr(packet[IPv6].payload, field)
            delattr(packet[IPv6].payload, field)
            assert got == getattr(Ether(bytes(packet))[IPv6].payload, field)

    def test_others_pass(self):
        nf = self.nat()
        for frame in (udp("10.0.0.8", 1, B, 2), ether(ARP())):
            for port, other in (("inside", "outside"), ("outside", "inside")):
                left, packet = call(nf, frame, port)
                assert (left, bytes(packet)) == (other, frame)

    def test_of_quotes_of_others_nothing_changes(self):
        quote = bytes(IP(src=B, dst="10.0.0.99") / UDP())
        frame = ether(IP(src=A, dst=B) / ICMP(type=3) / Raw(quote))
        _, packet = call(self.nat(), frame, "inside")
        assert bytes(packet)[42:] == quote

    def test_configuration_errors_come_together(self):
        with pytest.raises(InputError) as caught:
            make(
                "static_nat",
                pairs=[self.PAIRS[0], self.PAIRS[0], {"inside": A, "outside": "::1"}, {}],
            )
        text = "\n".join(caught.value.problems)
        for line in (
            "g/static_nat.pairs[1].inside: 10.0.0.7 is in an earlier pair",
            "g/static_nat.pairs[1].outside: 203.0.113.5 is in an earlier pair",
            "g/static_nat.pairs[2]: 10.0.0.7 and ::1 are not of one IP version",
            "g/static_nat.pairs[3].inside: is required",
        ):
            assert line in text


class TestLoadBalancer:
    VIP = "203.0.113.80"

    def balancer(self, weights: dict[str, int], **config: object) -> NetworkFunction:
        backends = [
            {"address": address, "port": 8080, "weight": weight}
            for address, weight in weights.items()
        ]
        service = {"address": self.VIP, "protocol": "tcp", "port": 80, "backends": backends}
        return make("l4_load_balancer", virtual=[service], **config)

    def backend(self, nf: NetworkFunction, number: int, now_us: int = 0, flags: str = "S") -> str:
        client = str(IPv4Address(0x0A000000 + number % 5000))
        left, packet = call(
            nf, tcp(client, 1024 + number // 5000, self.VIP, 80, flags), "outside", now_us
        )
        assert (left, packet[TCP].dport) == ("inside", 8080)
        return packet[IP].dst

    def test_there_and_back(self):
        nf = self.balancer({"10.1.0.1": 1, "10.1.0.2": 1})
        left, packet = call(nf, tcp(B, 999, self.VIP, 80, "S"), "outside")
        chosen = packet[IP].dst
        assert_checksums(packet)
        left, packet = call(nf, tcp(chosen, 8080, B, 999, "SA"), "inside")
        assert (left, packet[IP].src, packet[TCP].sport) == ("outside", self.VIP, 80)
        assert_checksums(packet)

    def test_others_pass(self):
        nf = self.balancer({"10.1.0.1": 1})
        for frame, port in (
            (udp(B, 1, self.VIP, 80), "outside"),
            (tcp(B, 1, self.VIP, 81), "outside"),
            (echo(B, self.VIP, 1), "outside"),
            (ether(IP(dst=self.VIP, proto=47, frag=4) / Raw(b"x" * 40)), "outside"),
            (tcp("10.1.0.1", 8080, B, 5), "inside"),
            (ether(ARP()), "inside"),
        ):
            left, packet = call(nf, frame, port)
            assert (left, bytes(packet)) == ("inside" if port == "outside" else "outside", frame)

    def test_weights_are_kept(self):
        weights = {"10.1.0.1": 1, "10.1.0.2": 1, "10.1.0.3": 1, "10.1.0.4": 3}
        nf = self.balancer(weights)
        counts = Counter(self.backend(nf, number) for number in range(1800))
        for address, weight in weights.items():
            assert counts[address] == pytest.approx(300 * weight, rel=0.2)

    def test_only_the_lost_backends_connections_move(self):
        before = self.balancer({"10.1.0.1": 1, "10.1.0.2": 1, "10.1.0.3": 1})
        after = self.balancer({"10.1.0.1": 1, "10.1.0.3": 1})
        for number in range(300):
            old, new = self.backend(before, number), self.backend(after, number)
            assert new == old or old == "10.1.0.2"

    def test_connection_expires_when_idle(self):
        nf = self.balancer({"10.1.0.1": 1}, idle_timeout_s=10)
        call(nf, tcp(B, 999, self.VIP, 80, "S"), "outside", 0)
        reply = tcp("10.1.0.1", 8080, B, 999)
        assert call(nf, reply, "inside", 9 * SECOND)[1][IP].src == self.VIP
        assert call(nf, reply, "inside", 18 * SECOND)[1][IP].src == self.VIP
        assert call(nf, reply, "inside", 28 * SECOND)[1][IP].src == "10.1.0.1"

    def test_two_services_with_one_backend(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("servernf.python.nfs.l4_load_balancer.MAX_CONNECTIONS", 2)
        service = {
            "address": self.VIP,
            "protocol": "tcp",
            "port": 80,
            "backends": [{"address": "10.1.0.1", "port": 8080}],
        }
        nf = make("l4_load_balancer", virtual=[service, service | {"port": 81}])
        for port in (80, 81, 80):
            call(nf, tcp(B, 999, self.VIP, port, "S"), "outside")
        call(nf, tcp(B, 998, self.VIP, 80, "S"), "outside")  # port 81's, the oldest, goes
        reply = tcp("10.1.0.1", 8080, B, 999)
        assert call(nf, reply, "inside")[1][IP].src == "10.1.0.1"
        call(nf, tcp(B, 999, self.VIP, 80), "outside")
        call(nf, tcp(B, 999, self.VIP, 81), "outside")  # takes the reply over; 998 goes
        assert call(nf, reply, "inside")[1][TCP].sport == 81
        call(nf, tcp(B, 997, self.VIP, 80), "outside")  # 80's goes, 81's reply stays
        assert call(nf, reply, "inside")[1][TCP].sport == 81

    def test_connections_are_bounded(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("servernf.python.nfs.l4_load_balancer.MAX_CONNECTIONS", 10)
        nf = self.balancer({"10.1.0.1": 1})
        for number in range(30):
            self.backend(nf, number)
        assert nf.metrics()["connections"] == 10

    def test_configuration_errors_come_together(self):
        service = {
            "address": self.VIP,
            "protocol": "tcp",
            "port": 80,
            "backends": [{"address": "::1", "port": 8, "weight": 0}],
        }
        with pytest.raises(InputError) as caught:
            make("l4_load_balancer", virtual=[service, service | {"backends": []}])
        text = "\n".join(caught.value.problems)
        for line in (
            "virtual[0].backends[0].weight: must be an integer from 1",
            "virtual[0].backends[0].address: ::1 is not of the virtual address's IP version",
            "virtual[1]: 203.0.113.80 port 80 is in an earlier virtual service",
            "virtual[1].backends: needs at least one backend",
        ):
            assert line in text

"""NFs that know connections by ports, and packets that have none: later fragments and ICMP errors.

One table: NF x {later fragment, reordered fragments, ICMP error in, ICMP error out, quoted headers
and checksums}, both directions, the runtime beside the reference. Oracle: what client and server see of
each other, and scapy's checksums. Blind spot: who steers such packets to the NF.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pytest
from nf_bench import Both, ether
from scapy.layers.inet import ICMP, IP, UDP, fragment
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrFragment,
    fragment6,
)
from scapy.packet import Packet as ScapyPacket
from scapy.packet import Raw

from orchestrator.model.checksums import internet_checksum
from servernf.python.datagrams import MAX_WAITING, MAX_WAITING_FRAGMENTS

OTHER = {"inside": "outside", "outside": "inside"}
End = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Case:
    """An NF and a client that asks through it, by the port `enters`."""

    nf: str
    config: Mapping[str, Any]
    enters: str
    client: End
    asked: End
    router: str
    """An address that the NF has nothing to do with."""
    remembers: bool = True
    """Whether later fragments need their first: else each goes by its addresses."""
    hides_routers: bool = False
    """Whether an error about an answer shows the NF's address, whoever complains."""
    why: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.nf, self.why, "IPv6" if self.is_ipv6 else "")))

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.router


def _service(virtual: str, backend: str) -> dict[str, Any]:
    behind = [{"address": backend, "port": 5353}]  # one: runtime and reference may choose others
    return {"virtual": [{"address": virtual, "protocol": "udp", "port": 53, "backends": behind}]}


CASES = [
    Case(
        "napt",
        {"addresses": ["203.0.113.1"], "ports": [20000, 20100]},
        "inside",
        ("10.0.1.11", 5000),
        ("198.51.100.13", 53),
        "192.0.2.9",
        hides_routers=True,
    ),
    Case(
        "dnat",
        {"address": "198.51.100.99", "port": 5353},
        "inside",
        ("10.0.1.11", 5000),
        ("198.51.100.13", 53),
        "192.0.2.9",
    ),
    Case(
        "dnat",
        {"address": "198.51.100.99"},
        "inside",
        ("10.0.1.11", 5000),
        ("198.51.100.13", 53),
        "192.0.2.9",
        why="that keeps ports",
    ),
    Case(
        "dnat",
        {"address": "2001:db8:2::99", "port": 5353},
        "inside",
        ("2001:db8:1::11", 5000),
        ("2001:db8:2::13", 53),
        "2001:db8:9::9",
    ),
    Case(
        "l4_load_balancer",
        _service("203.0.113.80", "10.0.1.11"),
        "outside",
        ("198.51.100.13", 5000),
        ("203.0.113.80", 53),
        "192.0.2.9",
    ),
    Case(
        "l4_load_balancer",
        _service("2001:db8:2::80", "2001:db8:1::11"),
        "outside",
        ("2001:db8:2::13", 5000),
        ("2001:db8:2::80", 53),
        "2001:db8:9::9",
    ),
    Case(
        "static_nat",
        {"pairs": [{"inside": "10.0.1.11", "outside": "203.0.113.11"}]},
        "inside",
        ("10.0.1.11", 5000),
        ("198.51.100.13", 53),
        "192.0.2.9",
        remembers=False,
    ),
    Case(
        "static_nat",
        {"pairs": [{"inside": "2001:db8:1::11", "outside": "2001:db8:3::11"}]},
        "inside",
        ("2001:db8:1::11", 5000),
        ("2001:db8:2::13", 53),
        "2001:db8:9::9",
        remembers=False,
    ),
    *(
        Case(
            "hash_lb",
            {"virtual": [{"address": virtual, "hash": by, "backends": [*behind]}]},
            "outside",
            client,
            (virtual, 53),
            router,
            remembers=False,
            why=f"by {by}",
        )
        for by in ("addresses", "ports")
        for virtual, client, router, behind in (
            (
                "203.0.113.80",
                ("198.51.100.13", 5000),
                "192.0.2.9",
                [{"address": f"10.0.1.{n}"} for n in (11, 12, 13)],
            ),
            (
                "2001:db8:2::80",
                ("2001:db8:2::13", 5000),
                "2001:db8:9::9",
                [{"address": f"2001:db8:1::{n}"} for n in (11, 12, 13)],
            ),
        )
    ),
]
remembering = pytest.mark.parametrize("case", [c for c in CASES if c.remembers], ids=str)
cases = pytest.mark.parametrize("case", CASES, ids=str)


def datagram(source: End, target: End, data: bytes = b"", **ip: Any) -> ScapyPacket:
    """A UDP datagram, with its checksum."""
    header = (IPv6 if ":" in source[0] else IP)(src=source[0], dst=target[0], **ip)
    return type(header)(bytes(header / UDP(sport=source[1], dport=target[1]) / Raw(data)))


def pieces(whole: ScapyPacket, ident: int) -> list[ScapyPacket]:
    """Three fragments of a datagram of some 1,200 bytes."""
    if IP in whole:
        whole.id = ident
        return list(fragment(IP(bytes(whole)), fragsize=440))
    payload = bytes(whole.payload)
    header = IPv6(src=whole.src, dst=whole.dst) / IPv6ExtHdrFragment(id=ident, nh=17)
    fragments = fragment6(header / Raw(payload), 496)
    assert len(fragments) == 3
    return fragments


def ends(packet: bytes) -> tuple[str, str]:
    """Source and destination of an IP packet."""
    header = IP(packet) if packet[0] >> 4 == 4 else IPv6(packet)
    return header.src, header.dst


def body(packet: bytes) -> bytes:
    """What is behind the IP header."""
    return packet[20:] if packet[0] >> 4 == 4 else packet[40:]


def has_right_checksums(packet: bytes) -> bool:
    """The IPv4 header's, and that of UDP, ICMP or ICMPv6 behind the header."""
    four = packet[0] >> 4 == 4
    protocol = packet[9] if four else packet[6]
    addresses = packet[12:20] if four else packet[8:40]
    inner = body(packet)
    pseudo = addresses + struct.pack("!HH", protocol, len(inner)) if protocol != 1 else b""
    return internet_checksum(pseudo + inner) == 0 and (
        not four or internet_checksum(packet[:20]) == 0
    )


class Talk:
    """A client, the server that answers it, and the NF between them."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.both = Both(case.nf, **case.config)
        (request,) = self.send(case.enters, datagram(case.client, case.asked, b"ask"))
        assert has_right_checksums(request)
        (seen, server), ports = ends(request), struct.unpack_from("!HH", body(request))
        self.seen: End = (seen, ports[0])
        self.server: End = (server, ports[1])
        assert (self.seen, self.server) != (case.client, case.asked)

    def send(self, port: str, packet: ScapyPacket) -> list[bytes]:
        """The IP packets that leave by the other port."""
        outputs = self.both.send(port, ether(packet))
        assert all(left == OTHER[port] for left, _ in outputs)
        return [frame[14:] for _, frame in outputs]


def reassembled(fragments: Sequence[bytes]) -> bytes:
    """The datagram of fragments in any order, with a header of its own."""
    parts: dict[int, bytes] = {}
    for packet in fragments:
        if packet[0] >> 4 == 4:
            parts[(packet[6] & 0x1F) << 11 | packet[7] << 3] = body(packet)
        else:
            parts[packet[42] << 8 | packet[43] & 0xF8] = body(packet)[8:]
    data = b""
    for at in sorted(parts):
        assert at == len(data)
        data += parts[at]
    source, target = ends(fragments[0])
    header = IP(src=source, dst=target, proto=17) if ":" not in source else None
    return bytes((header or IPv6(src=source, dst=target, nh=17)) / Raw(data))


def directions(talk: Talk) -> list[tuple[str, End, End, tuple[str, str]]]:
    """(port, source, destination, addresses that the other side sees), of questions and answers."""
    case = talk.case
    return [
        (case.enters, case.client, case.asked, (talk.seen[0], talk.server[0])),
        (OTHER[case.enters], talk.server, talk.seen, (case.asked[0], case.client[0])),
    ]


@cases
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)], ids=str)
def test_fragments_go_where_their_first_goes(case: Case, order: tuple[int, ...]) -> None:
    talk = Talk(case)
    for ident, (port, source, target, seen) in enumerate(directions(talk), 7):
        fragments = pieces(datagram(source, target, bytes(range(256)) * 5), ident)
        left = [talk.send(port, fragments[number]) for number in order]
        got = list(chain.from_iterable(left))
        if case.nf == "hash_lb" and port == "outside":
            # By addresses only, so perhaps to another backend than datagrams in one piece.
            backend = ends(got[0])[1]
            assert backend in [b["address"] for b in case.config["virtual"][0]["backends"]]
            seen = (seen[0], backend)
        assert [ends(f) for f in got] == [seen] * 3
        whole = reassembled(got)
        assert has_right_checksums(whole)
        assert body(whole)[8:] == bytes(range(256)) * 5
        first = order.index(0)
        assert all(len(frames) == 1 for frames in left[first + 1 :])


@remembering
def test_what_has_waited_for_too_long_is_gone(case: Case) -> None:
    talk = Talk(case)
    port, source, target, _ = directions(talk)[1]
    first, second, third = pieces(datagram(source, target, bytes(1280)), 9)
    assert not talk.send(port, third)
    talk.both.now_us += 4_999_999
    assert len(talk.send(port, first)) == 2
    talk.both.now_us += 30_000_000
    assert not talk.send(port, second), "the first is forgotten"
    talk.both.now_us += 5_000_000
    assert len(talk.send(port, first)) == 1
    talk.both.runtime.tidy(talk.both.now_us)
    assert talk.both.runtime.metrics()["fragments_waiting"] == 0


@remembering
def test_what_waits_is_bounded_and_every_sender_has_room(case: Case) -> None:
    talk = Talk(case)
    port, source, target, _ = directions(talk)[1]
    mine = pieces(datagram(source, target, bytes(1280)), 9)
    assert not talk.send(port, mine[2])
    flood = (source[0].rsplit(".", 1)[0] + ".200" if not case.is_ipv6 else "2001:db8:77::1", 1)
    if case.nf != "napt":
        flood = source  # others' addresses are none of these NFs' business
    for ident in range(1000, 1000 + 2 * MAX_WAITING):
        assert not talk.send(port, pieces(datagram(flood, target, bytes(1280)), ident)[1])
    waiting = talk.both.runtime.metrics()["fragments_waiting"]
    assert waiting == MAX_WAITING
    if flood != source:
        assert len(talk.send(port, mine[0])) == 2, "its own is still there"
    for _ in range(MAX_WAITING_FRAGMENTS + 9):
        talk.send(port, pieces(datagram(source, target, bytes(1280)), 5)[1])
    waiting = talk.both.runtime.metrics()["fragments_waiting"]
    assert waiting < MAX_WAITING + MAX_WAITING_FRAGMENTS


def error(case: Case, source: str, target: str, quoted: ScapyPacket, kind: str) -> ScapyPacket:
    """An ICMP error, with its checksum, about a packet whose TTL a router has decreased."""
    if case.is_ipv6:
        six = {
            "too big": ICMPv6PacketTooBig(mtu=1280),
            "unreachable": ICMPv6DestUnreach(code=4),
            "exceeded": ICMPv6TimeExceeded(),
        }[kind]
        return IPv6(bytes(IPv6(src=source, dst=target) / six / Raw(bytes(quoted)[:600])))
    four = {
        "too big": ICMP(type=3, code=4, nexthopmtu=1400),
        "unreachable": ICMP(type=3, code=3),
        "exceeded": ICMP(type=11),
    }[kind]
    return IP(bytes(IP(src=source, dst=target) / four / Raw(bytes(quoted)[:28])))


def quoted_by(packet: bytes) -> bytes:
    """What an error quotes."""
    return body(packet)[8:]


KINDS = pytest.mark.parametrize("kind", ["too big", "unreachable", "exceeded"])
LONG = b"a" * 500


@cases
@KINDS
@pytest.mark.parametrize("who", ["router", "server"])
def test_an_error_comes_to_the_client_in_its_own_words(case: Case, kind: str, who: str) -> None:
    """Path MTU discovery and traceroute through the NF."""
    talk = Talk(case)
    ttl = {} if case.is_ipv6 else {"ttl": 3}
    about = datagram(talk.seen, talk.server, LONG, **ttl)
    complains = case.router if who == "router" else talk.server[0]
    (got,) = talk.send(OTHER[case.enters], error(case, complains, talk.seen[0], about, kind))
    shown = case.router if who == "router" else case.asked[0]
    assert ends(got) == (shown, case.client[0])
    assert has_right_checksums(got)
    quoted = quoted_by(got)
    assert quoted == bytes(datagram(case.client, case.asked, LONG, **ttl))[: len(quoted)]
    if kind == "too big":
        assert int.from_bytes(body(got)[4:8]) == (1280 if case.is_ipv6 else 1400)


@cases
@KINDS
@pytest.mark.parametrize("who", ["router", "client"])
def test_an_error_about_an_answer_comes_to_the_server(case: Case, kind: str, who: str) -> None:
    talk = Talk(case)
    about = datagram(case.asked, case.client, LONG)
    complains = case.router if who == "router" else case.client[0]
    (got,) = talk.send(case.enters, error(case, complains, case.asked[0], about, kind))
    shown = case.router if who == "router" and not case.hides_routers else talk.seen[0]
    assert ends(got) == (shown, talk.server[0])
    assert has_right_checksums(got)
    quoted = quoted_by(got)
    assert quoted == bytes(datagram(talk.server, talk.seen, LONG))[: len(quoted)]
    assert len(quoted) >= 28

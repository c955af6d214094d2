"""router: what it checks before it looks up, and the ICMP errors that it sends.

Runtime beside reference. Oracle: the RFCs' fields as scapy reads them, and checksums summed here.
"""

from __future__ import annotations

import struct
from typing import Any

import pytest
from nf_bench import Both, ether
from pydantic import ValidationError
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_RR
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_Redirect,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet as ScapyPacket
from scapy.packet import Raw

from orchestrator.model.checksums import internet_checksum
from orchestrator.nfs.base import lookup

HOST_MAC, GATEWAY = "0a:00:00:00:00:01", "06:00:00:00:00:01"
ME, ME6 = "192.0.2.1", "2001:db8:9::1"
HOST, HOST6 = "10.0.1.11", "2001:db8:1::11"
FAR, FAR6 = "198.51.100.9", "2001:db8:2::9"
ROUTES = [
    {"prefix": "198.51.100.0/24"},
    {"prefix": "198.18.0.0/15", "next_hop": "198.51.100.77"},  # nobody has it
    {"prefix": "2001:db8:2::/48"},
]
ERRORS = {"addresses": [ME, ME6], "mtu": 1400}


def router(**more: Any) -> Both:
    return Both("router", **{"routes": ROUTES, "errors": ERRORS} | more)


def lost(dst: str = "203.0.113.5", l4: ScapyPacket | None = None, **fields: Any) -> ScapyPacket:
    """A packet from the host; there is no route to where it goes."""
    inner = UDP(sport=5, dport=6) / Raw(bytes(40)) if l4 is None else l4
    if ":" in dst:
        return IPv6(src=HOST6, dst=dst, **fields) / inner
    return IP(src=HOST, dst=dst, **fields) / inner


@pytest.mark.parametrize(
    ("packet", "kind", "code", "mtu"),
    [
        (lost(FAR, ttl=1), 11, 0, 0),
        (lost(FAR, ttl=0), 11, 0, 0),
        (lost(FAR, TCP(), ttl=1), 11, 0, 0),
        (lost(FAR, ICMP(type=8), ttl=1), 11, 0, 0),
        (lost(FAR, Raw(bytes(30)), ttl=1, proto=47), 11, 0, 0),
        (lost(FAR, ttl=1, options=[IPOption_RR(routers=["0.0.0.0"] * 3)]), 11, 0, 0),
        (lost(FAR, UDP() / Raw(bytes(30)), ttl=1, flags="MF"), 11, 0, 0),
        (lost(), 3, 0, 0),
        (lost("198.18.0.9"), 3, 1, 0),
        (lost(FAR, UDP() / Raw(bytes(1400)), flags="DF"), 3, 4, 1400),
        (lost(FAR6, hlim=1), 3, 0, 0),
        (lost("2001:db8:7::1"), 1, 0, 0),
        (lost(FAR6, UDP() / Raw(bytes(1400))), 2, 0, 1400),
        (lost(FAR6, ICMPv6EchoRequest(), hlim=1), 3, 0, 0),
    ],
    ids=str,
)
def test_the_sender_is_told(packet: ScapyPacket, kind: int, code: int, mtu: int) -> None:
    sent = bytes(packet)
    port, frame = router().one("inside", ether(packet))
    raw = bytes(frame)
    assert port == "inside"
    assert (frame.dst, frame.src) == (HOST_MAC, GATEWAY)
    four = raw[14] >> 4 == 4
    header, message = (raw[14:34], raw[34:]) if four else (raw[14:54], raw[54:])
    if four:
        assert (frame[IP].src, frame[IP].dst, frame[IP].len) == (ME, HOST, len(raw) - 14)
        assert internet_checksum(header) == 0
        assert internet_checksum(message) == 0
    else:
        assert (frame[IPv6].src, frame[IPv6].dst) == (ME6, HOST6)
        assert frame[IPv6].plen == len(message)
        pseudo = header[8:40] + struct.pack("!II", len(message), 58)
        assert internet_checksum(pseudo + message) == 0
    assert (message[0], message[1]) == (kind, code)
    assert int.from_bytes(message[4:8]) == mtu
    most = 548 if four else 1232
    assert message[8:] == sent[:most], "what it could not send on, as it came"


@pytest.mark.parametrize(
    "packet",
    [
        lost(FAR, ICMP(type=3) / Raw(bytes(lost())), ttl=1),
        lost(FAR, ICMP(type=11) / Raw(bytes(lost())), ttl=1),
        lost(FAR, ICMP(type=5) / Raw(bytes(lost())), ttl=1),
        lost(FAR6, ICMPv6DestUnreach() / Raw(bytes(lost(FAR6))), hlim=1),
        lost(FAR6, ICMPv6TimeExceeded() / Raw(bytes(lost(FAR6))), hlim=1),
        lost(FAR6, ICMPv6ND_Redirect(), hlim=1),
        lost(FAR, Raw(bytes(30)), ttl=1, proto=17, frag=5),
        lost(FAR6, IPv6ExtHdrFragment(nh=17, offset=5) / Raw(bytes(30)), hlim=1),
        lost(FAR, UDP() / Raw(bytes(1400))),  # it should be fragmented, which nobody does here
        lost(FAR, UDP(), ttl=1, len=24),
    ],
    ids=str,
)
def test_about_some_packets_nobody_is_told(packet: ScapyPacket) -> None:
    """RFC 1812, 4.3.2.7; RFC 4443, 2.4 e."""
    assert router().send("inside", ether(packet)) == []


def test_tags_come_along() -> None:
    tagged = Ether(dst=GATEWAY, src=HOST_MAC) / Dot1Q(vlan=7) / lost(FAR, ttl=1)
    port, frame = router().one("outside", tagged)
    assert port == "outside", "by the port entered"
    assert frame[Dot1Q].vlan == 7


def test_without_an_address_of_the_version_it_says_nothing() -> None:
    both = router(errors={"addresses": [ME]})
    assert both.send("inside", ether(lost(FAR6, hlim=1))) == []
    assert both.send("inside", ether(lost(FAR, ttl=1)))
    silent = router(errors=None)
    assert silent.send("inside", ether(lost(FAR, ttl=1))) == []


def test_errors_are_rate_limited() -> None:
    """RFC 1812, 4.3.2.8; RFC 4443, 2.4 f: 50 at once, then one a millisecond."""
    both = router()
    both.now_us = 5_000_000
    told = sum(len(both.send("inside", ether(lost(FAR, ttl=1)))) for _ in range(200))
    assert told == 50
    for _ in range(3):
        both.now_us += 1000
        told = [len(both.send("inside", ether(lost(FAR, ttl=1)))) for _ in range(3)]
        assert told == [1, 0, 0]
    both.now_us += 50_000
    assert sum(len(both.send("inside", ether(lost(FAR, ttl=1)))) for _ in range(200)) == 50


@pytest.mark.parametrize(
    ("field", "address"),
    [
        (field, address)
        for field in ("src", "dst")
        for address in ("0.0.0.0", "127.0.0.1", "169.254.1.1", "224.0.0.251", "255.255.255.255")
    ]
    + [(field, a) for field in ("src", "dst") for a in ("::", "::1", "fe80::1", "ff02::1")],
)
def test_martians_are_dropped_in_silence(field: str, address: str) -> None:
    packet = lost(FAR6) if ":" in address else lost(FAR)
    both = router(routes=[{"prefix": "0.0.0.0/0"}, {"prefix": "::/0"}])
    assert both.send("inside", ether(packet))
    setattr(packet, field, address)
    assert both.send("inside", ether(packet)) == []
    assert both.runtime.drops == {"martian": 1}


@pytest.mark.parametrize("dst", ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:fb", "0a:00:00:00:00:02"])
def test_frames_for_others_are_dropped_in_silence(dst: str) -> None:
    both = router()
    assert both.send("inside", Ether(dst=dst, src=HOST_MAC) / lost(FAR)) == []
    assert both.send("inside", Ether(dst=dst, src=HOST_MAC) / lost(FAR, ttl=1)) == []
    assert both.runtime.drops == {"not_for_gateway": 2}
    passed = both.send("inside", Ether(dst=dst, src=GATEWAY) / lost(FAR))
    assert passed, "sent on by another router of the graph"


@pytest.mark.parametrize(
    "errors",
    [
        {},
        {"addresses": []},
        {"addresses": [ME, "192.0.2.2"]},
        {"addresses": ["127.0.0.1"]},
        {"addresses": [ME], "mtu": 1279},
        {"addresses": [ME], "mtu": 65536},
        {"addresses": [ME], "rate": 1},
    ],
)
def test_bad_configs(errors: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        lookup("router").Config.model_validate({"routes": ROUTES, "errors": errors})


def test_elements() -> None:
    function = router().bench.function
    graph = function.elements("inside")
    assert graph.elements["routes"].outputs == ("outside", "told")
    assert graph.elements["errors"].stateful
    assert "errors" not in router(errors=None).bench.function.elements("inside").elements

"""vxlan_encap and vxlan_decap: RFC 7348; reference and runtime against scapy and each other."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import pytest
from nf_bench import Both, ether, mixed_frames
from pydantic import ValidationError
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

from orchestrator.nfs.base import lookup

GATEWAY = "06:00:00:00:00:01"
LOCAL, REMOTE = "203.0.113.5", "203.0.113.6"
INNER: dict[str, Packet] = {
    "tcp": IP(src="10.0.1.11", dst="10.0.2.2") / TCP() / b"data",
    "ipv6": IPv6() / UDP() / b"data",
    "tagged arp": Dot1Q(vlan=3) / ARP(),
}


def wrapped(frame: Packet, vni: int = 7, **ip: Any) -> Ether:
    """As scapy builds it."""
    fields = {"src": LOCAL, "dst": REMOTE, "id": 0, "flags": "DF", **ip}
    outer = Ether(src=GATEWAY, dst=GATEWAY) / IP(**fields)
    built = outer / UDP(sport=50000, dport=4789, chksum=0) / VXLAN(vni=vni, flags=8) / frame
    return Ether(bytes(built))


@pytest.mark.parametrize("inner", INNER.values(), ids=INNER)
def test_encap(inner: Packet) -> None:
    nf = Both("vxlan_encap", vni=7, local=LOCAL, remote=REMOTE)
    frame = ether(inner)
    port, got = nf.one("inside", frame)
    assert port == "outside"
    assert got[UDP].sport >= 0xC000
    wanted = wrapped(frame)
    wanted[UDP].sport = got[UDP].sport
    assert bytes(got).hex() == bytes(wanted).hex()
    assert bytes(nf.one("outside", frame)[1]) == bytes(frame)


def test_the_source_port_is_the_flows() -> None:
    nf = Both("vxlan_encap", vni=7, local=LOCAL, remote=REMOTE)

    def source_port(packet: Packet) -> int:
        return nf.one("inside", ether(packet))[1][UDP].sport

    flow = IP(src="10.0.1.11", dst="10.0.2.2")
    key = bytes(12) + bytes((10, 0, 1, 11)) + bytes(12) + bytes((10, 0, 2, 2))
    assert source_port(flow / TCP()) == 0xC000 + crc32(key) % 0x4000
    error = IP(src="9.9.9.9", dst="10.0.2.2") / ICMP(type=3, code=4)
    quoted = IP(src="10.0.2.2", dst="10.0.1.11") / UDP()
    assert source_port(error / quoted) == source_port(flow / UDP())
    assert source_port(ARP()) == 0xC000 + crc32(bytes(32)) % 0x4000


@pytest.mark.parametrize("inner", INNER.values(), ids=INNER)
def test_decap(inner: Packet) -> None:
    nf, frame = Both("vxlan_decap", vni=7, local=REMOTE), ether(inner)
    for ip in ({}, {"tos": 5, "ttl": 1}, {"options": b"\x01" * 4}):
        port, got = nf.one("outside", wrapped(frame, **ip))
        assert (port, bytes(got).hex()) == ("inside", bytes(frame).hex())
    assert nf.one("inside", frame)[0] == "outside"


def test_what_is_not_for_this_tunnel_is_dropped() -> None:
    nf, frame = Both("vxlan_decap", vni=7, local=REMOTE), ether(INNER["tcp"])
    no_vni, other_port, short = wrapped(frame), wrapped(frame), wrapped(frame)
    no_vni = Ether(bytes(no_vni).replace(b"\x08\0\0\0\0\0\x07\0", b"\0\0\0\0\0\0\x07\0"))
    other_port[UDP].dport = 4790
    short[UDP].len = 15
    forged = Ether(src=GATEWAY, dst=GATEWAY, type=0x894F) / bytes(60)
    for packet in (
        wrapped(frame, vni=8),
        wrapped(frame, dst="203.0.113.9"),
        wrapped(frame, flags="MF"),
        no_vni,
        other_port,
        short,
        wrapped(Ether(bytes(frame)[:20])),
        wrapped(forged),
        frame,
    ):
        assert nf.send("outside", packet) == []


def test_there_and_back() -> None:
    encap = Both("vxlan_encap", vni=7, local=LOCAL, remote=REMOTE)
    decap = Both("vxlan_decap", vni=7, local=REMOTE)
    for frame in mixed_frames(300, 13):
        ((_, outer),) = encap.send("inside", frame)
        assert decap.send("outside", outer) == [("inside", frame)]


@pytest.mark.parametrize(
    ("nf", "config", "told"),
    [
        ("vxlan_encap", {"vni": 1 << 24, "local": LOCAL, "remote": REMOTE}, "16777215"),
        ("vxlan_encap", {"vni": 1, "local": LOCAL, "remote": LOCAL}, "both 203.0.113.5"),
        ("vxlan_encap", {"vni": 1, "local": "2001:db8::1", "remote": LOCAL}, "not an IPv4 address"),
        ("vxlan_encap", {"vni": 1, "local": LOCAL}, "remote"),
        ("vxlan_decap", {"local": LOCAL}, "vni"),
        ("vxlan_decap", {"vni": 1, "local": LOCAL, "remote": REMOTE}, "remote"),
    ],
)
def test_wrong_configs(nf: str, config: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as error:
        lookup(nf).Config.model_validate(config)
    assert told in str(error.value)

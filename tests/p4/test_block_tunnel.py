"""tunnel: VXLAN in and out, each followed by a pass of its own. Oracle: scapy's VXLAN."""

from __future__ import annotations

import pytest
from edge_switch import (
    FABRIC_PORT,
    GATEWAY,
    EdgeSwitch,
    ether,
    ip_number,
    mac_number,
    segment,
    tagged,
)
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet

from orchestrator.model.checksums import internet_checksum
from servernf.wire import nsh

GATED = 1 << 13
FIRST, THEN = segment(1 | GATED), segment(2 | GATED)
LOCAL, REMOTE = "203.0.113.5", "203.0.113.6"
INNER: dict[str, Packet] = {
    "udp": IP(src="10.0.1.11", dst="10.0.2.2") / UDP() / b"12345678",
    "tagged arp": Dot1Q(vlan=3) / ARP(op=2),
}


def with_tunnel(action: str, *, entered: int = FIRST) -> EdgeSwitch:
    switch = EdgeSwitch()
    switch.classify(FIRST)
    params = {"dst": ip_number(REMOTE), "vni": 7, "segment": THEN}
    if action == "encap":
        header = bytes(IP(src=LOCAL, dst=REMOTE, id=0, flags="DF", proto=17, len=0, chksum=0))
        params |= {"mac": mac_number(GATEWAY), "src": ip_number(LOCAL)}
        params["checksum"] = internet_checksum(header)
    switch.add("tunnel.segments", {"segment": entered}, action, params)
    return switch


def wrapped(frame: Packet, sport: int, vni: int = 7) -> Ether:
    outer = Ether(src=GATEWAY, dst=GATEWAY) / IP(src=LOCAL, dst=REMOTE, id=0, flags="DF")
    built = outer / UDP(sport=sport, dport=4789, chksum=0) / VXLAN(vni=vni, flags=8) / frame
    return Ether(bytes(built))


@pytest.mark.parametrize("inner", INNER.values(), ids=INNER)
def test_encap(inner: Packet) -> None:
    switch, frame = with_tunnel("encap"), ether(inner)
    switch.deliver_all(THEN)
    got = switch.one(frame)[1]
    assert got.hex() == bytes(wrapped(frame, Ether(got)[UDP].sport)).hex()
    assert Ether(got)[UDP].sport >= 0xC000


@pytest.mark.parametrize("inner", INNER.values(), ids=INNER)
def test_decap(inner: Packet) -> None:
    switch, frame = with_tunnel("decap"), ether(inner)
    switch.deliver_all(THEN)
    assert switch.one(wrapped(frame, 50000))[1].hex() == bytes(frame).hex()
    forged = Ether(src=GATEWAY, dst=GATEWAY, type=0x894F) / bytes(60)
    short = Ether(bytes(frame)[:15])
    for other in (wrapped(frame, 1, vni=8), frame, wrapped(forged, 1), wrapped(short, 1)):
        assert switch.send(other) == []


def test_what_follows_sees_the_new_frame() -> None:
    switch, frame = with_tunnel("encap"), ether(INNER["udp"])
    switch.add("mark.segments", {"segment": FIRST}, "set_dscp", {"dscp": 1})
    switch.add("mark.segments", {"segment": THEN}, "set_dscp", {"dscp": 2})
    switch.deliver_all(THEN)
    got = Ether(switch.one(frame)[1])
    assert (got[IP].tos, got[VXLAN][IP].tos) == (8, 4)


def test_the_length_counts_tags_that_were_pushed() -> None:
    switch, frame = with_tunnel("encap"), ether(INNER["udp"])
    params = {"ether_type": 0x8100, "pcp": 0, "vid": 5}
    switch.add("untag.segments", {"segment": FIRST}, "push", params)
    switch.add("tag.segments", {"segment": FIRST}, "push", params)
    switch.deliver_all(THEN)
    got = Ether(switch.one(frame)[1])
    inner = ether(Dot1Q(vlan=5) / Dot1Q(vlan=5) / INNER["udp"])
    assert bytes(got) == bytes(wrapped(inner, got[UDP].sport))


@pytest.mark.parametrize("action", ["encap", "decap"])
def test_a_tagged_frame_keeps_its_tag(action: str) -> None:
    switch = with_tunnel(action)
    switch.add("flowtag_arrival.paths", {"spi": 9, "si": 8}, "enter", {"segment": FIRST})
    tagged(switch, THEN)
    inner = ether(INNER["udp"])
    sent = inner if action == "encap" else wrapped(inner, 50000)
    arriving = nsh.encode(nsh.Tag(0x0200_0007_0000, 0x0200_0009_0000, 9, 8, label=77), bytes(sent))
    left = switch.one(arriving, FABRIC_PORT)[1]
    tag, got = nsh.decode(left)
    assert (tag.spi, tag.si, tag.ttl, tag.label) == (0x14001, 250, 62, 77)
    if action == "decap":
        assert got == bytes(inner)
    else:
        assert got == bytes(wrapped(inner, Ether(got)[UDP].sport))

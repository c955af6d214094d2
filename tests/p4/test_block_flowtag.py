"""flowtag: the NSH tag, byte for byte. Oracle: `servernf.wire.nsh`, written apart from P4."""

from __future__ import annotations

import zlib

import pytest
from edge_switch import (
    FABRIC_PORT,
    GRAPH,
    OTHER_FABRIC_PORT,
    OTHER_HOST_PORT,
    SERVER_PORT,
    SWITCH_ID,
    EdgeSwitch,
    ether,
    forwarding,
    segment,
    tagged,
)
from scapy.contrib.nsh import NSH
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

from orchestrator.model import ids
from orchestrator.model.entries import Lpm
from servernf.wire import nsh
from servernf.wire.addresses import device_mac

AT = segment(1)
SPI, SI = ids.PATH.pack(GRAPH, 3), 254
FRAMES = {
    "udp": bytes(ether(IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=2) / Raw(b"hi"))),
    "vlan": bytes(ether(Dot1Q(vlan=9) / Dot1Q(vlan=8) / IP(dst="10.0.0.2") / UDP())),
    "arp": bytes(ether(ARP(pdst="10.0.0.2"))),
    "unknown EtherType": bytes(Ether(dst="02:00:00:00:00:09", type=0x88B5)) + bytes(range(60)),
    "smallest": bytes(Ether(type=0x88B5)),
    "a tag within": nsh.encode(nsh.Tag(1, 2, 3, 4), bytes(ether(ARP()))),
}


def receiving() -> EdgeSwitch:
    """What comes with (SPI, SI) enters a segment whose frames leave at host port 2."""
    switch = EdgeSwitch()
    switch.add("flowtag_arrival.paths", {"spi": SPI, "si": SI}, "enter", {"segment": AT})
    switch.flood_group(5, OTHER_HOST_PORT)
    switch.add("deliver.floods", {"segment": AT}, "flood", {"group": 5})
    return switch


def tag_for(device: int = SWITCH_ID, **fields: int) -> nsh.Tag:
    values = {"dst_mac": device_mac(device), "src_mac": device_mac(3), "spi": SPI, "si": SI}
    return nsh.Tag(**(values | fields))


@pytest.mark.parametrize("name", [name for name in FRAMES if name != "a tag within"])
def test_pushed_byte_for_byte(name: str) -> None:
    switch, at = forwarding()
    tagged(switch, at)
    switch.now_ns += 123_456_000
    port, sent = switch.one(FRAMES[name])
    tag, inner = nsh.decode(sent) or pytest.fail("no tag")
    expected = nsh.Tag(
        dst_mac=device_mac(9),
        src_mac=device_mac(SWITCH_ID),
        spi=0x14001,
        si=250,
        ttl=63,
        traffic_class=3,
        flow=tag.flow,  # so does it this
        label=tag.label,  # test_block_trajectory recomputes it
        nf_labels=0,
        ingress_us=124_456,
    )
    assert port == FABRIC_PORT
    assert sent.hex() == nsh.encode(expected, FRAMES[name]).hex()
    assert inner == FRAMES[name]


def test_scapy_reads_the_tag() -> None:
    switch, at = forwarding()
    tagged(switch, at)
    read = NSH(switch.one(FRAMES["udp"])[1][14:])
    assert (read.ver, read.ttl, read.length, read.mdtype, read.nextproto) == (0, 63, 6, 1, 3)
    assert (read.spi, read.si) == (0x14001, 250)
    assert bytes(read.payload) == FRAMES["udp"]


@pytest.mark.parametrize("name", FRAMES)
def test_popped_byte_for_byte(name: str) -> None:
    switch = receiving()
    frame = b"\xff\xff" + FRAMES[name][2:]  # multicast: deliver's shortest way
    sent = nsh.encode(tag_for(label=zlib.crc32(b"x"), flow=5, nf_labels=6), frame)
    assert switch.send(sent, FABRIC_PORT) == [(OTHER_HOST_PORT, frame)]


def test_in_transit_only_the_ttl_changes() -> None:
    switch = receiving()
    switch.add(
        "fabric.devices", {"device": Lpm(device_mac(9), 32)}, "forward", {"port": OTHER_FABRIC_PORT}
    )
    fields = {
        "traffic_class": 77,
        "flow": 5,
        "label": 6,
        "nf_labels": 7,
        "ingress_us": 8,
    }
    sent = nsh.encode(tag_for(9, ttl=63, **fields), FRAMES["udp"])
    expected = nsh.encode(tag_for(9, ttl=62, **fields), FRAMES["udp"])
    port, got = switch.one(sent, FABRIC_PORT)
    assert port == OTHER_FABRIC_PORT
    assert got.hex() == expected.hex()


def test_the_next_device_is_addressed_and_the_rest_of_the_tag_stays() -> None:
    switch = EdgeSwitch()
    switch.add("flowtag_arrival.paths", {"spi": SPI, "si": SI}, "enter", {"segment": AT})
    tagged(switch, AT)
    kept = {"flow": 5, "label": 6, "nf_labels": 7, "ingress_us": 8}
    sent = nsh.encode(tag_for(ttl=20, traffic_class=1, **kept), FRAMES["udp"])
    expected = nsh.Tag(device_mac(9), device_mac(SWITCH_ID), 0x14001, 250, 19, 3, 5, 6, 7, 8)
    assert switch.one(sent, FABRIC_PORT)[1].hex() == nsh.encode(expected, FRAMES["udp"]).hex()


@pytest.mark.parametrize(("ttl", "lives"), [(63, True), (2, True), (1, False), (0, False)])
@pytest.mark.parametrize("device", [SWITCH_ID, 9])
def test_ttl_ends_a_loop(ttl: int, lives: bool, device: int) -> None:
    switch = receiving()
    switch.add("fabric.devices", {"device": Lpm(device_mac(9), 32)}, "forward", {"port": 9})
    frame = b"\xff" * 6 + FRAMES["udp"][6:]
    sent = switch.send(nsh.encode(tag_for(device, ttl=ttl), frame), FABRIC_PORT)
    assert bool(sent) is lives


@pytest.mark.parametrize(("spi", "si"), [(SPI, SI - 1), (SPI + 1, SI), (0, SI)])
def test_an_unknown_path_is_dropped(spi: int, si: int) -> None:
    assert receiving().send(nsh.encode(tag_for(spi=spi, si=si), FRAMES["udp"]), FABRIC_PORT) == []


@pytest.mark.parametrize("device", [SWITCH_ID, 9])
def test_a_host_cannot_forge_a_tag(device: int) -> None:
    switch = receiving()
    switch.classify(AT)
    switch.add("fabric.devices", {"device": Lpm(device_mac(9), 32)}, "forward", {"port": 9})
    frame = b"\xff" * 6 + FRAMES["udp"][6:]
    forged = nsh.encode(tag_for(device), frame)
    assert switch.send(forged) == []
    assert len(switch.send(forged, FABRIC_PORT)) == 1, "it is the port that decides"


@pytest.mark.parametrize(
    ("offset", "value"),
    [(14, 0x4F), (15, 0xC5), (16, 2), (17, 1)],
    ids=["version", "length", "MD type", "next protocol"],
)
def test_other_nsh_is_malformed(offset: int, value: int) -> None:
    sent = bytearray(nsh.encode(tag_for(), b"\xff" * 6 + FRAMES["udp"][6:]))
    assert len(receiving().send(bytes(sent), FABRIC_PORT)) == 1
    sent[offset] = value
    assert nsh.decode(bytes(sent)) is None
    assert receiving().send(bytes(sent), FABRIC_PORT) == []


def test_a_server_writes_no_tags_but_those_of_its_workers() -> None:
    """Whatever the frame is addressed to: this switch, another device, or one behind it."""
    switch = receiving()
    to = {"port": OTHER_FABRIC_PORT}
    switch.add("fabric.devices", {"device": Lpm(device_mac(9), 32)}, "forward", to)
    other = {"spi": ids.PATH.pack(GRAPH + 1, 0), "si": SI}
    switch.add("flowtag_arrival.paths", other, "enter", {"segment": AT})
    for device in (SWITCH_ID, 9):
        own = {"ingress_port": SERVER_PORT, "mac": device_mac(device), "spi": SPI, "si": SI}
        switch.add("flowtag_arrival.origins", own, "accept_tag")
    frame = b"\xff" * 6 + FRAMES["udp"][6:]
    for device, port in ((SWITCH_ID, OTHER_HOST_PORT), (9, OTHER_FABRIC_PORT)):
        allowed = nsh.encode(tag_for(device), frame)
        assert [p for p, _ in switch.send(allowed, SERVER_PORT)] == [port]
        for fields in (other, {"si": SI - 1}, {"spi": SPI + 1}):
            forged = nsh.encode(tag_for(device, **fields), frame)
            assert switch.send(forged, SERVER_PORT) == []
    assert switch.send(nsh.encode(tag_for(10), frame), SERVER_PORT) == [], "another device"
    foreign = nsh.encode(tag_for(**other), frame)
    assert len(switch.send(foreign, FABRIC_PORT)) == 1, "it is the port that decides"


def test_a_server_sends_nothing_without_a_tag() -> None:
    switch = receiving()
    switch.classify(AT, port=SERVER_PORT)
    assert switch.send(b"\xff" * 6 + FRAMES["udp"][6:], SERVER_PORT) == []

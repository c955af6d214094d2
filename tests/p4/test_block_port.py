"""port: what stands behind a port decides what may enter there."""

from __future__ import annotations

import pytest
from edge_switch import (
    FABRIC_PORT,
    GATEWAY,
    HOST_MAC,
    HOST_PORT,
    OTHER_HOST_PORT,
    SWITCH_ID,
    ether,
    forwarding,
    segment,
    tagged,
)
from scapy.layers.inet import IP, UDP

from servernf.wire import nsh
from servernf.wire.addresses import device_mac


def frame() -> bytes:
    return bytes(ether(IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=2)))


def test_a_host_port_admits_frames() -> None:
    switch, _ = forwarding()
    assert switch.one(frame()) == (OTHER_HOST_PORT, frame())


@pytest.mark.parametrize("port", [3, 255, 300, 508])
def test_an_unknown_port_is_refused(port: int) -> None:
    switch, at = forwarding()
    switch.classify(at, port=port)
    assert switch.send(frame(), port) == []


def test_a_fabric_port_takes_only_tagged_frames() -> None:
    switch, at = forwarding()
    switch.classify(at, port=FABRIC_PORT)
    assert switch.send(frame(), FABRIC_PORT) == []


def test_the_switch_knows_itself_by_its_port() -> None:
    """Its id is in the outer source of what it tags."""
    switch, at = forwarding()
    tagged(switch, at)
    tag, inner = nsh.decode(switch.one(frame())[1]) or pytest.fail("no tag")
    assert tag.src_mac == device_mac(SWITCH_ID)
    assert inner == frame()


def test_segments_of_other_ports_do_not_leak() -> None:
    switch, _ = forwarding()
    switch.classify(segment(99), port=OTHER_HOST_PORT)
    assert switch.send(frame(), OTHER_HOST_PORT) == []
    assert switch.one(frame(), HOST_PORT)[1][:12].hex(":") == f"{GATEWAY}:{HOST_MAC}"

"""mirror: a copy of what arrived enters another segment in a pass of its own, whatever becomes of it."""

from __future__ import annotations

import pytest
from edge_switch import (
    FABRIC_PORT,
    HOST_PORT,
    OTHER_HOST_PORT,
    EdgeSwitch,
    ether,
    segment,
    tagged,
)
from scapy.layers.inet import IP, UDP

from servernf.wire import nsh

GATED = 1 << 13
MAIN, COPIED = segment(1 | GATED), segment(2 | GATED)
FRAME = ether(IP(ttl=9) / UDP() / b"data")


def mirroring() -> EdgeSwitch:
    switch = EdgeSwitch()
    switch.classify(MAIN)
    switch.add("mirror.segments", {"segment": MAIN}, "copy_to", {"segment": COPIED})
    return switch


def sample_all(switch: EdgeSwitch) -> None:
    keys = {"key0": 1, "key1": 2, "below": 0xFFFFFFFF}
    switch.add("trajectory_sample.manifests", {"graph": 5}, "watch", keys)


def test_each_goes_its_way_with_its_own_changes() -> None:
    switch = mirroring()
    switch.deliver_all(MAIN)
    switch.deliver_all(COPIED, HOST_PORT)
    switch.add("mark.segments", {"segment": MAIN}, "set_dscp", {"dscp": 1})
    switch.add("mark.segments", {"segment": COPIED}, "set_dscp", {"dscp": 2})
    wanted = [
        (OTHER_HOST_PORT, bytes(ether(IP(ttl=9, tos=4) / UDP() / b"data"))),
        (HOST_PORT, bytes(ether(IP(ttl=9, tos=8) / UDP() / b"data"))),
    ]
    assert sorted(switch.send(FRAME)) == sorted(wanted)


def test_a_copy_of_what_is_dropped() -> None:
    switch = mirroring()
    switch.add("mark.segments", {"segment": MAIN}, "require_ttl", {"low": 255, "high": 255})
    switch.deliver_all(COPIED)
    assert switch.send(FRAME) == [(OTHER_HOST_PORT, bytes(FRAME))]


def test_the_copy_leaves_with_a_tag_and_its_label() -> None:
    switch = mirroring()
    switch.deliver_all(MAIN)
    tagged(switch, COPIED)
    sent = dict(switch.send(FRAME))
    assert sent[OTHER_HOST_PORT] == bytes(FRAME)
    tag, frame = nsh.decode(sent[FABRIC_PORT])
    assert (tag.spi, tag.si, tag.ttl, frame) == (0x14001, 250, 63, bytes(FRAME))
    assert tag.label != 0


@pytest.mark.parametrize("mirrored", [True, False])
@pytest.mark.parametrize("sampled", [True, False])
def test_samples_and_copies_do_not_disturb_each_other(mirrored: bool, sampled: bool) -> None:
    switch = EdgeSwitch()
    switch.classify(MAIN)
    switch.deliver_all(MAIN)
    switch.deliver_all(COPIED, HOST_PORT)
    if mirrored:
        switch.add("mirror.segments", {"segment": MAIN}, "copy_to", {"segment": COPIED})
    if sampled:
        sample_all(switch)
    ports = sorted(port for port, _ in switch.send(FRAME))
    assert ports == [HOST_PORT] * mirrored + [OTHER_HOST_PORT]
    assert len(switch.soft.packet_ins) == sampled


def test_a_mirrored_broadcast() -> None:
    switch = mirroring()
    switch.add("deliver.floods", {"segment": MAIN}, "flood", {"group": 3})
    switch.flood_group(3, HOST_PORT, OTHER_HOST_PORT)
    switch.deliver_all(COPIED, mac="ff:ff:ff:ff:ff:ff")
    switch.add("deliver.floods", {"segment": COPIED}, "flood", {"group": 4})
    switch.flood_group(4, OTHER_HOST_PORT)
    frame = ether(IP() / UDP(), dst="ff:ff:ff:ff:ff:ff")
    ports = sorted(port for port, _ in switch.send(frame))
    assert ports == [HOST_PORT, OTHER_HOST_PORT, OTHER_HOST_PORT]

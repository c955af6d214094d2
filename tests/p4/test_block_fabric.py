"""fabric: tagged frames by structured MAC: trees, servers, and this switch again."""

from __future__ import annotations

import pytest
from edge_switch import (
    FABRIC_PORT,
    HOST_PORT,
    OTHER_HOST_PORT,
    SWITCH_ID,
    EdgeSwitch,
    ether,
    forwarding,
    segment,
)
from scapy.layers.inet import IP, UDP

from orchestrator.model import ids
from orchestrator.model.entries import Lpm
from servernf.wire import nsh
from servernf.wire.addresses import GATEWAY_MAC, device_mac

FRAME = bytes(ether(IP(src="10.0.0.1", dst="10.0.0.2", ttl=9) / UDP(sport=1, dport=2)))


def towards(switch: EdgeSwitch, device: int, tree: int, action: str, **params: int) -> None:
    mac = Lpm(device_mac(device, tree=tree), 32)
    switch.add("fabric.devices", {"device": mac}, action, params)


def transit(mac: int) -> bytes:
    return nsh.encode(nsh.Tag(mac, device_mac(3), 0x14000, 255), FRAME)


def test_each_tree_has_its_own_way() -> None:
    switch = EdgeSwitch()
    towards(switch, 9, 0, "forward", port=20)
    towards(switch, 9, 1, "forward", port=21)
    for tree in (0, 1):
        mac = device_mac(9, core=4, tree=tree)
        port, sent = switch.one(transit(mac), FABRIC_PORT)
        assert port == 20 + tree
        assert sent[:6] == mac.to_bytes(6, "big"), "the tree stays until the last switch"
    assert switch.send(transit(device_mac(9, tree=2)), FABRIC_PORT) == []


def test_one_entry_serves_all_cores() -> None:
    switch = EdgeSwitch()
    towards(switch, 9, 0, "forward", port=20)
    for core in (0, 1, 255, 65535):
        assert switch.one(transit(device_mac(9, core=core)), FABRIC_PORT)[0] == 20


def test_a_servers_switch_clears_the_tree() -> None:
    """A core's NIC has one MAC, whichever way frames came."""
    switch = EdgeSwitch()
    for tree in (0, 1):
        towards(switch, 9, tree, "to_server", port=30)
    for tree in (0, 1):
        port, sent = switch.one(transit(device_mac(9, core=2, tree=tree)), FABRIC_PORT)
        assert port == 30
        assert sent[:6] == device_mac(9, core=2).to_bytes(6, "big")


def test_an_unknown_device_is_unreachable() -> None:
    switch = EdgeSwitch()
    towards(switch, 9, 0, "forward", port=20)
    assert switch.send(transit(device_mac(10)), FABRIC_PORT) == []


@pytest.mark.parametrize("arrived", [HOST_PORT, FABRIC_PORT])
def test_recirculation_enters_another_segment_of_this_switch(arrived: int) -> None:
    """First pass: route in segment 1; second: an acl, which is before the route, in segment 2."""
    switch, at = forwarding()
    second, spi = segment(2), ids.PATH.pack(5, 1)
    switch.add("flowtag_arrival.paths", {"spi": 0x14000, "si": 255}, "enter", {"segment": at})
    switch.add("route.segments_routed", {"segment": at}, "route_here", {"gateway_mac": GATEWAY_MAC})
    switch.add("route.ipv4", {"segment": at}, "connected", {"segment": segment(3)})
    here = {"mac": device_mac(SWITCH_ID), "spi": spi, "si": 254, "traffic_class": 0}
    switch.add("dispatch.next", {"segment": segment(3)}, "to_device", here)
    towards(switch, SWITCH_ID, 0, "recirculate_here")
    switch.add("flowtag_arrival.paths", {"spi": spi, "si": 254}, "enter", {"segment": second})
    switch.add("acl.ipv4", {"segment": second}, "permit", {}, 1)
    switch.deliver_all(second)
    sent = FRAME if arrived == HOST_PORT else transit(device_mac(SWITCH_ID))
    port, got = switch.one(sent, arrived)
    routed = ether(IP(src="10.0.0.1", dst="10.0.0.2", ttl=8) / UDP(sport=1, dport=2))
    assert (port, got.hex()) == (OTHER_HOST_PORT, bytes(routed).hex())
    assert switch.hits("acl.ipv4") == 1
    assert switch.hits("route.segments_routed") == 1
    assert switch.hits("port.ports") == 1, "a recirculated frame arrived once"


def test_a_loop_ends() -> None:
    """A segment that sends to itself for ever: NSH's TTL ends it, the switch stays alive."""
    switch = EdgeSwitch()
    at, spi = segment(1), ids.PATH.pack(5, 1)
    here = {"mac": device_mac(SWITCH_ID), "spi": spi, "si": 254, "traffic_class": 0}
    switch.classify(at)
    switch.add("dispatch.next", {"segment": at}, "to_device", here)
    switch.add("flowtag_arrival.paths", {"spi": spi, "si": 254}, "enter", {"segment": at})
    towards(switch, SWITCH_ID, 0, "recirculate_here")
    assert switch.send(FRAME) == []
    assert 0 < switch.hits("flowtag_arrival.paths") <= 63

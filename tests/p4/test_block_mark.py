"""mark: DSCP and TTL by segment. Oracle: scapy sums the changed header from scratch."""

from __future__ import annotations

import pytest
from edge_switch import EdgeSwitch, ether, segment, summed
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q
from scapy.packet import Raw

GATED = 1 << 13


def gated(table: str, action: str, **params: int) -> EdgeSwitch:
    """A switch whose one segment has an entry in a gated block."""
    switch = EdgeSwitch()
    at = segment(1 | GATED)
    switch.classify(at)
    switch.deliver_all(at)
    switch.add(table, {"segment": at}, action, params)
    return switch


@pytest.mark.parametrize("tos", [0, 3, 0x47, 0xB8, 0xFF])
@pytest.mark.parametrize("dscp", [0, 46, 63])
def test_dscp(tos: int, dscp: int) -> None:
    switch = gated("mark.segments", "set_dscp", dscp=dscp)
    payload = UDP() / Raw(b"data")
    wanted = dscp << 2 | tos & 3
    got = switch.one(ether(IP(tos=tos) / payload))[1]
    assert got.hex() == bytes(ether(IP(tos=wanted) / payload)).hex()
    assert got == summed(got)
    got = switch.one(ether(Dot1Q(vlan=4) / IPv6(tc=tos, fl=0xABCDE) / payload))[1]
    assert got.hex() == bytes(ether(Dot1Q(vlan=4) / IPv6(tc=wanted, fl=0xABCDE) / payload)).hex()


@pytest.mark.parametrize("action", ["require_ttl", "limit_ttl"])
@pytest.mark.parametrize("ttl", [0, 9, 10, 64, 65, 255])
def test_ttl(action: str, ttl: int) -> None:
    switch = gated("mark.segments", action, low=10, high=64)
    bound = min(max(ttl, 10), 64)
    for before, after in (
        (IP(ttl=ttl) / UDP(), IP(ttl=bound) / UDP()),
        (IPv6(hlim=ttl) / UDP(), IPv6(hlim=bound) / UDP()),
    ):
        sent = switch.send(ether(before))
        if action == "require_ttl" and bound != ttl:
            assert sent == []
        else:
            assert sent[0][1].hex() == bytes(ether(after)).hex()


@pytest.mark.parametrize(
    ("action", "params"),
    [("set_dscp", {"dscp": 9}), ("require_ttl", {"low": 9, "high": 9})],
)
def test_what_is_not_ip_passes(action: str, params: dict[str, int]) -> None:
    frame = bytes(ether(ARP(pdst="10.0.0.1", op=2)))
    assert gated("mark.segments", action, **params).one(frame)[1] == frame


def test_a_segment_that_is_not_gated_does_not_come_here() -> None:
    switch = EdgeSwitch()
    switch.classify(segment(1))
    switch.deliver_all(segment(1))
    switch.add("mark.segments", {"segment": segment(1)}, "set_dscp", {"dscp": 9})
    assert switch.one(ether(IP() / UDP()))[1] == bytes(ether(IP() / UDP()))
    assert switch.hits("mark.segments") == 0

"""vlan: one tag more or less, by segment, in front of the filters' successors and behind the router."""

from __future__ import annotations

import pytest
from edge_switch import ether, segment
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Dot1Q
from scapy.packet import Packet
from test_block_mark import GATED, gated

from orchestrator.model.entries import Ternary

PAYLOADS: dict[str, Packet] = {
    "ip": IP() / UDP() / b"data",
    "arp": ARP(op=2),
    "other": Dot1Q() / b"",
}
ONE, TWO, THREE = (Dot1Q(vlan=n, prio=n) for n in (1, 2, 3))


@pytest.mark.parametrize("slot", ["untag", "tag"])
@pytest.mark.parametrize("payload", [PAYLOADS["ip"], PAYLOADS["arp"]])
def test_push(slot: str, payload: Packet) -> None:
    switch = gated(f"{slot}.segments", "push", ether_type=0x8100, pcp=5, vid=100)
    for before in (payload, ONE / payload):
        got = switch.one(ether(before))[1]
        assert got.hex() == bytes(ether(Dot1Q(vlan=100, prio=5) / before)).hex()
    assert switch.send(ether(ONE / TWO / payload)) == []
    assert switch.send(ether(ONE / TWO / THREE / payload)) == []


@pytest.mark.parametrize("slot", ["untag", "tag"])
@pytest.mark.parametrize("payload", [PAYLOADS["ip"], PAYLOADS["arp"]])
def test_pop(slot: str, payload: Packet) -> None:
    switch = gated(f"{slot}.segments", "pop_any", strict=0)
    for before, after in ((ONE / payload, payload), (ONE / TWO / payload, TWO / payload)):
        assert switch.one(ether(before))[1].hex() == bytes(ether(after)).hex()
    assert switch.one(ether(payload))[1].hex() == bytes(ether(payload)).hex()
    assert switch.send(ether(ONE / TWO / THREE / payload)) == []


@pytest.mark.parametrize("strict", [0, 1])
def test_pop_of_one_vlan(strict: int) -> None:
    switch = gated("tag.segments", "pop", vid=1, strict=strict)
    for other in (PAYLOADS["ip"], TWO / PAYLOADS["ip"], TWO / ONE / PAYLOADS["ip"]):
        left = switch.send(ether(other))
        assert [frame.hex() for _, frame in left] == ([] if strict else [bytes(ether(other)).hex()])
    assert switch.one(ether(ONE / PAYLOADS["ip"]))[1].hex() == bytes(ether(PAYLOADS["ip"])).hex()


def test_rules_behind_it_see_the_tag_that_is_left() -> None:
    for action, vid, tags, seen in (
        ("pop", 1, ONE / TWO, 2), ("pop", 1, ONE, None), ("push", 9, TWO, 9), ("push", 9, None, 9),
    ):  # fmt: skip
        more = {"ether_type": 0x8100, "pcp": 0} if action == "push" else {"strict": 0}
        for asked in (None, 1, 2, 9):
            switch = gated("untag.segments", action, vid=vid, **more)
            key = Ternary(0 if asked is None else 1 << 12 | asked, 0x1FFF)
            switch.add("split.ipv4", {"segment": segment(1 | GATED), "vlan": key}, "deny", {}, 1)
            frame = ether(tags / PAYLOADS["ip"] if tags else PAYLOADS["ip"])
            assert (switch.send(frame) == []) == (asked == seen), (action, asked)

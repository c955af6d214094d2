"""vlan_push and vlan_pop: tags by 802.1Q; reference and runtime against scapy and each other."""

from __future__ import annotations

from typing import Any

import pytest
from nf_bench import Both, ether, mixed_frames
from pydantic import ValidationError
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Dot1Q
from scapy.packet import Packet

from orchestrator.nfs.base import lookup

PAYLOADS: dict[str, Packet] = {"ip": IP() / UDP() / b"data", "arp": ARP()}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_push(payload: Packet) -> None:
    nf = Both("vlan_push", vid=100, pcp=5)
    for before in (payload, Dot1Q(vlan=9, prio=3) / payload):
        port, got = nf.one("inside", ether(before))
        wanted = ether(Dot1Q(vlan=100, prio=5) / before)
        assert (port, bytes(got).hex()) == ("outside", bytes(wanted).hex())
    assert nf.send("inside", ether(Dot1Q(vlan=1) / Dot1Q(vlan=2) / payload)) == []
    assert bytes(nf.one("outside", ether(payload))[1]) == bytes(ether(payload))


def test_push_of_a_service_tag() -> None:
    got = Both("vlan_push", vid=1, type="0x88a8").one("inside", ether(IP() / UDP()))[1]
    assert bytes(got)[12:18].hex() == "88a800010800"


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_pop(payload: Packet) -> None:
    nf = Both("vlan_pop")
    one, two, three = (Dot1Q(vlan=n) for n in (1, 2, 3))
    for before, after in ((one / payload, payload), (two / one / payload, one / payload)):
        assert bytes(nf.one("inside", ether(before))[1]) == bytes(ether(after))
    assert nf.send("inside", ether(three / two / one / payload)) == []
    assert bytes(nf.one("inside", ether(payload))[1]) == bytes(ether(payload))
    assert bytes(nf.one("outside", ether(one / payload))[1]) == bytes(ether(one / payload))


@pytest.mark.parametrize(("others", "left"), [("pass", 1), ("drop", 0)])
def test_pop_of_one_vlan(others: str, left: int) -> None:
    nf = Both("vlan_pop", vid=5, others=others)
    for frame in (ether(IP() / UDP()), ether(Dot1Q(vlan=6, prio=7) / IP() / UDP())):
        assert len(nf.send("inside", frame)) == left
    assert Dot1Q not in nf.one("inside", ether(Dot1Q(vlan=5, prio=7) / IP() / UDP()))[1]


@pytest.mark.parametrize(
    ("nf", "config"), [("vlan_push", {"vid": 3}), ("vlan_pop", {}), ("vlan_pop", {"vid": 5})]
)
def test_runtime_equals_reference(nf: str, config: dict[str, Any]) -> None:
    both = Both(nf, **config)
    for frame in mixed_frames(300, 9):
        for port in ("inside", "outside"):
            both.send(port, frame)


@pytest.mark.parametrize(
    ("nf", "config", "told"),
    [
        ("vlan_push", {}, "vid"),
        ("vlan_push", {"vid": 0}, "greater than or equal to 1"),
        ("vlan_push", {"vid": 4095}, "less than or equal to 4094"),
        ("vlan_push", {"vid": 1, "pcp": 8}, "less than or equal to 7"),
        ("vlan_push", {"vid": 1, "type": "0x9100"}, "'0x8100' or '0x88a8'"),
        ("vlan_pop", {"vid": "5"}, "valid integer"),
        ("vlan_pop", {"others": "keep"}, "'pass' or 'drop'"),
    ],
)
def test_wrong_configs(nf: str, config: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as error:
        lookup(nf).Config.model_validate(config)
    assert told in str(error.value)

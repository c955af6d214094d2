"""ttl_guard: RFC 5082's check of the TTL; reference and runtime against scapy and each other."""

from __future__ import annotations

from typing import Any

import pytest
from nf_bench import Both, ether, mixed_frames
from pydantic import ValidationError
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP

from orchestrator.nfs.ttl_guard import TtlGuardConfig

BGP: dict[str, Any] = {"protocol": "tcp", "dst_port": 179, "min": 255}


def test_gtsm() -> None:
    nf = Both("ttl_guard", rules=[BGP])
    for ttl, passes in ((255, True), (254, False), (0, False)):
        for packet in (IP(ttl=ttl) / TCP(dport=179), IPv6(hlim=ttl) / TCP(dport=179)):
            assert bool(nf.send("inside", ether(packet))) == passes
        assert nf.send("inside", ether(IP(ttl=ttl) / TCP(dport=180)))
        assert nf.send("outside", ether(IP(ttl=ttl) / TCP(dport=179)))


@pytest.mark.parametrize(("ttl", "wanted"), [(0, 10), (9, 10), (10, 10), (64, 64), (255, 64)])
def test_clamped(ttl: int, wanted: int) -> None:
    nf = Both("ttl_guard", rules=[{"min": 10, "max": 64, "action": "clamp"}])
    for before, after in (
        (IP(ttl=ttl) / UDP(), IP(ttl=wanted) / UDP()),
        (IPv6(hlim=ttl) / UDP(), IPv6(hlim=wanted) / UDP()),
    ):
        assert bytes(nf.one("inside", ether(before))[1]) == bytes(ether(after))
    assert nf.one("inside", ether(ARP()))[0] == "outside"


@pytest.mark.parametrize("reverse", ["pass", "mirror", "same"])
def test_runtime_equals_reference(reverse: str) -> None:
    rules = [
        {"protocol": "tcp", "dst_port": "3-5", "min": 3, "max": 200},
        {"protocol": "udp", "min": 2, "max": 254, "action": "clamp"},
        {"later_fragment": True, "min": 64},
    ]
    nf = Both("ttl_guard", rules=rules, reverse=reverse)
    for frame in mixed_frames(600, 8):
        for port in ("inside", "outside"):
            nf.send(port, frame)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"rules": []}, "rules"),
        ({"rules": [{"protocol": "tcp"}]}, "every TTL would do"),
        ({"rules": [{"min": 9, "max": 8}]}, "min 9 is above max 8"),
        ({"rules": [{"min": 256}]}, "less than or equal to 255"),
        ({"rules": [{"min": 1, "action": "reject"}]}, "'drop' or 'clamp'"),
    ],
)
def test_wrong_configs(config: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as error:
        TtlGuardConfig.model_validate(config)
    assert told in str(error.value)

"""dscp_marker: RFC 2474's six bits; reference and runtime against scapy and against each other."""

from __future__ import annotations

from typing import Any

import pytest
from nf_bench import Both, ether, mixed_frames
from pydantic import ValidationError
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q

from orchestrator.nfs.base import lookup
from orchestrator.nfs.dscp_marker import DscpMarkerConfig

A, B = "10.0.1.11", "198.51.100.13"
RULES: list[dict[str, Any]] = [
    {"protocol": "tcp", "dst_port": 22, "dscp": "CS2"},
    {"src": "10.0.1.0/24", "dscp": "AF41"},
    {"version": 6, "dscp": 46},
]


@pytest.mark.parametrize("ecn", range(4))
@pytest.mark.parametrize("before", [0, 46, 63])
def test_ecn_stays_and_the_checksum_is_right(ecn: int, before: int) -> None:
    nf = Both("dscp_marker", rules=RULES)
    for layers, dscp in (
        (IP(src=A, dst=B, tos=before << 2 | ecn) / TCP(dport=22), 16),
        (IP(src=A, dst=B, tos=before << 2 | ecn) / UDP(), 34),
        (IP(src=B, dst=A, tos=before << 2 | ecn) / UDP(), before),
        (IPv6(tc=before << 2 | ecn, fl=0xFFFFF) / UDP(), 46),
    ):
        wanted = layers.copy()
        wanted.fields["tos" if IP in wanted else "tc"] = dscp << 2 | ecn
        port, got = nf.one("inside", ether(layers))
        assert (port, bytes(got).hex()) == ("outside", bytes(ether(wanted)).hex())


def test_default_and_what_has_no_dscp() -> None:
    nf = Both("dscp_marker", rules=RULES[:1], default="EF")
    assert nf.one("inside", ether(IP(src=B, dst=A) / UDP()))[1][IP].tos == 46 << 2
    assert nf.one("inside", ether(Dot1Q(vlan=3) / IP(src=B) / UDP()))[1][IP].tos == 46 << 2
    arp = ether(ARP(pdst=A))
    assert bytes(nf.one("inside", arp)[1]) == bytes(arp)


@pytest.mark.parametrize(("reverse", "dscp"), [("pass", 0), ("mirror", 16), ("same", 0)])
def test_the_other_direction(reverse: str, dscp: int) -> None:
    nf = Both("dscp_marker", rules=RULES[:1], reverse=reverse)
    port, got = nf.one("outside", ether(IP(src=B, dst=A) / TCP(sport=22, dport=9)))
    assert (port, got[IP].tos >> 2) == ("inside", dscp)


@pytest.mark.parametrize("reverse", ["pass", "mirror", "same"])
def test_runtime_equals_reference(reverse: str) -> None:
    rules = [
        {"protocol": "tcp", "dst_port": "3-5", "dscp": 10},
        {"src": "10.0.1.8/29", "dscp": 0},
        {"later_fragment": True, "dscp": 63},
        {"version": 6, "protocol": "udp", "dscp": 1},
    ]
    nf = Both("dscp_marker", rules=rules, default=33, reverse=reverse)
    for frame in mixed_frames(600, 7):
        for port in ("inside", "outside"):
            nf.send(port, frame)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "neither rules nor a default"),
        ({"default": 64}, "64 is not a DSCP (0..63)"),
        ({"default": "AF44"}, "did you mean 'AF4"),
        ({"rules": [{"protocol": "tcp"}]}, "rules.0.dscp"),
        ({"rules": [{"dscp": 1, "protcol": "tcp"}]}, "rules.0.protcol"),
        ({"rules": [{"dscp": 1, "protocol": "icmp", "dst_port": 1}]}, "can never match"),
        ({"default": 1, "reverse": "both"}, "'pass', 'mirror' or 'same'"),
    ],
)
def test_wrong_configs(config: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as error:
        DscpMarkerConfig.model_validate(config)
    assert told in str(error.value)


def test_elements() -> None:
    cls = lookup("dscp_marker")
    always = cls("nf", DscpMarkerConfig(default=46)).elements("inside")
    assert list(always.elements) == ["dscp46"]
    some = cls("nf", DscpMarkerConfig.model_validate({"rules": RULES})).elements("inside")
    assert list(some.elements) == ["select", "dscp16", "dscp34", "dscp46"]

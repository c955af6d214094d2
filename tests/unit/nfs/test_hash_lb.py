"""hash_lb: every flow keeps its backend, all its packets; reference and runtime against each other."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from nf_bench import Both, ether, mixed_frames
from pydantic import ValidationError
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
from scapy.layers.l2 import ARP

from orchestrator.nfs.hash_lb import HashLbConfig, HashVirtual, bucket_table

VIP, VIP6 = "203.0.113.10", "2001:db8:ff::10"
BACKENDS = [f"10.0.1.{n}" for n in range(11, 16)]
CLIENTS = [f"198.51.100.{n}" for n in range(1, 101)]


def config(**more: Any) -> dict[str, Any]:
    virtual = {"address": VIP, "backends": [{"address": b} for b in BACKENDS], **more}
    virtual6 = {
        "address": VIP6,
        "backends": [{"address": "2001:db8::1"}, {"address": "2001:db8::2"}],
    }
    return {"virtual": [virtual, virtual6]}


def test_there_and_back() -> None:
    nf = Both("hash_lb", **config(hash="ports"))
    chosen: set[str] = set()
    for client in CLIENTS:
        port, got = nf.one("outside", ether(IP(src=client, dst=VIP) / TCP(sport=9, dport=80)))
        backend = got[IP].dst
        assert port == "inside"
        assert bytes(got) == bytes(ether(IP(src=client, dst=backend) / TCP(sport=9, dport=80)))
        reply = ether(IP(src=backend, dst=client) / TCP(sport=80, dport=9))
        port, got = nf.one("inside", reply)
        assert bytes(got) == bytes(ether(IP(src=VIP, dst=client) / TCP(sport=80, dport=9)))
        chosen.add(backend)
    assert chosen == set(BACKENDS)


@pytest.mark.parametrize("kind", ["addresses", "ports"])
def test_all_fragments_of_a_datagram_go_one_way(kind: str) -> None:
    nf = Both("hash_lb", **config(hash=kind))
    for client in CLIENTS[:30]:
        pieces = fragment(IP(src=client, dst=VIP) / UDP(sport=1, dport=2) / (b"x" * 400), 64)
        assert len({nf.one("outside", ether(piece))[1][IP].dst for piece in pieces}) == 1


def test_errors_about_a_flow_come_to_its_backend() -> None:
    nf = Both("hash_lb", **config())
    for client in CLIENTS[:30]:
        backend = nf.one("outside", ether(IP(src=client, dst=VIP) / UDP()))[1][IP].dst
        quoted = IP(src=VIP, dst=client) / UDP()
        error = IP(src="192.0.2.1", dst=VIP) / ICMP(type=3, code=4) / quoted
        assert nf.one("outside", ether(error))[1][IP].dst == backend
    quoted6 = IPv6(src=VIP6, dst="2001:db8:2::1") / UDP()
    flow = ether(IPv6(src="2001:db8:2::1", dst=VIP6) / UDP())
    error = ether(IPv6(src="2001:db8:9::9", dst=VIP6) / ICMPv6DestUnreach() / quoted6)
    assert nf.one("outside", error)[1][IPv6].dst == nf.one("outside", flow)[1][IPv6].dst


def test_shares_follow_weights_and_few_buckets_move() -> None:
    def table(*weights: int) -> tuple[int, ...]:
        backends = [
            {"address": b, "weight": w} for b, w in zip(BACKENDS, weights, strict=False) if w
        ]
        return bucket_table(HashVirtual.model_validate({"address": VIP, "backends": backends}))

    even, weighted, without = table(1, 1, 1, 1, 1), table(2, 1, 1, 1), table(1, 1, 0, 1, 1)
    assert sorted(Counter(even).values()) == [50, 50, 50, 50, 51]
    shares = sorted(Counter(weighted).values())
    assert shares[-1] in (100, 101)
    gone = 0x0A00010D
    moved = sum(a != b for a, b in zip(even, without, strict=True) if a != gone)
    assert moved < 0.25 * 201


def test_others_pass() -> None:
    nf = Both("hash_lb", **config())
    for port in ("inside", "outside"):
        for frame in (ether(IP(src="1.2.3.4", dst="5.6.7.8") / UDP()), ether(ARP(pdst=VIP))):
            assert bytes(nf.one(port, frame)[1]) == bytes(frame)


@pytest.mark.parametrize("kind", ["addresses", "ports"])
def test_runtime_equals_reference(kind: str) -> None:
    backends = [
        {"address": "10.0.1.2"},
        {"address": "10.0.1.3", "weight": 3},
        {"address": "9.9.9.9"},
    ]
    virtual = [{"address": "10.0.1.1", "backends": backends, "hash": kind}]
    nf = Both("hash_lb", virtual=virtual)
    for frame in mixed_frames(800, 10):
        for port in ("inside", "outside"):
            nf.send(port, frame)


@pytest.mark.parametrize(
    ("virtual", "told"),
    [
        ([], "at least 1 item"),
        ([{"address": VIP, "backends": []}], "at least 1 item"),
        ([{"address": VIP, "backends": [{"address": VIP6}]}], "different IP versions"),
        ([{"address": VIP, "backends": [{"address": "10.0.0.1"}] * 2}], "use its weight"),
        ([{"address": VIP, "backends": [{"address": VIP}]}], "is virtual[0].address, too"),
        ([{"address": VIP, "backends": [{"address": "1.1.1.1", "weight": 0}]}], "weight"),
        (
            [
                {"address": VIP, "backends": [{"address": "10.0.0.1"}]},
                {"address": "203.0.113.11", "backends": [{"address": "10.0.0.1"}]},
            ],
            "virtual[1].backends[0]: 10.0.0.1 is virtual[0].backends[0], too",
        ),
    ],
)
def test_wrong_configs(virtual: list[Any], told: str) -> None:
    with pytest.raises(ValidationError) as error:
        HashLbConfig.model_validate({"virtual": virtual})
    assert told in str(error.value)

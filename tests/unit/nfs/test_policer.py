"""policer: RFC 2698 and RFC 2697; reference and runtime against the RFCs' figures and each other."""

from __future__ import annotations

import random
from typing import Any

import pytest
from nf_bench import Both, ether, mixed_frames
from pydantic import ValidationError
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP

from orchestrator.model.elements import StatefulProgram
from orchestrator.nfs.policer import Policer, PolicerConfig

MS = 1000


def frame(size: int, tos: int = 0) -> bytes:
    return bytes(
        ether(IP(src="10.0.1.11", dst="198.51.100.13", tos=tos) / UDP() / bytes(size - 42))
    )


def colours(nf: Both, sizes: list[int], port: str = "inside") -> list[str]:
    """G, Y (DSCP 1) or R (DSCP 2) for frames that come at once."""
    names = {0: "G", 1: "Y", 2: "R"}
    return [names[nf.one(port, frame(size))[1][IP].tos >> 2] for size in sizes]


def test_burst_then_rate() -> None:
    nf = Both("policer", rules=[{"rate": "800kbit/s", "burst": 1000}])
    assert [bool(nf.send("inside", frame(400))) for _ in range(4)] == [True, True, False, False]
    nf.now_us += 2 * MS  # 100 bytes a millisecond: 200 + 200
    assert [bool(nf.send("inside", frame(200))) for _ in range(3)] == [True, True, False]
    nf.now_us += 1000 * MS  # never more than the burst
    assert [bool(nf.send("inside", frame(500))) for _ in range(3)] == [True, True, False]


def test_two_rates_three_colours() -> None:
    rule = {"rate": "80kbit/s", "burst": 1000, "peak_rate": "160kbit/s", "peak_burst": 2000}
    nf = Both("policer", rules=[{**rule, "yellow": 1, "red": 2}])
    assert colours(nf, [500] * 5) == ["G", "G", "Y", "Y", "R"]
    nf.now_us += 50 * MS  # 500 committed, 1,000 peak
    assert colours(nf, [500] * 3) == ["G", "Y", "R"]


def test_a_red_frame_takes_no_tokens() -> None:
    rule = {"rate": 8, "burst": 1000, "peak_rate": 8, "peak_burst": 600, "red": 2}
    nf = Both("policer", rules=[rule])
    assert colours(nf, [700, 600, 500]) == ["R", "G", "R"]


def test_one_rate_and_an_excess_burst() -> None:
    rule = {"rate": "80kbit/s", "burst": 1000, "excess_burst": 600, "yellow": 1, "red": 2}
    nf = Both("policer", rules=[rule])
    assert colours(nf, [500] * 4) == ["G", "G", "Y", "R"]
    nf.now_us += 150 * MS  # 1,500: 1,000 committed, then 500 in excess beside the 100 left
    assert colours(nf, [500] * 4) == ["G", "G", "Y", "R"]


def test_directions_and_rules_have_meters_of_their_own() -> None:
    rules = [{"dst": "198.51.100.13/32", "rate": 8, "burst": 100}, {"rate": 8, "burst": 100}]
    nf = Both("policer", rules=rules, reverse="same")
    other = bytes(ether(IP(src="10.0.1.11", dst="9.9.9.9") / UDP() / bytes(58)))
    for port in ("inside", "outside"):
        for sent in (frame(100), other):
            assert nf.send(port, sent)
            assert not nf.send(port, sent)
    one_way = Both("policer", rules=rules)
    assert all(one_way.send("outside", frame(100)) for _ in range(5))


def test_what_is_not_ip_is_metered_and_cannot_be_marked() -> None:
    nf = Both("policer", rules=[{"rate": 8, "burst": 64, "red": 3}])
    arp = bytes(ether(ARP())) + bytes(40)
    assert nf.send("inside", arp) == [("outside", arp)]


@pytest.mark.parametrize("reverse", ["pass", "mirror", "same"])
def test_runtime_equals_reference(reverse: str) -> None:
    rules = [
        {"protocol": "tcp", "rate": 123_457, "burst": 777, "red": "AF13"},
        {"version": 6, "rate": 99_999, "burst": 500, "excess_burst": 900, "yellow": "drop"},
        {"rate": 54_321, "burst": 600, "peak_rate": 111_111, "peak_burst": 700, "yellow": 0},
    ]
    nf, rng = Both("policer", rules=rules, reverse=reverse), random.Random(5)
    for sent in mixed_frames(1500, 11):
        nf.now_us += rng.randrange(3_000)
        nf.send(rng.choice(("inside", "outside")), sent)
    drops = sum(nf.runtime.drops.values())
    assert drops > 30


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"rate": 100}, "burst"),
        ({"rate": 100, "burst": 63}, "greater than or equal to 64"),
        ({"rate": "5 parsecs", "burst": 64}, "unknown unit 'parsecs'"),
        ({"rate": 0, "burst": 64}, "at least 8 bit/s"),
        ({"rate": 100, "burst": 64, "peak_rate": 200}, "go together"),
        ({"rate": 300, "burst": 64, "peak_rate": 200, "peak_burst": 64}, "is below rate 300"),
        (
            {"rate": 9, "burst": 64, "peak_rate": 20, "peak_burst": 64, "excess_burst": 64},
            "either a peak rate",
        ),
        ({"rate": 100, "burst": 64, "yellow": "drop"}, "yellow needs"),
        ({"rate": 100, "burst": 64, "red": "AF99"}, "unknown DSCP 'AF99'"),
    ],
)
def test_wrong_configs(rule: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as error:
        PolicerConfig.model_validate({"rules": [rule]})
    assert told in str(error.value)


def test_an_excess_burst_needs_a_server() -> None:
    rules = [{"rate": 100, "burst": 64, "excess_burst": 64}]
    program = Policer("nf", PolicerConfig.model_validate({"rules": rules})).elements("inside")
    (element,) = program.elements.values()
    assert isinstance(element.program, StatefulProgram)
    assert "two rates" in element.program.reason

"""ids: which packets it inspects, how it reassembles, what it drops."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nf_bench import Bench, Both, ether
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.l2 import Dot1Q
from scapy.packet import Raw

from orchestrator.model.elements import FilterProgram
from orchestrator.nfs.ids import content_bytes
from orchestrator.nfs.ids_reference import IdsReference

SIGNATURES = [
    {"id": 1, "content": "evil|0d 0a|words", "protocol": "tcp", "ports": ["80", "8000-8100"]},
    {"id": 2, "content": "tunnel", "protocol": "udp", "ports": ["53"]},
    {"id": 3, "content": "other", "protocol": "tcp", "ports": ["9000"]},
]
EVIL = b"evil\r\nwords"


def ids(**config: Any) -> Bench:
    return Bench("ids", {"signatures": SIGNATURES, **config})


def segment(seq: int, data: bytes = b"", flags: str = "A", dport: int = 80) -> Any:
    packet = IP(src="10.0.1.11", dst="198.51.100.13") / TCP(
        sport=1000, dport=dport, seq=seq % 2**32, flags=flags
    )
    return packet / Raw(data) if data else packet


def answer(seq: int, data: bytes = b"", flags: str = "A") -> Any:
    packet = IP(dst="10.0.1.11", src="198.51.100.13") / TCP(
        dport=1000, sport=80, seq=seq, flags=flags
    )
    return packet / Raw(data) if data else packet


def test_content_with_hex() -> None:
    assert content_bytes("a|00 ff|b") == b"a\x00\xffb"
    for bad in ("a|0", "|zz|", ""):
        with pytest.raises(ValueError, match=r"closed|hex|empty"):
            content_bytes(bad)


def test_udp_payload_by_payload() -> None:
    bench = ids()
    query = IP() / UDP(sport=1000, dport=53)
    assert not bench.passes("inside", query / Raw(b"a tunnel b"))
    assert bench.passes("inside", query / Raw(b"a tun")), "the next datagram starts anew"
    assert bench.passes("inside", query / Raw(b"nel b"))
    assert bench.passes("inside", IP() / UDP(sport=1, dport=54) / Raw(b"tunnel"))


def test_a_signature_split_over_segments() -> None:
    bench = ids()
    assert bench.passes("inside", segment(100, flags="S"))
    assert bench.passes("inside", segment(101, EVIL[:5]))
    assert not bench.passes("inside", segment(106, EVIL[5:])), "the packet that completes it"
    assert not bench.passes("inside", segment(112, b"more")), "and every later one"
    assert not bench.passes("outside", answer(1, b"page")), "either way"
    assert bench.passes("inside", segment(900, flags="S"))
    assert bench.passes("inside", segment(901, b"good")), "nobody else has ever been heard"


def test_out_of_order_segments_pass_and_wait() -> None:
    bench = ids()
    bench.send("inside", segment(0, flags="S"))
    assert bench.passes("inside", segment(6, EVIL[5:]))
    assert not bench.passes("inside", segment(1, EVIL[:5])), "the hole is filled"


def test_another_copy_of_a_byte_does_not_pass() -> None:
    bench = ids()
    bench.send("inside", segment(0, flags="S"))
    assert bench.passes("inside", segment(3, b"XX"))
    assert not bench.passes("inside", segment(1, EVIL)), "bytes 3 and 4 are XX already"
    assert bench.passes("inside", segment(1, b"evXXother"))
    assert not bench.passes("inside", segment(1, b"eviXother"))


def test_a_fin_before_the_data_does_not_end_the_stream() -> None:
    bench = ids()
    bench.send("inside", segment(0, flags="S"))
    assert bench.passes("inside", segment(1 + len(EVIL), flags="FA"))
    assert not bench.passes("inside", segment(1, EVIL))


def test_limits_of_what_waits() -> None:
    bench = ids()
    bench.send("inside", segment(0, flags="S"))
    for i in range(64):
        assert bench.passes("inside", segment(10 + 2 * i, b"x"))
    assert not bench.passes("inside", segment(1000, b"x")), "the 65th"
    bench = ids()
    bench.send("inside", segment(0, flags="S"))
    for i in range(2):
        assert bench.passes("inside", segment(10 + 60_000 * i, bytes(60_000)))
    assert not bench.passes("inside", segment(500_000, bytes(20_000))), "beyond 128 KiB"


def test_a_stream_begins_in_the_middle_and_sequence_numbers_wrap() -> None:
    bench = ids()
    assert bench.passes("inside", segment(2**32 - 3, EVIL[:5]))
    assert not bench.passes("inside", segment(2, EVIL[5:]))


def test_only_the_signatures_of_the_connections_ports() -> None:
    bench = ids()
    assert bench.passes("inside", segment(1, b"other"))
    assert not bench.passes("inside", segment(1, b"other", dport=9000))
    assert ids().passes("inside", segment(1, EVIL, dport=9000))


def test_a_reset_ends_nothing_and_idleness_forgets() -> None:
    bench = ids()
    bench.send("inside", segment(1, EVIL[:5]))
    assert bench.passes("inside", segment(6, flags="R"))
    assert not bench.passes("inside", segment(6, EVIL[5:]))
    for action in ("drop", "alert"):
        bench = ids(action=action)
        bench.send("inside", segment(1, EVIL[:5]))
        bench.wait(7440)
        passes = bench.passes("inside", segment(6, EVIL[5:]))
        assert passes == (action == "alert"), "what is unknown does not pass where one can drop"


def test_alert_only_counts() -> None:
    bench = ids(action="alert")
    assert bench.passes("inside", segment(1, EVIL))
    assert bench.reference.alerts == 1  # type: ignore[attr-defined]


def test_later_fragments_pass() -> None:
    assert ids().passes("inside", IP(frag=4, proto=17) / Raw(b"tunnel"))


@given(st.lists(st.integers(1, 15), max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_any_cut_and_order_is_caught(cuts: list[int], rng: Any) -> None:
    data = b"xx" + EVIL + b"yyy"
    bounds = sorted({0, len(data), *(c for c in cuts if c < len(data))})
    pieces = [(a, data[a:b]) for a, b in pairwise(bounds)]
    rng.shuffle(pieces)
    bench = ids()
    bench.send("inside", segment(0, flags="S"))
    verdicts = [bench.passes("inside", segment(1 + at, piece)) for at, piece in pieces]
    assert not all(verdicts)


def test_prefilter_is_by_port_and_protocol() -> None:
    elements = ids().function.elements("outside")
    program = elements.elements["prefilter"].program
    assert isinstance(program, FilterProgram)
    assert [str(rule.match) for rule in program.rules] == [
        f"protocol {protocol}, {side} {ports}"
        for protocol, ports in ((6, "80"), (6, "8000-8100"), (6, "9000"), (17, "53"))
        for side in ("src_port", "dst_port")
    ] + [
        *(f"ipv6, protocol {header}" for header in (0, 43, 44, 60)),
        "type 0x8100",
        "type 0x88a8",
    ]
    alert = ids(action="alert").function.elements("outside").elements["prefilter"].program
    assert isinstance(alert, FilterProgram)
    assert alert.rules == program.rules[:-6], "where nothing is dropped, nothing is looked for"


def test_case_and_whose_port_it_is() -> None:
    told = {"id": 7, "content": "Wget/|31|", "protocol": "tcp", "ports": ["80"]}
    bench = Bench("ids", {"signatures": [{**told, "nocase": True, "to": "server"}]})
    assert bench.passes("outside", answer(1, b"wGeT/1")), "not what a server says"
    assert not bench.passes("inside", segment(1, b"x wGeT/1"))
    exact = Bench("ids", {"signatures": [{**told, "to": "client"}]})
    assert exact.passes("inside", segment(1, b"Wget/1"))
    assert exact.passes("outside", answer(1, b"wget/1"))
    assert not exact.passes("outside", answer(7, b"Wget/1"))


UDP_LENGTHS: list[tuple[int, dict[str, Any], bytes, bool]] = [
    (4, {}, b"a tunnel", False),
    (4, {"len": 8 + 4}, b"a tunnel", True),  # the receiver reads four bytes
    (4, {"len": 8 + 9}, b"a tunnel", False),  # it reads none
    (4, {"len": 7}, b"a tunnel", False),
    (4, {"len": 0}, b"a tunnel", False),
    (6, {"len": 0}, b"a tunnel", False),  # it reads all (RFC 2675, 4)
    (6, {"len": 0}, b"harmless", True),
    (6, {"len": 7}, b"harmless", False),
    (4, {"chksum": 0x1234}, b"a tunnel", False),
]


@pytest.mark.parametrize(("version", "fields", "data", "passes"), UDP_LENGTHS)
def test_udp_is_searched_as_a_receiver_reads_it(
    version: int, fields: dict[str, Any], data: bytes, passes: bool
) -> None:
    both = Both("ids", signatures=SIGNATURES)
    ip = IP(src="10.0.1.11", dst="10.0.1.12") if version == 4 else IPv6(dst="2001:db8::1")
    datagram = ip / UDP(sport=1000, dport=53, **fields) / Raw(data)
    assert bool(both.send("inside", ether(datagram))) == passes


def hidden(dport: int) -> list[tuple[Any, bool]]:
    """Frames whose ports only a receiver finds, and whether it does."""
    six = IPv6(src="2001:db8::1", dst="2001:db8::2")
    tcp = TCP(sport=9, dport=dport, flags="S")
    options, route = IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)]), IPv6ExtHdrRouting()
    fragment = IPv6ExtHdrFragment(id=7)
    tags = Dot1Q(vlan=1) / Dot1Q(vlan=2) / Dot1Q(vlan=3)
    return [
        (six / options / tcp, True),
        (six / IPv6ExtHdrHopByHop() / route / options / tcp, True),
        (six / fragment / options / tcp, True),
        (six / options / IPv6ExtHdrFragment(id=7, m=1) / tcp, True),
        (six / options / IPv6ExtHdrFragment(id=7, offset=1) / Raw(b"\0" * 8), False),
        (six / options / UDP(sport=9, dport=dport) / Raw(b"0123456789"), False),
        (six / options / ICMPv6EchoRequest(), False),
        (six / IPv6ExtHdrDestOpt(nh=6), True),
        (six / IPv6ExtHdrDestOpt(nh=60, len=200) / Raw(b"\0" * 8), True),
        (tags / IP() / tcp, True),
    ]


@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize("action", ["drop", "alert"])
def test_what_hides_its_ports_does_not_pass_where_one_can_drop(number: int, action: str) -> None:
    signature = {"id": 1, "content": "evil", "protocol": "tcp", "ports": ["80"]}
    both = Both("ids", signatures=[signature], action=action)
    frame, hides = hidden(80)[number]
    assert bool(both.send("inside", ether(frame))) == (action == "alert" or not hides)
    if number != 7 and number != 8 and number != 9:
        assert both.send("inside", ether(hidden(81)[number][0])), "no port that is watched"


@pytest.mark.parametrize("action", ["drop", "alert"])
@pytest.mark.slow
def test_the_runtime_does_the_same_with_datagrams(action: str) -> None:
    signatures = [
        {"id": 1, "content": "abca", "protocol": "tcp", "ports": ["80"], "to": "server"},
        {"id": 2, "content": "BcA", "protocol": "tcp", "nocase": True, "to": "client"},
        {"id": 3, "content": "cab", "protocol": "udp", "ports": ["1000"], "nocase": True},
    ]
    both = Both("ids", signatures=signatures, action=action)
    rng, passed = random.Random(5), 0
    for _ in range(1000):
        data = bytes(rng.choice(b"aabBcCA") for _ in range(rng.randrange(12)))
        there = rng.random() < 0.5
        ports, ends = (1000, 53), ("10.0.1.11", "198.51.100.13")
        step = 1 if there else -1
        ports, ends = ports[::step], ends[::step]
        length = rng.choice((None, None, 8 + len(data), 0, rng.randrange(20)))
        flags = rng.choice((0, 0, 0, 1))
        datagram = UDP(sport=ports[0], dport=ports[1], len=length) / Raw(data)
        frame = bytes(ether(IP(src=ends[0], dst=ends[1], flags=flags) / datagram)).ljust(60, b"\0")
        passed += bool(both.send("inside" if there else "outside", frame))
    assert passed > 150
    assert isinstance(both.bench.reference, IdsReference)
    assert min(both.runtime.metrics()["alerts"], both.bench.reference.alerts) > 10

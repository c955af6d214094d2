"""Header space: the algebra against all packets of a small world; the oracle is `meets`.

Blind spot: fields that no match asks about yet (MACs).
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.compiler.box_index import BoxIndex
from orchestrator.compiler.headerspace import (
    EVERYTHING,
    OTHER,
    SHAPES,
    Box,
    HeaderSet,
    SetTooLarge,
    box_of,
    point,
    words_of,
)
from orchestrator.model.match import UNTAGGED, Match, PortRange, Prefix
from orchestrator.nfs.matching import Headers, matches, meets
from orchestrator.nfs.values import impossible
from orchestrator.oracle.frames import ether_type_of, ethernet, ip, tcp, udp

pytestmark = pytest.mark.slow

BASE = {4: 0x0A000000, 6: 0x20010DB8 << 96}
BITS = {4: 32, 6: 128}
PORTS = (0, 1, 79, 80, 81, 65535)
VLANS = (UNTAGGED, UNTAGGED, 0, 5, 4094)


def world() -> list[tuple[dict[str, int], Headers]]:
    """Packets of two views: as header space has them and as a match sees them."""
    packets: list[tuple[dict[str, int], Headers]] = []

    def add(shape: str, **fields: int) -> None:
        version = fields["version"]
        # Whatever the addresses are: what a rewrite makes of a packet is in this world, too.
        rest = sum(value for name, value in fields.items() if name not in ("src", "dst"))
        fields = {"vlan": VLANS[rest % len(VLANS)], **fields}
        seen = {name: fields.get(name) for name in Headers._fields}
        seen["ether_type"] = fields.get("ether_type", 0) or ether_type_of(version)
        headers = Headers(
            **seen
            | {"src": fields.get("src", 0), "dst": fields.get("dst", 0)}
            | {"later_fragment": shape.endswith("later_fragment")}  # type: ignore[arg-type]
        )
        packets.append(({"shape": 1 << SHAPES.index(shape), **fields}, headers))

    for ether_type in (0x0806, 0x8863):
        add("other", version=0, ether_type=ether_type)
    for version, a, b in itertools.product((4, 6), range(3), range(3)):
        base = {"version": version, "src": BASE[version] + a, "dst": BASE[version] + b}
        for sport, dport in itertools.product((0, 80), PORTS):
            ports = {"src_port": sport, "dst_port": dport}
            for flags in (0, 2, 18):
                add(f"ipv{version} tcp", **base, **ports, protocol=6, tcp_flags=flags)
            add(f"ipv{version} udp", **base, **ports, protocol=17)
        own, strange = (1, 58) if version == 4 else (58, 1)
        for kind, code in itertools.product((0, 3, 8), (0, 1)):
            add(f"ipv{version} icmp", **base, protocol=own, icmp_type=kind, icmp_code=code)
        for protocol in (0, 47, strange):
            add(f"ipv{version} plain", **base, protocol=protocol)
        for protocol in (6, 17, 47, own):
            add(f"ipv{version} later_fragment", **base, protocol=protocol)
    return packets


WORLD = world()


@st.composite
def prefixes(draw: st.DrawFn, version: int) -> Prefix:
    bits = BITS[version]
    length = draw(st.sampled_from((0, 8, bits - 2, bits - 1, bits)))
    value = BASE[version] + draw(st.integers(0, 3))
    return Prefix(version, value >> (bits - length) << (bits - length), length)


@st.composite
def match(draw: st.DrawFn) -> Match:
    version = draw(st.sampled_from((4, 6)))

    def maybe(strategy: st.SearchStrategy[Any]) -> Any:
        return draw(st.none() | strategy)

    ports = st.tuples(st.sampled_from(PORTS), st.sampled_from(PORTS)).map(
        lambda pair: PortRange(min(pair), max(pair))
    )
    mask = st.sampled_from((0, 2, 16, 18))
    return Match(
        ether_type=maybe(st.sampled_from((0x0800, 0x86DD, 0x0806))),
        version=maybe(st.sampled_from((4, 6))),
        src=maybe(prefixes(version)),
        dst=maybe(prefixes(version)),
        protocol=maybe(st.sampled_from((6, 17, 1, 58, 47))),
        src_port=maybe(ports),
        dst_port=maybe(ports),
        tcp_flags=maybe(st.tuples(st.sampled_from((0, 2, 16, 18)), mask).map(_under_mask)),
        later_fragment=maybe(st.booleans()),
        icmp_type=maybe(st.sampled_from((0, 3, 8))),
        icmp_code=maybe(st.sampled_from((0, 1))),
        vlan=maybe(st.sampled_from(VLANS)),
    )


def _under_mask(flags: tuple[int, int]) -> tuple[int, int]:
    return flags[0] & flags[1], flags[1]


def members(space: HeaderSet) -> set[int]:
    return {i for i, (packet, _) in enumerate(WORLD) if space.contains(packet)}


def met(*asked: Match) -> set[int]:
    return {i for i, (_, headers) in enumerate(WORLD) if any(meets(m, headers) for m in asked)}


ALL = set(range(len(WORLD)))
some = st.lists(match(), max_size=4)


@settings(max_examples=300, deadline=None)
@given(match())
def test_a_match_is_one_box(asked: Match) -> None:
    assert members(HeaderSet.of(asked)) == met(asked)
    if impossible(asked) is not None:
        assert box_of(asked) is None


@settings(max_examples=150, deadline=None)
@given(some, some)
def test_the_algebra_is_that_of_sets(first: list[Match], second: list[Match]) -> None:
    a, b = HeaderSet.of(*first), HeaderSet.of(*second)
    assert members(a.unite(b)) == met(*first, *second)
    assert members(a.intersect(b)) == met(*first) & met(*second)
    assert members(a.subtract(b)) == met(*first) - met(*second)
    assert members(HeaderSet((EVERYTHING,)).subtract(a)) == ALL - met(*first)
    assert a.subtract(b).unite(a.intersect(b)).within(a)
    assert a.within(a.subtract(b).unite(a.intersect(b)))
    assert not a.subtract(a)


@settings(max_examples=150, deadline=None)
@given(some)
def test_the_boxes_of_a_set_are_disjoint_and_none_is_empty(asked: list[Match]) -> None:
    rest = HeaderSet((EVERYTHING,)).subtract(HeaderSet.of(*asked))
    for one, two in itertools.combinations(rest.boxes, 2):
        assert one.intersect(two) is None
    for box in rest.boxes:
        assert box.contains(box.sample()), words_of(box)


@settings(max_examples=100, deadline=None)
@given(some, st.sampled_from((4, 6)), st.sampled_from(("src", "dst")), st.data())
def test_translation_is_that_of_every_packet(
    asked: list[Match], version: int, field: str, data: st.DataObject
) -> None:
    olds = data.draw(st.lists(st.integers(0, 2), unique=True, max_size=2))
    base = BASE[version]
    pairs = [(version, base + old, base + data.draw(st.integers(0, 2))) for old in olds]
    becomes = {old: new for _, old, new in pairs}

    def image(packet: dict[str, int]) -> dict[str, int]:
        if packet["version"] != version:
            return packet
        return packet | {field: becomes.get(packet[field], packet[field])}

    space = HeaderSet.of(*asked)
    images = {tuple(sorted(image(WORLD[i][0]).items())) for i in met(*asked)}
    after = space.rewritten(field, pairs)
    assert {tuple(sorted(p.items())) for p, _ in WORLD if after.contains(p)} == images
    before = space.before_rewrite(field, pairs)
    for packet, _ in WORLD:
        assert before.contains(packet) == space.contains(image(packet))


@settings(max_examples=60, deadline=None)
@given(st.lists(match(), max_size=40), match())
def test_the_index_finds_what_a_comparison_with_all_finds(asked: list[Match], one: Match) -> None:
    boxes = [box_of(m) for m in asked]
    wanted = box_of(one) or EVERYTHING
    meeting = BoxIndex(boxes).meeting(wanted)
    assert meeting == [i for i, b in enumerate(boxes) if b is not None and b.intersect(wanted)]


def test_the_empty_set() -> None:
    empty = HeaderSet.of(Match(protocol=1, dst_port=PortRange(80, 80)))
    assert not empty
    assert empty.sample() is None
    assert empty.words() == "nothing"
    assert BoxIndex([]).meeting(EVERYTHING) == []


def test_a_fragment_has_no_ports_and_the_complement_of_a_port_keeps_it() -> None:
    web = HeaderSet.of(Match(version=4, protocol=6, dst_port=PortRange(80, 80)))
    rest = HeaderSet.of(Match(version=4, protocol=6)).subtract(web)
    later = {"shape": 1 << SHAPES.index("ipv4 later_fragment"), "version": 4}
    later |= {"src": 1, "dst": 2, "protocol": 6}
    assert rest.contains(later)
    assert not web.contains(later)


def test_a_set_that_grows_beyond_its_limit_says_so() -> None:
    small = HeaderSet((EVERYTHING,), limit=3)
    hole = HeaderSet.of(Match(dst=Prefix(4, 0x0A000000, 32), dst_port=PortRange(80, 80)))
    with pytest.raises(SetTooLarge, match="more than 3 boxes"):
        small.subtract(hole)


def test_ethernet_and_vlan_are_fields_too() -> None:
    tagged: Box = point(
        {"shape": OTHER, "vlan": 7, "eth_dst": 0xFFFFFFFFFFFF, "ether_type": 0x0806}
    )
    assert words_of(tagged).startswith("not IP, eth_dst")
    left = HeaderSet((EVERYTHING,)).subtract(HeaderSet((tagged,)))
    assert not left.contains(tagged.sample())
    assert left.contains(tagged.sample() | {"vlan": 8})


def test_words() -> None:
    asked = Match(dst=Prefix(4, 0x0A000000, 8), protocol=6, dst_port=PortRange(80, 443))
    assert HeaderSet.of(asked).words() == ("ipv4 tcp, dst 10.0.0.0/8, dst_port 80-443")
    assert HeaderSet.of(Match(version=6)).words() == "ipv6"
    assert HeaderSet((EVERYTHING,)).words() == "any packet"


def test_real_frames_are_where_their_match_says() -> None:
    asked = Match(version=4, protocol=6, dst_port=PortRange(80, 80))
    from orchestrator.model.packet import Packet

    for l4, protocol in ((tcp(1, 80), 6), (udp(1, 80), 17)):
        frame = ethernet(ip(4, 1, 2, protocol, l4), 0x0800, src=1)
        assert matches(asked, Packet.parse(frame)) == (protocol == 6)

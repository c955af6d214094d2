"""Decision diagrams against a plain reading of the rules: the first that matches decides.

The diagram is walked as p4src/blocks/tree.p4 does it: level by level, longest prefix in each.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from orchestrator.compiler import numbering
from orchestrator.compiler.decision import (
    CHOICES,
    Builder,
    Shape,
    TooLarge,
    shape_of,
)
from orchestrator.compiler.forms import diagram_of
from orchestrator.memo import Memo
from orchestrator.model.decision import WORDS, Diagram
from orchestrator.model.elements import FilterProgram, FilterRule
from orchestrator.model.match import UNTAGGED, Match, PortRange, Prefix, range_prefixes
from orchestrator.nfs.matching import Headers, meets
from orchestrator.targets.bmv2 import COSTS as BMV2
from orchestrator.targets.costs import LookupCosts

pytestmark = pytest.mark.slow

ROOM = (1 << 17,) * 5
TREES_AT_ANY_PRICE = LookupCosts(1e6, tree=0, level=0, branch=0, least_gain=0)

prefixes = st.builds(
    lambda value, length: Prefix(4, value >> 32 - length << 32 - length if length else 0, length),
    st.integers(0x0A000000, 0x0A000007),
    st.sampled_from([0, 8, 29, 30, 31, 32]),
)
ports = st.builds(lambda a, b: PortRange(min(a, b), max(a, b)), *[st.integers(0, 9)] * 2)
tcp_udp = st.builds(
    Match,
    src=st.none() | prefixes,
    dst=st.none() | prefixes,
    protocol=st.sampled_from([None, 6, 17]),
    src_port=st.none() | ports,
    dst_port=st.none() | ports,
)
others = st.builds(
    Match,
    src=st.none() | prefixes,
    dst=st.none() | prefixes,
    protocol=st.sampled_from([None, 1, 6, 47]),
    later_fragment=st.sampled_from([None, None, True, False]),
)
icmp = st.builds(
    Match,
    src=st.none() | prefixes,
    protocol=st.sampled_from([None, 1]),
    icmp_type=st.sampled_from([None, 0, 8]),
    icmp_code=st.sampled_from([0, 3]),
)
flags = st.builds(
    lambda dst, mask, value: Match(dst=dst, protocol=6, tcp_flags=(value & mask, mask)),
    st.none() | prefixes,
    st.sampled_from([0x02, 0x12, 0x10, 0x04, 0x80, 0x08, 0xFF, 0]),
    st.integers(0, 255),
)
rules = st.lists(tcp_udp | others | icmp | flags, max_size=14)


@st.composite
def packets(draw: st.DrawFn) -> Headers:
    protocol = draw(st.sampled_from([6, 17, 1, 47]))
    later = draw(st.booleans())
    has_ports = protocol in (6, 17) and not later
    is_icmp = protocol == 1 and not later
    return Headers(
        ether_type=0x0800,
        version=4,
        src=draw(st.integers(0x09FFFFFE, 0x0A000009)),
        dst=draw(st.integers(0x09FFFFFE, 0x0A000009)),
        protocol=protocol,
        src_port=draw(st.integers(0, 10)) if has_ports else None,
        dst_port=draw(st.integers(0, 10)) if has_ports else None,
        tcp_flags=draw(st.integers(0, 255)) if has_ports and protocol == 6 else None,
        later_fragment=later,
        icmp_type=draw(st.sampled_from([0, 8, 13])) if is_icmp else None,
        icmp_code=draw(st.sampled_from([0, 3, 4])) if is_icmp else None,
        vlan=UNTAGGED,
    )


def words_of(packet: Headers) -> dict[str, int]:
    """The words that p4src/blocks/tree.p4 makes."""
    kind, src, dst = 0, 0, 0
    if packet.later_fragment:
        kind = 2
    elif packet.src_port is not None and packet.dst_port is not None:
        kind, src, dst = 1, packet.src_port, packet.dst_port
    elif packet.icmp_type is not None and packet.icmp_code is not None:
        kind, src, dst = 4, packet.icmp_type, packet.icmp_code
    f = packet.tcp_flags or 0
    bits = (
        f >> 1 & 1,
        f >> 4 & 1,
        f >> 2 & 1,
        f & 1,
        f >> 7 & 1,
        f >> 6 & 1,
        f >> 5 & 1,
        f >> 3 & 1,
    )
    return {
        "src": packet.src,
        "dst": packet.dst,
        "service": (packet.protocol or 0) << 24 | kind << 16 | dst,
        "src_port": src << 16,
        "flags": sum(bit << 31 - i for i, bit in enumerate(bits)),
    }


def walk(diagram: Diagram, packet: Headers) -> int:
    """The number of the rule whose verdict a packet comes to."""
    words, at = words_of(packet), diagram.nodes[0].id
    by_id = {node.id: node for node in diagram.nodes}
    for level in range(1, len(diagram.sizes) + 1):
        node = by_id[at]
        if node.level != level:
            continue
        word = words[node.word]
        hits = [b for b in node.branches if not b.length or (word ^ b.value) >> 32 - b.length == 0]
        at = max(hits, key=lambda branch: branch.length).to
        if at < 0:
            return -1 - at
    raise AssertionError("no verdict")


def program_of(matches: list[Match]) -> FilterProgram:
    outputs = ("inside", "drop", "other")
    listed = [FilterRule(m, outputs[i % 3], f"rules[{i}]") for i, m in enumerate(matches)]
    return FilterProgram(tuple(listed), "drop")


def first(matches: list[Match], packet: Headers) -> int:
    return next((i for i, match in enumerate(matches) if meets(match, packet)), len(matches))


@settings(max_examples=300)
@given(rules, st.lists(packets(), min_size=1, max_size=20))
def test_a_diagram_decides_as_the_first_match_does(
    matches: list[Match], seen: list[Headers]
) -> None:
    diagram = diagram_of(program_of(matches), TREES_AT_ANY_PRICE, ROOM, Memo())
    assume(diagram is not None)
    assert diagram is not None
    for packet in seen:
        decided = walk(diagram, packet)
        weighed = next((i for i in diagram.weighed if meets(matches[i], packet)), len(matches))
        assert min(decided, weighed) == first(matches, packet)


@given(rules.filter(bool), packets())
def test_every_choice_of_words_is_right(matches: list[Match], packet: Headers) -> None:
    shapes = [(i, shape_of(match)) for i, match in enumerate([*matches, Match()])]
    suited = {i: shape for i, shape in shapes if shape is not None}
    kept = [
        matches[i] if i in suited else Match(src=Prefix(6, 1, 128)) for i in range(len(matches))
    ]
    for choice in CHOICES:
        builder = Builder(choice)
        root, numbers = builder.build(list(suited.values()), list(suited), 10**6)
        if root < 0:
            continue
        diagram = builder.numbering.diagram(root, numbers, list(suited), ())
        assert walk(diagram, packet) == first(kept, packet)


@given(rules, st.lists(packets(), min_size=1, max_size=9))
def test_ids_that_are_taken_are_left(matches: list[Match], seen: list[Headers]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            numbering,
            "_hashes",
            lambda names, value, length: (names + np.uint64(1) & np.uint64(3)) << np.uint64(8),
        )
        diagram = diagram_of(program_of(matches), TREES_AT_ANY_PRICE, ROOM, Memo())
    assume(diagram is not None and not diagram.weighed)
    assert diagram is not None
    assert len({node.id for node in diagram.nodes}) == len(diagram.nodes)
    assert [walk(diagram, packet) for packet in seen] == [first(matches, p) for p in seen]


@given(rules)
def test_a_builder_that_remembers_makes_the_same(matches: list[Match]) -> None:
    program = program_of(matches)
    fresh = diagram_of(program, TREES_AT_ANY_PRICE, ROOM, Memo())
    other = program_of(
        [replace(m, protocol=6 if m.protocol is None else m.protocol) for m in matches]
    )
    memo = Memo()
    diagram_of(other, TREES_AT_ANY_PRICE, ROOM, memo)
    assert diagram_of(program, TREES_AT_ANY_PRICE, ROOM, memo) == fresh


@given(st.lists(rules, min_size=2, max_size=6), st.integers(2, 40))
def test_a_builder_that_remembers_knows_what_is_too_large(
    versions: list[list[Match]], limit: int
) -> None:
    """Also where the last version was too large, and most of its nodes are known."""

    def built(builder: Builder, shapes: list[Shape]) -> Diagram | int | None:
        numbers = list(range(len(shapes)))
        try:
            root, rows = builder.build(shapes, [*numbers], limit)
        except TooLarge:
            return None
        return root if root < 0 else builder.numbering.diagram(root, rows, numbers, ())

    for choice in CHOICES:
        builder = Builder(choice)
        for matches in versions:
            shapes = [s for m in (*matches, Match()) if (s := shape_of(m)) is not None]
            remembered, fresh = built(builder, shapes), built(Builder(choice), shapes)
            assert remembered == fresh or (isinstance(remembered, int) and isinstance(fresh, int))


@given(rules.filter(bool))
def test_a_diagram_is_well_formed(matches: list[Match]) -> None:
    diagram = diagram_of(program_of(matches), TREES_AT_ANY_PRICE, ROOM, Memo())
    assume(diagram is not None)
    assert diagram is not None
    ids = [(node.level, node.id) for node in diagram.nodes]
    by_id = {node.id: node for node in diagram.nodes}
    assert len(set(ids)) == len(ids)
    sizes: Counter[int] = Counter()
    for node in diagram.nodes:
        sizes[node.level] += len(node.branches)
        assert node.word in WORDS
        assert len({branch[:2] for branch in node.branches}) == len(node.branches)
        assert min(branch.length for branch in node.branches) == 0
        followed = [(by_id[b.to], b.word) for b in node.branches if b.to >= 0]
        assert all(n.level > node.level and n.word == word for n, word in followed)
    assert diagram.sizes == tuple(sizes[level] for level in range(1, 6))


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_prefixes_cover_a_range_and_nothing_else(a: int, b: int) -> None:
    low, high = min(a, b), max(a, b)
    covered = [(v, v + (1 << 16 - n) - 1) for v, n in range_prefixes(low, high)]
    assert covered[0][0] == low
    assert covered[-1][1] == high
    assert all(end + 1 == start for (_, end), (start, _) in pairwise(covered))
    assert len(covered) <= 30


def crossed(count: int) -> list[Match]:
    """Rules that are wild in one address each: every pair of them overlaps, and set pruning explodes."""
    result: list[Match] = []
    for i in range(count):
        address, port = Prefix(4, 0x0A000000 + (i // 2 << 8), 24), PortRange(i, i)
        side = {"src": address} if i % 2 else {"dst": address}
        result.append(Match(**side, protocol=6, dst_port=port))
    return result


def test_what_explodes_is_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    matches = crossed(600)
    shapes = [shape for m in (*matches, Match()) if (shape := shape_of(m))]
    with pytest.raises(TooLarge):
        Builder(CHOICES[0]).build(shapes, list(range(len(shapes))), 20_000)
    monkeypatch.setattr("orchestrator.compiler.decision.MOST_LOOKED_AT", 3_000)
    diagram = diagram_of(program_of(matches), TREES_AT_ANY_PRICE, ROOM, Memo())
    assert diagram is not None
    assert 0 < len(diagram.weighed) < 600
    for last in range(0, 600, 7):
        packet = Headers(
            ether_type=0x0800,
            version=4,
            src=0x0A000001 + (last // 2 << 8),
            dst=0x0A000002 + ((last * 3 % 600) // 2 << 8),
            protocol=6,
            src_port=1,
            dst_port=last,
            tcp_flags=2,
            later_fragment=False,
            icmp_type=None,
            icmp_code=None,
            vlan=UNTAGGED,
        )
        weighed = next((i for i in diagram.weighed if meets(matches[i], packet)), len(matches))
        assert min(walk(diagram, packet), weighed) == first(matches, packet)


def test_a_rule_that_comes_leaves_the_weighed_ones_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orchestrator.compiler.decision.MOST_LOOKED_AT", 3_000)
    matches = crossed(600)

    def weighed(some: list[Match]) -> set[Match]:
        diagram = diagram_of(program_of(some), TREES_AT_ANY_PRICE, ROOM, Memo())
        assert diagram is not None
        return {some[i] for i in diagram.weighed}

    before = weighed(matches)
    for i in range(1, 11):
        src, dst = Prefix(4, 0x0A000000 + i, 32), Prefix(4, 0x0B000000 + i, 32)
        matches.insert(50 * i, Match(src=src, dst=dst, protocol=17))
        assert weighed(matches) == before


def test_a_mix_must_be_much_better(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = replace(BMV2, ternary_entry=1.0)  # the tree itself costs nothing in comparison
    monkeypatch.setattr("orchestrator.compiler.forms._MOST_COPIES", (60_000,))
    diagram = diagram_of(program_of(crossed(600)), costs, ROOM, Memo())
    assert diagram is not None
    assert len(diagram.weighed) < 450
    monkeypatch.setattr("orchestrator.compiler.forms._MOST_COPIES", (20_000,))
    assert diagram_of(program_of(crossed(600)), costs, ROOM, Memo()) is None


def test_a_short_list_stays_ternary_and_so_does_one_without_room() -> None:
    hosts = [Match(dst=Prefix(4, 0x0A000000 + i, 32)) for i in range(2000)]
    assert diagram_of(program_of(hosts[:100]), BMV2, ROOM, Memo()) is None
    diagram = diagram_of(program_of(hosts), BMV2, ROOM, Memo())
    assert diagram is not None
    assert diagram.sizes == (2001, 0, 0, 0, 0)
    assert diagram_of(program_of(hosts), BMV2, (2000, 0, 0, 0, 0), Memo()) is None


def test_a_changed_rule_changes_few_nodes() -> None:
    hosts = [
        Match(dst=Prefix(4, 0x0A000000 + i % 60, 32), protocol=6, dst_port=PortRange(i, i))
        for i in range(600)
    ]
    before = diagram_of(program_of(hosts), TREES_AT_ANY_PRICE, ROOM, Memo())
    hosts[300] = replace(hosts[300], dst_port=PortRange(9000, 9000))
    after = diagram_of(program_of(hosts), TREES_AT_ANY_PRICE, ROOM, Memo())
    assert before is not None
    assert after is not None

    def branches(diagram: Diagram) -> set[tuple[object, ...]]:
        return {(n.level, n.id, b.value, b.length, b.to) for n in diagram.nodes for b in n.branches}

    assert len(branches(before) ^ branches(after)) == 2

"""The numbers of graphs' parts: packed, told apart, in words and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model import ids

SEGMENTS = st.builds(
    ids.SEGMENT.pack, st.sampled_from(ids.GRAPH_IDS), st.integers(0, ids.SEGMENT.size - 1)
)


@given(SEGMENTS)
def test_a_segments_words_name_no_other_one(segment: int) -> None:
    assert ids.parse_segment(ids.segment_words(segment)) == segment


def test_a_gated_segment_is_another_one_than_that_of_its_number() -> None:
    plain = ids.SEGMENT.pack(1, 1)
    assert ids.segment_words(plain) == "1.1"
    assert ids.segment_words(plain | ids.GATED) == "1.1g"


@pytest.mark.parametrize("text", ["1.8192", "01.1", "1.1gg", "1", "1.x", "1.-1", "1024.1", ""])
def test_what_is_no_segment(text: str) -> None:
    assert ids.parse_segment(text) is None


@pytest.mark.parametrize("layout", [ids.SEGMENT, ids.PATH, ids.GROUP, ids.GRAPH])
def test_numbers_of_a_graph_are_its_own(layout: ids.NumberLayout) -> None:
    mine = layout.numbers(5)
    assert len(mine) == layout.size
    assert {layout.graph(n) for n in (mine[0], mine[-1])} == {5}
    assert layout.moved(mine[-1], 2) == layout.numbers(7)[-1]
    assert layout.moved(0, 2) == 0
    for graph_id, own in ((0, 0), (1024, 0), (1, layout.size), (1, -1)):
        with pytest.raises(ValueError, match="does not fit"):
            layout.pack(graph_id, own)


def test_hops_and_tree_nodes_come_back() -> None:
    assert ids.hop(ids.PathPosition(0xABCDEF, 254).number) == (0xABCDEF, 254)
    assert ids.tree_node(ids.TreeNode(0x123456, 7).number) == (0x123456, 7)

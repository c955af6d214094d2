"""Blocks are described once: the shipped pipeline is made of that, and a new block is an addition.

Oracle: the descriptors, the P4 sources beside them, and p4c where it is on PATH. Blind spot: whether a
block's own text keeps what its descriptor says of drops; the packet tests of the blocks see that.
"""

from __future__ import annotations

import re

import pytest

from orchestrator.model.builds import Slot
from orchestrator.model.decision import LEVELS
from orchestrator.resources import shipped
from orchestrator.targets.block import BLOCKS, TREE_LEVELS, Block, filled, nf_blocks
from orchestrator.targets.edge import edge_text
from orchestrator.targets.pipelines import SHIPPED

P4SRC = shipped("p4src")
EDGE = P4SRC / "pipelines" / "edge.p4"


def test_the_shipped_pipeline_is_made_of_the_descriptors() -> None:
    text = EDGE.read_text()
    assert text == filled(text, edge_text()), "stale: run `make p4`"


@pytest.mark.parametrize("block", BLOCKS.values(), ids=lambda block: block.name)
def test_a_descriptor_is_its_source_s(block: Block) -> None:
    """The control takes as many arguments and sizes as it says, and drops only if it says so."""
    source = (P4SRC / "blocks" / f"{block.name}.p4").read_text()
    match = re.search(rf"control {block.name}_block\(([^)]*)\)\s*(?:\(([^)]*)\))?", source)
    assert match is not None
    assert len(match[1].split(",")) == len(block.arguments.split(","))
    assert len((match[2] or "").split(",")) == max(1, len(block.sized))
    assert set(block.sized) <= set(re.findall(r"table (\w+)", source))
    if not block.drops:
        assert not re.search(r"meta\.drop = 1", source)


def test_a_tree_has_a_table_for_each_level() -> None:
    assert len(TREE_LEVELS) == LEVELS
    sizes = SHIPPED.capability("edge", "bmv2").table_sizes
    assert [f"acl.{level}" for level in TREE_LEVELS if f"acl.{level}" not in sizes] == []


def test_what_may_be_dropped_is_asked_before_the_next_block() -> None:
    slots = (Slot("a", "rewrite"), Slot("b", "rewrite"), Slot("c", "vlan"), Slot("d", "rewrite"))
    assert nf_blocks(slots, {}).order == [
        "a.apply(hdr, meta);",
        "b.apply(hdr, meta);",
        "if (meta.drop == 0 && meta.segment[13:13] == 1) {",
        "    c.apply(hdr, meta);",
        "}",
        "if (meta.drop == 0) {",
        "    d.apply(hdr, meta);",
        "}",
    ]

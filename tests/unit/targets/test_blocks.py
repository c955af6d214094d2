"""Blocks are described once: the shipped pipeline is made of that, and a new block is an addition.

Oracle: the descriptors, the P4 sources beside them, and p4c where it is on PATH. Blind spot: whether a
block's own text keeps what its descriptor says of drops; the packet tests of the blocks see that.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from orchestrator.model.builds import Slot
from orchestrator.model.decision import LEVELS
from orchestrator.resources import shipped
from orchestrator.targets.block import BLOCKS, TREE_LEVELS, Block, filled, nf_blocks
from orchestrator.targets.edge import edge_text
from orchestrator.targets.pipelines import SHIPPED

P4SRC = shipped("p4src")
EDGE = P4SRC / "pipelines" / "edge.p4"

TOY = """#ifndef BLOCKS_TOY_P4
#define BLOCKS_TOY_P4

control toy_block(inout headers_t hdr, inout metadata_t meta)(bit<32> entries) {
    DIRECT_COUNTER(segments_counter);

    action refuse() {
        meta.drop = 1;
    }

    table segments {
        key = {
            meta.segment : exact @name("segment");
        }
        actions = {
            refuse;
            NoAction;
        }
        const default_action = NoAction();
        size = entries;
        counters = segments_counter;
    }

    apply {
        segments.apply();
    }
}

#endif
"""


def test_the_shipped_pipeline_is_made_of_the_descriptors() -> None:
    text = EDGE.read_text()
    assert text == filled(text, edge_text()), "stale: run `make p4`"


@pytest.mark.parametrize("block", BLOCKS.values(), ids=lambda block: block.name)
def test_a_descriptor_is_its_source_s(block: Block) -> None:
    """The control takes as many arguments and sizes as it says, and drops only if it says so."""
    source = (P4SRC / "blocks" / f"{block.name}.p4").read_text()
    found = re.search(rf"control {block.name}_block\(([^)]*)\)\s*(?:\(([^)]*)\))?", source)
    assert found is not None
    assert len(found[1].split(",")) == len(block.arguments.split(","))
    assert len((found[2] or "").split(",")) == max(1, len(block.sized))
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


def test_a_new_block_is_its_source_and_its_descriptor(tmp_path: Path) -> None:
    blocks = {**BLOCKS, "toy": Block("toy", sized=("segments",), gated=True)}
    slots = (Slot("edge_fw", "acl"), Slot("my_toy", "toy"), Slot("nat", "rewrite"))
    sizes = {f"edge_fw.{table}": 64 for table in BLOCKS["acl"].sized}
    made = nf_blocks(slots, {**sizes, "my_toy.segments": 512}, blocks)
    assert '#include "../blocks/toy.p4"' in made.files
    assert "toy_block(512) my_toy;" in made.instances
    assert re.findall(r"(\w+)\.apply", "\n".join(made.order)) == ["edge_fw", "my_toy", "nat"]
    compiler = shutil.which("p4c-bm2-ss")
    if compiler is None:
        pytest.skip("p4c-bm2-ss: not installed")
    shutil.copytree(P4SRC, tmp_path / "p4src")
    (tmp_path / "p4src/blocks/toy.p4").write_text(TOY)
    (tmp_path / "p4src/pipelines/edge.p4").write_text(filled(EDGE.read_text(), made))
    info = tmp_path / "info.txtpb"
    command = [compiler, "--Wdisable", "--p4runtime-files", info, "-o", tmp_path / "toy.json"]
    main = "pipelines/edge_v1model.p4"
    subprocess.run([*command, main], cwd=tmp_path / "p4src", check=True)
    assert re.search(r'name: "ingress\.my_toy\.segments"', info.read_text())

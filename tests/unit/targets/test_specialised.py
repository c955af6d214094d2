"""Specialised pipelines: names, text, and that p4c's result is compared with the plan."""

from __future__ import annotations

import re
import shutil

import pytest

from orchestrator.errors import CompileError, EnvironmentMissing
from orchestrator.model.builds import Slot
from orchestrator.targets import lookup, specialised
from orchestrator.targets.edge import EDGE_SLOTS
from orchestrator.targets.pipelines import SHIPPED, Pipelines
from orchestrator.targets.specialised import BlockWanted
from orchestrator.targets.v1model import COMPILER

NEEDS_P4C = pytest.mark.skipif(not shutil.which(COMPILER), reason=f"{COMPILER} is not installed")
BMV2 = lookup("bmv2")
SLOTS = specialised.slots_for(
    [BlockWanted("edge_fw", "inside", "acl"), BlockWanted("border", "inside", "route")], ()
)
NEED = {
    "edge_fw.ipv4": 100,
    "edge_fw.tree.roots": 1,
    "edge_fw.tree.level_1": 3000,
    "border.ipv4": 5000,
}


def names(*wanted: BlockWanted, kept: tuple[Slot, ...] = ()) -> list[str]:
    return [slot.instance for slot in specialised.slots_for(wanted, kept)]


def test_an_instance_is_named_after_its_nf() -> None:
    assert names(BlockWanted("edge_fw", "inside", "acl")) == ["edge_fw"]
    both = names(BlockWanted("nat", "inside", "acl"), BlockWanted("nat", "outside", "acl"))
    assert both == ["nat_inside", "nat_outside"]
    two = names(BlockWanted("lb", "outside", "acl"), BlockWanted("lb", "outside", "rewrite"))
    assert two == ["lb_acl", "lb_rewrite"]


def test_names_are_identifiers_and_nobody_elses() -> None:
    assert names(BlockWanted("edge-fw", "inside", "acl")) == ["edge_fw"]
    assert names(BlockWanted("dispatch", "inside", "acl")) == ["nf_dispatch"]
    assert names(BlockWanted("4to6", "inside", "acl")) == ["nf_4to6"]
    kept = Slot("acl", "acl", "")
    assert names(BlockWanted("acl", "inside", "acl"), kept=(kept,)) == ["acl", "nf_acl"]


def test_a_mirror_comes_first_and_a_tunnel_last() -> None:
    wanted = [("wrap", "tunnel"), ("fw", "acl"), ("tap", "mirror")]
    assert names(*(BlockWanted(nf, "inside", block) for nf, block in wanted)) == [
        "tap",
        "fw",
        "wrap",
    ]


def test_the_text_is_the_shipped_one_but_for_instances_and_their_order() -> None:
    text = specialised.program_text(SLOTS, NEED)
    parts = re.split(r"// NF blocks: \w+\n|// end of NF blocks", text)
    shipped = re.split(r"// NF blocks: \w+\n|// end of NF blocks", specialised.template())
    assert [p.strip() for p in parts[::2]] == [p.strip() for p in shipped[::2]]
    instances = [line.strip() for line in parts[3].splitlines() if line.strip()]
    assert instances == [
        "acl_block(256, 64, 64) edge_fw;",
        '@name("edge_fw.tree")',
        "tree_block(8192, 64, 64, 64, 64) edge_fw_tree;",
        "route_block(8192, 64, 64) border;",
    ]
    assert re.findall(r"(\w+)\.apply", parts[5]) == ["edge_fw", "edge_fw_tree", "border"]


def test_without_p4c_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EnvironmentMissing, match=r"p4c-bm2-ss is not on PATH.*shipped pipeline"):
        specialised.build(SLOTS, NEED, BMV2)


@NEEDS_P4C
def test_p4c_makes_what_was_planned() -> None:
    made = specialised.build(SLOTS, NEED, BMV2)
    assert made == specialised.build(SLOTS, NEED, BMV2)
    pipeline = Pipelines.of([made]).capability(made.name, "bmv2")
    assert pipeline.slots == SLOTS
    for table, count in NEED.items():
        assert count <= pipeline.table_sizes[table] <= max(1024, 3 * count)
    assert (
        pipeline.table_sizes["dispatch.next"]
        == SHIPPED.capability("edge", "bmv2").table_sizes["dispatch.next"]
    )
    assert specialised.rebuilt(made, BMV2)


def test_another_result_than_planned_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    edge = SHIPPED.build("edge", "bmv2")
    other = (edge.p4info_text, edge.device_config)
    monkeypatch.setattr(specialised, "_compiled", lambda text, target: other)
    with pytest.raises(CompileError, match=r"not as planned: table border\.ipv4 should have 5000"):
        specialised.build(SLOTS, NEED, BMV2)
    with pytest.raises(CompileError, match="should have 20000 entries and has 16384"):
        specialised.build(EDGE_SLOTS, {"acl.ipv4": 20_000}, BMV2)


@NEEDS_P4C
def test_what_p4c_says_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = specialised.template().replace("apply {", "apply { nothing();", 1)
    monkeypatch.setattr(specialised, "template", lambda: broken)
    with pytest.raises(CompileError, match="refused the specialised pipeline"):
        specialised.build(SLOTS, NEED, BMV2)

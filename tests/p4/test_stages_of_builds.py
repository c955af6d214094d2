"""What the shipped build says of a pipeline's stages, p4c's own build of that pipeline says, too.

Oracle: p4c: the pipeline with these blocks alone, compiled. Blind spot: a chip's compiler.
"""

from __future__ import annotations

import shutil

import pytest

from orchestrator.fitting.pipelines import fitted
from orchestrator.fitting.stages import Fit, fit
from orchestrator.fitting.steps import Asked, instance_table
from orchestrator.softswitch.ir import program_of
from orchestrator.targets import lookup, specialised, v1model
from orchestrator.targets.pipelines import SHIPPED

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(
        shutil.which(v1model.COMPILER) is None, reason=f"{v1model.COMPILER} is not installed"
    ),
]

NEEDS = (
    {"acl.ipv4": 300, "acl.ipv6": 10},
    {"acl.ipv4": 300, "route.ipv4": 200, "route.ipv6": 5, "route.segments_routed": 2},
    {
        "policer.segments": 2,
        "policer.colours": 4,
        "rewrite.src_ipv4": 20,
        "rewrite.quoted_dst_ipv4": 20,
    },
)


def tables(placement: Fit) -> dict[str, object]:
    return {
        instance_table(placed.name): (placed.first, placed.last, placed.use, placed.entries)
        for placed in placement.placed
        if placed.keyed and placed.entries
    }


@pytest.mark.parametrize("need", NEEDS, ids=lambda need: "+".join(need))
def test_one_build_stands_for_all_of_its_blocks(
    need: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(v1model, "_TIMEOUT_S", 1800)  # p4c without optimisation is slow
    shipped, chip = SHIPPED.planned_build("edge", "tofino2"), lookup("tofino2").chip
    assert chip is not None
    slots = [slot for slot in shipped.slots if any(t.startswith(f"{slot.instance}.") for t in need)]
    made = program_of(specialised.build(slots, need, lookup("bmv2")).device_config)
    entries = dict(chip.sizes)
    for table in made.tables():
        name = instance_table(table.name)
        if any(name.startswith(f"{slot.instance}.") for slot in slots):
            entries[name] = specialised.size_for(need[name]) if name in need else 0
    compiled = fit(made, Asked(entries, chip.elsewhere, chip.known), chip)
    estimate = fitted(shipped, chip, need)
    assert tables(compiled) == tables(estimate)
    assert len(compiled.stages) == len(estimate.stages)
    assert compiled.phv_bits == estimate.phv_bits

"""Stages of a chip: where tables stand by what they depend on, and what they take.

Oracle: dependencies and figures worked out by hand; of one ternary table what p4c's backend said of
it (20,000 entries: 40 blocks of TCAM in two stages; 400,000: 33 stages). Blind spot: whole pipelines,
which no compiler for a chip has been asked about.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from orchestrator.fitting.expressions import FieldWrite
from orchestrator.fitting.memory import part
from orchestrator.fitting.stages import Fit, place
from orchestrator.fitting.steps import ActionWay, Step
from orchestrator.softswitch.ir.program import Key
from orchestrator.targets.chip import Chip

CHIP = Chip("a chip", 12, 4096)


def key(name: str, kind: str = "exact", width: int = 32) -> Key:
    return Key(name, kind, "meta", name, width, None)


def table(
    name: str, keys: str, writes: Mapping[str, str], following: str | None, entries: int = 64
) -> Step:
    """`writes`: field -> the field that it is computed from."""
    made = tuple(
        FieldWrite(("meta", to), frozenset({("meta", by)}) if by else frozenset())
        for to, by in writes.items()
    )
    return Step(
        name,
        (ActionWay(made, following), ActionWay((), following)),
        tuple(map(key, keys.split())),
        entries,
    )


def asks(name: str, field: str, true: str | None, false: str | None) -> Step:
    node = {"type": "field", "value": ("meta", field)}
    return Step(
        name,
        (ActionWay((), true), ActionWay((), false)),
        asks={"op": "d2b", "left": None, "right": node},
    )


def placed(*steps: Step) -> dict[str, tuple[int, int]]:
    fit = place(({step.name: step for step in steps},), CHIP)
    return {step.name: (step.first, step.last) for step in fit.placed}


def ternary(entries: int, width: int) -> Fit:
    step = Step("t", (ActionWay((), None),), (key("k", "ternary", width),), entries)
    return place(({"t": step},), CHIP)


def test_a_table_stands_behind_what_writes_its_key() -> None:
    at = placed(table("a", "x", {"y": ""}, "b"), table("b", "y", {}, None))
    assert at == {"a": (0, 0), "b": (1, 1)}


def test_tables_that_only_follow_each_other_share_a_stage() -> None:
    at = placed(table("a", "x", {"y": ""}, "b"), table("b", "x", {"z": ""}, None))
    assert at == {"a": (0, 0), "b": (0, 0)}


@pytest.mark.parametrize("writes", [{"z": "y"}, {"y": ""}], ids=["reads it", "writes it, too"])
def test_an_action_waits_for_what_it_reads_and_for_what_it_overwrites(
    writes: dict[str, str],
) -> None:
    at = placed(table("a", "x", {"y": ""}, "b"), table("b", "x", writes, None))
    assert at["b"] == (1, 1)


def test_ways_that_exclude_each_other_do_not_wait_for_each_other() -> None:
    at = placed(
        asks("if", "x", "a", "b"),
        table("a", "x", {"y": ""}, "c"),
        table("b", "y", {}, "c"),
        table("c", "y", {}, None),
    )
    assert at == {"if": (0, 0), "a": (0, 0), "b": (0, 0), "c": (1, 1)}


def test_a_condition_waits_for_its_field_and_what_it_guards_for_it() -> None:
    at = placed(
        table("a", "x", {"y": ""}, "if"), asks("if", "y", "b", None), table("b", "x", {}, None)
    )
    assert at == {"a": (0, 0), "if": (1, 1), "b": (1, 1)}


def test_a_wide_condition_takes_several_gateways() -> None:
    narrow, wide = (
        dataclasses.replace(asks("if", "x", "a", "b"), asked_bits=bits) for bits in (44, 45)
    )
    assert (part(narrow, 0).gateways, part(wide, 0).gateways) == (1, 2)


def test_a_full_stage_sends_the_rest_of_a_table_to_the_next() -> None:
    assert part(Step("t", (), (key("k", "ternary", 40),), 512), 512).tcam == 1
    fit = ternary(20_000, 40)
    assert fit.fits
    assert (len(fit.stages), sum(use.tcam for use in fit.stages)) == (2, 40)
    assert fit.stages[0].tcam == CHIP.stage.tcam


def test_what_the_chip_has_no_stage_for_is_counted_and_refused() -> None:
    fit = ternary(400_000, 40)
    assert len(fit.stages) == 33
    assert fit.refused is not None
    assert fit.refused.bound == "tcam"


def test_wide_keys_take_blocks_side_by_side() -> None:
    """44 bits a block, four of them of the version; a key comes by whole bytes."""
    assert [
        part(Step("t", (), (key("k", "ternary", w),), 512), 512).tcam for w in (40, 41, 80, 81)
    ] == [
        1,
        2,
        2,
        3,
    ]


def test_an_exact_table_has_four_ways() -> None:
    small = part(Step("t", (ActionWay((), None),), (key("k"),), 64), 64)
    assert (small.sram, small.tcam, small.hash_bits, small.exact_bytes) == (4, 0, 40, 4)


def test_counters_and_meters_have_map_ram_and_a_spare_block() -> None:
    ways = (ActionWay((), None),)
    plain = part(Step("t", ways, (key("k"),), 4096), 4096)
    counted = part(Step("t", ways, (key("k"),), 4096, counted=True), 4096)
    assert (counted.map_ram - plain.map_ram, counted.sram - plain.sram) == (5, 5)
    metered = part(Step("t", ways, (key("k"),), 4096, metered=True), 4096)
    assert metered.map_ram == 5


def test_a_stage_has_four_units_that_count() -> None:
    five = {
        f"t{i}": dataclasses.replace(
            table(f"t{i}", "x", {}, f"t{i + 1}" if i < 4 else None), counted=True
        )
        for i in range(5)
    }
    fit = place((five,), CHIP)
    assert [use.counters for use in fit.stages] == [4, 1]
    assert fit.placed[-1].bound == "counters"


def test_a_unit_that_counts_reaches_eighteen_blocks() -> None:
    """One is spare, one entry lies in a row: 17,408 entries."""
    ways = (ActionWay((), None),)
    many = [
        part(Step("t", ways, (key("k"),), n, counted=True), n).counters for n in (17_408, 17_409)
    ]
    assert many == [1, 2]


def test_a_key_of_two_tables_comes_to_a_stage_once() -> None:
    fit = place(({"a": table("a", "x", {}, "b"), "b": table("b", "x", {}, None)},), CHIP)
    assert fit.stages[0].exact_bytes == 4
    assert fit.stages[0].logical_tables == 2


def test_ingress_and_egress_share_the_stages() -> None:
    one = {f"t{i}": table(f"t{i}", "x", {}, f"t{i + 1}" if i < 9 else None) for i in range(10)}
    assert len(place((one,), CHIP).stages) == 1
    assert len(place((one, one), CHIP).stages) == 2  # 16 logical tables a stage

"""The shipped blocks on a chip: no table stands where it would not yet see what it looks at.

Oracle: every pair of steps, one of which writes what the other, behind it, looks at; found by walking
the control flow, not by the levels that placement goes by. Blind spot: what the reader left out as
idle.
"""

from __future__ import annotations

import pytest

from orchestrator.fitting.stages import fit
from orchestrator.fitting.steps import Asked, Step, Steps, end_of, steps_of
from orchestrator.softswitch.ir import program_of
from orchestrator.targets.chip import Chip
from orchestrator.targets.pipelines import SHIPPED
from orchestrator.targets.tofino import ELSEWHERE, KNOWN, SIZES

PROGRAM = program_of(SHIPPED.planned_build("edge", "tofino").device_config)
ENDLESS = Chip("endless", 4096, 1 << 20)
NOTHING = {
    f"{instance}.{table}": 0
    for instance, tables in {
        "acl": ("ipv4", "ipv6", "other"),
        "steer": ("ipv4", "ipv6", "other"),
        "split": ("ipv4", "ipv6", "other"),
        "route": ("segments_routed", "ipv4", "ipv6"),
        "policer": ("segments", "colours"),
    }.items()
    for table in tables
}
NEEDS = {
    "an access list": {"acl.ipv4": 500, "acl.ipv6": 64},
    "routes": {"route.segments_routed": 4, "route.ipv4": 30_000, "route.ipv6": 500},
    "a policer and a list": {"policer.segments": 8, "policer.colours": 16, "steer.ipv4": 64},
    "all, as large as shipped": {},
}


def behind(steps: Steps, name: str | None) -> set[str]:
    """What may follow, itself included."""
    reached: set[str] = set()
    todo = [name]
    while todo:
        at = todo.pop()
        if at is not None and at not in reached:
            reached.add(at)
            todo += [way.next for way in steps[at].ways]
    return reached


def written(step: Step) -> set[tuple[tuple[str, str], str | None]]:
    """(field, what comes next) of what is more than another name of a field."""
    return {(w.target, way.next) for way in step.ways for w in way.writes if not w.copy}


@pytest.mark.slow
@pytest.mark.parametrize("need", NEEDS.values(), ids=NEEDS.keys())
def test_what_looks_at_a_field_stands_behind_what_writes_it(need: dict[str, int]) -> None:
    entries = {**SIZES, **(NOTHING if need else {}), **need}
    asked = Asked(entries, ELSEWHERE, KNOWN)
    fit_made = fit(PROGRAM, asked, ENDLESS)
    at = {placed.name: placed for placed in fit_made.placed}
    egress = steps_of(PROGRAM, "egress", asked, end_of(PROGRAM, {}))
    steps = steps_of(PROGRAM, "ingress", asked, end_of(PROGRAM, egress))
    pairs = 0
    for name, step in steps.items():
        for field, following in written(step):
            for other in behind(steps, following):
                if field in steps[other].looked_at:
                    assert at[other].first > at[name].last, f"{other} looks at {field} of {name}"
                    pairs += 1
    assert pairs > 100
    assert not [use for use in fit_made.stages if use.beyond(ENDLESS.stage)]


def test_entries_stand_somewhere_whole() -> None:
    """30,000 routes of a segment and an address: 2 blocks wide, 59 deep."""
    fit_made = fit(
        PROGRAM, Asked({**SIZES, **NOTHING, **NEEDS["routes"]}, ELSEWHERE, KNOWN), ENDLESS
    )
    (routes,) = (placed for placed in fit_made.placed if placed.name == "ingress.route.ipv4")
    assert (routes.entries, routes.use.tcam) == (30_000, 2 * 59)
    assert routes.last - routes.first >= 4, "24 blocks a stage"

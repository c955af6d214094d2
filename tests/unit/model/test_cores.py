"""A core is written one way: printed, read, counted from one."""

from __future__ import annotations

import pytest

from orchestrator.bundle.documents import PlanDocument
from orchestrator.model.plan import Core


@pytest.mark.parametrize("core", [Core("server1", 0), Core("v-1", 11)])
def test_what_is_printed_is_read(core: Core) -> None:
    assert Core.named(str(core)) == core


@pytest.mark.parametrize(
    "text", ["", "server1", "server1.", ".1", "server1.0", "s.01", "s.-1", "s.²"]
)
def test_what_is_no_core(text: str) -> None:
    assert Core.named(text) is None


def test_cores_count_from_one() -> None:
    assert str(Core("server1", 1)) == "server1.2"


def test_loads_of_an_older_bundle_counted_from_zero() -> None:
    said = {
        "device_of": {}, "cores_of": [], "dispatch": [], "tree_of": [], "hops": [], "latency_us": {},
        "core_load": {"server1.0": 0.25}, "status": "OPTIMAL", "objective": 0, "notes": [],
    }  # fmt: skip
    assert PlanDocument.model_validate(said).plan().core_load == {Core("server1", 0): 0.25}

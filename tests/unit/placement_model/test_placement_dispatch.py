"""Traffic classes on cores: balance, and that every packet has one owner.

Oracle: arithmetic on the classes' loads. Blind spot: how real flows hash (test_dispatch_packets).
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.placement.dispatch import BALANCE, HASH_VALUES, deal, proportional

LOADS = st.lists(st.floats(0, 1e10, allow_subnormal=False), min_size=1, max_size=30)


def check_owners(dealt: list, classes: int) -> None:
    """Every hash value of every class has exactly one owner."""
    for index in range(classes):
        slices = sorted((s.low, s.high) for own in dealt for s in own if s.index == index)
        assert slices[0][0] == 0
        assert slices[-1][1] == HASH_VALUES
        assert all(a[1] == b[0] for a, b in pairwise(slices))
        assert all(low < high for low, high in slices)


@given(LOADS, st.integers(1, 40))
def test_cores_are_within_ten_percent_of_the_mean(loads: list[float], cores: int) -> None:
    dealt = deal(loads, cores, float("inf"))
    assert len(dealt) == cores
    check_owners([own.slices for own in dealt], len(loads))
    assert sum(own.share for own in dealt) == pytest.approx(1)
    total = sum(loads)
    if not total:
        return
    load = [
        sum(loads[s.index] * (s.high - s.low) for s in own.slices) / HASH_VALUES for own in dealt
    ]
    # A hash value is the grain: 1/65536 of a class.
    assert max(load) <= BALANCE * total / cores + len(loads) * total / HASH_VALUES
    for own, got in zip(dealt, load, strict=True):
        assert own.share == pytest.approx(got / total, abs=1e-9)


@example([0.0, 1.9144337177276611, 2.564390182495117, 8589934590.126336], 1, 0.0)
@given(LOADS, st.integers(1, 20), st.floats(0, 0.2, allow_subnormal=False))
def test_what_fits_the_budget_stays_within_it(loads: list[float], cores: int, spare: float) -> None:
    total = sum(loads)
    budget = total / cores * (1 + spare)
    load = [
        sum(loads[s.index] * (s.high - s.low) for s in own.slices) / HASH_VALUES
        for own in deal(loads, cores, budget)
    ]
    assert max(load) <= budget * (1 + 1e-9) + len(loads) * total / HASH_VALUES


def test_a_class_that_fits_is_not_divided() -> None:
    dealt = deal([3.0, 2.0, 2.0, 2.0, 1.0], 2, 10.0)
    owners = Counter(s.index for own in dealt for s in own.slices)
    assert set(owners.values()) == {1}
    assert sorted(own.share for own in dealt) == [0.5, 0.5]


def test_only_the_class_that_exceeds_a_core_is_divided() -> None:
    dealt = deal([10.0, 1.0, 1.0], 3, 4.1)
    owners = Counter(s.index for own in dealt for s in own.slices)
    assert owners[0] == 3
    assert owners[1] == owners[2] == 1
    assert max(own.share * 12 for own in dealt) <= 4.1


def test_the_hash_is_divided_no_finer_than_needed() -> None:
    (two,) = {(s.high - s.low) for own in deal([1.0], 4, 1.0) for s in own.slices}
    assert two == HASH_VALUES // 4
    thirds = [s.high - s.low for own in deal([1.0], 3, 1.0) for s in own.slices]
    assert all(width % (HASH_VALUES >> 5) == 0 for width in thirds)


def test_shares_of_cores_that_pools_share() -> None:
    slices = proportional(2, [3.0, 1.0])
    check_owners(list(slices), 2)
    assert [s.high - s.low for s in slices[0]] == [HASH_VALUES * 3 // 4] * 2

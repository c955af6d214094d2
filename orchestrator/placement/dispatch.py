"""Which worker core owns which traffic class.

A class is given whole to one core where that balances; otherwise it is subdivided by the hash of its
state key: each core gets a slice of the 16-bit hash. The goal is Metron's: no core above 1.1 times
the mean, and none above what may be planned on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from orchestrator.placement.problem import ClassSlice, Problem

HASH_VALUES = 1 << 16
"""Values of the hash that subdivides a class."""

BALANCE = 1.1
"""The fullest core may have so much of the mean load."""


@dataclass(frozen=True, slots=True)
class Dealt:
    """What one core owns: slices of classes, and its share of the whole load."""

    slices: tuple[ClassSlice, ...]
    share: float


def class_loads(problem: Problem, pool: str, cycles: Mapping[str, float]) -> list[float]:
    """Cycles/s of each class of a pool, from those of its chains."""
    return [
        sum(cycles.get(chain, 0.0) * part for chain, part in spec.chains.items())
        for spec in problem.classes(pool)
    ]


def deal(loads: Sequence[float], cores: int, budget: float) -> list[Dealt]:
    """Classes with these loads (cycles/s) on so many cores of `budget` cycles/s each.

    Classes that fit a core come first, the largest before the others, each whole on the emptiest
    core. What does not fit is poured over cores, each up to the mean: so there are never more cuts than
    cores. The hash is divided no finer than needed.
    """
    if not loads:
        return [Dealt((), 1 / cores)] * cores
    total = sum(loads)
    if not total:
        loads, total = [1.0] * len(loads), float(len(loads))
    mean = total / cores
    limit = max(mean, min(BALANCE * mean, budget))
    filled = [0.0] * cores
    parts: list[dict[int, float]] = [{} for _ in range(cores)]
    for index in sorted(range(len(loads)), key=lambda i: (loads[i] > limit, -loads[i], i)):
        load = loads[index]
        core = min(range(cores), key=lambda c: (filled[c], c))
        whole = not load or filled[core] + load <= limit  # a rounded sum may exceed it
        portions = {core: 1.0} if whole else _pour(load, filled, mean)
        for at, part in portions.items():
            filled[at] += part * load
            parts[at][index] = part
    slices: list[list[ClassSlice]] = []
    got: list[float] = []
    for bits in range(17):
        slices = _slices(parts, len(loads), bits)
        got = [sum(loads[s.index] * (s.high - s.low) for s in own) / HASH_VALUES for own in slices]
        if slices and max(got) <= limit * (1 + 1e-9):
            break
    return [Dealt(tuple(own), load / total) for own, load in zip(slices, got, strict=True)]


def proportional(classes: int, shares: Sequence[float]) -> list[tuple[ClassSlice, ...]]:
    """Every class cut in the same shares, a slice for each core."""
    bounds = [round(sum(shares[:i]) / sum(shares) * HASH_VALUES) for i in range(len(shares) + 1)]
    return [
        tuple(ClassSlice(index, low, high) for index in range(classes) if low < high)
        for low, high in pairwise(bounds)
    ]


def _pour(load: float, filled: Sequence[float], mean: float) -> dict[int, float]:
    """Parts of a load by core, the emptiest first, each core filled up to the mean."""
    order = sorted(range(len(filled)), key=lambda c: (filled[c], c))
    parts: dict[int, float] = {}
    left = 1.0
    for core in order:
        part = min(left, (mean - filled[core]) / load)
        if part * HASH_VALUES < 1:  # less than a hash value: nothing that could be told apart
            break
        parts[core] = part
        left -= part
    if not parts:
        return {order[0]: 1.0}
    return {core: part / (1 - left) for core, part in parts.items()}


def _slices(
    parts: Sequence[Mapping[int, float]], classes: int, bits: int
) -> list[list[ClassSlice]]:
    """The parts of each class as whole multiples of 2^-bits of its hash; none when it cannot be."""
    units = 1 << bits
    step = HASH_VALUES >> bits
    slices: list[list[ClassSlice]] = [[] for _ in parts]
    for index in range(classes):
        owners = [core for core, part in enumerate(parts) if index in part]
        if len(owners) > units:
            return []
        low = 0
        counts = _apportion([parts[core][index] for core in owners], units)
        for core, count in zip(owners, counts, strict=True):
            slices[core].append(ClassSlice(index, low, low + count * step))
            low += count * step
    return slices


def _apportion(parts: Sequence[float], units: int) -> list[int]:
    """Parts (of 1) as whole units, at least one each, by largest remainder."""
    spare = units - len(parts)
    exact = [part * units - 1 for part in parts]
    wanted = [max(0.0, e) for e in exact]
    scale = spare / sum(wanted) if sum(wanted) else 0.0
    counts = [int(w * scale) for w in wanted]
    order = sorted(range(len(parts)), key=lambda i: (counts[i] - wanted[i] * scale, i))
    for i in range(spare - sum(counts)):
        counts[order[i % len(order)]] += 1
    return [1 + count for count in counts]

"""The placement: which device executes each unit, on which cores, over which trees."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Core:
    """A worker core of a server; `index` counts from 0."""

    server: str
    index: int


@dataclass(frozen=True, slots=True)
class Hop:
    """Packets go from device to device over a tree of the fabric; `rate` in bit/s."""

    source: str
    target: str
    tree: int
    rate: int


@dataclass(frozen=True, slots=True)
class Plan:
    """`switch_of[unit]`; `cores_of[group index]`; `tree_of[(arc source unit or entry, target unit)]`.

    `latency_us` per traffic is the estimate that the SLO was checked against; `core_load` is the
    share of its cycles that each core spends. `status` is the solver's word, `notes` are said by
    `place` and `compile --explain`.
    """

    switch_of: dict[str, str]
    cores_of: tuple[tuple[Core, ...], ...]
    tree_of: dict[tuple[str, str], int]
    hops: tuple[Hop, ...]
    latency_us: dict[str, int]
    core_load: dict[str, float]
    status: str
    objective: int
    notes: tuple[str, ...]

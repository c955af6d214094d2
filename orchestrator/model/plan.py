"""The placement: which device executes each unit, on which cores, over which trees."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.model.match import Prefix


@dataclass(frozen=True, slots=True)
class Core:
    """A worker core of a server, and the worker on it. Said, it counts from 1: `server1.2`.

    `index` counts from 0, as in messages and MACs' arithmetic (docs/decisions/0119).
    """

    server: str
    index: int

    def __str__(self) -> str:
        return f"{self.server}.{self.index + 1}"

    @classmethod
    def named(cls, text: str) -> Core | None:
        """The core that is written so, None when none is."""
        server, dot, number = text.rpartition(".")
        if not dot or not server or not number.isascii() or not number.isdecimal():
            return None
        return cls(server, int(number) - 1) if number[0] != "0" else None


@dataclass(frozen=True, slots=True)
class Region:
    """Flows by their addresses, as the NFs that own their state name them; None asks nothing."""

    inside: Prefix | None
    outside: Prefix | None

    def __str__(self) -> str:
        words = [
            f"{side} {prefix}"
            for side, prefix in (("inside", self.inside), ("outside", self.outside))
            if prefix is not None
        ]
        return ", ".join(words) or "any"


EVERYWHERE = Region(None, None)


@dataclass(frozen=True, slots=True)
class HashSlice:
    """Hash values low..high-1 of 0..65535 belong to a core."""

    core: Core
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class ClassMap:
    """Who owns the packets of a traffic class: its slices cover all hash values.

    Without `regions` it is everything that is in no other class's regions; of several regions that a
    packet is in, the one that fixes most bits counts. `traffics` are the graph's that it is part of.
    `is_space`: no traffic's, but one region that was moved (`orchestrator move --inside`); it counts
    before all others.
    """

    traffics: tuple[str, ...]
    regions: tuple[Region, ...]
    slices: tuple[HashSlice, ...]
    is_space: bool = False


@dataclass(frozen=True, slots=True)
class Hop:
    """Packets go from device to device over a tree of the fabric; `rate` in bit/s."""

    source: str
    target: str
    tree: int
    rate: int


@dataclass(frozen=True, slots=True)
class Standby:
    """The core that has what the cores of an NF have, as `variant` says, and sends nothing."""

    nf: str
    variant: str
    core: Core


@dataclass(frozen=True, slots=True)
class Plan:
    """`device_of[unit]`; `cores_of[group index]`; `tree_of[(arc source unit or entry, target unit)]`;
    `dispatch[group index]`: traffic class -> cores, the class of all others last, flow spaces first.

    `latency_us` per traffic is the estimate that the SLO was checked against; `core_load` is the
    share of its cycles that each core spends. `slot_of[unit]` is a block instance that certainly has
    room, for the units of a block of which no instance holds them all. `status` is the solver's word,
    `notes` are said by `place` and `compile --explain`. `spread` is, by NF on servers, what buckets of
    its state are a hash of (`model.cuts.Group`).
    """

    device_of: dict[str, str]
    cores_of: tuple[tuple[Core, ...], ...]
    dispatch: tuple[tuple[ClassMap, ...], ...]
    tree_of: dict[tuple[str, str], int]
    hops: tuple[Hop, ...]
    latency_us: dict[str, int]
    core_load: dict[Core, float]
    status: str
    objective: int
    notes: tuple[str, ...]
    slot_of: dict[str, str] = field(default_factory=dict[str, str])
    spread: dict[str, str] = field(default_factory=dict[str, str])
    standbys: tuple[Standby, ...] = ()

"""What lowering makes of a graph: entries and chains that name what they refer to (model/refs.py).

The linker makes of each what devices are given (model/entries.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from orchestrator.model.entries import Key, Meter, RulePlaces
from orchestrator.model.refs import GroupRef, PathRef, Ref, SegmentRef, TreeRef


class SymbolicEntry(NamedTuple):
    """A TableEntry in which references stand for what has a number."""

    table: str
    keys: tuple[tuple[str, Key | Ref], ...]
    action: str
    params: tuple[tuple[str, int | Ref], ...]
    priority: int
    origin: str
    meter: Meter | None = None


@dataclass(frozen=True, slots=True)
class Unmade:
    """Entries that are made when they are asked for.

    `tables` says how many there are, `named` which segments their parameters refer to, and `key` what
    they follow from: those of equal keys are equal.
    """

    make: Callable[[], Iterable[SymbolicEntry]]
    tables: Mapping[str, int]
    named: frozenset[SegmentRef]
    key: bytes


class SymbolicPart(NamedTuple):
    """Entries of one segment, or of a node of its tree."""

    node: SegmentRef | TreeRef
    entries: tuple[SymbolicEntry, ...] | Unmade


class Section(NamedTuple):
    """The entries of one element: all that they refer to are these `segments`, and nodes of the tree of
    the first. It is the same object where the same element stands on several switches."""

    segments: tuple[SegmentRef, ...]
    parts: tuple[SymbolicPart, ...]


@dataclass(frozen=True, slots=True)
class SymbolicFlood:
    """A FloodGroup by name."""

    group: GroupRef
    ports: tuple[int, ...]
    origin: str
    remote: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SymbolicProgram:
    """What a graph puts on one device with a pipeline.

    `segments` are all that packets can be in, `classes` those that stand for a class of packets at
    dispatch. `admits`: frames of hosts enter here.
    """

    segments: tuple[SegmentRef, ...] = ()
    classes: tuple[SegmentRef, ...] = ()
    sections: tuple[Section, ...] = ()
    entries: tuple[SymbolicEntry, ...] = ()
    floods: tuple[SymbolicFlood, ...] = ()
    admits: bool = False


class WayOut(NamedTuple):
    """Where packets leave a server: for the device of a MAC, on a path."""

    mac: int
    path: PathRef


@dataclass(frozen=True, slots=True)
class SymbolicChain:
    """A ServerChain by name: (NF, port) in order, and where packets go then (None: nowhere)."""

    path: PathRef
    nfs: tuple[tuple[str, str], ...]
    out: WayOut | None
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SymbolicWorker:
    """A WorkerProgram by name."""

    server: str
    core: int
    nfs: Mapping[str, tuple[str, Mapping[str, Any]]]
    chains: tuple[SymbolicChain, ...]
    places: Mapping[str, RulePlaces] = field(default_factory=dict[str, RulePlaces], compare=False)


@dataclass(frozen=True, slots=True)
class Symbolic:
    """A graph's programs by device, and its workers; `paths` are all that are named, in order."""

    programs: Mapping[str, SymbolicProgram] = field(default_factory=dict[str, SymbolicProgram])
    workers: tuple[SymbolicWorker, ...] = ()
    paths: tuple[str, ...] = ()

"""Profiles as data, and as JSON. Times are CPU time of one core, sizes bytes of a frame with its FCS."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.errors import InputError

Ns = Annotated[float, Field(ge=0, le=1e12)]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Measurement(_Data):
    """Where, when and with what."""

    cpu: str
    cycles_per_second: Annotated[int, Field(gt=0)]
    system: str
    when: str
    software: str

    def __str__(self) -> str:
        clock = f"{self.cycles_per_second / 1e9:.2f} GHz"
        return f"measured on {self.cpu} at {clock}, {self.when}, {self.software}"


class CostPoint(_Data):
    """What a packet costs an NF, beside its frame. `fresh`: it is the first one of its flow."""

    bytes: int
    entries: int
    """Of the configuration: rules, routes, signatures."""
    fresh: bool
    ns: Ns


class NfCost(_Data):
    """An NF's points."""

    points: tuple[CostPoint, ...]

    def ns(self, size: float, entries: int = 0, new_flows: float = 0.0) -> float:
        """Of a packet, between the measured ones; `new_flows` is the share of those that begin a flow.

        Where these were not measured they are held to cost what others do.
        """
        return max(0.0, self._known(size, entries) + new_flows * self._begins())

    @property
    def tells_new_flows(self) -> bool:
        """Whether packets that begin a flow were measured."""
        return any(p.fresh for p in self.points)

    def _begins(self) -> float:
        """What a packet costs more when it begins a flow, which is held to be the same at each size."""
        more = [
            p.ns - self._of(p.entries, p.bytes)
            for p in self.points
            if p.fresh and any(k.entries == p.entries for k in self.points if not k.fresh)
        ]
        return sum(more) / len(more) if more else 0.0

    def _known(self, size: float, entries: int) -> float:
        few, many = self._counts()
        at_few = self._of(few, size)
        if many == few:
            return at_few
        share = min(max(entries - few, 0) / (many - few), 1.0)
        # More entries are measured at one size: what they add is held to be the same at each.
        least = min(p.bytes for p in self.points if p.entries == many and not p.fresh)
        return at_few + share * (self._of(many, least) - self._of(few, least))

    def _counts(self) -> tuple[int, int]:
        counts = [p.entries for p in self.points if not p.fresh]
        return min(counts), max(counts)

    def _of(self, entries: int, size: float) -> float:
        return between(
            {p.bytes: p.ns for p in self.points if p.entries == entries and not p.fresh}, size
        )


class RuntimeProfile(_Data):
    """What NFs cost a core of a server."""

    name: str
    measured: Measurement
    frame_ns: Mapping[int, Ns]
    """By size: to take a frame, find its path and send it on."""
    alone_us: Annotated[float, Field(ge=0, le=1e6)]
    """What a frame that comes alone takes beside its cost: until the worker wakes, and back."""
    nfs: Mapping[str, NfCost]

    def frame(self, size: float) -> float:
        """ns of CPU time that a frame costs beside its NFs."""
        return between(self.frame_ns, size)


class SwitchProfile(_Data):
    """What a pass through a target's pipeline costs, on one core."""

    name: str
    measured: Measurement
    pass_ns: Mapping[int, Ns]
    """By size, through an access list of few rules."""
    alone_us: Annotated[float, Field(ge=0, le=1e6)]

    @property
    def packets_per_second(self) -> int:
        """Of the smallest frames: the most that it carries."""
        return int(1e9 / min(self.pass_ns.values()))

    @property
    def service_us(self) -> float:
        """CPU time of a pass, of the largest frames."""
        return max(self.pass_ns.values()) / 1000


def between(measured: Mapping[int, float], size: float) -> float:
    """A value by size, on the straight line between its neighbours; the nearest one beyond them."""
    sizes = sorted(measured)
    at = bisect.bisect_left(sizes, size)
    if at == 0:
        return measured[sizes[0]]
    if at == len(sizes):
        return measured[sizes[-1]]
    low, high = sizes[at - 1], sizes[at]
    return measured[low] + (measured[high] - measured[low]) * (size - low) / (high - low)


def dumped(profile: RuntimeProfile | SwitchProfile) -> str:
    """A profile as a file has it."""
    return profile.model_dump_json(indent=1) + "\n"


def read_runtime(file: Path) -> RuntimeProfile:
    """A runtime's file; InputError says what is wrong with it."""
    return _read(RuntimeProfile, file)


def read_switch(file: Path) -> SwitchProfile:
    """A target's file; InputError says what is wrong with it."""
    return _read(SwitchProfile, file)


def _read(kind: Any, file: Path) -> Any:
    try:
        profile = kind.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(_problems(file, error)) from None
    empty = [
        f"{file}: nfs.{name}: no point of a known flow"
        for name, cost in getattr(profile, "nfs", {}).items()
        if all(p.fresh for p in cost.points)
    ]
    if not getattr(profile, "frame_ns", getattr(profile, "pass_ns", None)):
        empty.append(f"{file}: no size was measured")
    if empty:
        raise InputError(empty)
    return profile


def _problems(file: Path, error: OSError | ValidationError) -> Sequence[str]:
    if isinstance(error, OSError):
        return [f"{file}: {error.strerror}"]
    return [f"{file}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]

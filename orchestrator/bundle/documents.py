"""The JSON members of a bundle: what they may say, checked; and what they are read into.

Every number has bounds and every text a length: what is in a bundle was written by a stranger.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from orchestrator.errors import InputError, quoted
from orchestrator.model.builds import Slot
from orchestrator.model.bundle import Slo, Story
from orchestrator.model.devices import Device, Kind
from orchestrator.model.entries import ChainHop, ServerChain, WorkerProgram
from orchestrator.model.ids import GRAPH_IDS
from orchestrator.model.match import Prefix
from orchestrator.model.plan import ClassMap, Core, HashSlice, Hop, Plan, Region, Standby
from orchestrator.nfs.files import explain, located
from orchestrator.units import LARGEST, Name, parse_name
from servernf.wire.instances import base_name

_MOST_CORES = 1024
_MOST_TREES = 16
_ADDRESS_BITS = 128
_MOST_DIGITS = 10

Text = Annotated[str, Field(max_length=1 << 14)]
Label = Annotated[str, Field(max_length=256)]
Amount = Annotated[int, Field(ge=0, le=LARGEST, strict=True)]
_ModelT = TypeVar("_ModelT", bound=BaseModel)

Real = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _graph_id(value: int) -> int:
    if value not in GRAPH_IDS:
        raise ValueError(f"graph id {value} is none of {GRAPH_IDS[0]} to {GRAPH_IDS[-1]}")
    return value


def _instance_name(text: str) -> str:
    """An NF's name, with the number of its configuration behind it from the second one on."""
    name = parse_name(base_name(text))
    number = text.removeprefix(name)
    if number and not (
        number[1:].isascii() and number[1:].isdigit() and len(number) <= _MOST_DIGITS
    ):
        raise ValueError(f"{quoted(text)} is no NF instance like '{name}' or '{name}~2'")
    return text


InstanceName = Annotated[str, AfterValidator(_instance_name)]


class SloDocument(_Document):
    """`model.bundle.Slo`."""

    rate: Amount
    min_rate: Amount | None
    max_latency_us: Amount | None


class DeviceDocument(_Document):
    """`model.devices.Device`."""

    name: Name
    kind: Kind
    target: Label
    pipeline: Label
    runtime: Label

    @model_validator(mode="after")
    def _as_its_kind(self) -> Self:
        has_pipeline = bool(self.target and self.pipeline)
        if self.device().has_pipeline != has_pipeline or has_pipeline == bool(self.runtime):
            raise ValueError("a switch or NIC has a target and a pipeline, a server has a runtime")
        return self

    def device(self) -> Device:
        return Device(self.name, self.kind, self.target, self.pipeline, self.runtime)


class BundleManifest(_Document):
    """`manifest.json`."""

    format: int
    graph: Name
    owner: Name
    graph_id: Annotated[int, Field(strict=True), AfterValidator(_graph_id)]
    topology: Label
    sampling_rate: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    devices: tuple[DeviceDocument, ...]
    endpoints: dict[Name, tuple[Name, ...]]
    block_use: dict[Name, dict[Label, Amount]]
    warnings: tuple[Text, ...]
    slos: dict[Name, SloDocument]
    sha256: dict[Label, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]]

    @model_validator(mode="after")
    def _one_name_each(self) -> Self:
        if len({device.name for device in self.devices}) != len(self.devices):
            raise ValueError("two devices have one name")
        return self

    @property
    def pipeline_of(self) -> dict[str, tuple[str, str]]:
        """(pipeline, target) of each device that has one."""
        return {d.name: (d.pipeline, d.target) for d in self.known() if d.has_pipeline}

    def known(self) -> tuple[Device, ...]:
        """The devices."""
        return tuple(device.device() for device in self.devices)

    def slo_of(self) -> dict[str, Slo]:
        """By traffic."""
        return {
            name: Slo(slo.rate, slo.min_rate, slo.max_latency_us) for name, slo in self.slos.items()
        }


class _CoreDocument(_Document):
    server: Name
    index: Annotated[int, Field(ge=0, lt=_MOST_CORES, strict=True)]

    def core(self) -> Core:
        return Core(self.server, self.index)


class _PrefixDocument(_Document):
    version: Annotated[int, Field(ge=4, le=6, strict=True)]
    value: Annotated[int, Field(ge=0, lt=1 << _ADDRESS_BITS, strict=True)]
    length: Annotated[int, Field(ge=0, le=_ADDRESS_BITS, strict=True)]

    @model_validator(mode="after")
    def _one_version(self) -> Self:
        bits = {4: 32, 6: 128}.get(self.version, 0)
        host = bits - self.length
        if host < 0 or self.value >> bits or self.value & ((1 << host) - 1):
            raise ValueError(f"is no prefix of IPv{self.version}")
        return self

    def prefix(self) -> Prefix:
        return Prefix(self.version, self.value, self.length)


class _RegionDocument(_Document):
    inside: _PrefixDocument | None
    outside: _PrefixDocument | None

    def region(self) -> Region:
        return Region(
            self.inside.prefix() if self.inside else None,
            self.outside.prefix() if self.outside else None,
        )


class _SliceDocument(_Document):
    core: _CoreDocument
    low: Annotated[int, Field(ge=0, le=1 << 16, strict=True)]
    high: Annotated[int, Field(ge=0, le=1 << 16, strict=True)]


class _ClassDocument(_Document):
    traffics: tuple[Label, ...]
    regions: tuple[_RegionDocument, ...]
    slices: tuple[_SliceDocument, ...]
    is_space: Annotated[bool, Field(strict=True)] = False

    def class_map(self) -> ClassMap:
        return ClassMap(
            self.traffics,
            tuple(region.region() for region in self.regions),
            tuple(HashSlice(s.core.core(), s.low, s.high) for s in self.slices),
            self.is_space,
        )


Tree = Annotated[int, Field(ge=0, lt=_MOST_TREES, strict=True)]


class _HopDocument(_Document):
    source: Name
    target: Name
    tree: Tree
    rate: Amount


class _StandbyDocument(_Document):
    nf: Name
    variant: Literal["per_packet", "on_syn_fin", "per_n", "periodic"]
    core: _CoreDocument


def _older_loads(loads: object) -> object:
    """Older bundles say `{"server1.0": 0.1}`, where cores count from 0; today's have a list."""
    if not isinstance(loads, dict):
        return loads
    older: list[tuple[dict[str, object], object]] = []
    for name, load in cast("dict[str, object]", loads).items():
        server, _, index = name.rpartition(".")
        older.append(({"server": server, "index": int(index)}, load))
    return older


class PlanDocument(_Document):
    """`plan.json`."""

    device_of: dict[Label, Name]
    cores_of: tuple[tuple[_CoreDocument, ...], ...]
    dispatch: tuple[tuple[_ClassDocument, ...], ...]
    tree_of: tuple[tuple[Label, Label, Tree], ...]
    hops: tuple[_HopDocument, ...]
    latency_us: dict[Label, Amount]
    core_load: Annotated[tuple[tuple[_CoreDocument, Real], ...], BeforeValidator(_older_loads)]
    status: Label
    objective: Annotated[int, Field(ge=-LARGEST, le=LARGEST, strict=True)]
    notes: tuple[Text, ...]
    slot_of: dict[Label, Label] = Field(default_factory=dict[str, str])
    spread: dict[Label, Label] = Field(default_factory=dict[str, str])
    standbys: tuple[_StandbyDocument, ...] = ()

    def plan(self) -> Plan:
        """What it says."""
        return Plan(
            device_of=self.device_of,
            cores_of=tuple(tuple(core.core() for core in cores) for cores in self.cores_of),
            dispatch=tuple(tuple(item.class_map() for item in maps) for maps in self.dispatch),
            tree_of={(source, target): tree for source, target, tree in self.tree_of},
            hops=tuple(Hop(h.source, h.target, h.tree, h.rate) for h in self.hops),
            latency_us=self.latency_us,
            core_load={core.core(): load for core, load in self.core_load},
            status=self.status,
            objective=self.objective,
            notes=self.notes,
            slot_of=self.slot_of,
            spread=self.spread,
            standbys=tuple(Standby(s.nf, s.variant, s.core.core()) for s in self.standbys),
        )


class _ChainHopDocument(_Document):
    nf: Annotated[str, Field(max_length=64)]
    port: Annotated[str, Field(max_length=64)]
    mac: Annotated[int, Field(ge=0, lt=1 << 48, strict=True)]
    spi: Annotated[int, Field(ge=0, lt=1 << 24, strict=True)]
    si: Annotated[int, Field(ge=0, lt=1 << 8, strict=True)]


class _ChainDocument(_Document):
    spi: Annotated[int, Field(ge=0, lt=1 << 24, strict=True)]
    si: Annotated[int, Field(ge=0, lt=1 << 8, strict=True)]
    hops: Annotated[tuple[_ChainHopDocument, ...], Field(min_length=1)]
    outputs: tuple[Annotated[str, Field(max_length=64)], ...]

    def chain(self) -> ServerChain:
        hops = tuple(ChainHop(h.nf, h.port, h.mac, h.spi, h.si) for h in self.hops)
        return ServerChain(self.spi, self.si, hops, self.outputs)


def _untouched(value: Any) -> Any:
    """A config is passed on as it is: the runtime checks it, and it may be half a million routes."""
    if not isinstance(value, dict):
        raise ValueError("must be an object")
    return value


class WorkerDocument(_Document):
    """An item of `workers.json`."""

    server: Name
    core: Annotated[int, Field(ge=0, lt=_MOST_CORES, strict=True)]
    nfs: dict[InstanceName, tuple[Label, Annotated[Any, BeforeValidator(_untouched)]]]
    chains: tuple[_ChainDocument, ...]
    places: dict[InstanceName, dict[Label, tuple[Text, ...]]] = {}

    def program(self) -> WorkerProgram:
        """What it says."""
        nfs: Mapping[str, tuple[str, Mapping[str, Any]]] = self.nfs
        chains = tuple(chain.chain() for chain in self.chains)
        return WorkerProgram(self.server, self.core, nfs, chains, self.places)


class _StoryDocument(_Document):
    unit: Label
    kind: Label
    device: Text
    slot: Label
    entries: Amount
    why: Text

    def story(self) -> Story:
        return Story(self.unit, self.kind, self.device, self.slot, self.entries, self.why)


class _Workers(_Document):
    items: tuple[WorkerDocument, ...]


class _Stories(_Document):
    items: tuple[_StoryDocument, ...]


class _Removed(_Document):
    items: tuple[tuple[Text, Text], ...]


class _Slots(_Document):
    items: tuple[
        tuple[
            Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9_]{0,79}$")],
            Annotated[str, Field(pattern="^[a-z][a-z_]{0,31}$")],
            Annotated[str, Field(pattern="^([a-z][a-z0-9_-]{0,63})?$")],
        ],
        ...,
    ]


def _json(data: bytes, name: str) -> Any:
    """Without a hook for objects: the configs of workers may hold half a million of them."""

    def constant(text: str) -> Any:
        raise ValueError(f"{name}: {text} is not JSON")

    def finite(text: str) -> float:
        value = float(text)
        return value if math.isfinite(value) else constant(text)

    try:
        return json.loads(data.decode("utf-8"), parse_constant=constant, parse_float=finite)
    except RecursionError:
        raise ValueError(f"{name}: is nested too deeply") from None


def _checked(model: type[_ModelT], raw: Any, name: str) -> _ModelT:
    """`raw` as a model; ValueError with the first problem."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        problems = [text.removeprefix(".items") for text in explain(error, model)]
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise ValueError(f"{located(name, problems[0])}{more}") from None


def read_manifest(data: bytes, version: int, source: str) -> BundleManifest:
    """`manifest.json` of a bundle."""
    raw = _json(data, "manifest.json")
    written_by = cast("dict[str, Any]", raw).get("format") if isinstance(raw, dict) else raw
    if isinstance(raw, dict) and written_by != version:
        raise InputError(f"{source}: bundle format {written_by}; this version reads {version}")
    return _checked(BundleManifest, raw, "manifest.json")


def read_plan(data: bytes) -> Plan:
    """`plan.json`."""
    return _checked(PlanDocument, _json(data, "plan.json"), "plan.json").plan()


def read_workers(data: bytes) -> tuple[WorkerProgram, ...]:
    """`workers.json`."""
    items = {"items": _json(data, "workers.json")}
    return tuple(item.program() for item in _checked(_Workers, items, "workers.json").items)


def read_stories(data: bytes) -> tuple[Story, ...]:
    """`explanation.json`."""
    items = {"items": _json(data, "explanation.json")}
    return tuple(item.story() for item in _checked(_Stories, items, "explanation.json").items)


def read_removed(data: bytes) -> tuple[tuple[str, str], ...]:
    """`removed.json`."""
    return _checked(_Removed, {"items": _json(data, "removed.json")}, "removed.json").items


def read_slots(data: bytes, name: str) -> tuple[Slot, ...]:
    """The slots of a pipeline that was made for a network: their names become part of a P4 program."""
    items = _checked(_Slots, {"items": _json(data, name)}, name).items
    return tuple(Slot(instance, block, nf) for instance, block, nf in items)

"""What graph.json holds, as pydantic models, and the JSON Schema of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from orchestrator.nfs.base import known_types, lookup
from orchestrator.nfs.matching import MatchFields
from orchestrator.nfs.values import PrefixField
from orchestrator.units import Microseconds, Name, Rate


class FileModel(BaseModel):
    """Frozen; unknown keys are problems."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EndpointFile(FileModel):
    """Hosts of the topology where packets enter and leave.

    Access switches drop what a host sends from another's address, unless `prefixes` (networks behind
    the hosts) hold it or `source_guard` is false.
    """

    hosts: Annotated[tuple[Name, ...], Field(min_length=1)]
    prefixes: tuple[PrefixField, ...] = ()
    source_guard: Annotated[bool, Field(strict=True)] = True


class WorkersFile(FileModel):
    """How many server cores an NF gets at least and at most."""

    min: Annotated[int, Field(ge=1, strict=True)] = 1
    max: Annotated[int, Field(ge=1, strict=True)] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"max {self.max} is below min {self.min}")
        return self


class StateFile(FileModel):
    """Where an NF's state is doubled (`standby`: how), so that its connections outlive its server.

    NFs that share cores have their standbys on one server, where they have a core of their own.
    """

    standby: Literal["per_packet", "on_syn_fin", "per_n", "periodic"]
    on: Name


class NfFile(FileModel):
    """One network function; its type says what `config` holds."""

    type: str
    config: dict[str, Any] = Field(default_factory=dict[str, Any])
    workers: WorkersFile = WorkersFile()
    state: StateFile | None = None


class EdgeFile(FileModel):
    """`endpoint` or `nf.port` on both sides."""

    source: Annotated[str, Field(alias="from")]
    target: Annotated[str, Field(alias="to")]


class SloFile(FileModel):
    """What the traffic must get."""

    min_rate: Rate | None = None
    max_latency: Microseconds | None = None


class TrafficFile(FileModel):
    """A demand; only packets that match some demand's `match` enter the graph."""

    name: Name
    source: Annotated[str, Field(alias="from")]
    target: Annotated[str, Field(alias="to")]
    match: MatchFields = MatchFields()
    rate: Rate
    packet_size: Annotated[int, Field(ge=60, le=9216, strict=True)] = 1000
    """Mean frame size in bytes, without FCS."""
    new_flows_per_second: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] = 0.0
    """How many of its packets begin a flow, of those that `rate` makes a second: NFs with state take
    longer for them."""
    slo: SloFile = SloFile()

    @model_validator(mode="after")
    def _feasible(self) -> Self:
        if self.slo.min_rate is not None and self.slo.min_rate > self.rate:
            raise ValueError(
                f"slo.min_rate ({self.slo.min_rate} bit/s) is above rate ({self.rate} bit/s)"
            )
        if self.new_flows_per_second > self.packets_per_second:
            raise ValueError(
                f"new_flows_per_second ({self.new_flows_per_second:g}) is above the "
                f"{self.packets_per_second:.0f} packets/s that rate and packet_size make"
            )
        return self

    @property
    def packets_per_second(self) -> float:
        """As plans count them."""
        return self.rate / (8 * self.packet_size)

    @property
    def new_flows(self) -> float:
        """The share of its packets that begin a flow."""
        packets = self.packets_per_second  # 0: a rate that is refused
        return self.new_flows_per_second / packets if packets else 0.0


class VerificationFile(FileModel):
    """Share of packets whose trajectory is reported."""

    sampling_rate: Annotated[float, Field(ge=0, le=1)] = 0.0


NfNames = Annotated[tuple[Name, ...], Field(min_length=2)]


class PlacementFile(FileModel):
    """What the operator asks of the placement, by NF: devices to run on, company to keep or avoid."""

    pin: dict[Name, Name] = Field(default_factory=dict[str, str])
    together: tuple[NfNames, ...] = ()
    apart: tuple[NfNames, ...] = ()


class GraphFile(FileModel):
    """A service graph."""

    name: Name
    owner: Name = "default"
    endpoints: Annotated[dict[Name, EndpointFile], Field(min_length=1)]
    nfs: dict[Name, NfFile] = Field(default_factory=dict[str, NfFile])
    edges: tuple[EdgeFile, ...]
    traffic: Annotated[tuple[TrafficFile, ...], Field(min_length=1)]
    verification: VerificationFile = VerificationFile()
    placement: PlacementFile = PlacementFile()


def graph_json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of graph.json; each NF type's config is a definition `<type>_config`."""
    schema = GraphFile.model_json_schema(by_alias=True)
    definitions = schema["$defs"]
    conditions: list[dict[str, Any]] = []
    for nf_type in known_types():
        config = lookup(nf_type).Config.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(config.pop("$defs", {}))
        definitions[f"{nf_type}_config"] = config
        conditions.append(
            {
                "if": {"properties": {"type": {"const": nf_type}}},
                "then": {"properties": {"config": {"$ref": f"#/$defs/{nf_type}_config"}}},
            }
        )
    definitions["NfFile"]["properties"]["type"]["enum"] = list(known_types())
    definitions["NfFile"]["allOf"] = conditions
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}

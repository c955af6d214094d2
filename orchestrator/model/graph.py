"""The service graph after loading and checking: names, units fixed, files read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.model.match import Match, Prefix


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where packets enter and leave the graph: a set of the topology's hosts.

    With `source_guard` a host may send from its own addresses and those of `prefixes` only (BCP 38).
    """

    name: str
    hosts: tuple[str, ...]
    prefixes: tuple[Prefix, ...] = ()
    source_guard: bool = True


@dataclass(frozen=True, slots=True)
class StandbyRule:
    """An NF's state is doubled on another server, which takes over when a core that has it dies."""

    variant: str
    server: str


@dataclass(frozen=True, slots=True)
class NfInstance:
    """One network function of the graph; `config` is the checked config object of its type."""

    name: str
    type: str
    config: Any
    min_workers: int = 1
    max_workers: int | None = None
    standby: StandbyRule | None = None


@dataclass(frozen=True, slots=True)
class Port:
    """One side of an edge: an endpoint (`port` empty) or an NF's named port."""

    node: str
    port: str = ""

    def __str__(self) -> str:
        return f"{self.node}.{self.port}" if self.port else self.node


@dataclass(frozen=True, slots=True)
class Edge:
    """Packets that leave `source` enter `target`."""

    source: Port
    target: Port


@dataclass(frozen=True, slots=True)
class Traffic:
    """A traffic demand: what enters at `ingress` and leaves at `egress`.

    `rate` in bit/s, `packet_bytes` the mean frame size, `min_rate` in bit/s and `max_latency_us`
    the SLO. `new_flows` is the share of its packets that begin a flow, 0..1, whatever the rate. Only
    packets that match some traffic of the graph enter it.
    """

    name: str
    ingress: str
    egress: str
    match: Match
    rate: int
    packet_bytes: int
    min_rate: int | None = None
    max_latency_us: int | None = None
    new_flows: float = 0.0


@dataclass(frozen=True, slots=True)
class Verification:
    """Trajectory sampling: the share of packets that every trusted point reports, 0..1."""

    sampling_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class PlacementRules:
    """What the operator asks of the placement. `pinned` is the switch or server of an NF: of those of
    its elements that such a device runs. NFs of a tuple of `together` share a device, of `apart`
    none."""

    pinned: Mapping[str, str] = field(default_factory=dict[str, str])
    together: tuple[tuple[str, ...], ...] = ()
    apart: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceGraph:
    """A checked service graph. `owner` is the tenant, `source` the file that it came from."""

    name: str
    owner: str
    endpoints: dict[str, Endpoint]
    nfs: dict[str, NfInstance]
    edges: tuple[Edge, ...]
    traffic: tuple[Traffic, ...]
    verification: Verification
    source: str = ""
    placement: PlacementRules = PlacementRules()

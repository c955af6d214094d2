"""Elements: the indivisible match-action or stateful steps of an NF, and how they are joined.

An NF gives, for each port that a packet can enter, an `ElementGraph`. Stateless elements carry a
program that a switch can execute; a stateful element is executed by the NF's server runtime.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.model.match import Match, Prefix

DROP = "drop"
"""The output of an element that ends a packet's life."""


@dataclass(frozen=True, slots=True)
class FilterRule:
    """First match wins. `output` is one of the element's outputs or DROP; `rule` names its origin."""

    match: Match
    output: str
    rule: str


@dataclass(frozen=True, slots=True)
class FilterProgram:
    """Ordered rules over headers (access list, prefilter, virtual address, owner check)."""

    rules: tuple[FilterRule, ...]
    default: str


@dataclass(frozen=True, slots=True)
class RewriteProgram:
    """One-to-one replacement of addresses; `field` is 'src' or 'dst'. Others pass unchanged.

    `pairs`: (version, old address, new address) as integers. One output.
    """

    field: str
    pairs: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Route:
    """`next_hop` (version, address) is None for a connected route; `output` DROP is unreachable."""

    prefix: Prefix
    output: str
    next_hop: tuple[int, int] | None
    rule: str


@dataclass(frozen=True, slots=True)
class RouteProgram:
    """Longest-prefix match on the destination; decrements TTL; no route, non-IP or TTL <= 1: drop."""

    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class StatefulProgram:
    """Per-flow state: only a server runs it, and it runs the whole NF from this port on."""

    reason: str


Program = FilterProgram | RewriteProgram | RouteProgram | StatefulProgram


@dataclass(frozen=True, slots=True)
class Element:
    """`name` is unique within the NF's port, e.g. `rules`; the outputs lead to other elements."""

    name: str
    program: Program
    outputs: tuple[str, ...]

    @property
    def stateful(self) -> bool:
        """Whether it needs per-flow state."""
        return isinstance(self.program, StatefulProgram)


@dataclass(frozen=True, slots=True)
class Leave:
    """Where an output leaves the NF: through this port."""

    port: str


@dataclass(frozen=True, slots=True)
class ElementGraph:
    """What an NF does with packets that enter one port: `entry`, then along `edges`.

    `edges[(element name, output)]` is the next element's name or a `Leave`.
    """

    entry: str
    elements: dict[str, Element]
    edges: dict[tuple[str, str], str | Leave]


FLOW_FIELDS = ("inside_address", "outside_address", "inside_port", "outside_port", "protocol")


@dataclass(frozen=True, slots=True)
class StateKey:
    """The fields that own an NF's state, named from the NF's own inside and outside.

    For packets entering `inside` the source is the inside; for those entering `outside` it is the
    destination. `partitioned` names the ports whose packets show an address from a pool instead, of
    which each replica owns a share (NAPT's outside): the switch classifies them by that share.
    """

    fields: frozenset[str]
    partitioned: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PoolShare:
    """What one replica owns of a partitioned pool: ports `low`..`high` of IPv4 `addresses`.

    ICMP identifiers share the range. A whole address (0..65535) needs no port to be recognised,
    so later fragments find their owner too.
    """

    addresses: tuple[int, ...]
    low: int = 0
    high: int = 65535


@dataclass(frozen=True, slots=True)
class CostProfile:
    """Cycles that one packet costs a server core, with where the figure comes from."""

    cycles_per_packet: int
    cycles_per_byte: float
    source: str


@dataclass(frozen=True, slots=True)
class Relation:
    """How the output of a runtime may differ from the reference (design, oracles 1).

    `kind`: 'exact', 'consistent_mapping' (NAPT) or 'consistent_choice' (load balancer).
    """

    kind: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """An element at one place of a service graph: NF instance, entered port, element."""

    nf: str
    port: str
    element: str

    def __str__(self) -> str:
        return f"{self.nf}.{self.port}.{self.element}"


@dataclass(frozen=True, slots=True)
class Counters:
    """Named counts, as an NF reports them."""

    values: dict[str, int] = field(default_factory=dict[str, int])

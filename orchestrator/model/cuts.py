"""Where a service graph is cut: units of work, who may execute each, and how packets go between."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.model.elements import Element, Occurrence

SWITCH = "switch"
SERVER = "server"


@dataclass(frozen=True, slots=True)
class Unit:
    """One thing that one device executes for the packets that reach it.

    On a switch: a stateless element (`element`), or the delivery to `endpoint`'s hosts. On a server:
    a whole NF from port `port` on. `ingress` is the access switch whose packets a unit before the
    first stateful element serves; empty behind it. `versions` are the kinds of packet that can reach
    it: 4, 6, 0 (not IP). `why` is said by `compile --explain`. `merged` are elements whose rules this
    one's have taken in (compiler/synthesis).
    """

    id: str
    kind: str
    nf: str
    port: str
    element: Element | None
    endpoint: str
    ingress: str
    versions: frozenset[int]
    why: str
    merged: tuple[Occurrence, ...] = ()

    @property
    def occurrence(self) -> Occurrence | None:
        """The element's place in the graph; None for servers' NFs and deliveries."""
        return Occurrence(self.nf, self.port, self.element.name) if self.element else None


@dataclass(frozen=True, slots=True)
class Arc:
    """Packets that leave unit `source` by `output` (an element's output or an NF's port)."""

    source: str
    output: str
    target: str


@dataclass(frozen=True, slots=True)
class Ingress:
    """Packets from hosts of `endpoint` at access switch `switch` start at `target`."""

    endpoint: str
    switch: str
    target: str


@dataclass(frozen=True, slots=True)
class Group:
    """Server NFs that share state through common instances: they stay on the same cores.

    `spread` says how packets find their core: 'inside_address', 'outside_address', 'pair' or 'one'
    (a single core, `why` says which NF asks for it).
    """

    nfs: tuple[str, ...]
    units: tuple[str, ...]
    spread: str
    why: str


@dataclass(frozen=True, slots=True)
class Removed:
    """A rule that no device is given, since no packet would ever meet it at `place`; `why` says so.

    `by_arrival`: because of what arrives there, and not because of its own list.
    """

    place: Occurrence
    rule: str
    why: str
    by_arrival: bool = False

    def __str__(self) -> str:
        return f"{self.place.nf}: {self.rule}: {self.why}"


@dataclass(frozen=True, slots=True)
class Cuts:
    """The graph as units and arcs. Outputs without an arc drop their packets.

    `removed` and `changes` say what synthesis did to it, `passed` are elements that it left out since
    they do nothing to any packet, `unmet` rules that no packet meets but that devices have all the same.
    """

    units: dict[str, Unit]
    arcs: tuple[Arc, ...]
    entries: tuple[Ingress, ...]
    groups: tuple[Group, ...]
    removed: tuple[Removed, ...] = ()
    changes: tuple[str, ...] = ()
    passed: tuple[Occurrence, ...] = ()
    unmet: tuple[Removed, ...] = ()

    def successors(self, unit: str) -> tuple[Arc, ...]:
        """Arcs out of a unit, in order."""
        return tuple(arc for arc in self.arcs if arc.source == unit)

"""What a network function declares. One NF is one file here, found on import of the
package; what is long of its reference semantics is in a file beside it (`*_reference.py`)."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict

from orchestrator.errors import unknown
from orchestrator.model.elements import CostProfile, ElementGraph, PoolShare, Relation, StateKey
from orchestrator.model.packet import Packet
from orchestrator.nfs.files import Files

FROM_FILE = "_from_file"
"""Where configs keep what `with_files` read."""
FILE_LINES = "_lines"
"""Where they keep in which lines of the file that stood, if they do."""


class NfConfig(BaseModel):
    """Base of every NF's config: frozen, unknown keys rejected by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def with_files(self, files: Files) -> Self:
        """The config with the files read that it names; InputError otherwise."""
        return self


class Environment(Protocol):
    """What the reference semantics may ask of the world: virtual time, chance, neighbours."""

    now_us: int
    random: random.Random

    def neighbor_mac(self, version: int, address: int) -> int | None:
        """MAC of the host with this address on any endpoint of the graph, or None."""
        ...


ConfigT = TypeVar("ConfigT", bound=NfConfig)

Output = tuple[str, Packet]
"""A packet that leaves through a port."""


class Talk(NamedTuple):
    """What a client says to a server's port, and what that one may say back (empty: anything)."""

    port: int
    data: bytes
    answer: bytes = b""


class Reference(ABC):
    """Reference semantics of one NF instance, with explicit state (the oracle's half)."""

    @abstractmethod
    def process(self, packet: Packet, port: str, env: Environment) -> Sequence[Output]:
        """Packets that leave, in order, for a packet that entered `port`; empty: dropped, or held."""

    def due_us(self) -> int | None:
        """When the first packet that is held leaves; None when none is held."""
        return None

    def release(self) -> Output:
        """The packet that is due first, held no more."""
        raise LookupError("no packet is held")


class NetworkFunction(ABC, Generic[ConfigT]):
    """One NF instance: its checked config and everything that the compiler asks of it."""

    type: ClassVar[str]
    Config: ClassVar[type[NfConfig]]
    state_key: ClassVar[StateKey | None] = None
    replicable: ClassVar[bool] = True
    relation: ClassVar[Relation] = Relation("exact")
    keeps_state_when_changed: ClassVar[frozenset[str]] = frozenset()
    """Keys of the runtime's config that an update may change while a worker goes on with its state."""
    cost: ClassVar[CostProfile]
    """On the Python runtime; others know their own (orchestrator/runtimes)."""

    def __init__(self, name: str, config: ConfigT) -> None:
        self.name = name
        self.config = config

    @property
    def ports(self) -> tuple[str, ...]:
        """Names of the ports; most NFs have an inside and an outside."""
        return ("inside", "outside")

    @abstractmethod
    def elements(self, port: str) -> ElementGraph:
        """What happens to packets that enter `port`."""

    @property
    def state_entries(self) -> int:
        """How many entries the state of one worker may come to hold."""
        return 0

    @abstractmethod
    def reference(self) -> Reference:
        """A fresh reference instance, with no state."""

    def pool_buckets(self, replicas: int) -> int | None:
        """To how many buckets the NF's pool is dealt; None when it has no partitioned pool."""
        return None

    def pool_share(self, first: int, last: int, buckets: int) -> PoolShare:
        """What of the pool buckets `first` to `last` of so many have."""
        raise LookupError(f"{self.name} has no pool")

    def owned_addresses(self) -> Sequence[tuple[str, int, int]]:
        """(port, IP version, address) that the network answers ARP or ND for, on that port's side."""
        return ()

    def canonical(self, packet: Packet) -> Packet:
        """A packet that has left the graph, with what `relation` leaves open made the same."""
        return packet

    def talk(self, protocol: int, rng: random.Random) -> Talk | None:
        """Something worth saying over TCP or UDP, for who tries the NF out; None: anything is."""
        return None

    @classmethod
    def has_state(cls) -> bool:
        """Whether a worker's state of it would be missed."""
        return cls.state_key is not None or bool(cls.keeps_state_when_changed)

    @classmethod
    def state_lost(cls, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
        """What of a worker's state an update of its runtime config costs, in words; "": nothing.

        Where it is all of it, these are the keys that change.
        """
        if not cls.has_state():
            return ""
        changed = {key for key in {*before, *after} if before.get(key) != after.get(key)}
        return ", ".join(sorted(changed - cls.keeps_state_when_changed))

    def runtime_config(self) -> Mapping[str, Any]:
        """The config that a server worker gets, as JSON values (docs/functions)."""
        return self.config.model_dump(mode="json")

    def rule_places(self) -> Mapping[str, Sequence[str]]:
        """Where the rules of the runtime config's lists were written, by list (`fw.json:14`).

        A list whose rules are those of the NF's own config, as `rules[3]`, need not be named.
        """
        return {}


Functions = Mapping[str, NetworkFunction[Any]]
"""The NF objects of a graph, by instance."""

NfClassT = TypeVar("NfClassT", bound=type[NetworkFunction[Any]])

_registry: dict[str, type[NetworkFunction[Any]]] = {}


def network_function(name: str) -> Callable[[NfClassT], NfClassT]:
    """Register an NF class under its type name; a duplicate raises."""

    def register(cls: NfClassT) -> NfClassT:
        if name in _registry:
            raise ValueError(f"network function '{name}' is defined twice")
        cls.type = name
        _registry[name] = cls
        return cls

    return register


def known_types() -> tuple[str, ...]:
    """Names of all registered NF types."""
    return tuple(sorted(_registry))


def lookup(name: str) -> type[NetworkFunction[Any]]:
    """The NF class of a type; KeyError with the nearest name."""
    if name not in _registry:
        raise KeyError(unknown("NF type", name, known_types()))
    return _registry[name]


@dataclass(slots=True)
class SimpleEnvironment:
    """An environment with a settable clock and a fixed neighbour table."""

    now_us: int = 0
    random: random.Random = field(default_factory=lambda: random.Random(0))
    neighbors: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])

    def neighbor_mac(self, version: int, address: int) -> int | None:
        return self.neighbors.get((version, address))

"""A runtime as the compiler sees it, and the registry that runtimes enter themselves into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import unknown
from orchestrator.model.elements import CostProfile
from orchestrator.nfs.base import NetworkFunction, known_types, lookup

DEFAULT = "python"
"""The runtime of a server that names none."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """A server says it by `name`. `python -m servernf.NAME` starts a worker of it."""

    name: str
    cost: Callable[[type[NetworkFunction[Any]]], CostProfile | None]
    """What an NF costs a core there; None: the runtime has no such NF."""

    @property
    def nf_types(self) -> tuple[str, ...]:
        """The NFs of the catalogue that it has (`Status.nf_types` of its workers)."""
        return tuple(name for name in known_types() if self.cost(lookup(name)) is not None)

    def cost_of(self, nf: NetworkFunction[Any]) -> CostProfile:
        """What an NF that it has costs; ValueError for one that it has not."""
        found = self.cost(type(nf))
        if found is None:
            raise ValueError(f"the runtime '{self.name}' has no {nf.type}")
        return found

    def memory_bytes(self, nf: NetworkFunction[Any]) -> int:
        """What a worker takes at most for an NF with all the state that it may come to hold."""
        cost = self.cost_of(nf)
        return cost.memory_bytes + cost.state_entry_bytes * nf.state_entries


_registry: dict[str, Runtime] = {}


def register(made: Runtime) -> Runtime:
    """Enter a runtime under its name; a duplicate raises."""
    if made.name in _registry:
        raise ValueError(f"runtime '{made.name}' is defined twice")
    _registry[made.name] = made
    return made


def known_runtimes() -> tuple[str, ...]:
    """Names of all runtimes."""
    return tuple(sorted(_registry))


def runtime(name: str) -> Runtime:
    """The runtime of a name; ValueError with the nearest one."""
    if name not in _registry:
        raise ValueError(unknown("runtime", name, known_runtimes()))
    return _registry[name]

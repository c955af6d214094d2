"""A runtime as the compiler sees it, and the registry that runtimes enter themselves into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import unknown
from orchestrator.model.elements import CostProfile
from orchestrator.nfs.base import FROM_FILE, NetworkFunction, NfConfig, known_types, lookup
from orchestrator.profiles import RuntimeProfile, runtime_profile

DEFAULT = "python"
"""The runtime of a server that names none."""
ESTIMATED_FOR = 1_700_000_000
"""Cycles/s of the cores that estimates are of (Lemur, CoNEXT'20)."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """A server says it by `name`. `python -m servernf.NAME` starts a worker of it."""

    name: str
    cost: Callable[[type[NetworkFunction[Any]]], CostProfile | None]
    """What an NF is estimated to cost a core there; None: the runtime has no such NF."""
    table_bytes: Callable[[NetworkFunction[Any]], int] = lambda _nf: 0
    """What lookups of a configuration take of memory, where that is more than an NF's cost says."""

    @property
    def profile(self) -> RuntimeProfile | None:
        """What was measured of it."""
        return runtime_profile(self.name)

    @property
    def cycles_per_second(self) -> int:
        """Of the core on which it was measured, or for which its costs are estimated."""
        profile = self.profile
        return profile.measured.cycles_per_second if profile else ESTIMATED_FOR

    def cycles(self, nf: NetworkFunction[Any], size: int, new_flows: float = 0.0) -> float:
        """What a packet costs an NF that it has, `size` bytes with its FCS; `new_flows` is the share of
        packets that begin a flow, for which estimates make no difference."""
        profile = self.profile
        if profile is None or nf.type not in profile.nfs:
            cost = self.cost_of(nf)
            return cost.cycles_per_packet + cost.cycles_per_byte * size
        ns = profile.nfs[nf.type].ns(size, entries_of(nf.config), new_flows)
        return ns * profile.measured.cycles_per_second / 1e9

    def frame_cycles(self, size: int) -> float:
        """What a frame costs a worker beside its NFs; estimates have it in each NF's."""
        profile = self.profile
        return profile.frame(size) * profile.measured.cycles_per_second / 1e9 if profile else 0.0

    def source(self, nf: NetworkFunction[Any]) -> str:
        """Where the figure of an NF comes from."""
        profile = self.profile
        if profile is None or nf.type not in profile.nfs:
            return self.cost_of(nf).source
        return str(profile.measured)

    @property
    def nf_types(self) -> tuple[str, ...]:
        """The NFs of the catalogue that it has (`Status.nf_types` of its workers)."""
        return tuple(name for name in known_types() if self.cost(lookup(name)) is not None)

    def cost_of(self, nf: NetworkFunction[Any]) -> CostProfile:
        """What an NF that it has costs; ValueError for one that it has not."""
        cost = self.cost(type(nf))
        if cost is None:
            raise ValueError(f"the runtime '{self.name}' has no {nf.type}")
        return cost

    def memory_bytes(self, nf: NetworkFunction[Any]) -> int:
        """What a worker takes at most for an NF with all the state that it may come to hold."""
        cost = self.cost_of(nf)
        state_bytes = cost.state_entry_bytes * nf.state_entries
        return cost.memory_bytes + state_bytes + self.table_bytes(nf)


def entries_of(config: NfConfig) -> int:
    """How many entries a configuration has: rules, routes, signatures, whatever it lists most of."""
    listed = [len(v) for _, v in config if isinstance(v, (tuple, list, dict))]
    listed.append(len(getattr(config, FROM_FILE, ())))
    return max(listed)


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

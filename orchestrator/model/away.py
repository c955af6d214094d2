"""What of a network cannot be used now: devices that do not answer, links that are down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from orchestrator.model.plan import Core
from orchestrator.model.topology import Link


@dataclass(frozen=True, slots=True)
class Cordon:
    """What works and is not to be used: switches and worker cores that an operator has cordoned off.

    A switch carries packets only where no other way leads to what is attached to it.
    """

    switches: frozenset[str] = frozenset()
    cores: frozenset[Core] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.switches or self.cores)

    def words(self) -> Iterator[str]:
        """A line for each, naming it."""
        yield from (f"{switch} is cordoned" for switch in sorted(self.switches))
        for core in sorted(self.cores, key=lambda core: (core.server, core.index)):
            yield f"{core} is cordoned"


@dataclass(frozen=True, slots=True)
class Away:
    """P4Runtime devices, worker cores and links that are to be left out, each with the reason in words.

    `hosts` are those whose own link is down: nothing that the network does would reach them. What is
    cordoned is left out, too.
    """

    devices: Mapping[str, str] = field(default_factory=dict[str, str])
    cores: Mapping[Core, str] = field(default_factory=dict[Core, str])
    links: Mapping[Link, str] = field(default_factory=dict[Link, str])
    hosts: Mapping[str, str] = field(default_factory=dict[str, str])
    cordon: Cordon = Cordon()

    def __bool__(self) -> bool:
        return bool(self.devices or self.cores or self.links or self.hosts or self.cordon)

    def joined(self, other: Away) -> Away:
        """What is away of either, where only devices and cores are told of the other."""
        return replace(
            self, devices={**other.devices, **self.devices}, cores={**other.cores, **self.cores}
        )

    def without(self, other: Away) -> Away:
        """Devices and cores that are not known to be away."""
        return Away(
            {name: why for name, why in self.devices.items() if name not in other.devices},
            {core: why for core, why in self.cores.items() if core not in other.cores},
        )

    def words(self) -> Iterator[str]:
        """A line for each, naming it."""
        yield from self.devices.values()
        yield from self.cores.values()
        yield from self.links.values()
        yield from self.hosts.values()
        yield from self.cordon.words()

"""What of a network cannot be used now: devices that do not answer, links that are down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from orchestrator.model.plan import Core
from orchestrator.model.topology import Link


@dataclass(frozen=True, slots=True)
class Away:
    """P4Runtime devices, worker cores and links that are to be left out, each with the reason in words.

    `hosts` are those whose own link is down: nothing that the network does would reach them.
    """

    devices: Mapping[str, str] = field(default_factory=dict[str, str])
    cores: Mapping[Core, str] = field(default_factory=dict[Core, str])
    links: Mapping[Link, str] = field(default_factory=dict[Link, str])
    hosts: Mapping[str, str] = field(default_factory=dict[str, str])

    def __bool__(self) -> bool:
        return bool(self.devices or self.cores or self.links or self.hosts)

    def words(self) -> Iterator[str]:
        """A line for each, naming it."""
        yield from self.devices.values()
        yield from self.cores.values()
        yield from self.links.values()
        yield from self.hosts.values()

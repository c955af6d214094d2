"""What only a network that runs on this machine offers beside its devices' addresses: interfaces.

Deployment needs none of it. Whoever does asks `LiveNetwork.facilities`, which says so when a network
has them not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from orchestrator.model.topology import Link


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface, in the namespace of process `pid` (0: the one that we are in)."""

    name: str
    pid: int = 0


class Facilities(Protocol):
    """The interfaces of a network on this machine."""

    def ports(self, device: str) -> Mapping[int, Interface]:
        """Interfaces behind the ports of a device with a pipeline."""
        ...

    def cores(self, server: str) -> Mapping[int, Interface]:
        """Interfaces of a server's workers, by core from 0."""
        ...

    def host(self, name: str) -> Interface:
        """The interface by which a host sends."""
        ...

    def links_down(self) -> Mapping[Link, str]:
        """Links that carry nothing, with what is known of them."""
        ...


class Restarter(Protocol):
    """Who can start a network's workers again: whoever started them."""

    def restart(self, worker: str) -> None:
        """End a worker (`server1.1`) if it lives, and start it anew, empty.

        ReportedError when it does not start; it is then as it was.
        """
        ...

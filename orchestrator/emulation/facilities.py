"""What a network in namespaces of this machine says of itself to those who did not start it."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.emulation.restart import restart
from orchestrator.emulation.state import NetworkState, load_state
from orchestrator.emulation.status import links_down
from orchestrator.model.topology import Link
from orchestrator.network.facilities import Interface
from orchestrator.network.folders import list_networks


def facilities_of(network: str) -> EmulatedFacilities | None:
    """The facilities of a network, None for one that `net up` did not start."""
    return EmulatedFacilities(load_state(network)) if network in list_networks() else None


class EmulatedFacilities:
    """The interfaces of a network in namespaces."""

    def __init__(self, state: NetworkState) -> None:
        self._state = state

    def ports(self, device: str) -> Mapping[int, Interface]:
        """Interfaces behind the ports of a switch, in the root namespace."""
        interfaces = self._state.switches[device].interfaces
        return {port: Interface(name) for port, name in interfaces.items()}

    def cores(self, server: str) -> Mapping[int, Interface]:
        """The workers' interfaces in their server's namespace."""
        interface = self._state.servers[server]
        return {
            worker.core: Interface(worker.interface, interface.pid) for worker in interface.workers
        }

    def host(self, name: str) -> Interface:
        """A host's interface in its namespace."""
        interface = self._state.hosts[name]
        return Interface(interface.interface, interface.pid)

    def restart(self, worker: str) -> None:
        """By the network's supervisor."""
        restart(self._state.name, worker)

    def links_down(self) -> Mapping[Link, str]:
        """What the kernel says of the ends of links."""
        return links_down(self._state)

"""Start workers of an attached network again: their server's agent does."""

from __future__ import annotations

from orchestrator.attachment.servers import open_agent
from orchestrator.deployment.access import Access
from orchestrator.errors import NetworkError, unknown
from orchestrator.network.inventory import load_inventory


class AgentRestarter:
    """Restarts by servers' agents (`network.facilities.Restarter`)."""

    def __init__(self, network: str) -> None:
        self._network = network

    def restart(self, worker: str) -> None:
        """Ask the agent of the worker's server."""
        restart_worker(self._network, worker)


def restarter_of(network: str) -> AgentRestarter | None:
    """Who restarts the workers of a network whose inventory names agents; None: nobody can."""
    return AgentRestarter(network) if load_inventory(network).agents else None


def restart_worker(name: str, device: str) -> None:
    """End a worker if it lives, and start it anew: empty, where it was reached before.

    NetworkError when the network has no such worker; ServerError when its agent does not start it.
    """
    inventory = load_inventory(name)
    workers = {worker.name: worker.core.server for worker in inventory.workers}
    if device in inventory.pipelines:
        raise NetworkError(
            f"{name}: {device} was not started here, so its owner must start it again"
        )
    if device not in workers:
        raise NetworkError(f"{name}: {unknown('worker', device, tuple(workers))}")
    server = inventory.topology.servers[workers[device]]
    with open_agent(server, Access.from_environment()) as agent:
        agent.restart_worker(device)

"""Start a worker of an attached network again: its server's agent does."""

from __future__ import annotations

from orchestrator.attachment.servers import open_agent
from orchestrator.deployment.access import Access
from orchestrator.errors import NetworkError, unknown
from orchestrator.network.inventory import load_inventory


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

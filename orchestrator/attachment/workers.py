"""Workers of servers that run already: started by the agents, and ended again if attaching fails."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from orchestrator.attachment.servers import ServerFound, open_agent
from orchestrator.deployment.access import Access
from orchestrator.errors import NetworkError, ServerError, quoted
from orchestrator.model.addresses import ADDRESS_FORMS, is_address
from orchestrator.model.plan import Core
from orchestrator.model.topology import Topology
from orchestrator.network.inventory import WorkerAddress

_THREADS = 16


@contextmanager
def running(
    topology: Topology, agents: Sequence[ServerFound], access: Access
) -> Generator[tuple[WorkerAddress, ...]]:
    """The workers of all servers; those that did not run before end when the context fails."""

    def start(agent: ServerFound) -> list[WorkerAddress]:
        with open_agent(topology.servers[agent.name], access) as session:
            started = session.start_workers(agent.workers)
        return [
            WorkerAddress(spec.name, Core(agent.name, spec.core), _dialled(spec.name, worker.api))
            for spec, worker in zip(agent.workers, started, strict=True)
        ]

    try:
        with ThreadPoolExecutor(max_workers=_THREADS) as pool:
            workers = tuple(worker for some in pool.map(start, agents) for worker in some)
        yield workers
    except BaseException:
        for agent in agents:
            _stop(topology, agent, access)
        raise


def _dialled(worker: str, api: str) -> str:
    if not is_address(api):
        raise NetworkError(
            f"{worker}: its agent says that it is reached at {quoted(api)}, which is none of "
            f"{ADDRESS_FORMS}"
        )
    return api


def _stop(topology: Topology, agent: ServerFound, access: Access) -> None:
    """End the workers that did not run before, as far as their agent answers."""
    # If it does not, that is what has failed, and told already.
    with suppress(ServerError), open_agent(topology.servers[agent.name], access) as session:
        for worker in agent.new:
            session.stop_worker(worker)

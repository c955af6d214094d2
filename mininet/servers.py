"""The servers of a live network: an agent in each namespace, and the workers that it starts."""
# pyright: basic, reportMissingImports=false

from __future__ import annotations

from contextlib import ExitStack

from orchestrator.clients.agent import AgentClient
from orchestrator.emulation import agents, children, commands
from orchestrator.emulation.state import AgentState, WorkerState
from orchestrator.model.topology import Server


class Servers:
    """`context` is the network's supervisor: it spawns processes, and writes down which are ours."""

    def __init__(self, context) -> None:
        self.context = context
        self.workers: dict[str, tuple[WorkerState, ...]] = {}
        self.agents: dict[str, AgentState] = {}
        self.nics: dict[str, str] = {}

    def start_agents(self, nics: dict[str, str]) -> list[children.Child]:
        """Start the agents of servers that have an interface, and cores for workers."""
        topology = self.context.state.topology
        self.nics = {name: nic for name, nic in nics.items() if topology.servers[name].worker_cores}
        return [self.start_agent(name) for name in self.nics]

    def start_agent(self, name: str) -> children.Child:
        context, server = self.context, self.context.state.topology.servers[name]
        cle = context.options.cle
        argv = agents.agent_argv(server, context.folder, context.state.id, cle)
        argv = commands.in_namespace(context.net[name].pid, argv)
        child = context.spawn(agents.agent_name(name), argv)
        api = agents.agent_api(server, context.folder)
        self.agents[name] = AgentState(child.name, api, child.pid, str(child.log))
        return child

    def cores(self) -> int:
        """How many workers there will be."""
        servers = self.context.state.topology.servers
        return sum(len(servers[name].worker_cores) for name in self.nics)

    def start_workers(self, names: list[str] | None = None) -> None:
        """Have agents (all, if not said which) start their workers, all at the same time."""
        servers = [self.context.state.topology.servers[n] for n in names or self.nics]
        with ExitStack() as open_:
            waits = [
                agents.starting(open_.enter_context(self.client(s)), s, self.nics[s.name])
                for s in servers
            ]
            for server, wait in zip(servers, waits, strict=True):
                self.keep(server.name, wait())

    def restart(self, worker: WorkerState) -> None:
        """A worker ends, if it lives, and starts anew; so do all of a server whose agent has ended."""
        agent = self.agents[worker.server]
        if not self.context.state.process(agent.pid).is_alive:
            children.wait_ready([self.start_agent(worker.server)])
            self.start_workers([worker.server])
            return
        server = self.context.state.topology.servers[worker.server]
        with self.client(server) as client:
            client.restart_worker(worker.name)
            self.keep(server.name, agents.worker_states(server, client.workers()))

    def client(self, server: Server) -> AgentClient:
        return AgentClient(server.name, agents.agent_api(server, self.context.folder))

    def keep(self, server: str, workers: tuple[WorkerState, ...]) -> None:
        """What an agent has started is ours, too."""
        self.workers[server] = workers
        for worker in workers:
            if worker.pid and not self.context.state.process(worker.pid).is_alive:
                self.context.record(worker.pid)

"""A client of a server's agent (servernf/proto/agent.proto), which starts and ends its workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import grpc

from orchestrator.clients.channel import OnChannel, TlsFiles, call_error, open_channel
from orchestrator.errors import ServerError, quoted
from orchestrator.model.plan import Core
from orchestrator.model.topology import Server
from servernf.proto import agent_pb2, agent_pb2_grpc
from servernf.wire.addresses import device_mac
from servernf.wire.agents import API_VERSION

_CALL_SECONDS = 20.0
_START_SECONDS = 120.0
"""A worker's start takes a second of CPU, and a server may start all of its workers at once."""


def worker_specs(server: Server, nic: str) -> list[agent_pb2.WorkerSpec]:
    """The workers that a server is to have, on its interfaces for them, else on macvlans of `nic`."""

    def one(core: int) -> agent_pb2.WorkerSpec:
        spec = agent_pb2.WorkerSpec(
            name=str(Core(server.name, core)),
            core=core,
            runtime=server.runtime,
            mac=device_mac(server.id, core=core + 1),
        )
        if server.interfaces:
            spec.interface = server.interfaces[core]
        else:
            spec.macvlan_on = nic
        return spec

    return [one(core) for core in server.worker_cores]


class AgentClient(OnChannel):
    """A session with the agent of one server; ServerError carries the agent's own words.

    An agent of another API version is refused at the first call.
    """

    def __init__(self, server: str, address: str, *, tls: TlsFiles | None = None) -> None:
        self.server = server
        self.address = address
        self.call_seconds = _CALL_SECONDS
        self._tls = tls
        super().__init__(open_channel(address, tls))
        self._stub = agent_pb2_grpc.AgentStub(self._channel)
        self._known = False

    def describe(self) -> agent_pb2.Description:
        """The server and its workers; ServerError also when the agent speaks another version."""
        try:
            description = self._stub.describe(
                agent_pb2.DescribeRequest(), timeout=self.call_seconds
            )
        except grpc.RpcError as error:
            raise self._error(error) from error
        if description.api_version != API_VERSION:
            raise ServerError(
                f"{self.server}: its agent (servernf {quoted(description.version)}) speaks version "
                f"{description.api_version} of the agent's API, this "
                f"orchestrator version {API_VERSION}: install the same version of both"
            )
        self._known = True
        return description

    def workers(self) -> list[agent_pb2.Worker]:
        """All workers that the agent has been asked for, by core."""
        request = agent_pb2.ListWorkersRequest()
        return list(self._call(self._stub.listWorkers, request, self.call_seconds).workers)

    def start_worker(self, spec: agent_pb2.WorkerSpec) -> agent_pb2.Worker:
        """Start a worker and wait until its API answers; one that runs as it is to be stays."""
        return self._call(self._stub.startWorker, spec, _START_SECONDS)

    def start_workers(self, specs: Iterable[agent_pb2.WorkerSpec]) -> list[agent_pb2.Worker]:
        """Start several at the same time; the first failure is raised when all have ended."""
        return self.starting(specs)()

    def starting(
        self, specs: Iterable[agent_pb2.WorkerSpec]
    ) -> Callable[[], list[agent_pb2.Worker]]:
        """As `start_workers`, which waits when what is returned is called."""
        self._check_version()
        method: Any = self._stub.startWorker
        started = [method.future(spec, timeout=_START_SECONDS) for spec in specs]

        def wait() -> list[agent_pb2.Worker]:
            failures = [failure for each in started if (failure := each.exception())]
            if failures:
                raise self._error(failures[0]) from failures[0]
            return [each.result() for each in started]

        return wait

    def stop_worker(self, name: str) -> None:
        """End a worker for good; nothing when there is none of that name."""
        self._call(self._stub.stopWorker, agent_pb2.WorkerName(name=name), self.call_seconds)

    def restart_worker(self, name: str) -> agent_pb2.Worker:
        """End a worker, if it lives, and start it anew: empty, at the same address."""
        request = agent_pb2.WorkerName(name=name)
        return self._call(self._stub.restartWorker, request, _START_SECONDS)

    def _check_version(self) -> None:
        if not self._known:
            self.describe()

    def _call(self, method: Any, request: Any, seconds: float) -> Any:
        self._check_version()
        try:
            return method(request, timeout=seconds)
        except grpc.RpcError as error:
            raise self._error(error) from error

    def _error(self, error: grpc.RpcError) -> ServerError:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:  # type: ignore[attr-defined]
            return ServerError(
                f"{self.server}: no agent of a server answers at {self.address}, but something else "
                "(a worker, a switch?)"
            )
        return call_error(f"agent of {self.server}", self.address, self._tls, error)

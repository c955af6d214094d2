"""The gRPC face of the agent (servernf/proto/agent.proto): who may call, and what errors are told."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any, TypeVar

import grpc

from servernf.agent import describing
from servernf.agent.bounds import Bounds
from servernf.agent.config import Config, ListenerTls
from servernf.agent.errors import DoesNotStart, NoSuchWorker, WorkerExists
from servernf.agent.fleet import Fleet
from servernf.agent.keeper import WorkerCondition
from servernf.agent.specs import WorkerSpec, spec_of
from servernf.agent.starter import Starter
from servernf.host.authority import Authority
from servernf.proto import agent_pb2 as agent
from servernf.proto import agent_pb2_grpc
from servernf.wire.errors import InputError, ServerError

_THREADS = 64
"""Calls at the same time; starts of workers wait for their ends."""
_MOST_REQUEST = 1 << 16
"""Bytes of a message to the agent."""
_CODES: tuple[tuple[type[Exception], grpc.StatusCode], ...] = (
    (InputError, grpc.StatusCode.INVALID_ARGUMENT),
    (NoSuchWorker, grpc.StatusCode.NOT_FOUND),
    (WorkerExists, grpc.StatusCode.ALREADY_EXISTS),
    (DoesNotStart, grpc.StatusCode.FAILED_PRECONDITION),
    (ServerError, grpc.StatusCode.INTERNAL),
)
_Call = TypeVar("_Call", bound=Callable[..., Any])


def _changes(call: _Call) -> _Call:
    """A call for certificates that may write; its exceptions become gRPC status codes."""

    @wraps(call)
    def wrapped(self: AgentService, request: object, context: grpc.ServicerContext) -> object:
        if refusal := self.authority.refusal(context):
            context.abort(grpc.StatusCode.PERMISSION_DENIED, refusal)
        try:
            return call(self, request, context)
        except Exception as error:
            for kind, code in _CODES:
                if isinstance(error, kind):
                    context.abort(code, str(error))
            raise

    return wrapped  # type: ignore[return-value]


class AgentService(agent_pb2_grpc.AgentServicer):
    """The calls of `agent.proto` on the workers of this server."""

    def __init__(self, config: Config, bounds: Bounds, starter: Starter, fleet: Fleet) -> None:
        self._config, self._bounds = config, bounds
        self._starter, self._fleet = starter, fleet
        tls = config.tls
        self.authority = Authority.of(
            tls.writers if tls else (), certified=tls is not None and tls.ca is not None
        )

    def describe(
        self, request: agent.DescribeRequest, context: grpc.ServicerContext
    ) -> agent.Description:
        return describing.description(self._config, self._bounds, self._workers())

    def listWorkers(
        self, request: agent.ListWorkersRequest, context: grpc.ServicerContext
    ) -> agent.WorkerList:
        return agent.WorkerList(workers=self._workers())

    @_changes
    def startWorker(self, request: agent.WorkerSpec, context: grpc.ServicerContext) -> agent.Worker:
        spec = spec_of(request, describing.offer(self._config))
        return self._worker(spec, self._fleet.start(spec))

    @_changes
    def stopWorker(
        self, request: agent.WorkerName, context: grpc.ServicerContext
    ) -> agent.StopWorkerResponse:
        self._fleet.stop(request.name)
        return agent.StopWorkerResponse()

    @_changes
    def restartWorker(
        self, request: agent.WorkerName, context: grpc.ServicerContext
    ) -> agent.Worker:
        return self._worker(*self._fleet.restart(request.name))

    def _workers(self) -> list[agent.Worker]:
        return [self._worker(*each) for each in self._fleet.workers()]

    def _worker(self, spec: WorkerSpec, condition: WorkerCondition) -> agent.Worker:
        return describing.worker(spec, condition, self._config, self._starter)


def serve(service: AgentService, config: Config) -> grpc.Server:
    """Start to listen as the configuration says; InputError when that cannot be."""
    server = grpc.server(
        ThreadPoolExecutor(max_workers=_THREADS),
        # The kernel would let a second agent listen at the same port, and deal calls to both.
        options=[("grpc.max_receive_message_length", _MOST_REQUEST), ("grpc.so_reuseport", 0)],
    )
    agent_pb2_grpc.add_AgentServicer_to_server(service, server)
    try:
        if config.tls is None:
            server.add_insecure_port(config.listen)
        else:
            server.add_secure_port(config.listen, _credentials(config.tls))
    except RuntimeError as error:
        raise InputError(f"listen: {config.listen}: {error}") from None
    server.start()
    return server


def _credentials(tls: ListenerTls) -> grpc.ServerCredentials:
    ca = tls.ca.read_bytes() if tls.ca else None
    pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
    return grpc.ssl_server_credentials([pair], ca, require_client_auth=ca is not None)

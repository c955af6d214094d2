# Generated from agent.proto by `python -m servernf.proto.generate`. Do not edit.
from collections.abc import Callable

import grpc

from servernf.proto import agent_pb2

class AgentStub:
    def __init__(self, channel: grpc.Channel) -> None: ...
    describe: Callable[..., agent_pb2.Description]
    listWorkers: Callable[..., agent_pb2.WorkerList]
    startWorker: Callable[..., agent_pb2.Worker]
    stopWorker: Callable[..., agent_pb2.StopWorkerResponse]
    restartWorker: Callable[..., agent_pb2.Worker]

class AgentServicer:
    def describe(
        self, request: agent_pb2.DescribeRequest, context: grpc.ServicerContext
    ) -> agent_pb2.Description: ...
    def listWorkers(
        self, request: agent_pb2.ListWorkersRequest, context: grpc.ServicerContext
    ) -> agent_pb2.WorkerList: ...
    def startWorker(
        self, request: agent_pb2.WorkerSpec, context: grpc.ServicerContext
    ) -> agent_pb2.Worker: ...
    def stopWorker(
        self, request: agent_pb2.WorkerName, context: grpc.ServicerContext
    ) -> agent_pb2.StopWorkerResponse: ...
    def restartWorker(
        self, request: agent_pb2.WorkerName, context: grpc.ServicerContext
    ) -> agent_pb2.Worker: ...

def add_AgentServicer_to_server(servicer: AgentServicer, server: grpc.Server) -> None: ...

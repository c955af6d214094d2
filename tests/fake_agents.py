"""An agent of a server as the orchestrator meets one: served by this process, its workers, too."""

from __future__ import annotations

import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
from processes import WorkerServer

from servernf.proto import agent_pb2, agent_pb2_grpc
from servernf.wire.agents import API_VERSION


class FakeAgent(agent_pb2_grpc.AgentServicer):
    """Says of itself what `description` holds; starts workers with sockets in `folder`.

    `refuses` is the name of a worker that does not start.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder
        self.description = agent_pb2.Description(
            api_version=API_VERSION,
            name=name,
            version="0.1.0",
            cpus=[agent_pb2.Cpu(number=number) for number in range(4)],
            pins=True,
            memory_bytes=1 << 30,
            nics=[agent_pb2.Nic(name="ens1", mtu=1600, carrier=True)],
            runtimes=["python"],
            restarts=True,
        )
        self.clock_offset_s = 0.0
        self.refuses = ""
        self.workers: dict[str, WorkerServer] = {}
        self.specs: dict[str, agent_pb2.WorkerSpec] = {}
        self.asked: list[str] = []

    def deliver(self, frame: bytes) -> None:
        """A frame comes to the server's NIC; every worker sees it, since one drops what is another's."""
        for worker in self.workers.values():
            worker.worker.process([frame])

    def describe(
        self, request: agent_pb2.DescribeRequest, context: grpc.ServicerContext
    ) -> agent_pb2.Description:
        self.description.time_us = round((time.time() + self.clock_offset_s) * 1e6)
        del self.description.workers[:]
        self.description.workers.extend(map(self._worker, self.specs))
        return self.description

    def listWorkers(
        self, request: agent_pb2.ListWorkersRequest, context: grpc.ServicerContext
    ) -> agent_pb2.WorkerList:
        return agent_pb2.WorkerList(workers=map(self._worker, self.specs))

    def startWorker(
        self, request: agent_pb2.WorkerSpec, context: grpc.ServicerContext
    ) -> agent_pb2.Worker:
        self.asked.append(f"start {request.name}")
        if request.name == self.refuses:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no interface could be made")
        if request.name not in self.workers:
            address = f"unix:{self.folder}/{request.name}.sock"
            self.workers[request.name] = WorkerServer(request.name, request.mac, address)
        self.specs[request.name] = request
        return self._worker(request.name)

    def stopWorker(
        self, request: agent_pb2.WorkerName, context: grpc.ServicerContext
    ) -> agent_pb2.StopWorkerResponse:
        self.asked.append(f"stop {request.name}")
        self.specs.pop(request.name, None)
        if worker := self.workers.pop(request.name, None):
            worker.stop()
        return agent_pb2.StopWorkerResponse()

    def restartWorker(
        self, request: agent_pb2.WorkerName, context: grpc.ServicerContext
    ) -> agent_pb2.Worker:
        self.asked.append(f"restart {request.name}")
        self.workers[request.name].restart()
        return self._worker(request.name)

    def _worker(self, name: str) -> agent_pb2.Worker:
        return agent_pb2.Worker(
            spec=self.specs[name],
            state=agent_pb2.WORKER_RUNNING,
            api=self.workers[name].address,
            interface=self.specs[name].interface or f"core{self.specs[name].core + 1}",
        )


@contextmanager
def agent(name: str, folder: Path) -> Generator[tuple[FakeAgent, str]]:
    """An agent and its address; its workers end with it."""
    served = FakeAgent(name, folder)
    server = grpc.server(ThreadPoolExecutor(max_workers=8))
    agent_pb2_grpc.add_AgentServicer_to_server(served, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield served, f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
        for worker in served.workers.values():
            worker.stop()

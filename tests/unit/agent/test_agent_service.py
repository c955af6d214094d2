"""The agent's API over real gRPC, seen by the orchestrator's client: rights, versions, errors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from agents import Agent, agent, configuration, message, served
from certificates import Authority
from other_user import NOBODY, connects_as

from orchestrator.clients.agent import AgentClient
from orchestrator.clients.channel import TlsFiles
from orchestrator.errors import ServerError, ServerGone
from servernf.agent import describing
from servernf.agent.machine import Nic
from servernf.agent.runtimes import runtimes
from servernf.proto import agent_pb2, agent_pb2_grpc
from servernf.python.runtime.service import serve as serve_worker
from servernf.python.runtime.worker import Worker
from servernf.wire.addresses import device_mac

pytestmark = pytest.mark.slow

NICS = tuple(
    Nic(f"vf{core}", device_mac(1, core=core + 1), 1600, True, True, 10**10, "ice", 1)
    for core in range(3)
)


@pytest.fixture(autouse=True)
def nics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describing.machine, "nics", lambda: NICS)


def on(core: int, **changed: object) -> agent_pb2.WorkerSpec:
    asked = message(core, **changed)
    asked.interface = f"vf{core}"
    return asked


def client(of_agent: Agent, tls: TlsFiles | None = None) -> AgentClient:
    return AgentClient("server1", of_agent.config.listen, tls=tls)


def test_the_server_and_its_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (
        agent(monkeypatch, configuration(tmp_path)) as started,
        served(started),
        client(started) as session,
    ):
        one, two = session.start_workers([on(0), on(1)])
        assert (one.state, one.interface, one.cpu) == (agent_pb2.WORKER_RUNNING, "vf0", -1)
        assert two.api == f"unix:{tmp_path}/core2.sock"
        assert one.spec == on(0)
        assert session.start_worker(on(0)) == one
        told = session.describe()
        assert (told.api_version, told.name, list(told.runtimes)) == (
            1,
            "server1",
            list(runtimes()),
        )
        assert told.nics[1].bits_per_second == 10**10
        assert (told.nics[1].driver, told.nics[1].numa_node) == ("ice", 1)
        assert list(told.workers) == session.workers() == [one, two]
        again = session.restart_worker(one.spec.name)
        assert (again.pid != one.pid, again.api) == (True, one.api)
        session.stop_worker(one.spec.name)
        session.stop_worker(one.spec.name)
        assert session.workers() == [two]


def test_two_that_ask_for_the_same_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (
        agent(monkeypatch, configuration(tmp_path)) as started,
        served(started),
        client(started) as session,
        ThreadPoolExecutor(4) as pool,
    ):
        pids = {worker.pid for worker in pool.map(session.start_worker, [on(0)] * 4)}
        assert len(pids) == 1


def test_errors_by_their_kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (
        agent(monkeypatch, configuration(tmp_path)) as started,
        served(started),
        client(started) as session,
    ):
        with pytest.raises(ServerError, match=r"INVALID_ARGUMENT: runtime: .*\ncpu: 4096"):
            session.start_worker(on(0, runtime="x", cpu=4096))
        with pytest.raises(ServerError, match="NOT_FOUND: unknown worker 'x'"):
            session.restart_worker("x")
        started.refuse.touch()
        with pytest.raises(ServerError, match=r"FAILED_PRECONDITION: server1.1: .*its cable"):
            session.start_workers([on(0), on(1)])
        started.refuse.unlink()
        assert session.workers() == []
        session.start_worker(on(0))
        with pytest.raises(ServerError, match=r"ALREADY_EXISTS: name: .* memory_bytes 0, not"):
            session.start_worker(on(0, memory_bytes=1 << 30))
        assert len(session.workers()) == 1


def test_an_agent_of_another_version_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(describing, "API_VERSION", 2)
    with (
        agent(monkeypatch, configuration(tmp_path)) as started,
        served(started),
        client(started) as session,
    ):
        told = "speaks version 2 of the agent's API, this orchestrator version 1"
        for call in (session.describe, session.workers, lambda: session.start_worker(on(0))):
            with pytest.raises(ServerError, match=told):
                call()
        assert started.fleet.workers() == []


def test_what_is_no_agent(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/w.sock"
    with pytest.raises(ServerGone, match="agent of server1: UNAVAILABLE: no answer"):
        AgentClient("server1", address).describe()
    server, _, _ = serve_worker(Worker("w", 1), address)
    try:
        with pytest.raises(ServerError, match=r"no agent of a server answers at .*something else"):
            AgentClient("server1", address).describe()
    finally:
        server.stop(None).wait()


def test_only_writers_change(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whom the CA knows may read; whom it does not know gets no answer at all."""
    authority, stranger = Authority(tmp_path / "ca"), Authority(tmp_path / "other", "another CA")
    certificate, key = authority.issue("server1")
    files = {"certificate": str(certificate), "key": str(key), "ca": str(authority.ca)}
    config = configuration(tmp_path, tls={**files, "writers": ["alice"]})
    with agent(monkeypatch, config) as started, served(started):
        with client(started, TlsFiles(authority.ca, *authority.issue("alice"))) as alice:
            alice.start_worker(on(0))
        with client(started, TlsFiles(authority.ca, *authority.issue("mallory"))) as mallory:
            assert mallory.describe().name == "server1"
            told = "PERMISSION_DENIED: the certificate of 'mallory' may read this device"
            for change in (
                lambda: mallory.start_worker(on(1)),
                lambda: mallory.stop_worker("server1.1"),
                lambda: mallory.restart_worker("server1.1"),
            ):
                with pytest.raises(ServerError, match=told):
                    change()
            assert len(mallory.workers()) == 1
        with (
            client(started, TlsFiles(authority.ca, *stranger.issue("alice"))) as other,
            pytest.raises(ServerError, match="refuses the client certificate"),
        ):
            other.describe()
        with client(started) as plain, pytest.raises(ServerError, match="speaks TLS only"):
            plain.describe()


def test_a_port_is_one_agents(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with agent(monkeypatch, configuration(tmp_path, listen="127.0.0.1:1")) as started:
        probe = grpc.server(ThreadPoolExecutor(1))
        port = probe.add_insecure_port("127.0.0.1:0")
        probe.start()
        try:
            taken = replace(started, config=replace(started.config, listen=f"127.0.0.1:{port}"))
            with pytest.raises(Exception, match=f"listen: 127.0.0.1:{port}"), served(taken):
                pass
        finally:
            probe.stop(None).wait()


def test_only_the_owner_reaches_its_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with agent(monkeypatch, configuration(tmp_path)) as started, served(started):
        if connects_as(0, f"{tmp_path}/agent.sock"):
            pytest.skip("needs root")
        assert connects_as(NOBODY, f"{tmp_path}/agent.sock") == "PermissionError"


def test_messages_have_a_bound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (
        agent(monkeypatch, configuration(tmp_path)) as started,
        served(started),
        grpc.insecure_channel(started.config.listen) as channel,
    ):
        stub = agent_pb2_grpc.AgentStub(channel)
        with pytest.raises(grpc.RpcError, match="RESOURCE_EXHAUSTED"):
            stub.stopWorker(agent_pb2.WorkerName(name="x" * (1 << 20)))

"""`servernf agent` as a user runs it: a process in a network namespace, with workers of Python.

Oracle: the kernel's word on processes and interfaces, and frames at the other end of the server's link.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from agents import ended, message
from certificates import Authority
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from support import eventually

from orchestrator.clients.agent import AgentClient
from orchestrator.clients.channel import TlsFiles
from orchestrator.clients.vnf import WorkerClient
from orchestrator.errors import ServerError
from orchestrator.model.entries import ChainHop, ServerChain
from servernf.host.packetio import PacketSocket
from servernf.proto import agent_pb2
from servernf.wire import nsh
from servernf.wire.addresses import mac_text

SPACE, WIRE = f"agent{os.getpid()}", f"sn{os.getpid()}"
UNIT = Path(__file__).resolve().parents[3] / "servernf/agent/servernf-agent.service"
SWITCH = 0x0200_0002_0000
RUNNING = agent_pb2.WORKER_RUNNING


def ip(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *words], capture_output=True, text=True)


def _missing() -> str:
    if os.geteuid() != 0:
        return "needs root"
    made = ip("netns", "add", SPACE)
    if made.returncode == 0:
        ip("netns", "del", SPACE)
    return made.stderr.strip()


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(_missing()), reason="no network namespace can be made"),
]


@dataclass
class Server:
    """A namespace with one link, and the agent's configuration."""

    folder: Path
    api: str
    agents: list[subprocess.Popen[str]] = field(default_factory=list[subprocess.Popen[str]])

    def configure(self, tls: dict[str, str] | None = None, **workers: object) -> None:
        settings = {"listen": f"unix:{self.folder}", "pin": False, **workers}
        data: dict[str, Any] = {"name": "server1", "listen": self.api, "workers": settings}
        file = self.folder / "agent.json"
        file.write_text(json.dumps({**data, "tls": tls, "folder": str(self.folder)}))
        file.chmod(0o600)

    def start(self, *before: str) -> subprocess.Popen[str]:
        command = [*before, sys.executable, "-m", "servernf", "agent", "--config"]
        agent = subprocess.Popen(
            ["ip", "netns", "exec", SPACE, *command, f"{self.folder}/agent.json"],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.agents.append(agent)
        assert agent.stdout is not None
        told = json.loads(agent.stdout.readline())
        assert (told["ready"], told["listen"], told["pid"]) == (True, self.api, agent.pid)
        return agent

    def interfaces(self) -> dict[str, dict[str, Any]]:
        shown = json.loads(ip("-n", SPACE, "-d", "-json", "link", "show").stdout)
        return {each["ifname"]: each for each in shown}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    ip("netns", "add", SPACE)
    ip("link", "add", WIRE, "mtu", "1600", "type", "veth",
       "peer", "name", "eth0", "mtu", "1600", "netns", SPACE)  # fmt: skip
    ip("link", "set", WIRE, "arp", "off", "up")
    ip("-n", SPACE, "link", "set", "eth0", "arp", "off", "up")
    started = Server(tmp_path, f"unix:{tmp_path}/agent.sock")
    started.configure()
    try:
        yield started
    finally:
        for agent in started.agents:
            agent.kill()
            agent.wait()
        ip("netns", "del", SPACE)
        ip("link", "del", WIRE)


@contextmanager
def client(server: Server) -> Iterator[AgentClient]:
    with AgentClient("server1", server.api) as session:
        yield session


def test_from_start_to_end(server: Server) -> None:
    """A frame passes a worker; a killed one is there again; nothing is left at the end."""
    agent = server.start()
    with client(server) as session:
        first, second = session.start_workers([message(0), message(1)])
        assert (first.state, first.interface) == (RUNNING, "core1")
        shown = server.interfaces()["core1"]
        assert shown["address"] == mac_text(first.spec.mac)
        assert (shown["linkinfo"]["info_kind"], shown["mtu"]) == ("macvlan", 1600)
        status = Path(f"/proc/{first.pid}/status").read_text()
        assert "Uid:\t60706\t60706\t60706\t60706" in status
        through(first)

        os.kill(first.pid, signal.SIGKILL)
        again = eventually(lambda: anew(session, first))
        assert (again.api, again.restarts, again.spec) == (first.api, 1, first.spec)
        through(again)
        session.stop_worker(second.spec.name)
        assert ended(second.pid)
        assert "core2" not in server.interfaces()
    agent.terminate()
    assert agent.wait(120) == 0
    assert ended(again.pid)
    assert "core1" not in server.interfaces()


def anew(session: AgentClient, old: agent_pb2.Worker) -> agent_pb2.Worker | None:
    """The worker of a core, when another process runs there."""
    worker = next(w for w in session.workers() if w.spec.core == old.spec.core)
    return worker if worker.state == RUNNING and worker.pid != old.pid else None


def through(worker: agent_pb2.Worker) -> None:
    """A packet goes through an NF of the worker, and comes back on the wire."""
    hops = (ChainHop(nf="acl", port="inside"), ChainHop(mac=SWITCH, spi=6, si=200))
    with WorkerClient(worker.spec.name, worker.api) as session, PacketSocket(WIRE) as wire:
        session.configure("g", {"acl": ("acl", {"default": "permit"})}, None)
        session.service_chain("g", ServerChain(spi=5, si=254, hops=hops, outputs=("outside",)))
        asked = bytes(Ether() / IP(dst="10.0.0.1") / UDP(dport=53))
        tagged = nsh.encode(nsh.Tag(worker.spec.mac, SWITCH, 5, 254), asked)

        def answered() -> bool:
            wire.send_batch([tagged])
            return any(
                (decoded := nsh.decode(frame)) is not None
                and (decoded[0].src_mac, decoded[0].spi, decoded[1]) == (worker.spec.mac, 6, asked)
                for frame in wire.recv_batch()
            )

        eventually(answered)


def test_a_killed_agent_leaves_no_doubles(server: Server) -> None:
    """Its workers end with it, and the next agent starts them anew, where they were."""
    agent = server.start()
    with client(server) as session:
        before = session.start_workers([message(0), message(1)])
    agent.kill()
    agent.wait()
    assert all(ended(worker.pid) for worker in before)
    server.start()
    with client(server) as session:
        after = eventually(
            lambda: all(w.state == RUNNING for w in session.workers()) and session.workers()
        )
        assert [(w.spec, w.api) for w in after] == [(w.spec, w.api) for w in before]
        assert not {w.pid for w in after} & {w.pid for w in before}
        through(after[0])


@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv (util-linux)")
def test_the_units_capabilities_are_enough(server: Server) -> None:
    """As under the shipped unit: these capabilities, and nothing gained by executing."""
    lines = UNIT.read_text().splitlines()
    (allowed,) = (line.partition("=")[2] for line in lines if line.startswith("CapabilityB"))
    names = [name.removeprefix("CAP_").lower() for name in allowed.split()]
    bounds = ",".join(["-all", *(f"+{name}" for name in names)])
    agent = server.start("setpriv", "--no-new-privs", "--bounding-set", bounds)
    status = Path(f"/proc/{agent.pid}/status").read_text()
    (effective,) = (line.split()[1] for line in status.splitlines() if line.startswith("CapEff"))
    assert int(effective, 16).bit_count() == len(names)
    with client(server) as session:
        worker = session.start_worker(message(0))
        through(worker)
        session.restart_worker(worker.spec.name)
    agent.terminate()
    assert agent.wait(120) == 0
    assert "core1" not in server.interfaces()


def test_over_tcp_with_certificates(server: Server, tmp_path: Path) -> None:
    """As a controller on another machine: agent and worker know who may change them."""
    here, there = (f"198.18.{os.getpid() % 250}.{n}" for n in (1, 2))
    for words in (["-n", SPACE, "link", "set", "eth0", "arp", "on"], ["link", "set", WIRE, "arp", "on"],
                  ["addr", "add", f"{here}/30", "dev", WIRE],
                  ["-n", SPACE, "addr", "add", f"{there}/30", "dev", "eth0"]):  # fmt: skip
        assert ip(*words).returncode == 0
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("server1")
    files = {"certificate": str(certificate), "key": str(key), "ca": str(authority.ca)}
    server.api = f"{there}:50080"
    server.configure(tls=files, listen=f"{there}:50100")
    server.start()

    def shown(name: str) -> TlsFiles:
        return TlsFiles(authority.ca, *authority.issue(name), name="localhost")

    with AgentClient("server1", server.api, tls=shown("controller")) as session:
        worker = session.start_worker(message(1))
        assert worker.api == f"{there}:50101"
    with WorkerClient("w", worker.api, tls=shown("controller")) as session:
        session.remove_graph("g")
    with (
        WorkerClient("w", worker.api, tls=shown("mallory")) as session,
        pytest.raises(ServerError, match="'mallory' may read this device"),
    ):
        session.remove_graph("g")


def test_an_interface_of_ones_own(server: Server) -> None:
    """An existing interface is used as it is, and stays when its worker ends."""
    server.start()
    asked = message(0)
    asked.interface = "vf0"
    with client(server) as session:
        with pytest.raises(ServerError, match="unknown interface 'vf0'"):
            session.start_worker(asked)
        ip("-n", SPACE, "link", "add", "link", "eth0", "name", "vf0", "address",
           mac_text(asked.mac), "type", "macvlan", "mode", "private")  # fmt: skip
        with pytest.raises(ServerError, match="vf0 is down; it is used as it is"):
            session.start_worker(asked)
        ip("-n", SPACE, "link", "set", "vf0", "arp", "off", "up")
        through(session.start_worker(asked))
        session.stop_worker(asked.name)
        assert "vf0" in server.interfaces()


def test_an_interface_of_somebody_else_is_left_alone(server: Server) -> None:
    server.start()
    ip("-n", SPACE, "link", "add", "link", "eth0", "name", "core1", "type", "macvlan")
    with (
        client(server) as session,
        pytest.raises(ServerError, match="core1 is there already, and not this agent's"),
    ):
        session.start_worker(message(0))
    assert "core1" in server.interfaces()


def test_pinned_where_the_configuration_says(server: Server) -> None:
    server.configure(cpus=[min(os.sched_getaffinity(0))], pin=True)
    server.start()
    with client(server) as session:
        worker = session.start_worker(message(0, memory_bytes=4 << 30))
        assert worker.cpu == min(os.sched_getaffinity(0))
        assert os.sched_getaffinity(worker.pid) == {worker.cpu}
        with pytest.raises(ServerError, match="core: 1: this server has cores 0 to 0"):
            session.start_worker(message(1))

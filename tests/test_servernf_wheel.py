"""The server side's wheel works alone: installed with what it asks for, its agent runs a worker.

Blind spot: the versions of what it asks for are this environment's (tests/unit/test_lock.py has them).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sysconfig
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import grpc
import pytest
from packaging.requirements import Requirement
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from signed import signed
from wheels import ROOT, build, environment

from servernf.agent.runtimes import runtimes
from servernf.proto import agent_pb2, agent_pb2_grpc, vnf_pb2, vnf_pb2_grpc
from servernf.wire import nsh

MAC, NEXT = 0x0200_0001_0001, 0x0200_0002_0000
PACKAGES = Path(sysconfig.get_path("purelib"))
NOT_ASKED_FOR = (
    "orchestrator",
    "ortools",
    "pydantic",
    "networkx",
    "finsy",
    "scapy",
    "numpy",
    "typer",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT / "servernf", tmp_path_factory.mktemp("servernf"))


def asked_for(name: str, seen: set[str]) -> Iterator[str]:
    """A distribution that is installed here, and all that it needs."""
    if name in seen:
        return
    seen.add(name)
    yield name
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield from asked_for(requirement.name, seen)


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made, purelib = environment(tmp_path_factory.mktemp("alone") / "venv", wheel)
    with zipfile.ZipFile(wheel) as archive:
        (told,) = (n for n in archive.namelist() if n.endswith("/METADATA"))
        lines = archive.read(told).decode().splitlines()
    needs = [Requirement(re.sub("^Requires-Dist: ", "", n)) for n in lines if "Requires-Dist" in n]
    seen: set[str] = set()
    for name in (wanted for need in needs for wanted in asked_for(need.name, seen)):
        for top in {file.parts[0] for file in distribution(name).files or ()} - {"..", "google"}:
            (purelib / top).symlink_to(PACKAGES / top)
    (purelib / "google").mkdir()
    (purelib / "google" / "protobuf").symlink_to(PACKAGES / "google" / "protobuf")
    return made


def test_what_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {
        "servernf/py.typed",
        "servernf/python/runtime/worker.py",
        "servernf/wire/prf.c",
        "servernf/proto/vnf.proto",
        "servernf/proto/agent.proto",
        "servernf/agent/servernf-agent.service",
    } < names
    assert ("servernf/wire/_prf.so" in names) is (shutil.which("cc") is not None)
    assert all(name.startswith(("servernf/", "servernf-")) for name in names)
    assert not any("__pycache__" in name or "pyproject" in name for name in names)


def test_it_has_nothing_of_the_orchestrator(python: Path) -> None:
    search = "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    done = subprocess.run(
        [python, "-I", "-c", search, *NOT_ASKED_FOR], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_worker_of_it(python: Path, tmp_path: Path) -> None:
    wire_path, api = tmp_path / "wire", f"unix:{tmp_path}/w.sock"
    command = (
        f"{python} -I -m servernf.python --name w --mac 02:00:00:01:00:01 --frames {wire_path}"
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
        door.bind(str(wire_path))
        door.listen()
        door.settimeout(60)
        worker = subprocess.Popen(
            [*command.split(), "--api", api], stdout=subprocess.PIPE, text=True, cwd=tmp_path
        )
        try:
            wire, _ = door.accept()
            with wire, grpc.insecure_channel(api) as channel:
                assert worker.stdout is not None
                assert json.loads(worker.stdout.readline())["api"] == api
                through(vnf_pb2_grpc.VnfStub(signed(channel)), wire)
                worker.terminate()
                assert worker.wait(60) == 0
        finally:
            worker.kill()
            worker.wait(60)


def test_its_agent_offers_the_server(python: Path, tmp_path: Path) -> None:
    """The command that it installs; the interpreter of the unit is that of the installation."""
    command = python.parent / "servernf"
    done = subprocess.run(
        [command, "agent", "--check", "--json", "--config", configured(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    told = json.loads(done.stdout)
    assert (told["name"], told["runtimes"]) == ("server1", list(runtimes()))
    assert told["version"] != "0+checkout"
    ask = "from servernf.agent.installing import *; print(unit_text(DEFAULT_CONFIG))"
    unit = subprocess.run([python, "-I", "-c", ask], capture_output=True, text=True, check=True)
    assert f"ExecStart={python} -m servernf agent" in unit.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make an interface")
def test_its_agent_starts_a_worker(python: Path, tmp_path: Path) -> None:
    nic = f"sw{os.getpid()}"
    subprocess.run(["ip", "link", "add", nic, "type", "veth"], check=True)
    agent = subprocess.Popen(
        [python, "-m", "servernf", "agent", "--config", configured(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},  # nothing of the checkout
    )
    try:
        subprocess.run(["ip", "link", "set", nic, "arp", "off", "up"], check=True)
        assert agent.stdout is not None
        api = json.loads(agent.stdout.readline())["listen"]
        spec = agent_pb2.WorkerSpec(name="w", runtime="python", mac=MAC, macvlan_on=nic)
        with grpc.insecure_channel(api) as channel:
            worker = agent_pb2_grpc.AgentStub(channel).startWorker(spec, timeout=120)
        assert worker.state == agent_pb2.WORKER_RUNNING
        with grpc.insecure_channel(worker.api) as channel:
            status = vnf_pb2_grpc.VnfStub(channel).getStatus(vnf_pb2.StatusRequest())
        assert (status.name, status.mac, status.interface) == ("w", MAC, "core1")
        agent.terminate()
        assert agent.wait(120) == 0
    finally:
        agent.kill()
        agent.wait()
        subprocess.run(["ip", "link", "del", nic], check=True)


def configured(folder: Path) -> Path:
    file = folder / "agent.json"
    workers = {"listen": f"unix:{folder}", "pin": False}
    listen = f"unix:{folder}/agent.sock"
    data = {"name": "server1", "listen": listen, "folder": str(folder), "workers": workers}
    file.write_text(json.dumps(data))
    file.chmod(0o600)
    return file


def through(stub: vnf_pb2_grpc.VnfStub, wire: socket.socket) -> None:
    """A packet that the configured NF lets pass, and one that it does not."""
    rules = [{"dst_port": 53, "protocol": "udp", "action": "permit"}]
    acl = json.dumps({"rules": rules, "default": "deny"})
    nfs = [vnf_pb2.NfConfig(name="g/acl", type="acl", config_json=acl)]
    stub.configure(vnf_pb2.ConfigureRequest(graph="g", nfs=nfs))
    stub.serviceChain(
        vnf_pb2.ServiceChainRequest(
            nf="g/acl",
            scope=vnf_pb2.Scope(spi=5, si=254, in_port="inside"),
            next=[vnf_pb2.Hop(exit=vnf_pb2.ExitHop(dst_mac=NEXT, spi=6, si=200))],
        )
    )
    wire.settimeout(60)
    asked, refused = (bytes(Ether() / IP(dst="10.0.0.1") / UDP(dport=n)) for n in (53, 54))
    for frame in (refused, asked):
        wire.send(nsh.encode(nsh.Tag(MAC, NEXT, 5, 254), frame))
    tag, left = nsh.decode(wire.recv(2000))
    assert (left, tag.dst_mac, tag.src_mac, tag.spi, tag.si) == (asked, NEXT, MAC, 6, 200)
    assert stub.getStatus(vnf_pb2.StatusRequest()).version != "0+checkout"

"""Whom a worker takes state from: whom a controller has announced for this transfer, and nobody else.

Oracle: the rule by hand. The last tests run workers as processes of another user, which only root can
start, and over mutual TLS. Blind spot: namespaces (tests/emulated/test_moves.py).
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates import Authority
from networks import topology
from transfer_support import HERE, INSIDE, OF, SECRET, Site

from orchestrator.clients.channel import TlsFiles
from orchestrator.clients.vnf import WorkerClient
from orchestrator.deployment.handover import Handover
from orchestrator.deployment.moves import StateMove
from orchestrator.deployment.scopes import MovedScope
from orchestrator.errors import ServerError
from orchestrator.model.plan import Core
from orchestrator.oracle import frames
from servernf.proto import vnf_pb2 as vnf
from servernf.proto import vnf_pb2_grpc
from servernf.python.runtime.errors import NotPermitted
from servernf.python.runtime.peers import PeerTls
from servernf.python.runtime.service import serve
from servernf.python.runtime.worker import NfSpec, Worker
from servernf.wire.addresses import mac_text
from servernf.wire.configs import config_text
from servernf.wire.errors import InputError

BEGIN, FINISH = vnf.TransferRequest.BEGIN, vnf.TransferRequest.FINISH
USER = 60_998
NAPT = {"addresses": ["203.0.113.1"], "buckets": OF}
MOVE = StateMove(
    "g",
    Core("server1", 0),
    Core("server2", 0),
    ("napt",),
    MovedScope("inside_address", OF, (0, 1, 2, 3)),
)


def site() -> Site:
    """A worker with a mapping, and another one that expects it."""
    made = Site("napt", NAPT, "inside_address")
    datagram = frames.with_checksum(4, 0x0A000101, 0xC6336401, 17, frames.udp(5000, 53, b"x"))
    packet = frames.ip(4, 0x0A000101, 0xC6336401, 17, datagram)
    made.send("a", INSIDE, frames.ethernet(packet, 0x0800, src=1))
    made.announce(made.request(BEGIN, 0, 1, 2, 3))
    return made


@pytest.mark.parametrize("change", ["secret", "id", "scope", "nfs"])
def test_what_was_not_announced_is_refused(change: str) -> None:
    made = site()
    request = made.request(BEGIN, *((0, 1) if change == "scope" else (0, 1, 2, 3)))
    request.secret = SECRET[::-1] if change == "secret" else SECRET
    if change == "id":
        request.id = "another"
    if change == "nfs":
        for worker in made.workers.values():
            both = vnf.ConfigureRequest(graph="g")
            both.nfs.add(name="g/other", type="napt", config_json=config_text(NAPT))
            worker.configure(both)
        request.nfs[:] = ["g/other"]
    with pytest.raises(NotPermitted, match="announced"):
        made.workers["a"].transfer(request)
    assert not any(made.of_flows("b").values())
    assert len(made.of_flows("a")["mappings"]) == 1


def test_an_announcement_is_for_one_transfer() -> None:
    made = site()
    for phase in (BEGIN, FINISH):
        made.workers["a"].transfer(made.request(phase, 0, 1, 2, 3, secret=SECRET))  # type: ignore[arg-type]
    opening = vnf.PushStateRequest(id="move", secret=SECRET)
    opening.open.scope.CopyFrom(made.request(BEGIN, 0, 1, 2, 3).scope)
    opening.open.nfs.add(name="g/napt", type="napt")
    with pytest.raises(NotPermitted, match="open: is not what was announced for transfer 'move'"):
        made.workers["b"].push_state(opening)
    with pytest.raises(NotPermitted, match="no controller has announced"):
        made.workers["b"].push_state(vnf.PushStateRequest(id="move", late=vnf.PulledFrames()))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"id": ""}, "id: must not be empty"),
        ({"secret": bytes(15)}, "secret: must have 16 to 64 bytes, not 15"),
        ({"nfs": []}, "nfs: name at least one NF instance"),
        ({"scope": vnf.StateScope(key="pair", of=3, buckets=[0])}, "scope.of: must be a power of"),
    ],
)
def test_announcements_are_checked(change: dict[str, Any], expected: str) -> None:
    asked: dict[str, Any] = {"id": "move", "secret": SECRET, "nfs": ["g/napt"]}
    request = vnf.ExpectStateRequest(**(asked | change))
    with pytest.raises(InputError, match=expected):
        site().workers["b"].expectState(request)


class Both:
    """A network of two workers, as a controller drives it."""

    topology = topology("leaf-spine")

    def __init__(self, source: WorkerClient, target: WorkerClient) -> None:
        self._workers = {MOVE.source: source, MOVE.target: target}

    def worker(self, core: Core) -> AbstractContextManager[WorkerClient]:
        return nullcontext(self._workers[core])


def moves(source: WorkerClient, target: WorkerClient) -> Any:
    handover = Handover(Both(source, target), MOVE)  # type: ignore[arg-type]
    handover.begin()
    handover.begin()  # as another controller does that takes it up
    return handover.finish()


@contextmanager
def process(folder: Path, index: int) -> Generator[WorkerClient]:
    """A worker of a server of its own, which is another user."""
    own = folder / f"a{index}"
    own.mkdir(mode=0o700)
    with ExitStack() as stack, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as wire:
        wire.bind(str(own / "wire"))
        wire.listen()
        api = f"unix:{own}/api"
        argv = [sys.executable, "-m", "servernf.python", "--name", f"w{index}", "--api", api]
        argv += ["--frames", str(own / "wire"), "--mac", mac_text(HERE + index)]
        argv += ["--door", str(folder / "doors" / f"w{index}.sock"), "--user", str(USER)]
        log = stack.enter_context((own / "log").open("w+"))
        child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, text=True)
        stack.callback(child.wait)
        stack.callback(child.terminate)
        assert child.stdout is not None
        assert select.select([child.stdout], [], [], 60)[0]
        told = child.stdout.readline()
        assert told, (own / "log").read_text()
        assert json.loads(told)["ready"]
        yield stack.enter_context(WorkerClient(f"w{index}", api))


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_workers_of_two_servers_that_are_nobody_bring_each_other_state(tmp_path: Path) -> None:
    doors = tmp_path / "doors"
    doors.mkdir()
    os.chown(doors, 0, USER)
    doors.chmod(0o710)
    with process(tmp_path, 1) as source, process(tmp_path, 2) as target:
        for worker in (source, target):
            worker.configure("g", {"napt": ("napt", NAPT)}, None)
        assert moves(source, target).lost == ""
        mode = (doors / "w1.sock").stat().st_mode & 0o777
        assert mode == 0o660
        # Through the door nobody configures anything.
        with grpc.insecure_channel(f"unix:{doors}/w2.sock") as channel:
            stub = vnf_pb2_grpc.VnfStub(channel)
            with pytest.raises(grpc.RpcError, match="Method not implemented"):
                stub.removeGraph(vnf.RemoveGraphRequest(graph="g"), timeout=60)
            with pytest.raises(grpc.RpcError, match="no controller has announced"):
                stub.pushState(vnf.PushStateRequest(id=MOVE.id), timeout=60)


@pytest.mark.slow
def test_over_mutual_tls_only_the_announced_certificate_brings_state(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with ExitStack() as stack:
        clients: list[WorkerClient] = []
        files: list[PeerTls] = []
        for name in ("one", "two"):
            certificate, key = authority.issue(name, f"{name}.example")
            files.append(
                PeerTls(certificate.read_bytes(), key.read_bytes(), authority.ca.read_bytes())
            )
            worker = Worker(name, HERE)
            worker.configure("g", [NfSpec("g/napt", "napt", config_text(NAPT))])
            server, _, api = serve(worker, "127.0.0.1:0", files[-1])
            stack.callback(lambda server=server: server.stop(0).wait())
            mine = authority.issue("controller")
            tls = TlsFiles(authority.ca, *mine, f"{name}.example")
            clients.append(stack.enter_context(WorkerClient(name, api, tls=tls)))
        source, target = clients
        assert source.status().certified == "one"
        assert moves(source, target).lost == ""
        expected = vnf.ExpectStateRequest(id="x", secret=SECRET, nfs=["g/napt"])
        with pytest.raises(ServerError, match="source: name whom its certificate is made out to"):
            target.expect_state(expected)
        expected.source = "three"
        address = target.expect_state(expected)
        name = [("grpc.ssl_target_name_override", "two.example")]
        with grpc.secure_channel(address, files[0].client(), name) as channel:
            push = vnf_pb2_grpc.VnfStub(channel).pushState
            with pytest.raises(grpc.RpcError, match="no controller has announced transfer 'x' of"):
                push(vnf.PushStateRequest(id="x", secret=SECRET), timeout=60)

"""Primary and standby as processes of their own: killed, put to sleep and woken while packets come.

Oracle: numbered datagrams; what has left the primary leaves the standby with the same port outside.
Blind spot: load, switches.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from support import eventually
from test_transfer_calls import HOSTS, METADATA
from transfer_support import HERE, INSIDE, OUTSIDE, SECRET, SPI, SWITCH

from orchestrator.oracle import frames
from servernf.proto import vnf_pb2 as vnf
from servernf.proto import vnf_pb2_grpc
from servernf.python.packet import PacketView
from servernf.wire import nsh
from servernf.wire.configs import config_text

STATUS, START, STOP, PROMOTE = (
    vnf.ReplicateRequest.STATUS,
    vnf.ReplicateRequest.START,
    vnf.ReplicateRequest.STOP,
    vnf.ReplicateRequest.PROMOTE,
)
CONFIG = config_text({"addresses": ["203.0.113.1"], "buckets": 64})


class Process:
    """A worker with a NAPT, its wire and its calls."""

    def __init__(self, name: str, index: int, folder: Path, stack: ExitStack) -> None:
        self.mac, self.api = HERE + index, f"unix:{folder}/{name}.sock"
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        listener.bind(f"{folder}/{name}.wire")
        listener.listen()
        words = ["--name", name, "--mac", _mac(self.mac), "--api", self.api]
        words += ["--frames", f"{folder}/{name}.wire"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "servernf.python", *words], stdout=subprocess.DEVNULL
        )
        stack.callback(self.process.wait)
        stack.callback(self.process.kill)
        self.wire, _ = listener.accept()
        stack.enter_context(self.wire)
        channel = stack.enter_context(grpc.insecure_channel(self.api))
        grpc.channel_ready_future(channel).result(20)
        self.stub = vnf_pb2_grpc.VnfStub(channel)
        request = vnf.ConfigureRequest(graph="g")
        request.nfs.add(name="g/napt", type="napt", config_json=CONFIG)
        self.stub.configure(request, metadata=METADATA)
        for port, other in ((INSIDE, OUTSIDE), (OUTSIDE, INSIDE)):
            chain = vnf.ServiceChainRequest(nf="g/napt")
            chain.scope.spi, chain.scope.si = SPI[port], 255
            chain.scope.in_port, chain.scope.out_port = port, other
            chain.next.add().exit.CopyFrom(vnf.ExitHop(dst_mac=SWITCH, spi=SPI[port], si=254))
            self.stub.serviceChain(chain, metadata=METADATA)

    def send(self, host: int, number: int) -> None:
        datagram = frames.udp(5000, 53, number.to_bytes(8, "big"))
        datagram = frames.with_checksum(4, host, 0xC6336401, 17, datagram)
        frame = frames.ethernet(frames.ip(4, host, 0xC6336401, 17, datagram), 0x0800, src=1)
        self.wire.send(nsh.encode(nsh.Tag(self.mac, SWITCH, SPI[INSIDE], 255), frame))

    def received(self, wait_s: float = 0.5, count: int = 1 << 30) -> dict[int, int]:
        """Ports outside by number, of what has left: so many, or until nothing more comes."""
        self.wire.settimeout(wait_s)
        ports: dict[int, int] = {}
        view = PacketView()
        try:
            while len(ports) < count and (data := self.wire.recv(65536)):
                _, frame = nsh.decode(data) or (None, b"")
                assert view.load(frame)
                number = int.from_bytes(view.data[view.l4 + 8 : view.l4 + 16], "big")
                ports[number] = view.source_port
        except (TimeoutError, ConnectionError):
            pass
        return ports

    def replicate(self, phase: int, **more: str | int) -> vnf.ReplicateResponse:
        request = vnf.ReplicateRequest(phase=phase, id="double", nfs=["g/napt"])  # type: ignore[arg-type]
        request.variant = "per_packet"
        request.scope.key, request.scope.of = "inside_address", 64
        request.scope.buckets.extend(range(64))
        for name, value in more.items():
            setattr(request, name, value)
        request.secret = SECRET
        return self.stub.replicate(request, metadata=METADATA)


def _mac(value: int) -> str:
    return ":".join(f"{byte:02x}" for byte in value.to_bytes(6, "big"))


def start(one: Process, two: Process, variant: str = "per_packet") -> vnf.ReplicateResponse:
    """As a controller does: the standby is told what it will get before."""
    scope = vnf.StateScope(key="inside_address", of=64, buckets=range(64))
    expected = vnf.ExpectStateRequest(id="double", secret=SECRET, nfs=["g/napt"], scope=scope)
    address = two.stub.expectState(expected, metadata=METADATA).address
    return one.replicate(START, destination=address, variant=variant)


@contextmanager
def pair(folder: Path, variant: str = "per_packet") -> Generator[tuple[Process, Process]]:
    with ExitStack() as stack:
        one, two = Process("a", 0, folder, stack), Process("b", 1, folder, stack)
        assert start(one, two, variant).state == "following"
        yield one, two


def check_goes_on(standby: Process, left: dict[int, int]) -> None:
    """What has left the primary leaves the standby by the same ports."""
    before = {number % len(HOSTS): port for number, port in left.items()}
    for number, host in enumerate(HOSTS):
        standby.send(host, 10_000 + number)
    received = standby.received(20.0, len(HOSTS))
    after = {number - 10_000: port for number, port in received.items()}
    assert after.keys() == set(range(len(HOSTS)))
    assert {number: after[number] for number in before} == before


@pytest.mark.slow
@pytest.mark.parametrize("kill_after_s", [0.0, 0.01])
def test_a_killed_primary_breaks_nothing_that_others_have_seen(
    tmp_path: Path, kill_after_s: float
) -> None:
    with pair(tmp_path) as (one, two):
        for number in range(200):
            one.send(HOSTS[number % len(HOSTS)], number)
        time.sleep(kill_after_s)
        one.process.kill()
        one.process.wait()
        left = one.received()
        told = two.replicate(PROMOTE)
        assert (told.state, told.left_out) == ("promoted", 0)
        check_goes_on(two, left)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["per_packet", "periodic"])
def test_a_primary_that_is_woken_sends_nothing(tmp_path: Path, variant: str) -> None:
    with pair(tmp_path, variant) as (one, two):
        for number in range(100):
            one.send(HOSTS[number % len(HOSTS)], number)
        left = one.received(20.0, 100)
        assert len(left) == 100
        os.kill(one.process.pid, signal.SIGSTOP)
        for number in range(100, 140):
            one.send(HOSTS[number % len(HOSTS)], number)
        assert two.replicate(PROMOTE).state == "promoted"
        check_goes_on(two, left)
        os.kill(one.process.pid, signal.SIGCONT)
        assert not one.received(1.0)
        eventually(
            lambda: (told := one.replicate(STATUS)).state == "fenced" and told.dropped == 40,
            what="the fence, and all of its packets",
        )
        assert not one.received(0.1)


@pytest.mark.slow
def test_a_standby_that_hangs_delays_and_then_is_given_up(tmp_path: Path) -> None:
    with pair(tmp_path) as (one, two):
        os.kill(two.process.pid, signal.SIGSTOP)
        one.send(HOSTS[0], 1)
        assert not one.received(0.2)
        assert 1 in one.received(60.0, 1)
        assert one.replicate(STATUS).state == "lost"
        one.send(HOSTS[0], 2)
        assert 2 in one.received(20.0, 1)
        os.kill(two.process.pid, signal.SIGCONT)
        assert start(one, two).state == "following"
        assert one.replicate(STOP).state == "stopped"
        assert two.replicate(STATUS).state == "none"

"""transfer between two workers that treat packets in threads of their own, over gRPC.

Oracle: numbered datagrams; each comes out once, with the port that its flow has had. Blind spot: load.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from transfer_support import HERE, INSIDE, OUTSIDE, SPI, SWITCH

from orchestrator.oracle import frames
from servernf.proto import vnf_pb2 as vnf
from servernf.proto import vnf_pb2_grpc
from servernf.python.packet import PacketView
from servernf.python.runtime.errors import Gone, Unreachable
from servernf.python.runtime.loop import run
from servernf.python.runtime.peers import RemoteWorker
from servernf.python.runtime.service import serve
from servernf.python.runtime.worker import NfSpec, Worker
from servernf.wire import nsh
from servernf.wire.buckets import bucket_of
from servernf.wire.configs import config_text

METADATA = (("election-id-bin", bytes(15) + b"\1"),)
HOSTS = [0x0A000100 + n for n in range(40)]
BEGIN, FINISH, STATUS = (
    vnf.TransferRequest.BEGIN,
    vnf.TransferRequest.FINISH,
    vnf.TransferRequest.STATUS,
)


class Pipe:
    """Frames by a datagram socket, as the loop wants them."""

    batch = 64

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        end.setblocking(False)
        self.fileno = end.fileno

    def recv_batch(self) -> list[bytes]:
        taken: list[bytes] = []
        while len(taken) < 64:
            try:
                taken.append(self._end.recv(65536))
            except BlockingIOError:
                break
        return taken

    def send_batch(self, frames: list[bytes]) -> int:
        return sum(self._end.send(frame) > 0 for frame in frames)


class Node:
    """A worker with its thread, its socket and its calls."""

    def __init__(self, name: str, index: int, folder: Path, stack: ExitStack) -> None:
        self.worker = Worker(name, HERE + index)
        self.index = index
        config = config_text({"addresses": ["203.0.113.1"], "buckets": 64})
        self.worker.configure("g", [NfSpec("g/napt", "napt", config)])
        self.wire, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in (self.wire, far):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
            stack.callback(end.close)
        wake, self.waker = socket.socketpair()
        server, _, self.api = serve(self.worker, f"unix:{folder}/{name}.sock")
        stack.callback(lambda: server.stop(0).wait())
        self.stub = vnf_pb2_grpc.VnfStub(stack.enter_context(grpc.insecure_channel(self.api)))
        for port, other in ((INSIDE, OUTSIDE), (OUTSIDE, INSIDE)):
            chain = vnf.ServiceChainRequest(nf="g/napt")
            chain.scope.spi, chain.scope.si = SPI[port], 255
            chain.scope.in_port, chain.scope.out_port = port, other
            chain.next.add().exit.CopyFrom(vnf.ExitHop(dst_mac=SWITCH, spi=SPI[port], si=254))
            self.stub.serviceChain(chain, metadata=METADATA)
        thread = threading.Thread(target=run, args=(self.worker, Pipe(far), wake.fileno()))
        thread.start()

        def end() -> None:
            self.waker.send(b"x")
            thread.join(10)
            wake.close()
            self.waker.close()

        stack.callback(end)

    def expects(self, request: vnf.TransferRequest) -> str:
        """A transfer to this worker is announced; where its source finds it."""
        request.secret = bytes(32)
        expected = vnf.ExpectStateRequest(
            id=request.id, secret=request.secret, nfs=request.nfs, scope=request.scope
        )
        return self.stub.expectState(expected, metadata=METADATA).address

    def send(self, host: int, number: int) -> None:
        datagram = frames.udp(5000, 53, number.to_bytes(8, "big"))
        datagram = frames.with_checksum(4, host, 0xC6336401, 17, datagram)
        frame = frames.ethernet(frames.ip(4, host, 0xC6336401, 17, datagram), 0x0800, src=1)
        tag = nsh.Tag(HERE + self.index, SWITCH, SPI[INSIDE], 255)
        self.wire.send(nsh.encode(tag, frame))


@contextmanager
def nodes(folder: Path) -> Iterator[tuple[Node, Node]]:
    with ExitStack() as stack:
        yield Node("a", 0, folder, stack), Node("b", 1, folder, stack)


def received(node: Node) -> list[tuple[int, int, int]]:
    """(outside port, number, outside address) of what has left a node."""
    node.wire.settimeout(0.5)
    arrived: list[tuple[int, int, int]] = []
    view = PacketView()
    try:
        while True:
            _, frame = nsh.decode(node.wire.recv(65536)) or (None, b"")
            assert view.load(frame)
            number = int.from_bytes(view.data[view.l4 + 8 : view.l4 + 16], "big")
            arrived.append((view.source_port, number, view.source))
    except TimeoutError:
        return arrived


@pytest.mark.slow
def test_nothing_is_lost_while_buckets_move_to_and_fro(tmp_path: Path) -> None:
    with nodes(tmp_path) as both:
        owner = dict.fromkeys(range(64), 0)
        sent, moves = 0, 6
        stop = threading.Event()
        lock = threading.Lock()

        def talk() -> None:
            nonlocal sent
            while not stop.is_set():
                for at, host in enumerate(HOSTS):
                    with lock:
                        both[owner[bucket_of(host)]].send(host, sent * 64 + at)
                sent += 1
                time.sleep(0.004)

        talker = threading.Thread(target=talk)
        talker.start()
        for turn in range(moves):
            source, destination = both[turn % 2], both[1 - turn % 2]
            request = vnf.TransferRequest(id=f"m{turn}", destination=destination.api)
            request.nfs.append("g/napt")
            request.variant = "order_preserving"
            request.scope.key, request.scope.of = "inside_address", 64
            request.scope.buckets.extend(range(0, 64, 2))
            request.phase = BEGIN
            request.destination = destination.expects(request)
            begun = source.stub.transfer(request, metadata=METADATA)
            assert begun.state == "ready"
            with lock:
                owner |= dict.fromkeys(range(0, 64, 2), 1 - turn % 2)
                mac = HERE + source.index
                source.wire.send(nsh.marker(mac, SWITCH, begun.marker, 0))
            request.phase = STATUS
            end = time.monotonic() + 10
            while source.stub.transfer(request, metadata=METADATA).markers < 1:
                assert time.monotonic() < end
                time.sleep(0.002)
            request.phase = FINISH
            done = source.stub.transfer(request, metadata=METADATA)
            assert done.state == "done"
            assert done.records
        stop.set()
        talker.join(10)
        got = [item for node in both for item in received(node)]
        ports: dict[int, set[int]] = {}
        for port, number, _ in got:
            ports.setdefault(number % 64, set()).add(port)
        assert len(got) == sent * len(HOSTS)
        assert max(Counter(number for _, number, _ in got).values()) == 1
        assert all(len(arrivals) == 1 for arrivals in ports.values())


def test_variants_and_refusals_over_grpc(tmp_path: Path) -> None:
    with nodes(tmp_path) as (a, b):
        asked = vnf.VariantsRequest(operation="transfer", nf="g/napt")
        assert "order_preserving" in a.stub.getVariants(asked).variants
        with pytest.raises(grpc.RpcError, match="unknown operation 'swap'"):
            a.stub.getVariants(vnf.VariantsRequest(operation="swap", nf="g/napt"))
        request = vnf.TransferRequest(phase=BEGIN, id="x", destination="10.0.0.1:9")
        request.nfs.append("g/napt")
        request.variant = "loss_free"
        with pytest.raises(grpc.RpcError, match="no peer of this worker"):
            a.stub.transfer(request, metadata=METADATA)
        with pytest.raises(grpc.RpcError, match="election id"):
            a.stub.transfer(request)
        request.destination = b.expects(request)
        assert a.stub.transfer(request, metadata=METADATA).state == "ready"
        request.phase = vnf.TransferRequest.ABORT
        assert a.stub.transfer(request, metadata=METADATA).state == "aborted"


def test_a_worker_that_has_ended_is_told_from_one_that_is_silent(tmp_path: Path) -> None:
    """By what the machine says where it listened: for a stopped process the kernel still accepts."""
    part = vnf.PushStateRequest(id="move")
    ended = tmp_path / "ended.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(ended))  # its file outlives it
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    for address in (f"unix:{ended}", f"unix:{tmp_path}/none.sock", f"127.0.0.1:{port}"):
        with pytest.raises(Gone, match="does not answer"):
            RemoteWorker(address, None, "a", 1, seconds=5).push_state(part)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "silent.sock"))
        listening.listen()
        silent = RemoteWorker(f"unix:{tmp_path}/silent.sock", None, "a", 1, seconds=0.3)
        with pytest.raises(Unreachable) as told:
            silent.push_state(part)
    assert not isinstance(told.value, Gone)

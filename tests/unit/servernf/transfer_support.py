"""Two workers between which state moves, a switch before them, and a worker that nothing leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from servernf.proto import vnf_pb2 as vnf
from servernf.python.local import LocalWorker
from servernf.python.packet import ICMP, PacketView
from servernf.python.runtime.worker import Worker
from servernf.wire import nsh
from servernf.wire.buckets import bucket_of, bucket_ports
from servernf.wire.configs import config_text

INSIDE, OUTSIDE = "inside", "outside"
SPI = {INSIDE: 1, OUTSIDE: 2}
SWITCH, HERE = 0x020000010000, 0x020000020000
OFFSET_US = 77_000_000_123
OF = 4
"""Buckets."""
SECRET = bytes(range(32))


@dataclass(slots=True)
class Site:
    """`key` is what buckets are a hash of; `pool` the addresses of a NAPT, with 4 buckets of ports."""

    nf: str
    config: Mapping[str, Any]
    key: str
    pool: tuple[int, ...] = ()
    now_us: int = 1_000_000_000
    between: Callable[[], None] = lambda: None
    """Called while a part of a transfer is on its way."""
    owner: list[str] = field(default_factory=lambda: ["a"] * OF)
    workers: dict[str, LocalWorker] = field(default_factory=dict[str, LocalWorker])
    broken: str = ""
    """A worker that does not answer any more."""

    def __post_init__(self) -> None:
        for index, name in enumerate("abc"):
            self.workers[name] = self.worker(name, index)

    @property
    def instance(self) -> str:
        return f"g/{self.nf}"

    def worker(self, name: str, index: int) -> LocalWorker:
        """One that runs the NF; each has a clock of its own."""

        def clock() -> int:
            return self.now_us + index * OFFSET_US

        made = LocalWorker(
            name,
            HERE + index,
            clock,
            worker=self.made(name, HERE + index, clock),
            peers=lambda address: _Slow(self, address) if address in self.workers else None,  # type: ignore[arg-type, return-value]
        )
        request = vnf.ConfigureRequest(graph="g")
        request.nfs.add(name=self.instance, type=self.nf, config_json=config_text(self.config))
        made.configure(request)
        for port, other in ((INSIDE, OUTSIDE), (OUTSIDE, INSIDE)):
            chain = vnf.ServiceChainRequest(nf=self.instance)
            chain.scope.spi, chain.scope.si = SPI[port], 255
            chain.scope.in_port, chain.scope.out_port = port, other
            chain.next.add().exit.CopyFrom(vnf.ExitHop(dst_mac=SWITCH, spi=SPI[port], si=254))
            made.serviceChain(chain)
        return made

    def made(self, name: str, mac: int, clock: Callable[[], int]) -> Worker | None:
        """A worker of another runtime; None: Python's."""
        return None

    def bucket(self, port: str, frame: bytes) -> int:
        """As a switch has it."""
        view = PacketView()
        assert view.load(frame)
        source, destination = view.flow()
        if port == OUTSIDE and destination in self.pool and view.version == 4:
            number = view.destination_port
            if number < 0 and view.protocol == ICMP and view.l4:
                at = view.l4 + (4 if view.data[view.l4] in (0, 8) else 28)
                if view.data[view.l4] not in (0, 8) and view.data[view.l4 + 17] == ICMP:
                    at += 4
                number = int.from_bytes(view.data[at : at + 2], "big")
            for bucket in range(OF):
                low, high = bucket_ports(1024, 65535, bucket, bucket, OF)
                if low <= number <= high:
                    return bucket
        if not self.key:
            return 0
        inside, outside = (source, destination) if port == INSIDE else (destination, source)
        chosen = {"inside_address": inside, "outside_address": outside, "pair": inside ^ outside}
        return bucket_of(chosen[self.key], OF)

    def frame(self, worker: str, port: str, frame: bytes) -> bytes:
        """With the tag by which it comes to a worker."""
        mac = HERE + "abc".index(worker)
        return nsh.encode(nsh.Tag(mac, SWITCH, SPI[port], 255), frame)

    def send(self, worker: str, port: str, frame: bytes) -> list[tuple[str, bytes]]:
        """What leaves a worker when a frame comes to it."""
        return left(self.workers[worker].process([self.frame(worker, port, frame)]))

    def idle(self, worker: str) -> list[tuple[str, bytes]]:
        """What leaves it although nothing comes."""
        return left(self.workers[worker].process([]))

    def request(
        self, phase: vnf.TransferRequest.Phase.ValueType, *buckets: int, **more: str
    ) -> vnf.TransferRequest:
        """To the source, `a` unless `destination` is."""
        request = vnf.TransferRequest(phase=phase, id="move", destination="b", nfs=[self.instance])
        request.variant = "order_preserving"
        if buckets:
            request.scope.key, request.scope.of = self.key, OF
            request.scope.buckets.extend(buckets)
        for name, value in more.items():
            setattr(request, name, value)
        return request

    def transfer(
        self,
        phase: vnf.TransferRequest.Phase.ValueType,
        *buckets: int,
        source: str = "a",
        **more: str,
    ) -> vnf.TransferResponse:
        """A phase of one, which is announced before it begins."""
        request = self.request(phase, *buckets, **more)
        if phase == vnf.TransferRequest.BEGIN and request.destination in self.workers:
            self.announce(request)
        return self.workers[source].transfer(request)

    def announce(self, request: vnf.TransferRequest | vnf.ReplicateRequest) -> None:
        """Have its destination expect it, as a controller does."""
        request.secret = SECRET
        expected = vnf.ExpectStateRequest(
            id=request.id or "-", secret=SECRET, nfs=request.nfs, scope=request.scope
        )
        self.workers[request.destination].expectState(expected)

    def replicate(
        self,
        phase: vnf.ReplicateRequest.Phase,
        *buckets: int,
        at: str = "a",
        **more: str | int,
    ) -> vnf.ReplicateResponse:
        """A phase of a replication from `a` to `b`."""
        request = vnf.ReplicateRequest(phase=phase, id="double", destination="b")
        request.nfs.append(self.instance)
        request.variant = "per_packet"
        if buckets:
            request.scope.key, request.scope.of = self.key, OF
            request.scope.buckets.extend(buckets)
        for name, value in more.items():
            setattr(request, name, value)
        if phase == vnf.ReplicateRequest.START and request.destination in self.workers:
            self.announce(request)
        return self.workers[at].replicate(request)

    def records(self, worker: str) -> dict[str, dict[bytes, bytes]]:
        """What a worker has, by table and key."""
        nf = self.workers[worker].tables.instances[self.instance].nf
        from servernf.python.scope import EVERYTHING

        return nf.state.snapshot(EVERYTHING, self.now_us + "abc".index(worker) * OFFSET_US)

    def of_flows(self, worker: str) -> dict[str, dict[bytes, bytes]]:
        """Those that belong to a flow."""
        tables = self.workers[worker].tables.instances[self.instance].nf.state.tables
        return {
            name: entries
            for name, entries in self.records(worker).items()
            if tables[name].kind.flow_of is not None
        }


class _Slow:
    """A worker, to whom a part of a transfer takes a while."""

    def __init__(self, site: Site, name: str) -> None:
        self._site, self._name = site, name

    def push_state(self, request: vnf.PushStateRequest) -> vnf.PushStateResponse:
        from servernf.python.runtime.errors import Gone

        self._site.between()
        if self._name == self._site.broken:
            raise Gone(f"worker {self._name} does not answer")
        again = vnf.PushStateRequest.FromString(request.SerializeToString())
        return self._site.workers[self._name].push_state(again)


def left(frames: list[bytes]) -> list[tuple[str, bytes]]:
    """Frames without tags, and the port of the NF that they have left by."""
    outputs: list[tuple[str, bytes]] = []
    for data in frames:
        tag, frame = nsh.decode(data) or (None, b"")
        assert tag is not None
        outputs.append((OUTSIDE if tag.spi == SPI[INSIDE] else INSIDE, frame))
    return outputs

"""A network in memory on which packets are sent between any two writes of a transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from networks import topology
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from orchestrator.compile import CompileRequest, compile_graph
from orchestrator.deployment.execution import Executor
from orchestrator.deployment.planning import Version, plan
from orchestrator.deployment.transaction import Transaction
from orchestrator.linker.sharing import share
from orchestrator.memo import Memo
from orchestrator.model.bundle import Bundle
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.plan import Core
from orchestrator.oracle import ReferenceNetwork
from orchestrator.placement.running import Moving
from orchestrator.simulation.memory import MemoryNetwork
from servernf.wire.addresses import GATEWAY_MAC, mac_text

Deliveries = list[tuple[str, bytes]]


_CHANGING = (
    *("configure", "service_chain", "remove_chain", "remove_graph"),
    *("expect_state", "transfer", "packet_out"),
)


class Watched:
    """Calls `after` behind every call that changes a device; a Write is one update.

    One change at a time: devices in this process have no lock against packets.
    """

    _lock = threading.Lock()

    def __init__(self, device: Any, after: Callable[[], None]) -> None:
        self._device, self._after = device, after

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._device, name)
        if name not in _CHANGING:
            return attribute

        def changing(*what: Any, **options: Any) -> Any:
            with self._lock:
                answer = attribute(*what, **options)
                self._after()
            return answer

        return changing

    def write(self, updates: Iterable[Any], **options: Any) -> int:
        written = 0
        for update in updates:
            with self._lock:
                written += self._device.write([update], **options)
                self._after()
        return written


class WatchedNetwork:
    """A network in memory; `after` is called behind every change."""

    def __init__(self, where: str) -> None:
        self.name = "watched"
        self.memory = MemoryNetwork(topology(where))
        self.topology = self.memory.topology
        self.after: Callable[[], None] = lambda: None
        self.late: list[Any] = []
        """Deliveries of packets that have waited."""

    def device(self, name: str) -> AbstractContextManager[Any]:
        return nullcontext(Watched(self.memory.switches[name], lambda: self.after()))

    def worker(self, core: Core) -> AbstractContextManager[Any]:
        return nullcontext(Watched(self.memory.workers[core], lambda: self.after()))

    def pause(self, seconds: float) -> None:
        self.memory.pause(seconds)

    def run(self, transaction: Transaction, **options: Any) -> None:
        Executor(self, **options).run(transaction)  # type: ignore[arg-type]

    def send(self, host: str, frame: bytes) -> Deliveries:
        self.memory.advance(0)
        self.late += self.memory.taken()
        return [(d.host, d.frame) for d in self.memory.send(host, frame)]

    @property
    def holds_back(self) -> bool:
        """Whether packets wait for state that moves."""
        return any(driver.worker.holds_back for driver in self.memory.workers.values())


class Probes:
    """Packets that matter, and what they meet in the old and in the new version of a graph."""

    def __init__(
        self, where: str, graphs: Sequence[ServiceGraph], packets: Sequence[tuple[str, bytes]]
    ) -> None:
        self.packets = packets
        self.expected = [self._outcomes(graph, where) for graph in graphs]
        self.sent = 0

    def _outcomes(self, graph: ServiceGraph, where: str) -> list[Deliveries]:
        reference = ReferenceNetwork(graph, topology(where))
        return [reference.send(host, frame) for host, frame in self.packets]

    def check(self, network: WatchedNetwork, versions: Sequence[int]) -> None:
        """Every packet meets one of the versions."""
        for index, (host, frame) in enumerate(self.packets):
            got = sorted(network.send(host, frame))
            self.sent += 1
            if not got and network.holds_back:
                continue  # it comes once the state of its flow has (test_state_moves.py)
            wanted = [sorted(self.expected[v][index]) for v in versions]
            assert got in wanted, (
                f"{host}: {Ether(frame).summary()}: delivered to {[h for h, _ in got]}, neither "
                f"version does so: {[[h for h, _ in some] for some in wanted]}"
            )

    @property
    def telling(self) -> int:
        """Packets that the two versions treat differently."""
        return sum(a != b for a, b in zip(*self.expected, strict=True))


def packets(where: str = "leaf-spine", ports: Sequence[int] = (22, 23, 80, 443, 8080)) -> list[Any]:
    """Both ways between h1 and h3: TCP and UDP, ICMP, IPv6, an odd EtherType; some to h4."""
    frames: list[tuple[str, bytes]] = []
    for name, other in (("h1", "h3"), ("h3", "h1")):
        ether, ip = _ether(where, name), _ip(where, name, other)
        frames += [(name, bytes(ether / ip / TCP(sport=4000, dport=port))) for port in ports]
        frames.append((name, bytes(ether / ip / UDP(sport=4000, dport=450) / b"12345678")))
        six = _ip(where, name, other, 6)
        frames.append((name, bytes(ether / six / UDP(sport=4000, dport=443) / b"12345678")))
        frames.append((name, bytes(Ether(src=ether.src, dst="ff:ff:ff:ff:ff:ff") / b"x")))
    frames.append(("h1", bytes(_ether(where, "h1") / _ip(where, "h1", "h4") / ICMP(id=7))))
    elsewhere = IP(src="10.0.1.11", dst="192.0.2.1")
    frames.append(("h1", bytes(_ether(where, "h1") / elsewhere / TCP(dport=443))))
    return frames


def _ether(where: str, host: str) -> Ether:
    return Ether(src=mac_text(topology(where).hosts[host].mac), dst=mac_text(GATEWAY_MAC))


def _ip(where: str, host: str, other: str, version: int = 4) -> Any:
    hosts = topology(where).hosts
    source, target = (
        next(str(a.ip) for a in hosts[name].addresses if a.version == version)
        for name in (host, other)
    )
    return (IP if version == 4 else IPv6)(src=source, dst=target)


_COMPILED: dict[str, Bundle] = {}


def compiled_beside(
    graph: ServiceGraph,
    where: str,
    old: Bundle | None,
    memo: Memo | None = None,
    *,
    moving: Moving | None = None,
) -> Bundle:
    """A graph compiled for a network where an older version of it is deployed."""
    if moving is not None:
        request = CompileRequest(graph, topology(where), beside=old, moving=moving)
        return compile_graph(request).bundle
    key = f"{where}: {graph!r}"
    if key not in _COMPILED:
        request = CompileRequest(graph, topology(where), memo=memo or Memo())
        _COMPILED[key] = compile_graph(request).bundle
    bundle = _COMPILED[key]
    return bundle if old is None else share(bundle, old, memo)


def update(old: Bundle, new: Bundle, *, interrupting: bool = False) -> Transaction:
    return plan(Version(old, None, True), Version(new, None, True), interrupting=interrupting)

"""Moves under 10,000 packets a second each way, in virtual time: none is lost, none is late.

Oracle: the numbers that hosts get: all of them, never falling, from one outside port. Blind spot:
threads and real queues (tests/emulated/test_moves.py).
"""

from __future__ import annotations

from functools import cache

import pytest
from networks import topology
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from test_state_across_updates import IN, OUT, POOL, WHERE, graph, napt
from test_state_moves import on
from update_support import WatchedNetwork, compiled_beside, update

from orchestrator.deployment.execution import Executor
from orchestrator.deployment.planning import Version, plan
from orchestrator.model.bundle import Bundle
from orchestrator.model.plan import Core
from orchestrator.placement.running import Moving, running_of
from orchestrator.simulation.memory import MemoryNetwork
from servernf.wire.addresses import GATEWAY_MAC, mac_text

pytestmark = pytest.mark.slow

GAP_US = 100
CALL_US = 500
"""Virtual time that a call of the controller takes."""
SOURCE, PORT = 4_000, 53


@cache
def head(host: str, source: str, target: str, source_port: int, port: int) -> bytes:
    """What comes in front of a datagram's number."""
    ether = Ether(src=mac_text(topology(WHERE).hosts[host].mac), dst=mac_text(GATEWAY_MAC))
    udp = UDP(sport=source_port, dport=port, chksum=0)
    return bytes(ether / IP(src=source, dst=target) / udp / bytes(8))[:-8]


class Load:
    """Numbered datagrams both ways, sent while time passes; `behind` is by how many a flow fell back."""

    def __init__(self, network: MemoryNetwork) -> None:
        self.network = network
        self.sent = 0
        self.got: dict[str, list[int]] = {"h1": [], "h3": []}
        self.ports: set[int] = set()
        self._seen: int | None = None

    def pass_us(self, us: int) -> None:
        """Let packets come for so long."""
        for at in range(0, us, GAP_US):
            self._put("h1", head("h1", IN, OUT, SOURCE, PORT), at)
            if self._seen is not None:
                self._put("h3", head("h3", OUT, POOL, PORT, self._seen), at)
            self.sent += 1
        self.network.advance(us)
        self._take()

    def finish(self) -> None:
        """Until all have come."""
        self.network.advance(1_000_000)
        self._take()

    def _put(self, host: str, head: bytes, after_us: int) -> None:
        self.network.put(host, head + self.sent.to_bytes(8, "big"), after_us)

    def _take(self) -> None:
        for delivery in self.network.taken():
            ports, number = delivery.frame[34:36], delivery.frame[42:50]
            self.got[delivery.host].append(int.from_bytes(number, "big"))
            if delivery.host == "h3":
                self._seen = int.from_bytes(ports, "big")
                self.ports.add(self._seen)


class Timed(WatchedNetwork):
    """A network with the latencies of its links, on which packets come whenever time passes."""

    def __init__(self) -> None:
        super().__init__(WHERE)
        self.memory = MemoryNetwork(topology(WHERE), timed=True)
        self.topology = self.memory.topology
        self.load = Load(self.memory)

    def pause(self, seconds: float) -> None:
        self.load.pass_us(round(seconds * 1e6))


def moved(count: int) -> tuple[Load, list[str]]:
    """So many moves between two servers, and what each tells."""
    network = Timed()
    spec = on(napt(), 1)
    running: Bundle = compiled_beside(graph(nat=spec), WHERE, None)
    network.run(plan(None, Version(running, None, True)))
    load, told = network.load, list[str]()
    load.pass_us(5_000)
    first = load.sent
    network.after = lambda: load.pass_us(CALL_US)
    for turn in range(count):
        (core,) = running_of(running).cores_of["nat"]
        server = {"server1": "server2", "server2": "server1"}[core.server]
        moving = Moving("nat", Core(server, turn % 3))
        new = compiled_beside(graph(nat=spec), WHERE, running, moving=moving)
        done = Executor(network).run(update(running, new))  # type: ignore[arg-type]
        told += map(str, done.moved)
        running = new
    network.after = lambda: None
    load.finish()
    assert load.sent > first + 100 * count
    return load, told


def is_whole(load: Load, told: list[str], moves: int) -> None:
    assert len(told) == moves
    assert not any("drained by time" in line for line in told), told
    assert any(" packets waited" in line and " 0 packets" not in line for line in told)
    out, back = load.got["h3"], load.got["h1"]
    assert out == list(range(load.sent))
    assert back == sorted(set(back))
    assert back[-1] - back[0] + 1 == len(back) > load.sent / 2
    assert len(load.ports) == 1


def test_a_move_loses_and_reorders_nothing() -> None:
    is_whole(*moved(1), 1)


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
def test_a_hundred_moves_lose_and_reorder_nothing() -> None:
    is_whole(*moved(100), 100)

"""Frames between nodes, in the order of virtual time.

A topology's hosts, switches and servers are joined by wires, both ways of a link. What a node does with
a frame takes no time; what it holds back leaves when it is due. Nothing runs by itself: time passes
when somebody lets it, and one seed gives one course of events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Protocol

from orchestrator.errors import InputError, SwitchError, unknown
from orchestrator.model.topology import Topology
from orchestrator.simulation.links import Faults, Wire

_MOST_HOPS = 10_000
_SENDS = -1
"""The port of an event that is a node's sending, not a frame's coming."""

Sent = tuple[int, bytes]
"""(port, frame)"""
Host = Callable[[bytes, int], Iterable[bytes]]
"""What a host sends at once for a frame that it receives at a time (us)."""
Tamper = Callable[[str, str, bytes, int], Iterable[tuple[bytes, int]]]
"""(from, to, frame, now in us) -> what goes on the wire instead, each later by so many us."""


class LoopError(SwitchError):
    """Frames go on and on."""


class SimulatedDevice(Protocol):
    """A device: what leaves by which port for a frame that comes by one."""

    def process(self, port: int, frame: bytes) -> Sequence[Sent]: ...


class Holder(SimulatedDevice, Protocol):
    """A device that sends some of it later."""

    def wait_ns(self) -> int | None:
        """How long until it has something to send; None: nothing is held."""
        ...

    def release(self) -> Iterable[Sent]:
        """What is due."""
        ...


@dataclass(frozen=True, slots=True)
class Delivery:
    """A frame that reached a host, and when."""

    host: str
    frame: bytes
    at_us: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Stop:
    """A frame at a node, and what left it. Told once it has.

    `number` grows; `parent` is the stop that sent the frame, 0: a host did, or a device what it had
    held. `node` is "" behind a port without a link.
    """

    number: int
    parent: int
    at_ns: int
    node: str
    port: int
    frame: bytes
    sent: tuple[Sent, ...]


@dataclass(frozen=True, slots=True)
class WireCrossing:
    """A frame that a node gave to a wire, and what arrives of it (frame, ns); nothing: lost."""

    at_ns: int
    near: str
    far: str
    frame: bytes
    arriving: tuple[tuple[bytes, int], ...]


class Simulation:
    """The wires and hosts of a topology; devices are added as nodes.

    `timed`: links have their latency and capacity; else a frame is where it goes at once, and only
    `advance` and faults let time pass. A frame that causes more than `most_hops` stops is a LoopError.

    `at_stops` and `at_links` hear of all that happens, `tamper` may change it, `hosts` answer; what
    others receive is in the deliveries.
    """

    def __init__(
        self, topology: Topology, *, timed: bool = False, seed: int = 0, most_hops: int = _MOST_HOPS
    ) -> None:
        self.topology = topology
        self.now_ns = 0
        self.at_stops: list[Callable[[Stop], None]] = []
        self.at_links: list[Callable[[WireCrossing], None]] = []
        self.tamper: Tamper | None = None
        self.hosts: dict[str, Host] = {}
        self._most_hops = most_hops
        self._nodes: dict[str, SimulatedDevice] = {}
        self._holders: dict[str, Holder] = {}
        self._wires: dict[tuple[str, int], Wire] = {}
        for link in topology.links:
            for near, port, far, far_port in (
                (link.a, link.a_port, link.b, link.b_port),
                (link.b, link.b_port, link.a, link.a_port),
            ):
                latency, capacity = (link.latency_us, link.capacity) if timed else (0, 0)
                wire = Wire(near, far, far_port, latency_us=latency, capacity=capacity, seed=seed)
                self._wires.setdefault((near, port), wire)
        self._moving: list[tuple[int, int, int, str, int, bytes]] = []
        """A heap of (when, number, parent, node, port, frame)."""
        self._number = 0
        self._hops_left = 0
        self._due: dict[str, int] = {}
        """When holders have something to send (ns)."""
        self._delivered: list[Delivery] = []

    @property
    def now_us(self) -> int:
        """Virtual time."""
        return self.now_ns // 1000

    def add(self, name: str, node: SimulatedDevice) -> None:
        """A device is there from now on."""
        self._nodes[name] = node

    def add_holder(self, name: str, node: Holder) -> None:
        """A device that may hold frames back is there from now on."""
        self._nodes[name] = self._holders[name] = node

    def wires(self, near: str, far: str) -> Iterator[Wire]:
        """The wires from one node to another; InputError if there is none."""
        wires = [wire for wire in self._wires.values() if (wire.near, wire.far) == (near, far)]
        if not wires:
            neighbors = tuple(wire.far for wire in self._wires.values() if wire.near == near)
            raise InputError(f"{near}: {unknown('neighbour', far, neighbors)}")
        return iter(wires)

    def set_faults(self, near: str, far: str, faults: Faults | None) -> None:
        """What happens to frames from one node to another from now on."""
        for wire in self.wires(near, far):
            wire.set_faults(faults)

    # -- frames and time -----------------------------------------------------------------------

    def put(self, host: str, frame: bytes, after_us: int = 0) -> None:
        """A host sends a frame after a time; it moves when time passes, or `run` is called."""
        if host not in self.topology.hosts:
            raise InputError(unknown("host", host, tuple(self.topology.hosts)))
        self._hops_left += self._most_hops
        self._push(self.now_ns + after_us * 1000, 0, host, _SENDS, frame)

    def emit(self, node: str, port: int, frame: bytes) -> None:
        """A device sends by a port now, what nobody sent to it (a PacketOut); it moves as with `put`."""
        self._hops_left += self._most_hops
        self._transmit(node, port, frame, 0)

    def send(self, host: str, frame: bytes) -> list[Delivery]:
        """Send a frame from a host and run until nothing moves; what hosts have received since the last
        time, so what devices had held until now is in it, too."""
        self.put(host, frame)
        self.run()
        return self.taken()

    def run(self) -> None:
        """Until no frame is under way; what devices hold for later stays there."""
        while self._moving:
            self._next()
        self._hops_left = 0

    def advance(self, us: int) -> None:
        """Let time pass: all that happens meanwhile does."""
        until = self.now_ns + us * 1000
        for name in self._holders:  # calls may have had them let go of what they held
            self._hold(name)
        while self._next_ns(until) <= until:
            self._next()
        self.now_ns = until

    def taken(self) -> list[Delivery]:
        """What hosts have received since this was asked last."""
        delivered, self._delivered = self._delivered, []
        return delivered

    def _next_ns(self, until: int) -> int:
        """When something happens next, if that is until then."""
        moving = self._moving[0][0] if self._moving else until + 1
        return min(moving, *self._due.values()) if self._due else moving

    def _next(self) -> None:
        """What happens next: a device that is due comes before frames of the same time."""
        if self._due:
            due_ns, name = min((at, name) for name, at in self._due.items())
            if not self._moving or due_ns <= self._moving[0][0]:
                self.now_ns = max(self.now_ns, due_ns)
                self._release(name)
                return
        at_ns, number, parent, node, port, frame = heappop(self._moving)
        self.now_ns = at_ns
        self._hops_left -= 1
        if self._hops_left < 0:
            self._moving.clear()
            self._hops_left = 0
            raise LoopError(
                f"a frame at {node or 'no node'} still moves after {self._most_hops:,} hops: a loop"
            )
        if port == _SENDS:
            self._transmit(node, 0, frame, 0)
            return
        sent: Sequence[Sent] = ()
        device = self._nodes.get(node)
        if device is not None:
            sent = device.process(port, frame)
            for out, left in sent:
                self._transmit(node, out, left, number)
            if node in self._holders:
                self._hold(node)
        elif node in self.hosts:
            sent = tuple((0, answer) for answer in self.hosts[node](frame, self.now_us))
            for _, answer in sent:
                self._hops_left += self._most_hops
                self._transmit(node, 0, answer, number)
        elif node in self.topology.hosts:
            self._delivered.append(Delivery(node, frame, self.now_us))
        if self.at_stops:
            stop = Stop(number, parent, at_ns, node, port, frame, tuple(sent))
            for observer in self.at_stops:
                observer(stop)

    def _release(self, name: str) -> None:
        for port, frame in self._holders[name].release():
            self._hops_left += self._most_hops
            self._transmit(name, port, frame, 0)
        self._hold(name)

    def _hold(self, name: str) -> None:
        wait = self._holders[name].wait_ns()
        if wait is None:
            self._due.pop(name, None)
        else:
            self._due[name] = self.now_ns + wait

    def _transmit(self, node: str, port: int, frame: bytes, parent: int) -> None:
        wire, now = self._wires.get((node, port)), self.now_ns
        self._number += 1
        if wire is None:
            heappush(self._moving, (now, self._number, parent, "", port, frame))
            return
        if wire.at_once and self.tamper is None and not self.at_links:
            event = (now, self._number, parent, wire.far, wire.far_port, frame)
            heappush(self._moving, event)
            return
        if self.tamper is None:
            arrives = wire.arrival_ns(now, len(frame))
            arriving = () if arrives is None else ((frame, arrives),)
        else:
            arriving = tuple(
                (some, arrives + later * 1000)
                for some, later in self.tamper(node, wire.far, frame, self.now_us)
                if (arrives := wire.arrival_ns(now, len(some))) is not None
            )
        for some, at in arriving:
            self._push(at, parent, wire.far, wire.far_port, some)
        if self.at_links:
            crossing = WireCrossing(now, node, wire.far, frame, arriving)
            for observer in self.at_links:
                observer(crossing)

    def _push(self, at_ns: int, parent: int, node: str, port: int, frame: bytes) -> None:
        self._number += 1
        heappush(self._moving, (at_ns, self._number, parent, node, port, frame))

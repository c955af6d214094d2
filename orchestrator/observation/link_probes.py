"""Links of a network whose interfaces are not here: frames are sent through them, and must arrive.

A switch sends a frame out of a port (PacketOut), and what is at the other end has counted a frame more
there: another switch by the entry of its port, a server's worker by itself. Any frame will do, so a link
that is used is known to be up by its traffic. Nothing is written to any device.

A link is asked about only while both of its ends answer: where one does not, that is known of the
device. Switches count by ports once a graph has been deployed; until then nothing is known of links.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from orchestrator.clients.arrivals import SwitchArrivals, WorkerArrivals
from orchestrator.deployment.live import LiveNetwork
from orchestrator.model.topology import Link, to_core
from orchestrator.network.fabric import Attachment, Fabric
from orchestrator.observation.probe_frames import frame_to, untagged
from servernf.wire.addresses import device_mac

_FLIGHT_S = 0.02
"""Until it is asked whether frames have arrived."""
_KNOWN_FOR = 0.75
"""Of an interval: what a device had counted longer ago is not what it counts now."""
_TRIES = 2
"""Frames that must be lost before a link is."""

End = tuple[str, int]
"""A device or worker, and its port."""
Outcome = Literal["asked", "answered", "withdrawn"]
Told = Callable[[Link, Outcome], None]
_Job = Callable[..., Coroutine[object, object, None]]


@dataclass(frozen=True, slots=True)
class LinkDirection:
    """A direction of a link: frames that a switch sends out of a port, and the ends at any of which one
    must arrive."""

    sender: str
    port: int
    frames: tuple[bytes, ...]
    ends: tuple[End, ...]


@dataclass(slots=True)
class _Question:
    """What the ends of a link had counted when it was asked about."""

    before: dict[End, int]


class LinkProbes:
    """Asks about every link once a period, in a thread of its own, while the context is open.

    `told` hears of questions and answers, from that thread; `failed` of the error that has ended it.
    """

    def __init__(
        self,
        network: LiveNetwork,
        interval_s: float,
        period_s: float,
        told: Told,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._network = network
        self._interval_s, self._period_s = interval_s, period_s
        self._told, self._failed = told, failed
        self._known_for_s = max(_KNOWN_FOR * interval_s, 2 * period_s)
        self.grace_s = max(0.0, _TRIES * period_s - interval_s / 2)
        """How much longer than a device a link is waited for, since frames are lost, not answers."""
        self._ways = ways_of(network)
        self._at = _links_by_device(self._ways)
        self._counts: dict[str, tuple[float, Mapping[int, int]]] = {}
        """By device or worker, when it answered last and what it had counted."""
        self._open: dict[Link, _Question] = {}
        self._busy: set[tuple[str, str]] = set()
        """(device, what it is doing): it is not asked for more meanwhile."""
        self._switches: dict[str, SwitchArrivals] = {}
        self._workers: dict[str, WorkerArrivals] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="link probes", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._probe())
        except BaseException as failure:  # whoever waits for news raises it
            self._failed(failure)

    async def _probe(self) -> None:
        self._connect()
        devices = (*self._switches.values(), *self._workers.values())
        try:
            async with asyncio.TaskGroup() as tasks:
                speaking = [tasks.create_task(s.speak()) for s in self._switches.values()]
                last = time.monotonic()
                while not self._ending.is_set():
                    begun = time.monotonic()
                    if begun - last > self._period_s + self._interval_s / 2:
                        self._withdraw_all()  # we did not run: who knows what has arrived meanwhile
                    last = begun
                    self._ask(tasks)
                    await asyncio.sleep(_FLIGHT_S)
                    self._read(tasks)
                    await asyncio.sleep(max(0.0, begun + self._period_s - time.monotonic()))
                for task in speaking:
                    task.cancel()
                for device in devices:  # which ends what is still open
                    await device.close()
        finally:
            for device in devices:
                with suppress(Exception):
                    await device.close()

    def _connect(self) -> None:
        network, access = self._network, self._network.access
        topology, inventory = network.topology, network.inventory
        for name, at in inventory.pipelines.items():
            if name in self._at:
                tls = access.tls_files(name, topology.switches[name].tls)
                self._switches[name] = SwitchArrivals(at.address, at.device_id, tls)
        for worker in inventory.workers:
            tls = access.tls_files(worker.name, topology.servers[worker.core.server].tls)
            self._workers[worker.name] = WorkerArrivals(worker.address, tls)

    # -- what is sent ----------------------------------------------------------------------------

    def _ask(self, tasks: asyncio.TaskGroup) -> None:
        """Send a frame through every link that can be asked about."""
        out: dict[str, list[tuple[int, bytes]]] = {}
        for link, ways in self._ways.items():
            counts = self._known_counts(ways)
            if counts is None or not all(self._switches[way.sender].sends for way in ways):
                self._withdraw(link)
                continue
            if link not in self._open:
                self._open[link] = _Question(counts)
                self._told(link, "asked")
            for way in ways:
                out.setdefault(way.sender, []).extend((way.port, frame) for frame in way.frames)
        for name, frames in out.items():
            self._do(tasks, name, "send", self._send, frames)

    async def _send(self, name: str, frames: list[tuple[int, bytes]]) -> None:
        await self._switches[name].send(frames)

    # -- what has arrived ------------------------------------------------------------------------

    def _read(self, tasks: asyncio.TaskGroup) -> None:
        for name in (*self._switches, *self._workers):
            self._do(tasks, name, "read", self._counted)

    async def _counted(self, name: str) -> None:
        device = self._switches.get(name) or self._workers[name]
        counts = await device.counts(2 * self._interval_s)
        if not counts:
            return
        self._counts[name] = time.monotonic(), counts
        for link in self._at.get(name, ()):
            self._judge(link)

    def _judge(self, link: Link) -> None:
        """Whether frames have arrived by all ways of a link since it was asked about."""
        question = self._open.get(link)
        counts = self._known_counts(self._ways[link])
        if question is None or counts is None:
            return
        before = question.before
        for end, count in counts.items():
            before[end] = min(before.get(end, count), count)  # counters begin anew with a pipeline
        if all(
            any(counts[end] > before[end] for end in way.ends if end in counts)
            for way in self._ways[link]
        ):
            del self._open[link]
            self._told(link, "answered")

    def _known_counts(self, ways: Collection[LinkDirection]) -> dict[End, int] | None:
        """What the ends of a link have counted; None: of a way nothing is known now."""
        oldest = time.monotonic() - self._known_for_s
        counts: dict[End, int] = {}
        for way in ways:
            of_way = {end: count for end in way.ends if (count := self._count(end, oldest)) >= 0}
            if not of_way:
                return None
            counts |= of_way
        return counts

    def _count(self, end: End, oldest: float) -> int:
        """Frames that came in there, -1 where that is not known now."""
        at, counts = self._counts.get(end[0], (0.0, {}))
        return counts.get(end[1], -1) if at >= oldest else -1

    def _withdraw(self, link: Link) -> None:
        if self._open.pop(link, None) is not None:
            self._told(link, "withdrawn")

    def _withdraw_all(self) -> None:
        for link in list(self._open):
            self._withdraw(link)

    def _do(self, tasks: asyncio.TaskGroup, name: str, what: str, job: _Job, *args: object) -> None:
        """Have a device do something, unless it does that still."""
        if (name, what) in self._busy:
            return
        self._busy.add((name, what))
        task = tasks.create_task(job(name, *args))
        task.add_done_callback(lambda _: self._busy.discard((name, what)))


def ways_of(network: LiveNetwork) -> dict[Link, tuple[LinkDirection, ...]]:
    """How each link can be tried: those between switches both ways, those to servers towards workers."""
    topology, pipelines = network.topology, network.inventory.pipelines
    fabric = Fabric(topology)
    servers = {at.link: (name, at) for name, at in fabric.attachments.items()}
    servers |= {
        link: (link.b, Attachment(link.a, link.a_port, link))
        for link in topology.links
        if to_core(topology, link)
    }
    directions: dict[Link, tuple[LinkDirection, ...]] = {}
    for link in topology.links:
        if link.a in pipelines and link.b in pipelines:
            a, b = (link.a, link.a_port), (link.b, link.b_port)
            directions[link] = (
                LinkDirection(*a, (untagged(),), (b,)),
                LinkDirection(*b, (untagged(),), (a,)),
            )
        elif link in servers and (name := servers[link][0]) in topology.servers:
            number, at = topology.servers[name].id, servers[link][1]
            mine = [
                worker
                for worker in network.inventory.workers
                if worker.core.server == name
                and (not to_core(topology, link) or worker.core.index == link.b_port)
            ]
            macs = [device_mac(number, core=worker.core.index + 1) for worker in mine]
            if mine and at.switch in pipelines:
                ends = tuple((worker.name, 0) for worker in mine)
                directions[link] = (
                    LinkDirection(at.switch, at.port, tuple(map(frame_to, macs)), ends),
                )
    return directions


def _links_by_device(ways: Mapping[Link, Collection[LinkDirection]]) -> dict[str, list[Link]]:
    """By switch or worker, the links to which it is an end or a sender."""
    links: dict[str, list[Link]] = {}
    for link, each in ways.items():
        for name in dict.fromkeys(_names(each)):
            links.setdefault(name, []).append(link)
    return links


def _names(ways: Collection[LinkDirection]) -> Iterator[str]:
    for way in ways:
        yield way.sender
        yield from (name for name, _ in way.ends)

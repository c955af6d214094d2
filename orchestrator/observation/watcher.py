"""Asks all devices of a network again and again, side by side, and keeps their conditions.

Switches are asked for their capabilities, workers for their status, agents what they are. Links are
looked at where this machine can, elsewhere tried by frames (`link_probes`). No device is waited for: one
thread sends the questions and hears the answers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self

from orchestrator.clients.pulse import Pulse
from orchestrator.deployment.live import LiveNetwork
from orchestrator.model.devices import NIC, Device, devices_of
from orchestrator.model.topology import Link
from orchestrator.observation.link_probes import LinkProbes, Outcome
from orchestrator.observation.liveness import Condition, ConditionChange, Liveness, Subject

_TICKS, _QUESTIONS = 8, 4
"""How often in an interval time is looked at, and a device asked."""
_MOST_PER_S = 500
"""Questions to all devices together: of very many, each is asked less often."""
_PATIENCE_S = 2.0
"""When a question is given up and asked anew; what is down by then stays so."""


def link_name(link: Link) -> str:
    """As commands name it."""
    return f"{link.a}-{link.b}"


def subject_of(device: Device) -> Subject:
    """A device with a pipeline."""
    return Subject("nic" if device.kind == NIC else "switch", device.name)


def pulses_of(network: LiveNetwork) -> dict[Subject, Pulse]:
    """A pulse for every device with a pipeline, every worker and every agent of a network."""
    topology, access = network.topology, network.access
    devices = devices_of(topology)
    pulses: dict[Subject, Pulse] = {}
    for name, at in network.inventory.pipelines.items():
        tls = access.tls_files(name, topology.switches[name].tls)
        pulses[subject_of(devices[name])] = Pulse.of_pipeline(at.address, tls)
    for worker in network.inventory.workers:
        tls = access.tls_files(worker.name, topology.servers[worker.core.server].tls)
        pulses[Subject("worker", worker.name)] = Pulse.of_worker(worker.address, tls, worker.name)
    for server, address in network.inventory.agents.items():
        tls = access.tls_files(server, topology.servers[server].tls)
        pulses[Subject("agent", server)] = Pulse.of_agent(address, tls, server)
    return pulses


class Watcher:
    """The conditions of a network's devices and links while the context is open.

    `probes_links`: frames tell of links, since the interfaces of the network are not here. `heard` is
    told of changes at once, in whichever thread notices them.
    Times of conditions and changes are seconds since 1970.
    """

    def __init__(
        self,
        network: LiveNetwork,
        interval_s: float,
        *,
        probes_links: bool = False,
        heard: Callable[[ConditionChange], None] = lambda change: None,
    ) -> None:
        self.network = network
        self._pulses = pulses_of(network)
        self._links = {Subject("link", link_name(x)): x for x in network.topology.links}
        self._liveness = Liveness(interval_s)
        self._heard = heard
        self._tick_s = interval_s / _TICKS
        self._period_s = max(interval_s / _QUESTIONS, len(self._pulses) / _MOST_PER_S)
        self._answers: SimpleQueue[tuple[Subject, str]] = SimpleQueue()
        self._open: set[Subject] = set()
        start, step = time.monotonic(), self._period_s / max(1, len(self._pulses))
        self._due = {subject: start + i * step for i, subject in enumerate(self._pulses)}
        self._news: list[ConditionChange] = []
        self._condition = threading.Condition()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._failure: BaseException | None = None
        self._wall_s = time.time() - time.monotonic()
        self._probes: LinkProbes | None = None
        if probes_links:
            period_s = self._period_s
            self._probes = LinkProbes(network, interval_s, period_s, self._tried, self._fail)

    def __enter__(self) -> Self:
        self._thread.start()
        if self._probes is not None:
            self._probes.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        if self._probes is not None:
            self._probes.__exit__(kind, error, trace)
        self._thread.join()
        for pulse in self._pulses.values():
            pulse.close()

    def conditions(self) -> Mapping[Subject, Condition]:
        """What is known of every subject."""
        with self._condition:
            conditions = self._liveness.conditions()
            return {s: self._walled(c) for s, c in conditions.items()}

    def wait(self, seconds: float) -> tuple[ConditionChange, ...]:
        """The changes since the last call; if there are none, until one or for so long."""
        with self._condition:
            self._condition.wait_for(lambda: self._news or self._failure, seconds)
            if self._failure is not None:
                raise self._failure
            news, self._news = self._news, []
        return tuple(replace(change, now=self._walled(change.now)) for change in news)

    def _walled(self, condition: Condition) -> Condition:
        return replace(condition, since=condition.since + self._wall_s)

    # -- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                if self._probes is None:
                    self._look_at_links()
                self._ask(time.monotonic())
                self._hear(time.monotonic() + self._tick_s)
        except BaseException as failure:  # whoever waits for news raises it
            self._fail(failure)

    def _fail(self, failure: BaseException) -> None:
        with self._condition:
            self._failure = failure
            self._condition.notify_all()

    def _ask(self, now: float) -> None:
        for subject, pulse in self._pulses.items():
            if subject in self._open or self._due[subject] > now:
                continue
            self._open.add(subject)
            self._due[subject] = now + self._period_s
            with self._condition:
                self._liveness.asked(subject, now)
            pulse.ask(_PATIENCE_S, lambda why, of=subject: self._answers.put((of, why)))

    def _hear(self, until: float) -> None:
        """Take answers until then."""
        while (left := until - time.monotonic()) > 0:
            try:
                subject, why = self._answers.get(timeout=left)
            except Empty:
                break
            self._open.discard(subject)
            now = time.monotonic()
            with self._condition:
                if why:
                    self._tell(self._liveness.failed(subject, now, why))
                else:
                    self._tell(self._liveness.answered(subject, now))
        with self._condition:
            self._tell(*self._liveness.passed(time.monotonic()))

    def _look_at_links(self) -> None:
        down = self.network.links_down()
        now = time.monotonic()
        with self._condition:
            for subject, link in self._links.items():
                self._liveness.asked(subject, now)
                if link in down:
                    self._tell(self._liveness.failed(subject, now, down[link]))
                else:
                    self._tell(self._liveness.answered(subject, now))

    def _tried(self, link: Link, outcome: Outcome) -> None:
        """What `LinkProbes` says of a link."""
        assert self._probes is not None
        subject, now = Subject("link", link_name(link)), time.monotonic()
        with self._condition:
            if outcome == "asked":
                self._liveness.asked(subject, now + self._probes.grace_s)
            elif outcome == "answered":
                self._tell(self._liveness.answered(subject, now))
            else:
                self._liveness.withdrawn(subject)

    def _tell(self, *changes: ConditionChange | None) -> None:
        news: Sequence[ConditionChange] = [change for change in changes if change is not None]
        if news:
            self._news += news
            self._condition.notify_all()
        for change in news:
            self._heard(change)

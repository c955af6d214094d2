"""Keeps a network as its journal says while devices die and come back: watches, and repairs.

A worker that has died is started again and configured anew; where that fails, or a whole server, a
switch or a link is lost, graphs that need it are placed anew on what is left, as `whatif --live` shows
(`deployment.placing`). What comes back is compared with the journal. Nothing moves that need not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from orchestrator.deployment.cordoning import cordon_of
from orchestrator.deployment.journal import Deployed
from orchestrator.deployment.live import LiveNetwork
from orchestrator.deployment.operations import deploy_graph
from orchestrator.deployment.placing import placed
from orchestrator.deployment.presence import needed
from orchestrator.deployment.reconcile import Drift
from orchestrator.deployment.reconciling import reconcile
from orchestrator.deployment.recovery import changing
from orchestrator.deployment.standbys import followings
from orchestrator.deployment.worker_drift import repair_worker
from orchestrator.errors import ReportedError, StoreError
from orchestrator.memo import Memo
from orchestrator.model.away import Away
from orchestrator.model.bundle import Bundle
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.plan import Core
from orchestrator.model.topology import Topology
from orchestrator.network.fabric import Fabric
from orchestrator.network.facilities import Restarter
from orchestrator.network.inventory import changed_at
from orchestrator.observation.conditions import RENEWED_S, forget, record
from orchestrator.observation.liveness import DOWN, UP, ConditionChange
from orchestrator.observation.watcher import Watcher
from orchestrator.upkeep import outage
from orchestrator.upkeep.comparison import Comparison
from orchestrator.upkeep.events import (
    Event,
    PlacedAnew,
    Repaired,
    RepairProblem,
    Restarted,
    SubjectChanged,
)
from orchestrator.upkeep.restarts import Restarts
from servernf.wire.instances import base_name

_ASKED = ("switch", "nic", "worker")
"""Subjects that sessions of a network are with."""
_COMPARED_EVERY = 10
"""Intervals between two comparisons of all entries with the journal, when nothing happens."""
_RESTART_S = 10.0
"""So long a graph waits for its worker to be started again before it is placed elsewhere."""
_BUSY_S = 0.05
"""Until it is looked again whether a restart has ended."""
_AGAIN_S = 10.0
"""Until what could not be repaired is tried again, if nothing changes meanwhile."""


@dataclass(slots=True)
class _Known:
    """What is kept of a deployed graph from repair to repair."""

    source: bytes
    graph: ServiceGraph | None
    memo: Memo = field(default_factory=Memo)
    """What compiling it found out: the next time is quicker."""
    warm: bool = False
    tried: Away | None = None
    """Around what it was placed last, or could not be."""
    again_at: float = math.inf
    """When that is to be tried again."""


class NetworkKeeper:
    """Watches one network; `run` repairs it and yields what happens, for ever."""

    def __init__(
        self,
        opened: Callable[[], LiveNetwork],
        restarter: Restarter | None,
        interval_s: float,
        *,
        prune: bool = False,
        probes_links: bool = False,
    ) -> None:
        self._opened = opened
        self.network = opened()
        self._interval_s, self._prune = interval_s, prune
        self._probes_links = probes_links
        self._restarts = Restarts(restarter, _RESTART_S)
        self._comparison = Comparison()
        self._graphs: dict[str, _Known] = {}
        self._down: outage.Conditions = {}
        self._lost = Away()
        """What that means, as it was when it was judged last."""
        self._compare_at = self._judge_at = 0.0
        self._told = ""

    def run(self) -> Iterator[Event]:
        """Keep the network; a new inventory (a device was started elsewhere) is taken up at once."""
        try:
            while True:
                with Watcher(
                    self.network,
                    self._interval_s,
                    probes_links=self._probes_links,
                    heard=self._heard,
                ) as watcher:
                    self._compare_at = time.monotonic() + 2 * self._interval_s  # all were asked
                    yield from self._keep(watcher)
                self.network = self._opened()
        finally:
            forget(self.network.inventory.folder)

    def _heard(self, change: ConditionChange) -> None:
        """Nobody waits for what is dead, and what was begun there does not wait either."""
        subject, now = change.subject, change.now
        if now.state == DOWN and subject.kind in _ASKED:
            self.network.give_up(subject.name, now.why)
        elif now.state == UP:
            self.network.lives(subject.name)

    def _keep(self, watcher: Watcher) -> Iterator[Event]:
        """Until the inventory is another one."""
        written, recorded_at = changed_at(self.network.name), 0.0
        while True:
            if changed_at(self.network.name) != written:
                written = changed_at(self.network.name)
                if self._opened().inventory != self.network.inventory:
                    return
            news = tuple(filter(_is_news, watcher.wait(self._idle_s())))
            yield from map(SubjectChanged, news)
            for change in news:
                if change.now.state == UP:
                    self._restarts.lives(change.subject.name)
                    self._compare_at = 0.0  # it may have come back with nothing on it
            if news or time.monotonic() - recorded_at >= RENEWED_S:
                with suppress(StoreError):  # others only see less, and the folder may be going
                    record(self.network.inventory.folder, watcher.conditions())
                recorded_at = time.monotonic()
            yield from self._repair(watcher)

    def _idle_s(self) -> float:
        if self._restarts.under_way or self._comparison.under_way:
            return _BUSY_S
        next_at = max(self._compare_at, self._judge_at)
        return max(0.0, min(next_at - time.monotonic(), RENEWED_S))

    def _is_due(self) -> bool:
        return self._compare_at <= time.monotonic() and not self._comparison.under_way

    # -- repairs ---------------------------------------------------------------------------------

    def _repair(self, watcher: Watcher) -> Iterator[Event]:
        """What is to be done now, if anything has changed or it is time to compare."""
        if time.monotonic() < self._judge_at:
            return
        down = outage.down(watcher.conditions())
        ended = tuple(self._restarts.ended())
        try:
            drift = self._comparison.outcome()
            if not (self._is_due() or ended or drift is not None or down != self._down):
                return
            if down != self._down:
                self._down, self._lost = down, outage.away(self.network.inventory, down)
            for worker, problem in ended:
                self.network.lives(worker)
                yield Restarted(worker, problem or self._configure(worker))
            if self.network.journal.intent() is not None:
                self._let_others_finish()
                return
            yield from self._mend(watcher, self._lost, drift)
            self._told = ""
        except ReportedError as error:  # another controller may lead, or the store not answer
            self._compare_at = time.monotonic() + _COMPARED_EVERY * self._interval_s
            if str(error) != self._told:
                self._told = str(error)
                yield RepairProblem(self.network.name, str(error))

    def _let_others_finish(self) -> None:
        """Whoever is changing the network keeps devices busy; what a dead one left is finished."""
        self._down = {}  # judged anew then
        self._calm()
        with suppress(StoreError), changing(self.network, wait_s=0.0):
            pass  # nobody leads, or it could not have been led

    def _calm(self) -> None:
        """Judge nobody until devices that were kept busy have had time to answer."""
        self._judge_at = time.monotonic() + self._interval_s
        self._compare_at = max(self._compare_at, self._judge_at)

    def _mend(self, watcher: Watcher, lost: Away, drift: Drift | None) -> Iterator[Event]:
        def silent() -> Away:
            return outage.silent(self.network.inventory, watcher.conditions())

        deployed = self.network.journal.deployed()
        busy = {Core(w.server, w.core) for d in deployed.values() for w in d.bundle.workers}
        servers = outage.lost_servers(self.network.topology, self.network.cores, lost)
        dead = silent().cores.keys() - cordon_of(self.network).cores
        self._restart(core for core in dead if core in busy and core.server not in servers)
        for graph in deployed.values():
            yield from self._place(graph, silent, lost)
        self._restart(dead)  # what nothing waits for
        if drift is not None:
            yield from self._repaired(drift, silent())
            self._warm(deployed)
        if self._is_due():
            self._compare_at = time.monotonic() + _COMPARED_EVERY * self._interval_s
            self._comparison.begin(self.network, silent(), prune=self._prune)

    def _configure(self, worker: str) -> str:
        """Give a worker that was started again what it had; why that failed, or nothing."""
        core = next(c for c in self.network.cores if self.network.worker_name(c) == worker)
        try:
            with changing(self.network), self.network.worker(core) as session:
                repair_worker(session, core, self.network.journal.deployed(), False)
        except ReportedError as error:
            return str(error)
        return ""

    def _restart(self, cores: Iterable[Core]) -> None:
        for core in cores:
            self._restarts.begin(self.network.worker_name(core), time.monotonic())

    def _place(self, deployed: Deployed, silent: Callable[[], Away], lost: Away) -> Iterator[Event]:
        """Place a graph anew if it needs what is lost, or lacks hosts that are back."""
        name, now = deployed.bundle.graph, time.monotonic()
        kept, around = self._known(deployed), self._without_promised(deployed, lost, now)
        if kept.tried == around and now < kept.again_at:
            return
        kept.tried, kept.again_at = around, math.inf
        topology = self.network.topology
        missing = needed(deployed.bundle, topology, around) if around else Away()
        if kept.graph is None:
            if missing:
                lacking = "; ".join(missing.words())
                yield RepairProblem(
                    name, f"{lacking}; it was deployed as a bundle, which is not placed anew"
                )
            return
        if (
            not missing
            and not _lacks_hosts(deployed, kept.graph, topology, lost)
            and not _lacks_standbys(deployed, kept.graph)
        ):
            return
        started = time.monotonic()
        try:
            done = deploy_graph(kept.graph, self.network, silent=silent, memo=kept.memo)
        except ReportedError as error:
            kept.again_at = now + _AGAIN_S
            # Others may have drifted.
            self._compare_at = min(self._compare_at, now + self._interval_s)
            yield RepairProblem(name, str(error))
            return
        if missing and _lacks_standbys(replace(deployed, bundle=done.bundle), kept.graph):
            kept.again_at = time.monotonic() + _AGAIN_S  # there may be room for one now
        if done.summary:
            seconds = time.monotonic() - started
            moves = (*done.moves, *done.applied.moved)
            yield PlacedAnew(name, moves, done.summary.words(), seconds)

    def _repaired(self, drift: Drift, silent: Away) -> Iterator[Event]:
        """Make devices that answer what the journal says, if they are not."""
        paid = any(
            debt.without(drift.reached_devices, drift.reached_cores) != debt
            for debt in self.network.journal.owed()
        )
        if drift.words() or paid:
            drift = reconcile(self.network, prune=self._prune, away=silent)
            self._calm()
            if drift.words():
                yield Repaired(drift)

    def _warm(self, deployed: Mapping[str, Deployed]) -> None:
        """Compile a graph for which that was not done yet, so that it is quick when it matters."""
        cold = (d for d in deployed.values() if not self._known(d).warm)
        if (first := next(cold, None)) is None:
            return
        kept = self._known(first)
        kept.warm = True
        if kept.graph is not None:
            with suppress(ReportedError):
                placed(kept.graph, self.network, deployed, away=self._lost, memo=kept.memo)

    def _without_promised(self, deployed: Deployed, lost: Away, now: float) -> Away:
        """What is lost, but for workers that are being started again: a graph waits for those, unless
        standbys of theirs can take over."""
        name, followed = self.network.worker_name, _followed(deployed.bundle, lost)
        cores = {
            core: why
            for core, why in lost.cores.items()
            if core in followed or not self._restarts.promises(name(core), now)
        }
        return replace(lost, cores=cores)

    def _known(self, deployed: Deployed) -> _Known:
        name = deployed.bundle.graph
        kept = self._graphs.get(name)
        if kept is None or kept.source != deployed.source:
            kept = self._graphs[name] = _Known(deployed.source, deployed.graph())
        return kept


def _is_news(change: ConditionChange) -> bool:
    """A first look that finds a device up tells nobody anything."""
    return change.before is not None or change.now.state != UP


def _followed(bundle: Bundle, lost: Away) -> set[Core]:
    """Cores that have a standby which is there."""
    return {f.source for f in followings(bundle) if f.standby not in lost.cores}


def _lacks_standbys(deployed: Deployed, graph: ServiceGraph) -> bool:
    """Whether an NF should have a standby and has none."""
    there = {standby.nf for standby in deployed.bundle.plan.standbys}
    on_servers = {base_name(nf) for worker in deployed.bundle.workers for nf in worker.nfs}
    wanted = {name for name, nf in graph.nfs.items() if nf.standby is not None}
    return bool((wanted & on_servers) - there)


def _lacks_hosts(deployed: Deployed, graph: ServiceGraph, topology: Topology, lost: Away) -> bool:
    """Whether hosts were left out of a graph when they were cut off, and can be reached again."""
    has = deployed.bundle.endpoints
    left_out = [
        host
        for name, endpoint in graph.endpoints.items()
        for host in endpoint.hosts
        if host not in has.get(name, ())
    ]
    if not left_out:
        return False
    attached = Fabric(topology, lost).attachments
    return any(host in attached for host in left_out)

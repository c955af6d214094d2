"""Events of a network's workers: those that they keep, or that come, of the graphs that one owns."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from queue import Empty, Full, Queue
from typing import Any

from orchestrator.clients.vnf import WorkerClient
from orchestrator.deployment.live import LiveNetwork
from orchestrator.errors import InputError, ReportedError, ServerError, unknown
from orchestrator.model.plan import Core
from orchestrator.observation.at_once import at_once
from orchestrator.observation.eve import EventSource, eve, overwritten

NEWEST = (1 << 63) - 1
"""A cursor behind all events that there are."""
_WAITING = 16_384
"""Records that wait for who prints them; what comes then waits at its worker, until it is lost there."""
_AGAIN_S = 2.0
"""How often there is a look for graphs that came or went, and for workers that did not answer."""

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EventsWanted:
    """Of which graphs and types (of all, where none is named)."""

    graphs: Collection[str] = ()
    types: Collection[str] = ()

    def takes(self, record: Record) -> bool:
        """Whether a record is wanted. What was overwritten is told in any case."""
        kind = record["event_type"]
        return not self.types or kind in self.types or "nf" not in record


@dataclass
class Kept:
    """What workers keep: records by time, and why workers did not answer, by name."""

    records: list[Record] = field(default_factory=list[Record])
    silent: dict[str, str] = field(default_factory=dict[str, str])


def tellers(live: LiveNetwork, graphs: Collection[str]) -> dict[Core, EventSource]:
    """The workers that run graphs of this owner's; OwnerError for one that is another's."""
    deployed = live.journal.deployed()
    for name in graphs:
        if name not in deployed:
            raise InputError(unknown("deployed graph", name, sorted(deployed)))
    live.access.check_owner({name: deployed[name].bundle.owner for name in graphs})
    owner = live.access.owner
    running: dict[Core, dict[str, Any]] = {}
    for name, graph in deployed.items():
        bundle = graph.bundle
        if name in graphs or (not graphs and owner in ("", bundle.owner)):
            for worker in bundle.workers:
                running.setdefault(Core(worker.server, worker.core), {})[name] = bundle
    return {
        core: EventSource(live.worker_name(core), core, graph) for core, graph in running.items()
    }


def kept_events(live: LiveNetwork, wanted: EventsWanted) -> Kept:
    """What the workers keep now."""
    kept = Kept()

    def one(teller: EventSource) -> tuple[str, list[Record], str]:
        try:
            with live.worker(teller.core) as worker:
                return teller.name, list(_records(worker, teller, 0, follow=False)), ""
        except ReportedError as error:
            return teller.name, [], str(error)

    for name, records, problem in at_once(one, list(tellers(live, wanted.graphs).values())):
        kept.records += filter(wanted.takes, records)
        if problem:
            kept.silent[name] = problem
    kept.records.sort(key=lambda record: record["timestamp"])
    if kept.silent and not kept.records:
        raise ServerError("; ".join(kept.silent.values()))
    return kept


class EventStream:
    """Events as they come; iterate, and `stop` when enough has come.

    Each worker has a thread that waits for it. A worker that does not answer is tried again, and told
    of once (`problems`); graphs that are deployed meanwhile are followed, too.
    """

    def __init__(self, live: LiveNetwork, wanted: EventsWanted) -> None:
        self._live, self._wanted = live, wanted
        self._queue: Queue[Record] = Queue(_WAITING)
        self._over = threading.Event()
        self._tellers: Mapping[Core, EventSource] = tellers(live, wanted.graphs)
        self._followed: set[Core] = set()
        self.problems: Queue[str] = Queue()
        """Words about workers that do not answer."""
        self._follow_new()

    def records(self) -> Iterator[Record | None]:
        """Records; None now and then while none comes."""
        while not self._over.is_set():
            try:
                yield self._queue.get(timeout=_AGAIN_S)
            except Empty:
                self._look()
                yield None

    def stop(self) -> None:
        """Let the threads end."""
        self._over.set()

    def _look(self) -> None:
        graphs = [name for name in self._wanted.graphs if name in self._live.journal.deployed()]
        if graphs or not self._wanted.graphs:
            self._tellers = tellers(self._live, graphs)
            self._follow_new()

    def _follow_new(self) -> None:
        for core in self._tellers.keys() - self._followed:
            self._followed.add(core)
            threading.Thread(target=self._follow, args=(core,), daemon=True).start()

    def _follow(self, core: Core) -> None:
        cursor, told = NEWEST, ""
        while not self._over.is_set():
            teller = self._tellers.get(core)
            try:
                if teller is not None:
                    cursor = self._stream(teller, cursor)
                    told = ""
            except ReportedError as error:
                if str(error) != told:
                    told = str(error)
                    self.problems.put(told)
            self._over.wait(_AGAIN_S)

    def _stream(self, teller: EventSource, cursor: int) -> int:
        """Until the worker runs other graphs; the cursor behind what has come."""
        with self._live.worker(teller.core) as worker:
            for batch in worker.events(sorted(teller.graphs), cursor, follow=True):
                cursor = batch.cursor
                for record in _told(batch, teller):
                    if self._wanted.takes(record):
                        self._put(record)
                now = self._tellers.get(teller.core)
                if self._over.is_set() or now is None or now.graphs.keys() != teller.graphs.keys():
                    break
        return cursor

    def _put(self, record: Record) -> None:
        while not self._over.is_set():
            try:
                self._queue.put(record, timeout=_AGAIN_S)
            except Full:
                continue
            return


def _records(
    worker: WorkerClient, teller: EventSource, cursor: int, *, follow: bool
) -> Iterator[Record]:
    for batch in worker.events(sorted(teller.graphs), cursor, follow=follow):
        yield from _told(batch, teller)


def _told(batch: Any, teller: EventSource) -> Iterator[Record]:
    if batch.lost:
        yield overwritten(batch.lost, teller)
    for event in batch.events:
        yield eve(event, teller)

"""What changes while somebody looks: conditions at once, rates once a second, files that were saved.

Threads work while there are subscribers and rest when there are none. A watch that runs
(`reconcile --watch`) is believed, as `status` believes it; without one the devices are asked from here.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from orchestrator.deployment.journal import Deployed
from orchestrator.deployment.live import LiveNetwork
from orchestrator.errors import ReportedError
from orchestrator.model.plan import Core
from orchestrator.observation.conditions import recorded
from orchestrator.observation.events import EventStream, EventsWanted
from orchestrator.observation.health import Reading, read_network
from orchestrator.observation.liveness import Condition, ConditionChange, Subject
from orchestrator.observation.watcher import Watcher
from orchestrator.presenters.conditions import conditions_json
from orchestrator.presenters.top import top_json

_DETECTION_S, _LOOK_S, _READ_S = 0.6, 0.1, 1.0
"""Within which a dead device is known; how often conditions are looked at, and counters read."""
_AGAIN_S = 5.0
_MOST_NEWS = 200
"""News that whoever is slow is kept."""

CONDITIONS, TOP, TROUBLE = "conditions", "top", "trouble"
NEWS, EVENT, FILE = "news", "event", "file"
_ONCE = (NEWS, EVENT, FILE)
"""Each is told; of the others the last."""
Event = tuple[str, str]
"""(what, JSON)."""


class Subscription:
    """What a page is still to be told: the last of what replaces itself, and all news in their order."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ready = asyncio.Event()
        self._latest: dict[str, str] = {}
        self._news: deque[Event] = deque(maxlen=_MOST_NEWS)

    def put(self, what: str, document: str) -> None:
        """From any thread."""
        with suppress(RuntimeError):  # the server has ended
            self._loop.call_soon_threadsafe(self._put, what, document)

    def _put(self, what: str, document: str) -> None:
        if what in _ONCE:
            self._news.append((what, document))
        else:
            self._latest[what] = document
        self._ready.set()

    async def next(self, seconds: float) -> list[Event]:
        """What there is, or comes within so long."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ready.wait(), seconds)
        events = [*self._latest.items(), *self._news]
        self._latest.clear()
        self._news.clear()
        self._ready.clear()
        return events


class Feed:
    """Tells subscribers; `live` is None where only files may change."""

    def __init__(self, live: LiveNetwork | None, files: Sequence[Path]) -> None:
        self._live = live
        self._files = files
        self._subscribers: set[Subscription] = set()
        self._last: dict[str, str] = {}
        self._lock = threading.Lock()
        self._wanted, self._ending = threading.Event(), threading.Event()
        works: list[Callable[[], None]] = [self._look] + (
            [self._measure, self._hear] if live else []
        )
        self._threads = [threading.Thread(target=work, daemon=True, name="feed") for work in works]

    def start(self) -> None:
        """Begin to wait for subscribers."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; what is being read is left to itself."""
        self._ending.set()
        self._wanted.set()

    def subscribe(self, subscription: Subscription) -> None:
        """Tell it what is known, and from now on what changes."""
        with self._lock:
            self._subscribers.add(subscription)
            for what, document in self._last.items():
                subscription.put(what, document)
            self._wanted.set()

    def unsubscribe(self, subscription: Subscription) -> None:
        """Tell it no more."""
        with self._lock:
            self._subscribers.discard(subscription)
            if not self._subscribers and not self._ending.is_set():
                self._wanted.clear()
                self._last.clear()

    def _tell(self, what: str, value: object) -> None:
        document = json.dumps(value, default=str)
        with self._lock:
            if what not in _ONCE:
                self._last[what] = document
            for subscription in self._subscribers:
                subscription.put(what, document)

    def _said(self, kind: str, text: str) -> None:
        self._tell(NEWS, {"at": time.time(), "kind": kind, "text": text})

    # -- conditions and files ----------------------------------------------------------------------

    def _look(self) -> None:
        while not self._ending.is_set():
            self._wanted.wait()
            if self._live is None:
                self._follow(dict)
                continue
            with Watcher(self._live, _DETECTION_S) as watcher:
                self._follow(partial(_known, self._live.inventory.folder, watcher))

    def _follow(self, conditions: Callable[[], Mapping[Subject, Condition]]) -> None:
        """While somebody looks."""
        last: Mapping[Subject, Condition] = {}
        saved = self._saved()
        while self._wanted.is_set() and not self._ending.wait(_LOOK_S):
            now = conditions()
            if now != last:
                self._tell(CONDITIONS, conditions_json(now))
                for subject, condition in now.items():
                    before = last.get(subject)
                    if before is not None and before.state != condition.state:
                        self._said(
                            "condition", str(ConditionChange(subject, before.state, condition))
                        )
                last = dict(now)
            times = self._saved()
            for number, (old, new) in enumerate(zip(saved, times, strict=True)):
                if old != new:
                    self._tell(FILE, {"file": number, "name": str(self._files[number])})
            saved = times

    def _saved(self) -> list[int]:
        def changed_at(file: Path) -> int:
            try:
                return file.stat().st_mtime_ns
            except OSError:
                return 0

        return [changed_at(file) for file in self._files]

    # -- counters ----------------------------------------------------------------------------------

    def _measure(self) -> None:
        assert self._live is not None
        before: Reading | None = None
        cursors: dict[Core, int] = {}
        while not self._ending.is_set():
            if not self._wanted.is_set():
                before = None
                self._wanted.wait()
            began = time.monotonic()
            try:
                now = read_network(self._live, cursors, before)
            except ReportedError as error:
                self._tell(TROUBLE, {"error": str(error)})
            else:
                topology = self._live.topology
                self._tell(TOP, top_json(self._live.name, topology, now, before))
                if before is not None:
                    self._compare(before.deployed, now.deployed)
                before = now
            # A network that takes long to read is read for half of the time at most.
            self._ending.wait(max(_READ_S, time.monotonic() - began))

    def _compare(self, before: Mapping[str, Deployed], now: Mapping[str, Deployed]) -> None:
        for name in dict.fromkeys((*before, *now)):
            if name not in now:
                self._said("graph", f"graph {name} is no longer deployed")
            elif name not in before:
                self._said("graph", f"graph {name} is deployed")
            elif before[name].deployed_at != now[name].deployed_at:
                self._said("graph", f"graph {name} is updated")

    # -- events ------------------------------------------------------------------------------------

    def _hear(self) -> None:
        assert self._live is not None
        while not self._ending.is_set():
            self._wanted.wait()
            try:
                self._follow_events(EventStream(self._live, EventsWanted()))
            except ReportedError as error:
                self._tell(TROUBLE, {"error": str(error)})
                self._ending.wait(_AGAIN_S)

    def _follow_events(self, following: EventStream) -> None:
        """What NFs on servers have to say, while somebody looks."""
        try:
            for record in following.records():
                if not self._wanted.is_set() or self._ending.is_set():
                    return
                if record is not None:
                    self._tell(EVENT, record)
        finally:
            following.stop()


def _known(folder: str, watcher: Watcher) -> Mapping[Subject, Condition]:
    return recorded(folder) or watcher.conditions()

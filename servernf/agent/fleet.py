"""All workers of the server: which were asked for, and their keepers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from servernf.agent import interfaces
from servernf.agent.errors import DoesNotStart, NoSuchWorker, WorkerExists
from servernf.agent.keeper import RunState, WorkerCondition, WorkerKeeper
from servernf.agent.memory import WorkerMemory
from servernf.agent.specs import WorkerSpec
from servernf.agent.starter import Starter
from servernf.wire.addresses import mac_text
from servernf.wire.errors import ServerError, unknown


class Fleet:
    """The workers by name. Any thread may call it."""

    def __init__(
        self,
        starter: Starter,
        memory: WorkerMemory,
        *,
        restarts: bool,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._starter = starter
        self._memory = memory
        self._restarts = restarts
        self._log = log
        self._lock = threading.Lock()
        self._keepers: dict[str, WorkerKeeper] = {}
        self._remembered: list[WorkerSpec] = []
        self._ends = False

    def resume(self, agent: str) -> None:
        """Start what is remembered, after the interfaces that an agent killed has left are gone."""
        specs = self._memory.read()
        interfaces.remove_left_by(agent)
        with self._lock:
            self._remembered = specs
            self._keepers = {spec.name: self._keeper(spec, has_run=True) for spec in specs}

    def workers(self) -> list[tuple[WorkerSpec, WorkerCondition]]:
        """All of them as they are, by core."""
        with self._lock:
            keepers = sorted(self._keepers.values(), key=lambda keeper: keeper.spec.core)
        return [(keeper.spec, keeper.condition) for keeper in keepers]

    def start(self, spec: WorkerSpec) -> WorkerCondition:
        """Start a worker and wait until it runs; one that runs with this very specification stays.

        AlreadyThere when another one has its name or place; DoesNotStart, and it is forgotten.
        """
        with self._lock:
            if self._ends:
                raise DoesNotStart(f"{spec.name}: the agent ends")
            keeper = self._keepers.get(spec.name)
            if problems := list(self._conflicts(spec)):
                raise WorkerExists("\n".join(problems))
            if is_new := keeper is None:
                keeper = self._keepers[spec.name] = self._keeper(spec)
        condition = keeper.settled()
        if not is_new:
            return condition if condition.state is RunState.RUNNING else self._restarted(keeper)
        try:
            if condition.state is not RunState.RUNNING:
                raise DoesNotStart(f"{spec.name}: {condition.reason}")
            self._remember()
        except ServerError:
            self._drop(keeper)
            raise
        return condition

    def restart(self, name: str) -> tuple[WorkerSpec, WorkerCondition]:
        """End a worker, if it lives, and start it anew; DoesNotStart when it does not run then."""
        with self._lock:
            keeper = self._keepers.get(name)
            if keeper is None:
                raise NoSuchWorker(unknown("worker", name, tuple(self._keepers)))
        return keeper.spec, self._restarted(keeper)

    def stop(self, name: str) -> None:
        """End a worker and forget it; nothing when there is none of that name."""
        with self._lock:
            keeper = self._keepers.get(name)
        if keeper is not None:
            self._drop(keeper)
        self._remember()

    def end(self) -> None:
        """End all workers; they are remembered."""
        with self._lock:
            self._ends = True
            keepers = list(self._keepers.values())
        if keepers:
            with ThreadPoolExecutor(len(keepers)) as together:
                list(together.map(WorkerKeeper.end, keepers))

    def _keeper(self, spec: WorkerSpec, *, has_run: bool = False) -> WorkerKeeper:
        restarts, log = self._restarts, self._log
        return WorkerKeeper(spec, self._starter, restarts=restarts, log=log, has_run=has_run)

    def _restarted(self, keeper: WorkerKeeper) -> WorkerCondition:
        keeper.restart()
        condition = keeper.settled()
        if condition.state is not RunState.RUNNING:
            raise DoesNotStart(f"{keeper.spec.name}: {condition.reason}")
        return condition

    def _drop(self, keeper: WorkerKeeper) -> None:
        keeper.end()  # before its place is free for another one
        with self._lock:
            if self._keepers.get(keeper.spec.name) is keeper:
                del self._keepers[keeper.spec.name]

    def _remember(self) -> None:
        """Write down which workers there are that have run."""
        with self._lock:
            kept = [keeper.spec for keeper in self._keepers.values() if keeper.has_run]
            if kept != self._remembered:
                self._memory.write(kept)
                self._remembered = kept

    def _conflicts(self, spec: WorkerSpec) -> Iterator[str]:
        """Why a worker cannot be beside those that there are."""
        for there in (keeper.spec for keeper in self._keepers.values()):
            if there.name == spec.name:
                yield from (
                    f"name: worker {spec.name} is there with {difference}; stop it first"
                    for difference in there.differences(spec)
                )
            elif there.core == spec.core:
                yield f"core: {spec.core} is that of {there.name}"
            elif there.mac == spec.mac:
                yield f"mac: {there.name} has {mac_text(spec.mac)}"
            elif spec.interface and spec.interface in (there.interface, there.macvlan_on):
                yield f"interface: {there.name} has {there.place}"
            elif spec.macvlan_on and spec.macvlan_on == there.interface:
                yield f"macvlan_on: {there.name} has {there.place}"

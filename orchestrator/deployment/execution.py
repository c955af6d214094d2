"""Run a transaction on a network; what fails is undone, in reverse order."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import TypeVar

from orchestrator.clients.encoding import Inserts
from orchestrator.deployment.drivers import NetworkDriver, PipelineDriver
from orchestrator.deployment.following import follow, moved
from orchestrator.deployment.handover import Moved, source_is_gone
from orchestrator.deployment.places import Places, refusals_with
from orchestrator.deployment.recording import NoRecorder, TransactionRecorder
from orchestrator.deployment.savepoint import restore, save
from orchestrator.deployment.sessions import DeviceSessions
from orchestrator.deployment.transaction import (
    ChainWorker,
    Change,
    ConfigureWorker,
    Drain,
    Follow,
    Item,
    LoadPipeline,
    MoveState,
    RestorePipeline,
    Stage,
    Step,
    Transaction,
    WriteEntries,
    is_away,
)
from orchestrator.deployment.updates import identity, needed, replicate_carefully, updates_of
from orchestrator.errors import (
    DeploymentError,
    ReportedError,
    ServerError,
    ServerGone,
    SwitchError,
)
from orchestrator.model.away import Away
from orchestrator.model.entries import TableEntry
from orchestrator.targets.block import EPOCH_TABLE
from orchestrator.targets.pipelines import p4info

Progress = Callable[[str, int], None]
"""(device, entries written since the last call)."""

QUIET_S = 0.2
"""Packets are taken to have drained when none came for so long ..."""
MOST_QUIET_S = 5.0
"""... or after so long, whatever comes."""
_THREADS = 16
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(slots=True)
class Executed:
    """What was done: entries written per device, seconds per stage; `amiss` what did not answer; whose
    state has `moved`."""

    entries: Counter[str] = field(default_factory=Counter[str])
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    amiss: list[str] = field(default_factory=list[str])
    moved: list[Moved] = field(default_factory=list[Moved])


class Executor:
    """Runs transactions on one network.

    `careful`: look before each write at what is there, as a run that follows a crash must; what has
    ended or restarted lost its state, which is noted in `amiss`, and is no failure.
    `forgiving`: workers that do not answer and devices without a pipeline have nothing to remove.
    `ready`: by device, entries that are to come, serialised before.
    `away`: devices that are asked for nothing, neither forward nor back: `reconcile` makes them what the
    journal says once they answer.
    """

    def __init__(
        self,
        network: NetworkDriver,
        *,
        progress: Progress | None = None,
        recorder: TransactionRecorder | None = None,
        careful: bool = False,
        forgiving: bool = False,
        ready: Mapping[str, Inserts] | None = None,
        away: Away | None = None,
    ) -> None:
        self.network = network
        self.away = away or Away()
        self.ready = ready or {}
        self.progress = progress
        self.recorder = recorder or NoRecorder()
        self.careful, self.forgiving = careful, forgiving
        self._sessions = DeviceSessions(network)
        self._checked: set[str] = set()
        """Devices that were seen to run what a step asks for, when their sessions were opened."""
        self.done = Executed()
        self._reached, self._begun = 0, False
        self.undone = True
        """Whether the network is as it was: nothing was begun, or all of it has been undone. To be made
        false for a transaction that another executor began."""

    def run(self, transaction: Transaction, *, first: int = 0) -> Executed:
        """Run from stage `first` on; DeploymentError says what failed, after all has been undone.

        Who has ended while its state was moving is no failure: what has come of that is at its target.
        """
        self._reached = first
        try:
            with self._open(transaction, None if self.careful else self._checks(transaction)):
                self._forward(transaction, first)
            return self.done
        except BaseException as error:
            if self.forgiving or not self._begun:
                raise
            self.progress = None  # who counts may interrupt, and this shall go on to its end
            if isinstance(error, ReportedError) and self._lacks_a_source(transaction):
                with suppress(ReportedError):
                    return self._go_on(transaction, error)
            failures = self.undo(transaction, self._reached)
            if not isinstance(error, ReportedError):
                raise
            raise DeploymentError(
                f"{transaction.graph}: {error}; "
                + (
                    f"undoing failed too: {'; '.join(failures)}"
                    if failures
                    else "the network is as it was before"
                )
            ) from error

    def _lacks_a_source(self, transaction: Transaction) -> bool:
        """Whether a worker has ended whose state was moving: back there, nothing is left of it."""
        reached = enumerate(transaction.stages[: self._reached + 1])
        return any(
            source_is_gone(self.network, step.move, has_begun=number < self._reached)
            for number, stage in reached
            for step in stage.steps
            if isinstance(step, MoveState) and step.begins and not is_away(step, self.away)
        )

    def _go_on(self, transaction: Transaction, error: ReportedError) -> Executed:
        self.done.amiss.append(str(error))
        self.careful = True
        with self._open(transaction):
            self._forward(transaction, self._reached)
        return self.done

    def undo(self, transaction: Transaction, reached: int) -> tuple[str, ...]:
        """Undo stages `reached`, ..., 0; what could not be undone.

        New sessions come with higher election ids: a change that is still on its way from an earlier
        one, whose answer nobody waited for, is refused when it arrives.
        """
        try:
            with self._open(transaction):
                return tuple(self._undo(transaction, reached))
        except ReportedError as error:
            return (str(error),)

    # -- stages --------------------------------------------------------------------------------

    @contextmanager
    def _open(
        self, transaction: Transaction, checks: Callable[[PipelineDriver], None] | None = None
    ) -> Generator[None]:
        """Sessions with all devices: each answers, and is found right, before the first is changed."""

        def answers(name: str) -> None:
            with self._sessions.use(name) as driver:
                if checks is not None:
                    checks(driver)

        with DeviceSessions(self.network) as self._sessions:
            _at_once(answers, [n for n in transaction.devices if n not in self.away.devices])
            yield

    def _checks(self, transaction: Transaction) -> Callable[[PipelineDriver], None]:
        """What is looked at in a device's first session, which may not be open any more when the first
        stage begins: the version in force is that which is to be replaced (DeploymentError, and nothing
        done), the pipeline the one that its entries are for."""
        expected: dict[str, Change] = {}
        loads: dict[str, LoadPipeline] = {}
        for step in transaction.steps:
            if isinstance(step, LoadPipeline):
                loads[step.device] = step
            elif isinstance(step, WriteEntries):
                for change in step.changes:
                    if isinstance(change.item, TableEntry) and change.item.table == EPOCH_TABLE:
                        expected.setdefault(step.device, change)

        def checks(driver: PipelineDriver) -> None:
            if driver.name in expected:
                _compare_epoch(transaction.graph, driver, expected[driver.name])
            load = loads.get(driver.name)
            if load is None:
                return
            if not load.may_wipe:
                self._load(driver, load)  # which only checks then
            elif driver.pipeline_cookie() != load.build.cookie:
                return  # to be loaded in its stage
            self._checked.add(driver.name)

        return checks

    def _forward(self, transaction: Transaction, first: int) -> None:
        for self._reached, stage in enumerate(transaction.stages[first:], first):
            self.recorder.begin(self._reached)
            self._begun, self.undone = True, False
            started = time.monotonic()
            self._run(stage)
            spent = self.done.seconds.get(stage.title, 0.0)
            self.done.seconds[stage.title] = spent + time.monotonic() - started
            self.recorder.end(self._reached)

    def _run(self, stage: Stage) -> None:
        def run(steps: tuple[Step, ...]) -> None:
            for step in steps:
                self._step(step)

        _at_once(run, _by_device(stage))

    def _undo(self, transaction: Transaction, reached: int) -> list[str]:
        failures: list[str] = []
        careful, self.careful = self.careful, True
        for index in range(reached, -1, -1):
            try:
                self.recorder.undo(index)
            except ReportedError as error:
                failures.append(str(error))
                break
            back = _by_device(transaction.stages[index].inverse())
            failures += filter(None, _at_once(self._back, back))
            if failures:
                break  # what came before must not go while this is in doubt
        self.careful = careful
        self.undone = not failures
        return failures

    def _back(self, steps: tuple[Step, ...]) -> str:
        """A device's part of a stage that is undone; why it failed, and then not the rest of it: its
        steps build on each other. The other devices' part must still be undone."""
        try:
            for step in steps:
                self._step(step)
        except Exception as error:
            return str(error) or type(error).__name__
        return ""

    def _step(self, step: Step) -> None:
        if is_away(step, self.away):
            return
        match step:
            case LoadPipeline():
                if step.device not in self._checked:
                    with self._sessions.use(step.device) as driver:
                        self._load(driver, step)
            case RestorePipeline():
                with self._sessions.use(step.device) as driver:
                    self._restore(driver, step)
            case WriteEntries():
                with self._sessions.use(step.device) as driver:
                    self._write(driver, step)
            case Drain():
                self._drain(step)
            case Follow():
                self.done.amiss += follow(self.network, step)
            case ConfigureWorker() | ChainWorker() | MoveState():
                try:
                    if isinstance(step, MoveState):
                        self.done.moved += moved(
                            self.network, step, self.away, QUIET_S, self._sessions.alone
                        )
                    else:
                        self._worker(step)
                except ServerError as error:
                    lost = self.careful and isinstance(error, ServerGone)
                    if not self.forgiving and not lost:
                        raise
                    if str(error) not in self.done.amiss:
                        self.done.amiss.append(str(error))

    # -- workers -------------------------------------------------------------------------------

    def _worker(self, step: ConfigureWorker | ChainWorker) -> None:
        with self.network.worker(step.core) as worker:
            if isinstance(step, ChainWorker):
                for chain in step.before:
                    if chain not in step.after:
                        worker.remove_chain(step.graph, chain)
                for chain in step.after:
                    if self.careful or chain not in step.before:
                        worker.service_chain(step.graph, chain)
                return
            if not step.after:
                worker.remove_graph(step.graph)
                return
            made = {n: s for n, s in step.after.items() if self.careful or step.before.get(n) != s}
            gone = [name for name in step.before if name not in step.after]
            new = step.manifest_after
            if new == step.manifest_before and not self.careful:
                new = None
            drop = step.manifest_after is None and step.manifest_before is not None
            if made or gone or new is not None or drop:
                worker.configure(step.graph, made, new, remove=gone, remove_manifest=drop)

    # -- pipelines ------------------------------------------------------------------------------

    def _load(self, driver: PipelineDriver, step: LoadPipeline) -> None:
        pipeline = step.build
        running = driver.pipeline_cookie()
        if running == pipeline.cookie:
            return
        if not step.may_wipe:
            lost = "no pipeline (has it restarted?)" if running is None else "another pipeline"
            raise SwitchError(
                f"{step.device}: runs {lost}; loading {pipeline.name} would wipe the entries of the "
                "graphs that are deployed: undeploy them first"
            )
        if running is not None:
            self.recorder.replaced(step.device, save(driver))
        driver.set_pipeline(p4info(pipeline), pipeline.device_config, pipeline.cookie)

    def _restore(self, driver: PipelineDriver, step: RestorePipeline) -> None:
        saved = self.recorder.saved(step.device)
        if saved:
            restore(driver, saved)
        elif saved is not None:
            self.done.amiss.append(
                f"{step.device}: the pipeline that was replaced cannot be restored, because the "
                "device did not give its program"
            )

    def _write(self, driver: PipelineDriver, step: WriteEntries) -> None:
        schema = driver.schema
        if schema is None:
            if driver.pipeline_cookie() is None:
                if self.forgiving:
                    return  # it has restarted: there is nothing to remove
                if self.careful:
                    self.done.amiss.append(
                        f"{step.device}: runs no pipeline: it has restarted, and lost what was on it"
                    )
                    return
                raise SwitchError(f"{step.device}: runs no pipeline (has it restarted?)")
            schema = driver.schema
        assert schema is not None
        changes: Sequence[Change] = step.changes
        if self.careful:
            changes = list(needed(driver, schema, step))
            replicas = [c for c in changes if not isinstance(c.item, TableEntry)]
            for change in replicas:
                replicate_carefully(driver, change)
            changes = [c for c in changes if isinstance(c.item, TableEntry)]
        ready = None if step.ordered else self.ready.get(step.device)
        updates = updates_of(schema, changes, step.owner, ready)

        def report(count: int) -> None:
            if self.progress is not None:
                self.progress(step.device, count)

        report(len(step.changes) - len(changes))  # what is as it shall be
        with refusals_with(Places(lambda: {step.owner: _entries_of(changes)})):
            driver.write(updates, progress=report, **({"batch": 1} if step.ordered else {}))
        self.done.entries[step.device] += sum(
            isinstance(change.after, TableEntry) for change in changes
        )

    def _drain(self, step: Drain) -> None:
        """Until the entries' counters stand still; no counters: for as long as that takes."""
        watched = [(name, entries) for name, entries in step.entries if entries]
        if not step.entries:
            return
        last, quiet, waited = self._packets(watched), 0.0, 0.0
        pause = QUIET_S / 4
        while quiet < QUIET_S and waited < MOST_QUIET_S:
            began = time.monotonic()
            self.network.pause(pause)
            now = self._packets(watched)
            spent = max(pause, time.monotonic() - began)  # to look at many devices takes a while
            waited += spent
            quiet = quiet + spent if now == last else 0.0
            last = now

    def _packets(self, watched: Sequence[tuple[str, tuple[TableEntry, ...]]]) -> int:
        """Packets that hit the entries so far; what a device that is gone says counts as quiet."""

        def hits(of: tuple[str, tuple[TableEntry, ...]]) -> int:
            with suppress(SwitchError), self._sessions.use(of[0]) as driver:
                return _hits(driver, of[1])
            return 0

        return sum(_at_once(hits, [of for of in watched if of[0] not in self.away.devices]))


def _entries_of(changes: Iterable[Change]) -> list[TableEntry]:
    return [change.item for change in changes if isinstance(change.item, TableEntry)]


def _compare_epoch(graph: str, driver: PipelineDriver, change: Change) -> None:
    if driver.pipeline_cookie() is None:
        return  # whether one may be loaded is the transaction's affair
    assert driver.schema is not None
    if EPOCH_TABLE not in driver.schema.tables:
        return
    wanted = identity(driver.schema, _table_entry(change.item))
    epochs = [
        installed.entry
        for installed in driver.entries(EPOCH_TABLE)
        if identity(driver.schema, installed.entry) == wanted
    ]
    there = _epoch(epochs[0] if epochs else None)
    expected = _epoch(change.before)
    if there != expected:
        raise DeploymentError(
            f"{graph}: {driver.name} has version {there} of it in force, and not {expected}, as the "
            "journal says; nothing was changed (`orchestrator reconcile` repairs devices)"
        )


def _hits(driver: PipelineDriver, entries: Sequence[TableEntry]) -> int:
    if driver.schema is None and driver.pipeline_cookie() is None:
        return 0
    schema = driver.schema
    assert schema is not None
    mine = {identity(schema, entry) for entry in entries}
    return sum(
        counted.packets or 0
        for table in {entry.table for entry in entries}
        for counted in driver.entries(table)
        if identity(schema, counted.entry) in mine
    )


def _at_once(work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """The results, in order, of some devices at a time; the first failure, once none is under way."""
    if len(items) == 1:
        return [work(items[0])]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(work, items))


def _by_device(stage: Stage) -> list[tuple[Step, ...]]:
    return [tuple(steps) for _, steps in groupby(sorted(stage.steps, key=_device), _device)]


def _table_entry(item: Item) -> TableEntry:
    assert isinstance(item, TableEntry)
    return item


def _epoch(item: Item | None) -> str:
    return "none" if item is None else str(dict(_table_entry(item).params)["epoch"])


def _device(step: Step) -> str:
    if isinstance(step, LoadPipeline | RestorePipeline | WriteEntries):
        return step.device
    if isinstance(step, MoveState):
        return str(step.move.source)
    if isinstance(step, Follow):
        return str(step.following.source)
    if isinstance(step, ConfigureWorker | ChainWorker):
        return str(step.core)
    return ""

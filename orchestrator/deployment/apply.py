"""Apply a bundle to a network, or take it off: servers first, then tables, admission last.

Any failure undoes what was done before it, in reverse order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial

from finsy.proto import p4r

from orchestrator.clients.p4info import clone_session_update, flood_update
from orchestrator.compiler.fabric_program import OWNER
from orchestrator.deployment.drivers import NetworkDriver, SwitchDriver
from orchestrator.errors import DeploymentError, OrchestratorError, ServerError, SwitchError
from orchestrator.model.bundle import Bundle
from orchestrator.model.entries import SwitchProgram, TableEntry
from orchestrator.model.plan import Core
from orchestrator.targets.shipped import artifact
from orchestrator.verification.manifest import Manifest, manifest_entries

CPU_PORT = 510
SAMPLE_SESSION = 100  # arch/v1model.p4

Progress = Callable[[str, int], None]
"""(switch, entries written since the last call)."""

_INSERT = p4r.Update.INSERT
_DELETE = p4r.Update.DELETE


@dataclass(frozen=True, slots=True)
class Applied:
    """What a deployment did: Metron's delay metrics in seconds, and entries per switch."""

    installation_delay_s: float
    launch_delay_s: float
    entries: dict[str, int]


def apply_bundle(
    bundle: Bundle,
    network: NetworkDriver,
    manifest: Manifest | None,
    *,
    first: bool,
    progress: Progress | None = None,
) -> Applied:
    """Put a graph on a network; `first` says that the fabric's own entries are still to be installed.

    DeploymentError says what failed; the network is then as it was before.
    """
    undo: list[Callable[[], None]] = []
    with ExitStack() as sessions:
        switches = {
            name: sessions.enter_context(network.switch(name)) for name in bundle.pipeline_of
        }
        try:
            started = time.monotonic()
            _apply_workers(bundle, network, manifest, undo)
            launched = time.monotonic()

            def install(name: str) -> int:
                return _install(bundle, switches[name], manifest, first, undo, progress)

            with ThreadPoolExecutor(max_workers=16) as pool:
                counts = dict(zip(switches, pool.map(install, switches), strict=True))
            for name, driver in switches.items():
                admitted = bundle.switches.get(name)
                if admitted is not None and admitted.activation:
                    _write(driver, admitted.activation, bundle.graph, undo)
                    counts[name] += len(admitted.activation)
            return Applied(time.monotonic() - launched, launched - started, counts)
        except BaseException as error:
            failures = _undo(undo)
            if not isinstance(error, OrchestratorError):
                raise
            after = f"; undoing failed too: {'; '.join(failures)}" if failures else ""
            raise DeploymentError(
                f"{bundle.graph}: {error}; nothing was left installed{after}"
                if not failures
                else f"{bundle.graph}: {error}{after}"
            ) from error


def remove_bundle(
    bundle: Bundle, network: NetworkDriver, manifest: Manifest | None, *, last: bool
) -> tuple[str, ...]:
    """Take a graph off a network; `last` takes the fabric's own entries, too.

    A dead worker has nothing left to remove: what it answered is returned.
    """
    with ExitStack() as sessions:
        switches = {
            name: sessions.enter_context(network.switch(name)) for name in bundle.pipeline_of
        }
        # A switch that has restarted has no pipeline, and so nothing to remove.
        running = {n: d for n, d in switches.items() if d.pipeline_cookie() is not None}
        for name, driver in running.items():
            if (program := bundle.switches.get(name)) is not None:
                _delete_present(driver, program.activation, bundle.graph)

        def remove(name: str) -> None:
            driver = running[name]
            if (program := bundle.switches.get(name)) is not None:
                _delete_present(driver, program.entries, bundle.graph)
                _delete_replication(driver, [partial(flood_update, f) for f in program.floods])
            if manifest is not None:
                _delete_present(driver, tuple(manifest_entries(manifest)), bundle.graph)
            if last:
                _delete_present(driver, bundle.fabric[name].entries, OWNER)
                session = partial(clone_session_update, SAMPLE_SESSION, CPU_PORT)
                _delete_replication(driver, [session])

        with ThreadPoolExecutor(max_workers=16) as pool:
            list(pool.map(remove, running))
    amiss: list[str] = []
    for worker in bundle.workers:
        try:
            with network.worker(Core(worker.server, worker.core)) as session:
                session.remove_graph(bundle.graph)
        except ServerError as error:
            amiss.append(str(error))
    return tuple(amiss)


def _apply_workers(
    bundle: Bundle,
    network: NetworkDriver,
    manifest: Manifest | None,
    undo: list[Callable[[], None]],
) -> None:
    def launch(index: int) -> None:
        worker = bundle.workers[index]
        core = Core(worker.server, worker.core)

        def take_back() -> None:
            with network.worker(core) as session:
                session.remove_graph(bundle.graph)

        undo.append(take_back)
        with network.worker(core) as session:
            session.configure(bundle.graph, worker.nfs, manifest)
            for chain in worker.chains:
                session.service_chain(bundle.graph, chain)

    with ThreadPoolExecutor(max_workers=16) as pool:
        list(pool.map(launch, range(len(bundle.workers))))


def _install(
    bundle: Bundle,
    driver: SwitchDriver,
    manifest: Manifest | None,
    first: bool,
    undo: list[Callable[[], None]],
    progress: Progress | None,
) -> int:
    """Pipeline if another one runs, the fabric's entries if they are missing, then the graph's."""
    name = driver.name
    pipeline = artifact(*bundle.pipeline_of[name])
    running = driver.pipeline_cookie()
    if running != pipeline.cookie:
        if not first:
            lost = "no pipeline (has it restarted?)" if running is None else "another pipeline"
            raise SwitchError(
                f"{name}: runs {lost}; loading {pipeline.name} would wipe the entries of the graphs "
                "that are deployed: undeploy them first"
            )
        driver.set_pipeline(pipeline.p4info(), pipeline.device_config, pipeline.cookie)
    program = bundle.switches.get(name, SwitchProgram((), (), ()))
    count = 0
    if first:
        _replicate(driver, [partial(clone_session_update, SAMPLE_SESSION, CPU_PORT)], undo)
        count += _write(driver, bundle.fabric[name].entries, OWNER, undo)
    _replicate(driver, [partial(flood_update, flood) for flood in program.floods], undo)
    if manifest is not None:
        count += _write(driver, tuple(manifest_entries(manifest)), bundle.graph, undo)
    count += _write(driver, program.entries, bundle.graph, undo, progress)
    return count


def _write(
    driver: SwitchDriver,
    entries: tuple[TableEntry, ...],
    graph: str,
    undo: list[Callable[[], None]],
    progress: Progress | None = None,
) -> int:
    assert driver.schema is not None
    schema = driver.schema
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(driver.name, count)

    # Entries of a batch that failed may be installed or not: deleting tries them all.
    undo.append(lambda: _delete_present(driver, entries, graph))
    return driver.write(schema.updates(entries, graph, _INSERT), progress=report)


def _delete_present(driver: SwitchDriver, entries: Iterable[TableEntry], graph: str) -> None:
    """Delete those of the entries that the switch still has, and has from this graph."""
    assert driver.schema is not None
    mine = {(entry.table, frozenset(entry.keys)) for entry in entries}
    tables = {table for table, _ in mine}
    present = [
        installed.entry
        for table in sorted(tables)
        for installed in driver.entries(table)
        if installed.graph == graph and (table, frozenset(installed.entry.keys)) in mine
    ]
    driver.write(driver.schema.updates(present, graph, _DELETE))


_Replication = Sequence[Callable[[p4r.Update.Type.ValueType], p4r.Update]]


def _replicate(driver: SwitchDriver, made: _Replication, undo: list[Callable[[], None]]) -> None:
    """Insert multicast groups or clone sessions."""
    if made:
        undo.append(lambda: _delete_replication(driver, made))
        driver.write(update(_INSERT) for update in made)


def _delete_replication(driver: SwitchDriver, made: _Replication) -> None:
    """Delete multicast groups or clone sessions, those that are there.

    A switch that is gone altogether is told by the deletion of its entries.
    """
    for update in made:
        with suppress(SwitchError):
            driver.write([update(_DELETE)])


def _undo(undo: list[Callable[[], None]]) -> list[str]:
    failures: list[str] = []
    for step in reversed(undo):
        try:
            step()
        except Exception as error:  # the steps before it must still be undone
            failures.append(str(error) or type(error).__name__)
    return failures

"""Deploy and undeploy graphs on a network that keeps a journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.bundle.codec import Packed
from orchestrator.deployment.apply import Applied, applied
from orchestrator.deployment.around import advice, moves
from orchestrator.deployment.cordoning import cordon_of
from orchestrator.deployment.drivers import ManagedNetwork
from orchestrator.deployment.execution import Progress
from orchestrator.deployment.interrupts import held_interrupts
from orchestrator.deployment.journal import Deployed, Lead, now
from orchestrator.deployment.overlap import check_overlap
from orchestrator.deployment.placing import OnStep, graph_name, placed, unheard
from orchestrator.deployment.planning import Version, plan
from orchestrator.deployment.presence import Presence, check_known, look, needed
from orchestrator.deployment.reconcile import find_drift
from orchestrator.deployment.recovery import Note, carry_out, changing
from orchestrator.deployment.specialising import specialise
from orchestrator.deployment.summary import Summary, summarise, too_full
from orchestrator.deployment.transaction import Transaction
from orchestrator.errors import DeploymentError, ReportedError, unknown
from orchestrator.graph.kept import dump_graph
from orchestrator.linker.nodes import in_parts
from orchestrator.memo import Memo
from orchestrator.model.away import Away
from orchestrator.model.builds import Build
from orchestrator.model.bundle import Bundle
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.manifest import new_manifest
from orchestrator.model.plan import Core
from orchestrator.placement.resources import used_by

if TYPE_CHECKING:
    from orchestrator.placement.running import Moving

_MANY = 16
"""Workers asked at once."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A deployment that could begin: what is there, what shall be, and what that changes.

    `presence` is what was seen: what is away is left out of placement, what is silent left as it is.
    """

    old: Deployed | None
    new: Deployed
    summary: Summary
    transaction: Transaction
    synthesis_delay_s: float
    presence: Presence

    def moves(self) -> tuple[str, ...]:
        """What leaves devices that are away, in words."""
        if self.old is None:
            return ()
        return tuple(moves(self.old.bundle, self.new.bundle, self.presence.away))


@dataclass(frozen=True, slots=True)
class Done:
    """A finished deployment; `synthesis_delay_s` is the compiler's and the solver's time."""

    bundle: Bundle
    applied: Applied
    synthesis_delay_s: float
    summary: Summary
    updated: bool
    """Whether an older version was there."""
    moves: tuple[str, ...] = ()
    """What left devices that do not answer or are cut off."""

    @property
    def state_lost(self) -> tuple[str, ...]:
        """Whose state is gone, as was planned or since it could not be reached."""
        return (*self.summary.lost, *self.applied.behind)


def prepare(
    graph: ServiceGraph | Packed,
    network: ManagedNetwork,
    *,
    allow_interruption: bool = False,
    warnings: tuple[str, ...] = (),
    pipeline: Build | None = None,
    presence: Presence | None = None,
    moving: Moving | None = None,
    memo: Memo | None = None,
    step: OnStep = unheard,
) -> Prepared:
    """Compile a graph for what is free on a network, beside its older version; nothing is changed.

    A bundle is compiled already: it is checked to fit there, and numbered.

    All devices are looked at (`presence`, if that was done already): what does not answer is left out
    where others do, else DeploymentError names it; so it does devices that do not have what the journal
    says. StoreError when they have graphs that it does not know.

    `pipeline` is for all switches; without it they keep what the deployed graphs say that they run.

    `summary.full` is not empty when both versions do not fit at once: then it can only be deployed with
    `allow_interruption`.
    """

    name = graph_name(graph)
    deployed = network.journal.deployed()
    old = deployed.get(name)
    if old is not None:
        old = deployed[name] = replace(old, bundle=in_parts(old.bundle))
        network.access.check_owner({name: old.bundle.owner})
    presence = presence or look(network)
    check_known(network, presence, deployed)
    if old is not None:
        _check_amiss(network, name, list(presence.amiss(old)))
    others = {other: d.bundle for other, d in deployed.items() if other != name}
    started = time.monotonic()
    used = used_by(others, network.topology)
    bundle = placed(
        graph,
        network,
        deployed,
        used,
        away=presence.away,
        warnings=warnings,
        pipeline=pipeline,
        moving=moving,
        memo=memo,
        step=step,
    )
    step("comparing with what is there")
    synthesis = time.monotonic() - started
    check_overlap(bundle, others)
    if old is not None and old.bundle.sampling_rate == bundle.sampling_rate:
        manifest = old.manifest
    else:
        manifest = new_manifest(bundle.graph_id, bundle.sampling_rate)
    new = Deployed(bundle, manifest, now())
    alone = not others
    before = None if old is None else Version(old.bundle, old.manifest, alone)
    after = Version(bundle, manifest, alone)
    transaction = plan(before, after)
    full = () if old is None else too_full(transaction, bundle, used.tables, network.topology)
    if full and allow_interruption:
        transaction = plan(before, after, interrupting=True)
    summary = summarise(transaction, before, after, full)
    if old is not None and not transaction.stages:
        drift = find_drift(network.reading(), {name: old}, away=presence.away)
        _check_amiss(network, name, [*drift.words(), *drift.unreachable])
    return Prepared(old, new, summary, transaction, synthesis, presence)


def _check_amiss(network: ManagedNetwork, graph: str, amiss: list[str]) -> None:
    """DeploymentError when devices do not have what the journal says of a graph."""
    if amiss:
        raise DeploymentError(
            f"{graph}: not as the journal of {network.name} says: {'; '.join(amiss)}; nothing was "
            f"changed (`orchestrator reconcile {network.name}` repairs it)"
        )


def _check_both_fit(graph: str, summary: Summary) -> None:
    """DeploymentError when there is no room for the old version and the new one."""
    if summary.full:
        raise DeploymentError(
            f"{graph}: {'; '.join(summary.full)}; nothing was changed "
            "(--allow-interruption removes the old version first: the graph's packets are "
            "dropped until the new one is in force)"
        )


def deploy_graph(
    graph: ServiceGraph | Packed,
    network: ManagedNetwork,
    *,
    allow_interruption: bool = False,
    specialised: bool = False,
    allow_pipeline_change: bool = False,
    warnings: tuple[str, ...] = (),
    expected: Callable[[int], None] | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
    silent: Callable[[], Away] = Away,
    moving: Moving | None = None,
    memo: Memo | None = None,
    step: OnStep = unheard,
) -> Done:
    """Put a graph on a network, or update the version that is there; or leave all as it was.

    A bundle brings its own pipeline, and is not `specialised`. `note` hears of changes that others left
    unfinished. `specialised`: on a pipeline that p4c makes for the graphs of the network;
    `allow_pipeline_change`: although that interrupts those that are there. `expected` hears how many
    changes `progress` will come to. Devices that are known to be
    `silent` (asked when nobody else changes the network) are not waited for. `moving`: what of the
    version that is there shall run elsewhere. `memo` is of whoever deploys the graph again and again;
    `step` hears what is done before the first change.
    """
    with changing(network, note=note) as lead:
        presence = look(network, silent())
        for line in presence.away.words():
            if note is not None:
                note(line)
        pipeline = None
        if specialised and not isinstance(graph, Packed):
            pipeline = specialise(
                network.access.claimed(graph),
                network,
                lead,
                replace(presence.away, cordon=cordon_of(network)),
                allow_change=allow_pipeline_change,
                undeploy=lambda name: _undeploy(name, network, lead),
                note=note,
            )
        prepared = prepare(
            graph,
            network,
            allow_interruption=allow_interruption,
            warnings=warnings,
            pipeline=pipeline,
            presence=presence if pipeline is None else None,
            moving=moving,
            memo=memo,
            step=step,
        )
        if not allow_interruption:
            _check_both_fit(graph_name(graph), prepared.summary)
        if expected is not None:
            expected(prepared.summary.counts.total())
        kept = b"" if isinstance(graph, Packed) else dump_graph(network.access.claimed(graph))
        with held_interrupts() as check:
            executed = carry_out(
                network,
                lead,
                graph_name(graph),
                replace(prepared.new, source=kept),
                interrupting=prepared.summary.interrupts,
                progress=_interruptible(check, progress),
                away=prepared.presence.silent,
                transaction=prepared.transaction,
            )
    return Done(
        prepared.new.bundle,
        applied(executed),
        prepared.synthesis_delay_s,
        prepared.summary,
        prepared.old is not None,
        prepared.moves(),
    )


def _interruptible(check: Callable[[], None], progress: Progress | None) -> Progress:
    """What hears of changes, asked each time whether to go on."""

    def report(switch: str, count: int) -> None:
        check()
        if progress is not None:
            progress(switch, count)

    return report


def undeploy_graph(
    name: str, network: ManagedNetwork, *, note: Note | None = None
) -> tuple[str, ...]:
    """Take a graph off; the last one takes the fabric's entries with it.

    Returns what was amiss: devices that did not answer. What they may still have of it is owed: the
    journal remembers it, and `reconcile` removes it when they answer.
    """
    with changing(network, note=note) as lead:
        return _undeploy(name, network, lead)


def _undeploy(name: str, network: ManagedNetwork, lead: Lead) -> tuple[str, ...]:
    deployed = network.journal.deployed()
    presence = look(network)
    if name not in deployed:
        check_known(network, presence, deployed)
        raise DeploymentError(f"{network.name}: {unknown('graph', name, tuple(deployed))}")
    silent = _silent(deployed[name].bundle, presence.silent)
    with held_interrupts():
        done = carry_out(network, lead, name, None, forgiving=True, away=silent)
    later = f"what {name} may have there is removed by `orchestrator reconcile {network.name}`"
    return (*(f"{why}; {later} once it answers" for why in silent.words()), *done.amiss)


def _silent(bundle: Bundle, silent: Away) -> Away:
    """Devices of a graph that do not answer."""
    cores = {Core(worker.server, worker.core) for worker in bundle.workers}
    return Away(
        {s: why for s, why in silent.devices.items() if s in bundle.pipeline_of},
        {core: why for core, why in silent.cores.items() if core in cores},
    )


def shortcomings(
    network: ManagedNetwork, deployed: Mapping[str, Deployed], presence: Presence
) -> tuple[str, ...]:
    """What deployed graphs need and do not have: a line for each device or link that is away."""
    reasons: dict[str, None] = {}
    for name, graph in deployed.items():
        lacking = needed(graph.bundle, network.topology, presence.away)
        for why in lacking.words():
            reasons[
                f"{why}; {name} needs it: `orchestrator deploy` of its graph moves it elsewhere, or "
                f"{advice(lacking, network)}"
            ] = None
    return tuple(reasons)


def deployed_graphs(network: ManagedNetwork) -> dict[str, Deployed]:
    """Graphs that the journal says are deployed."""
    return network.journal.deployed()


def worker_metrics(
    network: ManagedNetwork, deployed: Mapping[str, Deployed], servers: Collection[str] = ()
) -> dict[str, dict[str, int]]:
    """queryMetrics of every worker that runs a deployed graph, side by side; a dead one says so with -1.

    `servers`: only of workers of these.
    """
    running = {Core(w.server, w.core) for d in deployed.values() for w in d.bundle.workers}
    cores = sorted(
        (core for core in running if not servers or core.server in servers),
        key=lambda core: (core.server, core.index),
    )

    def one(core: Core) -> dict[str, int]:
        try:
            with network.worker(core) as worker:
                return worker.metrics()
        except ReportedError:
            return {"unreachable": -1}

    names = [str(core) for core in cores]
    with ThreadPoolExecutor(max_workers=_MANY) as pool:
        return dict(zip(names, pool.map(one, cores), strict=True))

"""Put bundles on networks, change them there and take them off again, each as one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.deployment.drivers import NetworkDriver
from orchestrator.deployment.execution import Executed, Executor, Progress
from orchestrator.deployment.planning import SERVERS, Version, plan
from orchestrator.model.bundle import Bundle
from orchestrator.model.manifest import SamplingSecret


@dataclass(frozen=True, slots=True)
class Applied:
    """What a deployment did: Metron's delay metrics in seconds, and entries written per switch."""

    installation_delay_s: float
    launch_delay_s: float
    entries: dict[str, int]
    moved: tuple[str, ...] = ()
    """Whose state went from core to core, in words."""
    behind: tuple[str, ...] = ()
    """Whose state should have, and could not."""
    amiss: tuple[str, ...] = ()
    """What is not as it should be all the same: `reconcile` tries again."""


def applied(executed: Executed) -> Applied:
    """The figures of a finished transaction."""
    launch = executed.seconds.get(SERVERS, 0.0)
    return Applied(
        sum(executed.seconds.values()) - launch,
        launch,
        dict(executed.entries),
        tuple(str(m) for m in executed.moved if not m.lost),
        tuple(str(m) for m in executed.moved if m.lost),
        tuple(executed.amiss),
    )


def apply_bundle(
    bundle: Bundle,
    network: NetworkDriver,
    manifest: SamplingSecret | None,
    *,
    first: bool,
    progress: Progress | None = None,
) -> Applied:
    """Put a graph on a network; `first` says that the fabric's own entries are still to be installed.

    DeploymentError says what failed; the network is then as it was before.
    """
    transaction = plan(None, Version(bundle, manifest, alone=first))
    return applied(Executor(network, progress=progress).run(transaction))


def remove_bundle(
    bundle: Bundle, network: NetworkDriver, manifest: SamplingSecret | None, *, last: bool
) -> tuple[str, ...]:
    """Take a graph off a network; `last` takes the fabric's own entries, too. May be repeated.

    A dead worker has nothing left to remove: what it answered is returned.
    """
    transaction = plan(Version(bundle, manifest, alone=last), None)
    executor = Executor(network, careful=True, forgiving=True)
    return tuple(executor.run(transaction).amiss)

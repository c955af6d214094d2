"""Devices and cores that placement keeps off, as the network's journal has them.

What runs there stays until its graph is placed the next time; a cordoned device is no failure.
"""

from __future__ import annotations

from collections.abc import Collection

from orchestrator.deployment.drivers import ManagedNetwork
from orchestrator.errors import InputError, unknown
from orchestrator.model.away import Cordon


def cordon_of(network: ManagedNetwork) -> Cordon:
    """What is cordoned; names that the network has no longer are left out."""
    names, topology = network.journal.cordoned(), network.topology
    return Cordon(
        frozenset(name for name in names if name in topology.switches),
        frozenset(
            core
            for core in network.cores
            if core.server in names or network.worker_name(core) in names
        ),
    )


def cordon(network: ManagedNetwork, names: Collection[str]) -> tuple[str, ...]:
    """Keep placement off devices or cores from now on; returns all that are cordoned then.

    InputError, and nothing changed, when the network has none of a name.
    """
    _check(names, _known(network))
    with network.leading() as lead:
        lead.cordon({*network.journal.cordoned(), *names})
    return network.journal.cordoned()


def uncordon(network: ManagedNetwork, names: Collection[str]) -> tuple[str, ...]:
    """Let placement use them again; returns all that are still cordoned.

    InputError, and nothing changed, when one of them is not cordoned.
    """
    cordoned = network.journal.cordoned()
    _check(names, cordoned, "cordoned device or core")
    with network.leading() as lead:
        lead.cordon({*network.journal.cordoned()} - set(names))
    return network.journal.cordoned()


def _known(network: ManagedNetwork) -> tuple[str, ...]:
    topology = network.topology
    return (*topology.switches, *topology.servers, *map(network.worker_name, network.cores))


def _check(
    names: Collection[str], devices: Collection[str], what: str = "switch, server or core"
) -> None:
    problems = [unknown(what, name, tuple(devices)) for name in names if name not in devices]
    if problems:
        raise InputError(problems)

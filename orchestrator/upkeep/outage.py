"""What the conditions of devices mean: what is away, and which servers are lost as a whole."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from orchestrator.deployment.presence import behind
from orchestrator.model.away import Away
from orchestrator.model.plan import Core
from orchestrator.model.topology import Topology
from orchestrator.network.inventory import Inventory
from orchestrator.observation.liveness import DOWN, Condition, Subject
from orchestrator.observation.watcher import link_name

Conditions = Mapping[Subject, Condition]


def down(conditions: Conditions) -> Conditions:
    """Those that are down."""
    return {
        subject: condition for subject, condition in conditions.items() if condition.state == DOWN
    }


def silent(inventory: Inventory, conditions: Conditions) -> Away:
    """Devices, workers and links that are down themselves."""
    why = {subject: condition.why for subject, condition in down(conditions).items()}
    return Away(
        {name: f"{name}: {why[s]}" for name in inventory.pipelines if (s := _device(name, why))},
        {
            core: f"{worker.name}: {why[s]}"
            for core, worker in inventory.cores.items()
            if (s := Subject("worker", worker.name)) in why
        },
        {
            link: f"{s}: {why[s]}"
            for link in inventory.topology.links
            if (s := Subject("link", link_name(link))) in why
        },
    )


def away(inventory: Inventory, conditions: Conditions) -> Away:
    """All that cannot be used: what is down, and what is behind it."""
    if not down(conditions):
        return Away()
    away_now = silent(inventory, conditions)
    return behind(inventory.topology, away_now.devices, away_now.cores, away_now.links)


def lost_servers(topology: Topology, cores: Collection[Core], lost: Away) -> frozenset[str]:
    """Servers of which nothing is left: none of several workers, or no link to them."""
    links = {end for link in lost.links for end in (link.a, link.b)}
    return frozenset(
        server
        for server in topology.servers
        if server in links
        or (
            len(mine := [core for core in cores if core.server == server]) > 1
            and all(core in lost.cores for core in mine)
        )
    )


def _device(name: str, why: Mapping[Subject, str]) -> Subject | None:
    kinds = (Subject("switch", name), Subject("nic", name))
    return next((subject for subject in kinds if subject in why), None)

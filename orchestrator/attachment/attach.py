"""Take a network that runs already into the inventories: look at all of it, then start its workers.

Everything that is wrong is told at once, and then nothing was changed; but for a pipeline, which a
switch cannot be rid of once it was needed to probe links.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from orchestrator.attachment import servers, switches
from orchestrator.attachment.probes import links_between_switches
from orchestrator.attachment.probing import probe
from orchestrator.attachment.server_links import wrong_server_links
from orchestrator.attachment.servers import ServerFound
from orchestrator.attachment.switches import SwitchFound
from orchestrator.attachment.workers import running
from orchestrator.deployment.access import Access
from orchestrator.deployment.live import LiveNetwork, remember_store
from orchestrator.deployment.presence import look
from orchestrator.errors import NetworkError
from orchestrator.model.topology import Topology
from orchestrator.network.folders import attached_dir, private_dir
from orchestrator.network.inventory import (
    Inventory,
    PipelineAddress,
    WorkerAddress,
    save_inventory,
)
from orchestrator.network.registry import check_free, registry_lock
from orchestrator.observation.at_once import at_once

CLOCK_OFFSET_S = 1.0

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class AttachOptions:
    """`replace_pipelines`: load ours where somebody else's runs. Clocks of servers may be off by
    `max_clock_offset_s`."""

    replace_pipelines: bool = False
    max_clock_offset_s: float = CLOCK_OFFSET_S


@dataclass(frozen=True, slots=True)
class Attached:
    """A network that was taken in. `links` of its links were probed; `loaded` switches got a pipeline,
    `started` workers were started; graphs that no journal knows are `in_force` (names by id)."""

    inventory: Inventory
    links: int
    loaded: tuple[str, ...]
    started: tuple[str, ...]
    in_force: dict[int, str]


def attach(
    topology: Topology,
    name: str,
    access: Access,
    options: AttachOptions | None = None,
    *,
    note: Note = lambda line: None,
    warn: Note = lambda line: None,
) -> Attached:
    """Check a network and write its inventory; NetworkError tells all that is wrong, one a line."""
    options = options or AttachOptions()
    check_free(name)
    note(f"looking at {len(topology.switches)} switches and {len(topology.servers)} servers")
    attached, problems = _look(topology, access, options)
    there = {each.name: each for each in attached if isinstance(each, SwitchFound)}
    agents = [each for each in attached if isinstance(each, ServerFound)]
    topology = _as_they_run(topology, there)
    links = links_between_switches(topology)
    if links:
        note(f"probing {len(links)} links between switches")
    got: set[str] = set()
    problems += probe(topology, there, access, got, careful=bool(problems))
    loaded = tuple(switch for switch in topology.switches if switch in got)
    if problems:
        raise NetworkError(_refusal(name, problems, loaded))
    for warning in (line for agent in agents for line in agent.notes):
        warn(warning)
    new = tuple(worker for agent in agents for worker in agent.new)
    if new:
        note(f"starting {len(new)} workers")
    with running(topology, agents, access) as workers:
        inventory = _inventory(topology, name, workers)
        network = LiveNetwork(inventory, access)
        problems = list(look(network).silent.words()) or list(wrong_server_links(network))
        if problems:
            raise NetworkError(_refusal(name, problems, loaded))
        _write_down(inventory, access)
    in_force = {number: graph for each in there.values() for number, graph in each.in_force.items()}
    return Attached(inventory, len(links), loaded, new, in_force)


def _write_down(inventory: Inventory, access: Access) -> None:
    with registry_lock():
        check_free(inventory.name)
        private_dir(attached_dir(inventory.name))
        remember_store(inventory.folder, access)
        save_inventory(inventory)


def _look(
    topology: Topology, access: Access, options: AttachOptions
) -> tuple[list[SwitchFound | ServerFound], list[str]]:
    """What answered, and all problems, those of one device together."""

    def one(name: str) -> SwitchFound | ServerFound | str:
        if name in topology.switches:
            return switches.look_at(
                topology.switches[name], access, replace_pipeline=options.replace_pipelines
            )
        limit = options.max_clock_offset_s
        return servers.look_at(topology.servers[name], access, max_clock_offset_s=limit)

    answers = at_once(one, [*topology.switches, *topology.servers])
    problems: list[str] = []
    for answer in answers:
        problems += [answer] if isinstance(answer, str) else answer.problems
    return [each for each in answers if not isinstance(each, str)], problems


def _as_they_run(topology: Topology, seen: dict[str, SwitchFound]) -> Topology:
    nodes = {
        name: replace(node, target=seen[name].target) if name in seen else node
        for name, node in topology.switches.items()
    }
    return replace(topology, switches=nodes)


def _refusal(name: str, problems: Sequence[str], loaded: Sequence[str]) -> str:
    kept = (
        f"{', '.join(loaded)}: the empty pipeline stays that was loaded to probe links (P4Runtime "
        "cannot unload one)"
    )
    changed = "nothing else was changed" if loaded else "nothing was changed"
    return "\n".join(
        (f"{name} is not attached, {changed}:", *problems, *([kept] if loaded else ()))
    )


def _inventory(topology: Topology, name: str, workers: tuple[WorkerAddress, ...]) -> Inventory:
    pipelines = {
        switch.name: PipelineAddress(at.address, at.device_id, at.role)
        for switch in topology.switches.values()
        if (at := switch.management) is not None
    }
    agents = {
        server.name: at.address
        for server in topology.servers.values()
        if (at := server.management) is not None
    }
    return Inventory(name, topology, pipelines, workers, str(attached_dir(name)), agents)

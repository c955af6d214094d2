"""What `orchestrator status` tells of a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from orchestrator.deployment.following import state_of
from orchestrator.deployment.journal import Deployed
from orchestrator.deployment.live import LiveNetwork
from orchestrator.deployment.operations import deployed_graphs, shortcomings, worker_metrics
from orchestrator.deployment.presence import Presence, look
from orchestrator.deployment.standbys import Following, followings
from orchestrator.errors import InputError, unknown
from orchestrator.model.bundle import Bundle
from orchestrator.model.devices import Device
from orchestrator.model.plan import ClassMap, Core
from orchestrator.model.topology import Topology
from orchestrator.observation.conditions import conditions_now, of_devices
from orchestrator.observation.liveness import Condition, Subject
from orchestrator.placement.running import running_of
from orchestrator.placement.spaces import divided
from orchestrator.presenters.conditions import conditions_json
from servernf.wire.buckets import MOST_SPACES


@dataclass(frozen=True, slots=True)
class NetworkNow:
    """A network now: of the wanted devices, all of them if none was asked for."""

    network: LiveNetwork
    deployed: Mapping[str, Deployed]
    presence: Presence
    conditions: Mapping[Subject, Condition]
    devices: Mapping[str, Device]
    workers: Mapping[str, Mapping[str, int]]
    """Counters of workers that run a graph, by `server1.2`."""
    standbys: Mapping[Following, str]
    """How each follows; "following": as it should."""

    @property
    def silent(self) -> set[str]:
        """Devices that do not answer; servers of which not all workers do."""
        return {*self.presence.silent.devices, *(c.server for c in self.presence.silent.cores)}

    def spaces(self) -> Iterator[tuple[str, str, int, ClassMap]]:
        """Flow spaces of these graphs: graph, NF, how many the NF has, and one of them."""
        for deployed in self.graphs():
            for nf, classes in running_of(deployed.bundle).dispatch.items():
                _, spaces = divided(classes)
                for space in spaces:
                    yield deployed.bundle.graph, nf, len(spaces), space

    def graphs(self) -> Iterator[Deployed]:
        """Deployed graphs that these devices have something of; all of them where all are wanted."""
        everything = len(self.devices) == len(self.network.inventory.devices)
        for graph in self.deployed.values():
            if everything or not devices_with(graph.bundle).isdisjoint(self.devices):
                yield graph


def devices_with(bundle: Bundle) -> frozenset[str]:
    """Those that have something of a bundle."""
    switches = {name for name, program in bundle.programs.items() if program.entries}
    return frozenset(switches | {worker.server for worker in bundle.workers})


def look_at(live: LiveNetwork, wanted: frozenset[str] = frozenset(), graph: str = "") -> NetworkNow:
    """Ask all devices, those that are wanted, or those that have something of a graph.

    InputError when no such graph is deployed.
    """
    deployed = deployed_graphs(live)
    if graph:
        if graph not in deployed:
            raise InputError(unknown("deployed graph", graph, tuple(deployed)))
        deployed = {graph: deployed[graph]}
        there = devices_with(deployed[graph].bundle)
        wanted = wanted & there if wanted else there
    presence = look(live)
    conditions = conditions_now(live, presence.silent)
    devices = live.inventory.devices
    if wanted:
        devices = {name: device for name, device in devices.items() if name in wanted}
        conditions = of_devices(conditions, live.inventory, wanted)
    workers = worker_metrics(live, deployed, wanted)
    if graph:
        workers = {
            name: {c: n for c, n in values.items() if "/" not in c or c.startswith(f"{graph}/")}
            for name, values in workers.items()
        }
    standbys = {
        following: state_of(live.reading(), following) or "its primary does not answer"
        for placed in deployed.values()
        for following in followings(placed.bundle)
        if not wanted or not wanted.isdisjoint((following.source.server, following.standby.server))
    }
    return NetworkNow(live, deployed, presence, conditions, devices, workers, standbys)


def status_json(seen: NetworkNow) -> dict[str, object]:
    """All of it."""
    journal = seen.network.journal
    unfinished = journal.intent()
    return {
        "network": seen.network.name,
        "devices": [
            {
                **{key: value for key, value in asdict(device).items() if value},
                "answers": device.name not in seen.silent,
            }
            for device in seen.devices.values()
        ],
        **attached_json(seen.network.topology, seen.devices),
        "conditions": conditions_json(seen.conditions),
        "graphs": [
            {
                "name": d.bundle.graph,
                "owner": d.bundle.owner,
                "graph_id": d.bundle.graph_id,
                "deployed_at": d.deployed_at,
            }
            for d in seen.graphs()
        ],
        "workers": seen.workers,
        "standbys": [
            {
                "graph": item.graph,
                "nf": item.nf,
                "variant": item.variant,
                "primary": str(item.source),
                "standby": str(item.standby),
                "state": state,
            }
            for item, state in seen.standbys.items()
        ],
        "flow_spaces": [
            {
                "graph": graph,
                "nf": nf,
                "inside": str(item.regions[0].inside or ""),
                "outside": str(item.regions[0].outside or ""),
                "cores": [str(core) for core in cores_of(item)],
                "taken": taken,
                "most": MOST_SPACES,
            }
            for graph, nf, taken, item in seen.spaces()
        ],
        "lacking": shortcomings(seen.network, seen.deployed, seen.presence),
        "cordoned": journal.cordoned(),
        "leader": journal.leader() or None,
        "unfinished": unfinished and unfinished.graph,
        "owed": [{"graph": debt.graph, "devices": debt.places} for debt in journal.owed()],
    }


def cores_of(space: ClassMap) -> tuple[Core, ...]:
    """Who has flows of it."""
    return tuple(dict.fromkeys(own.core for own in space.slices))


def attached_json(topology: Topology, devices: Mapping[str, Device]) -> dict[str, object]:
    """The links of these devices (capacity bit/s a direction, latency us) and the hosts behind them."""
    links = [link for link in topology.links if link.a in devices or link.b in devices]
    near = {end for link in links for end in (link.a, link.b)}
    return {
        "hosts": [
            {"name": host.name, "addresses": [str(a) for a in host.addresses]}
            for host in topology.hosts.values()
            if host.name in near
        ],
        "links": [asdict(link) for link in links],
    }

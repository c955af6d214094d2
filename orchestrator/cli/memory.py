"""Networks in memory for commands: started when they are first deployed to, and fed with packets."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.bundle.codec import Packed
from orchestrator.cli.output import note, print_table, warn
from orchestrator.deployment.live import LiveNetwork, new_journal
from orchestrator.errors import StoreError
from orchestrator.model.bundle import Bundle
from orchestrator.model.graph import ServiceGraph
from orchestrator.model.topology import Topology
from orchestrator.network.folders import list_inventories
from orchestrator.network.inventory import Inventory
from orchestrator.network.registry import is_in_memory
from orchestrator.observation.sessions import reader
from orchestrator.placement.topologies import resolve_topology
from orchestrator.simulation.control import is_alive, start, stop
from orchestrator.simulation.hosts import Hosts

if TYPE_CHECKING:
    from orchestrator.observation.exchange import ExchangeTally

_DEFAULT = "leaf-spine"
_IDLE_MINUTES = 30


@dataclass(frozen=True, slots=True)
class Packets:
    """What became of packets, by traffic (or capture), and the graph's entries that have been hit."""

    tallies: dict[str, ExchangeTally]
    hits: dict[tuple[str, str], int]

    def json(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "traffic": {name: asdict(tally) for name, tally in self.tallies.items()},
            "hits": {f"{device}.{table}": n for (device, table), n in self.hits.items()},
        }

    def show(self) -> None:
        """Two tables; nothing where nothing was sent."""
        if not self.tallies:
            return
        print_table(
            "Packets on the network in memory",
            ("traffic", "sent#", "delivered#", "answers sent#", "answers delivered#"),
            (
                (name, t.sent, t.delivered, t.answered, t.answers_delivered)
                for name, t in self.tallies.items()
            ),
        )
        print_table(
            "Entries that packets hit",
            ("device", "table", "packets#"),
            ((device, table, n) for (device, table), n in self.hits.items()),
        )


def start_network(topology: Topology, name: str, *, idle_minutes: int = 0) -> Inventory:
    """Start a network in memory, with an empty journal."""
    inventory = start(topology, name, idle_s=60 * idle_minutes)
    try:
        new_journal(name, inventory.folder)
    except StoreError:
        stop(name)
        raise
    return inventory


def started(asked: str, name: str, source: ServiceGraph | Packed) -> None:
    """See that the network `name` runs, which was `asked` for as memory or memory:TOPOLOGY.

    Without a topology a bundle's network is its own, a graph's is leaf-spine.
    """
    if name in list_inventories() and (not is_in_memory(name) or is_alive(name)):
        return
    wanted = asked.partition(":")[2]
    own = source.topology if isinstance(source, Packed) and not wanted else None
    topology = own or resolve_topology(wanted or _DEFAULT)
    start_network(topology, name, idle_minutes=_IDLE_MINUTES)
    note(
        f"{name} runs {topology.name} in memory until `orchestrator net down {name}`, or "
        f"{_IDLE_MINUTES} minutes without a command"
    )


def send_packets(
    source: ServiceGraph | Packed, bundle: Bundle, network: LiveNetwork, pcap: Path | None
) -> Packets:
    """Send a capture's packets, or those that a graph's traffic says; a bundle says none."""
    from orchestrator.observation.exchange import exchange, first_host, replay

    hosts, topology = Hosts(network.inventory.hosts), network.topology
    tallies: dict[str, ExchangeTally] = {}
    if pcap is not None:
        packed = isinstance(source, Packed)
        sender = (
            first_host(bundle, topology)
            if packed
            else source.endpoints[source.traffic[0].ingress].hosts[0]
        )
        tallies[f"{pcap}"], warning = replay(sender, topology, hosts, pcap)
        if warning:
            warn(warning)
    elif isinstance(source, Packed):
        note("no packets are sent: a bundle says none (--pcap gives some)")
    else:
        tallies = {t.name: exchange(source, topology, hosts, t) for t in source.traffic}
    hosts.close()
    hits = Counter[tuple[str, str]]()
    for name in topology.switches if tallies else ():
        with reader(network, name) as switch:
            entries = switch.entries() if switch.pipeline_cookie() is not None else ()
            for installed in entries:
                if installed.packets and installed.graph == bundle.graph:
                    hits[name, installed.entry.table] += installed.packets
    return Packets(tallies, dict(sorted(hits.items())))

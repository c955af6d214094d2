"""Which tags a switch takes from a server's port: those that the server's workers were told to write.

Whoever gets hold of a server can so reach the graphs that it serves, and no others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.model.entries import Exact, TableEntry, WorkerProgram
from orchestrator.network.fabric import Fabric
from orchestrator.targets.block import ORIGINS_TABLE


def origin_entries(
    workers: Iterable[WorkerProgram], fabric: Fabric
) -> Mapping[str, Sequence[TableEntry]]:
    """By switch: MAC, SPI and SI of every way out of the service chains, at the port of their server."""
    found: dict[str, dict[tuple[int, ...], TableEntry]] = defaultdict(dict)
    for worker in workers:
        at = fabric.attachments[worker.server]
        for hop in (hop for chain in worker.chains for hop in chain.hops if not hop.nf):
            tag = {"ingress_port": at.port, "mac": hop.mac, "spi": hop.spi, "si": hop.si}
            found[at.switch][tuple(tag.values())] = TableEntry(
                ORIGINS_TABLE,
                tuple((name, Exact(value)) for name, value in tag.items()),
                "flowtag_arrival.accept_tag",
                (),
                0,
                f"from {worker.server}",
            )
    return {switch: tuple(entries.values()) for switch, entries in found.items()}

"""Which tags a switch takes from a server's port: those that the server's workers were told to write.

Whoever gets hold of a server can so reach the graphs that it serves, and no others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.model.entries import Exact
from orchestrator.model.symbolic import SymbolicEntry, SymbolicWorker, WayOut
from orchestrator.network.fabric import Fabric
from orchestrator.targets.block import ORIGINS_TABLE


def origin_entries(
    workers: Iterable[SymbolicWorker], fabric: Fabric
) -> Mapping[str, Sequence[SymbolicEntry]]:
    """By switch: MAC, SPI and SI of every way out of the service chains, at the port of their server."""
    by_switch: dict[str, dict[tuple[int, WayOut], SymbolicEntry]] = defaultdict(dict)
    for worker in workers:
        switch, port = fabric.access(worker.server), fabric.port_of(worker.server, worker.core)
        for out in (chain.out for chain in worker.chains if chain.out):
            door = (("ingress_port", Exact(port)), ("mac", Exact(out.mac)))
            by_switch[switch][port, out] = SymbolicEntry(
                ORIGINS_TABLE,
                (*door, ("spi", out.path), ("si", out.path)),
                "flowtag_arrival.accept_tag",
                (),
                0,
                f"from {worker.server}",
            )
    return {switch: tuple(entries.values()) for switch, entries in by_switch.items()}

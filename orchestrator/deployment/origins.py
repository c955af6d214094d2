"""Which switches send a version's packets to a core: there, a marker comes behind the last of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from typing import NamedTuple

from orchestrator.deployment.moves import StateMove
from orchestrator.linker.nodes import Nodes
from orchestrator.model.bundle import Bundle
from orchestrator.model.plan import Core
from orchestrator.model.refs import PATH, Node
from orchestrator.model.topology import Topology
from servernf.wire.addresses import device_mac
from servernf.wire.instances import base_name

TREE_SHIFT = 32
"""The bit of a MAC at which its tree begins."""


class Origin(NamedTuple):
    """A switch sends packets to a core: `mac` is the core's on a tree of the fabric."""

    device: str
    mac: int


def origins_of(bundle: Bundle, move: StateMove) -> tuple[Origin, ...]:
    """How a version's packets come to the source of a move, where each comes from the switch that it
    entered by; empty where some come over another device first, which sends on what it has for a while.
    """
    nodes = Nodes(bundle)
    moving = set(map(base_name, move.nfs))
    entered = {
        node
        for node, served in nodes.chains.items()
        for core, chain in served
        if core == move.source and any(base_name(hop.nf) in moving for hop in chain.hops if hop.nf)
    }
    before = nodes.above(entered) - entered
    if any(node.kind == PATH for node in before):
        return ()
    origins = (
        Origin(nodes.where(node), mac)
        for node in sorted(before, key=str)
        for mac in _macs(nodes, node, entered)
    )
    return tuple(dict.fromkeys(origins))


def _macs(nodes: Nodes, node: Node, entered: Set[Node]) -> Iterator[int]:
    """Where a node's entries send packets that enter some service paths."""
    for entry in nodes.entries(node):
        params = dict(entry.params)
        if "mac" in params and not entered.isdisjoint(nodes.line(node, entry).refs):
            yield params["mac"]


def of_core(origins: Sequence[Origin], topology: Topology, core: Core) -> tuple[Origin, ...]:
    """Those of one core."""
    mine = device_mac(topology.servers[core.server].id, core=core.index + 1)
    return tuple(o for o in origins if o.mac & ~(0xFF << TREE_SHIFT) == mine)

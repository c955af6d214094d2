"""What is behind the ports of a switch."""

from __future__ import annotations

from orchestrator.model.topology import Topology


def port_names(topology: Topology, switch: str) -> dict[int, str]:
    """What is behind each port of a switch, by number."""
    names: dict[int, str] = {}
    for link in topology.links:
        if link.a == switch:
            names[link.a_port] = link.b
        if link.b == switch:
            names[link.b_port] = link.a
    return names

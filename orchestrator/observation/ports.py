"""What is behind the ports of switches."""

from __future__ import annotations

from orchestrator.model.topology import Topology


def ports_of_all(topology: Topology) -> dict[str, dict[int, str]]:
    """By switch: what is behind each of its ports, by number."""
    names: dict[str, dict[int, str]] = {switch: {} for switch in topology.switches}
    for link in topology.links:
        for near, port, far in ((link.a, link.a_port, link.b), (link.b, link.b_port, link.a)):
            if near in names:
                names[near][port] = far
    return names


def port_names(topology: Topology, switch: str) -> dict[int, str]:
    """What is behind each port of a switch, by number."""
    return ports_of_all(topology)[switch]

"""What every switch needs before any graph: its ports, the way to every device, gateways' answers."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.compiler.keys import neighbor_entry
from orchestrator.model.entries import Exact, Lpm, PipelineProgram, TableEntry
from orchestrator.network.fabric import Fabric
from servernf.wire.addresses import DEVICE_PREFIX_BITS, device_mac

OWNER = "fabric"
"""The name that stands for a graph in these entries' provenance."""


def fabric_programs(fabric: Fabric) -> dict[str, PipelineProgram]:
    """Entries by switch, from the topology alone: they do not grow with graphs or chains."""
    return {
        switch: PipelineProgram(tuple(_entries(fabric, switch)), (), ())
        for switch in fabric.topology.switches
    }


def _entries(fabric: Fabric, switch: str) -> Iterator[TableEntry]:
    topology = fabric.topology
    me = topology.switches[switch].id
    hosts = {n: at for n, at in fabric.attachments.items() if n in topology.hosts}
    for link in topology.links:
        for near, port, far in ((link.a, link.a_port, link.b), (link.b, link.b_port, link.a)):
            if near == switch:
                side = "fabric_facing"
                if far in topology.hosts:
                    side = "host_facing"
                elif far in topology.servers:
                    side = "server_facing"
                yield TableEntry(
                    "port.ports",
                    (("ingress_port", Exact(port)),),
                    f"port.{side}",
                    (("switch_id", me),),
                    0,
                    f"link to {far}",
                )
    for name, at in hosts.items():
        if at.switch == switch:
            for gateway in topology.hosts[name].gateways:
                yield neighbor_entry(at.port, gateway.version, int(gateway), f"gateway of {name}")
    for device in (*topology.switches, *topology.servers):
        if device not in topology.switches and device not in fabric.attachments:
            continue
        for tree in range(topology.trees):
            mac = device_mac(fabric.device_id(device), tree=tree)
            yield _towards(fabric, switch, device, mac, tree)


def _towards(fabric: Fabric, switch: str, device: str, mac: int, tree: int) -> TableEntry:
    at = fabric.access(device)
    params: tuple[tuple[str, int], ...]
    if device == switch:
        action, params = "recirculate_here", ()
    elif at == switch:
        action, params = "to_server", (("port", fabric.attachments[device].port),)
    else:
        port, _ = fabric.neighbors[switch][fabric.next_switch(switch, at, tree)]
        action, params = "forward", (("port", port),)
    return TableEntry(
        "fabric.devices",
        (("device", Lpm(mac, DEVICE_PREFIX_BITS)),),
        f"fabric.{action}",
        params,
        0,
        f"to {device}, tree {tree}",
    )

"""Markers behind the last packets of a version: markLastInTransit, done for switches by the controller.

Switches know nothing of the VNF management API. So who has written their entries, once these writes are
acknowledged, has each send a marker (`servernf.wire.nsh.marker`) by PacketOut where its old entries sent
packets: it comes to the worker behind the last of these, since what lies between, the queues of ports
and one tree of the fabric, is first in, first out. A marker that does not come costs time, not packets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from orchestrator.deployment.drivers import PipelineDriver
from orchestrator.deployment.origins import TREE_SHIFT, Origin
from orchestrator.errors import SwitchError
from orchestrator.model.topology import Topology
from orchestrator.network.fabric import Fabric
from servernf.wire.addresses import device_mac
from servernf.wire.nsh import marker

Use = Callable[[str], AbstractContextManager[PipelineDriver]]
"""A session with a device."""


def send_markers(
    use: Use, topology: Topology, server: str, number: int, origins: Sequence[Origin]
) -> bool:
    """Have a marker sent behind each path's last packet; false: some switch could not be asked."""
    fabric = Fabric(topology)
    try:
        for path, origin in enumerate(origins):
            own = device_mac(topology.switches[origin.device].id)
            port = _port(fabric, origin, server)
            with use(origin.device) as driver:
                driver.packet_out(marker(origin.mac, own, number, path), port)
    except SwitchError:
        return False
    return True


def _port(fabric: Fabric, origin: Origin, server: str) -> int:
    """By which the fabric has a switch send frames for the server on the tree of a MAC."""
    at = fabric.attachments[server]
    if at.switch == origin.device:
        return at.port
    following = fabric.next_switch(origin.device, at.switch, origin.mac >> TREE_SHIFT & 0xFF)
    return fabric.neighbors[origin.device][following][0]

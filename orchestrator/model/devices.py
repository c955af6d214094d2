"""Devices: what packets meet, whatever they are. Kinds differ only where their behaviour does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from orchestrator.model.topology import Switch, Topology

Kind = Literal["switch", "nic", "server"]
SWITCH: Kind = "switch"
NIC: Kind = "nic"
SERVER: Kind = "server"


@dataclass(frozen=True, slots=True)
class Device:
    """A device of a network.

    One that executes a pipeline (a switch, a NIC) has a `target` and the name of its `pipeline`; one
    that executes NFs on its cores (a server) has a `runtime`. The others are empty.
    """

    name: str
    kind: Kind
    target: str = ""
    pipeline: str = ""
    runtime: str = ""

    @property
    def has_pipeline(self) -> bool:
        """Whether it speaks P4Runtime; else its cores speak the VNF management API."""
        return self.kind != SERVER


def devices_of(topology: Topology) -> dict[str, Device]:
    """The devices of a topology that graphs are placed on, by name."""
    switches = (
        Device(
            switch.name,
            NIC if switch.server else SWITCH,
            target=switch.target,
            pipeline=switch.pipeline,
        )
        for switch in topology.switches.values()
    )
    servers = (
        Device(server.name, SERVER, runtime=server.runtime) for server in topology.servers.values()
    )
    return {device.name: device for device in (*switches, *servers)}


def pipelined(topology: Topology) -> Mapping[str, Switch]:
    """The devices that have a pipeline, as the topology describes them, by name."""
    return topology.switches

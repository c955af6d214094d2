"""Topologies as live networks in namespaces (`orchestrator net`); the supervisor is Mininet's.

`net_up` starts `mininet/network.py` in the background, which builds the network and keeps it;
everything else reads the state file that it wrote.
"""

from orchestrator.emulation.control import net_down, net_up
from orchestrator.emulation.doctor import Check, machine_report
from orchestrator.emulation.hosts import host_argv, run_in_host, start_in_host
from orchestrator.emulation.restart import restart
from orchestrator.emulation.state import (
    HostState,
    NetworkState,
    ServerState,
    SwitchState,
    WorkerState,
    load_state,
)
from orchestrator.emulation.status import Component, NetworkStatus, net_status

__all__ = [
    "Check",
    "Component",
    "HostState",
    "NetworkState",
    "NetworkStatus",
    "ServerState",
    "SwitchState",
    "WorkerState",
    "host_argv",
    "load_state",
    "machine_report",
    "net_down",
    "net_status",
    "net_up",
    "restart",
    "run_in_host",
    "start_in_host",
]

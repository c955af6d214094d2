"""Names of networks and interfaces: unique on the machine, and short enough for the kernel."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection

from orchestrator.errors import NetworkError

MAX_INTERFACE = 15
"""IFNAMSIZ without the terminating zero."""

_INTERFACE = re.compile(r"o([0-9a-f]{4})s[0-9]+p[0-9]+")


def new_network_id(taken: Collection[str]) -> str:
    """Four random hex digits that no network of this machine uses."""
    for _ in range(1000):
        network_id = secrets.token_hex(2)
        if network_id not in taken:
            return network_id
    raise NetworkError(f"no free network id is left ({len(taken)} are taken)")


def switch_interface(network_id: str, device_id: int, port: int) -> str:
    """`o3fa2s1p2`: port 2 of switch 1 in network 3fa2. Fits up to device 65535 and port 999."""
    name = f"o{network_id}s{device_id}p{port}"
    if len(name) > MAX_INTERFACE:
        raise NetworkError(f"interface name '{name}' is longer than {MAX_INTERFACE} characters")
    return name


def network_of_interface(interface: str) -> str | None:
    """The network id that an interface's name carries, None for interfaces that are not ours."""
    match = _INTERFACE.fullmatch(interface)
    return match.group(1) if match else None


def switch_socket(device_id: int) -> str:
    """The file name of a switch's P4Runtime socket: paths of sockets have 107 bytes."""
    return f"s{device_id}.sock"

"""A worker's own interface: a macvlan on a NIC, which dispatches frames by MAC exactly.

An interface of the agent says in its alias whose it is, so that what a killed agent left is known, and
nobody else's interface is ever taken for it. `ip` (iproute2) makes them.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import subprocess
from array import array
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from servernf.agent.errors import DoesNotStart
from servernf.agent.machine import OURS, alias
from servernf.wire.addresses import mac_text

_SIOCETHTOOL = 0x8946
# linux/ethtool.h: ETHTOOL_SRXCSUM, STXCSUM, SSG, STSO, SGSO, SGRO
_OFFLOADS = (0x15, 0x17, 0x19, 0x1F, 0x24, 0x2C)
_NET = Path("/sys/class/net")


def owner(agent: str, worker: str) -> str:
    """The alias of the interface that an agent makes for a worker."""
    return f"{OURS}{agent}:{worker}"


def make_macvlan(name: str, nic: str, mac: int, whose: str) -> None:
    """A macvlan interface that is up; one of ours that has the name is made anew.

    DoesNotStart when the name is somebody else's, or the kernel refuses it.
    """
    if (_NET / name).exists():
        if alias(name) != whose:
            raise DoesNotStart(f"interface {name} is there already, and not this agent's")
        _delete([name])
    # The kernel has no part in what a worker receives: it neither answers ARP nor has an address.
    lines = [
        f"link add link {nic} name {name} address {mac_text(mac)} type macvlan mode private",
        f"link set dev {name} alias {whose}",
        f"link set dev {name} addrgenmode none arp off up",
    ]
    problem = _ip(lines)
    if problem:
        remove_macvlan(name, whose)
        raise DoesNotStart(f"macvlan {name} on {nic}: {problem}")
    _without_offloads(name)


def remove_macvlan(name: str, whose: str) -> None:
    """Delete an interface that was made for a worker; nothing when there is none, or another's."""
    if alias(name) == whose:
        _delete([name])


def remove_left_by(agent: str) -> None:
    """Delete all interfaces that an agent of this name has made."""
    begin = owner(agent, "")
    _delete(path.name for path in _NET.iterdir() if alias(path.name).startswith(begin))


def _delete(names: Iterable[str]) -> None:
    _ip([f"link delete dev {name}" for name in names], force=True)


def _without_offloads(interface: str) -> None:
    """A checksum that is left to hardware would go out wrong, and a merged segment is too long."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for feature in _OFFLOADS:
            value = array("I", [feature, 0])  # struct ethtool_value
            request = struct.pack("16sP16x", interface.encode(), value.buffer_info()[0])
            with suppress(OSError):  # what an interface does not know it does not do
                fcntl.ioctl(control.fileno(), _SIOCETHTOOL, request)


def _ip(lines: list[str], *, force: bool = False) -> str:
    """Run `ip -batch`; what it complains of, empty for nothing."""
    command = ["ip", *(["-force"] if force else []), "-batch", "-"]
    try:
        done = subprocess.run(
            command, input="".join(f"{line}\n" for line in lines), text=True, capture_output=True
        )
    except OSError as error:
        return f"ip (iproute2) cannot be run: {error.strerror}"
    return " ".join(done.stderr.split()) if done.returncode else ""

"""What the server has: CPUs, memory, network interfaces, as the kernel tells them (sysfs)."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from servernf.wire.addresses import parse_mac

_SYSFS = Path("/sys")
_ETHERNET = "1"
"""ARPHRD_ETHER (linux/if_arp.h)."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """A CPU and its NUMA node, -1 where that is not known."""

    number: int
    numa_node: int


@dataclass(frozen=True, slots=True)
class Nic:
    """An Ethernet interface. `bits_per_second` 0, `driver` "" and `numa_node` -1: not known."""

    name: str
    mac: int
    mtu: int
    up: bool
    carrier: bool
    bits_per_second: int
    driver: str
    numa_node: int


def cpus(numbers: Collection[int], sysfs: Path = _SYSFS) -> tuple[Cpu, ...]:
    """CPUs by number."""
    return tuple(Cpu(number, _numa_node(sysfs, number)) for number in sorted(numbers))


def memory_bytes() -> int:
    """The machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def nics(sysfs: Path = _SYSFS) -> tuple[Nic, ...]:
    """The Ethernet interfaces of this network namespace but the agent's own, by name.

    sysfs shows the namespace that it was mounted in: `ip netns exec` and Mininet mount it anew.
    """
    folder = sysfs / "class" / "net"
    cards = (_nic(path) for path in sorted(folder.iterdir()))
    return tuple(nic for nic in cards if nic is not None)


def alias(interface: str, sysfs: Path = _SYSFS) -> str:
    """What an interface is said to be for (`ip link set DEV alias`), empty for nothing."""
    return _read(sysfs / "class" / "net" / interface / "ifalias")


OURS = "servernf:"
"""How the alias of an interface begins that the agent has made."""


def _nic(path: Path) -> Nic | None:
    if _read(path / "type") != _ETHERNET or path.name == "lo":
        return None
    if _read(path / "ifalias").startswith(OURS):
        return None
    try:
        mac = parse_mac(_read(path / "address"))
    except ValueError:  # it goes as we look
        return None
    driver = path / "device" / "driver"
    return Nic(
        name=path.name,
        mac=mac,
        mtu=_number(path / "mtu", 0),
        up=bool(int(_read(path / "flags") or "0", 16) & 1),  # IFF_UP
        carrier=_number(path / "carrier", 0) == 1,
        bits_per_second=max(_number(path / "speed", 0), 0) * 1_000_000,
        driver=driver.resolve().name if driver.exists() else "",
        numa_node=_number(path / "device" / "numa_node", -1),
    )


def _numa_node(sysfs: Path, cpu: int) -> int:
    nodes = (sysfs / "devices" / "system" / "cpu" / f"cpu{cpu}").glob("node[0-9]*")
    return next((int(node.name.removeprefix("node")) for node in nodes), -1)


def _number(path: Path, default: int) -> int:
    text = _read(path)
    try:
        return int(text)
    except ValueError:
        return default


def _read(path: Path) -> str:
    """A file's text, empty where the kernel has none (`carrier` of an interface that is down)."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""

"""Devices of DPDK's that a core has for itself: a NIC's function by its PCI address, or a virtual one.

A core is a process, and queues of one function belong to one process: so each core has a function of its
own (SR-IOV), one queue, and a flow rule that brings it the frames to its MAC (`ports_open_device` in
host/c/ports_dpdk.c).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from servernf.wire.errors import InputError, quoted

PCI = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
"""An address with its domain, as `lspci -D` says it."""
_VIRTUAL = re.compile(r"net_[a-z_]+[0-9]+")
_DRIVERS = ("vfio-pci", "uio_pci_generic", "igb_uio", "mlx4_core", "mlx5_core")
"""What a function is bound to that DPDK may have; of mlx it stays the kernel's, too (DPDK 22.11: Linux
drivers)."""
_SYS_PCI = Path("/sys/bus/pci/devices")
_ARGUMENTS = re.compile(r"(,[A-Za-z0-9_-]+=[A-Za-z0-9_.:/-]+)*")


@dataclass(frozen=True, slots=True)
class CoreDevice:
    """`name` as DPDK knows it; `arguments` are the driver's, each behind a comma. `polled`: it is asked
    again and again, which takes the core; else it has to wake who waits for frames."""

    name: str
    arguments: str = ""
    polled: bool = False

    @property
    def text(self) -> str:
        """As an option names it."""
        return self.name + self.arguments

    @property
    def is_pci(self) -> bool:
        """Whether it is a NIC's."""
        return PCI.fullmatch(self.name) is not None

    @property
    def words(self) -> tuple[str, ...]:
        """How a worker's process is told of it (c/process.c): how it is waited for, its name, EAL's
        arguments. A NIC needs huge pages, a virtual device does without."""
        how = "always" if self.polled else "wakes"
        if self.is_pci:
            return how, self.name, "--in-memory", "-a", self.text
        memory = "--no-huge", "-m", "512", "--no-shconf"
        return how, self.name, *memory, "--no-pci", f"--vdev={self.text}"


def device(text: str, *, polled: bool) -> CoreDevice:
    """A device as an option or a configuration names it, `0000:3b:02.0` or `net_null0,size=98`.

    InputError where it is neither."""
    name, comma, rest = text.partition(",")
    arguments = comma + rest
    if not (PCI.fullmatch(name) or _VIRTUAL.fullmatch(name)) or not _ARGUMENTS.fullmatch(arguments):
        raise InputError(
            f"{quoted(text)} is no device of DPDK's: give a PCI address with its domain (0000:3b:02.0)"
            " or a virtual device (net_ring0), and behind it the driver's arguments (,key=value)"
        )
    return CoreDevice(name, arguments, polled)


def lacks(device: CoreDevice) -> str:
    """Why this machine cannot open a NIC's function now, in words; "": nothing says so."""
    if not device.is_pci:
        return ""
    there = _SYS_PCI / device.name
    if not there.exists():
        return f"{device.name}: no such PCI device here (`lspci -D`)"
    driver = there / "driver"
    bound = driver.resolve().name if driver.exists() else ""
    if bound in _DRIVERS:
        return ""
    told = f"{bound} has it" if bound else "no driver has it"
    bind = f"driverctl set-override {device.name} vfio-pci"
    return f"{device.name}: {told}: bind it to vfio-pci (`{bind}`)"

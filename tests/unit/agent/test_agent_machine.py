"""What a server has, read from a sysfs that is made for the test, and from this machine's."""

from __future__ import annotations

import os
from pathlib import Path

from servernf.agent import machine


def interface(sysfs: Path, name: str, **files: str) -> Path:
    folder = sysfs / "class" / "net" / name
    folder.mkdir(parents=True)
    plain = {"type": "1", "address": "0a:00:00:00:00:01", "mtu": "1600", "flags": "0x1003"}
    for file, text in {**plain, **files}.items():
        (folder / file).write_text(f"{text}\n")
    return folder


def test_interfaces(tmp_path: Path) -> None:
    nic = interface(tmp_path, "ens1", carrier="1", speed="25000")
    (tmp_path / "drivers" / "ice").mkdir(parents=True)
    (nic / "device").mkdir()
    (nic / "device" / "driver").symlink_to(tmp_path / "drivers" / "ice")
    (nic / "device" / "numa_node").write_text("1\n")
    interface(tmp_path, "veth0", flags="0x1002", speed="-1")
    interface(tmp_path, "core1", ifalias="servernf:server1:w")
    interface(tmp_path, "lo", type="772")
    interface(tmp_path, "ib0", type="32", address="80:00:00:00" + ":00" * 16)
    assert machine.nics(tmp_path) == (
        machine.Nic("ens1", 0x0A_00_00_00_00_01, 1600, True, True, 25 * 10**9, "ice", 1),
        machine.Nic("veth0", 0x0A_00_00_00_00_01, 1600, False, False, 0, "", -1),
    )
    assert machine.alias("core1", tmp_path) == "servernf:server1:w"
    assert machine.alias("none", tmp_path) == ""


def test_cpus(tmp_path: Path) -> None:
    for cpu, node in ((0, 0), (1, 1)):
        (tmp_path / "devices" / "system" / "cpu" / f"cpu{cpu}" / f"node{node}").mkdir(parents=True)
    assert machine.cpus((1, 0, 7), tmp_path) == (
        machine.Cpu(0, 0),
        machine.Cpu(1, 1),
        machine.Cpu(7, -1),
    )


def test_this_machine() -> None:
    assert machine.memory_bytes() > 1 << 28
    assert len(machine.cpus(os.sched_getaffinity(0))) == len(os.sched_getaffinity(0))
    assert "lo" not in [nic.name for nic in machine.nics()]

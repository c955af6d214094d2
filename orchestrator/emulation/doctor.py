"""What this machine has and lacks: `orchestrator doctor`."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata

from orchestrator.emulation.commands import emulated, engine_of
from orchestrator.emulation.environment import can_unshare, mininet_folder, mininet_version


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a feature needs: whether it is there, for what, and how to get it."""

    name: str
    present: bool
    detail: str
    needed_for: str
    get: str


def machine_report() -> list[Check]:
    """Every check; none changes anything."""
    return [
        _linux(),
        _root(),
        _namespaces(),
        _mininet(),
        _tool("mnexec", "hosts' namespaces", "apt-get install mininet", "-v"),
        _tool("ip", "links and addresses", "apt-get install iproute2", "-V"),
        _tool("ethtool", "hosts' offloads off (TCP)", "apt-get install ethtool", "--version"),
        *(
            _tool(engine.executable, f"--switch {name}", engine.homepage, "--version")
            for name in emulated()
            if (engine := engine_of(name)).executable
        ),
        _tool(
            "p4c", "specialised pipelines, `make p4`", "https://github.com/p4lang/p4c", "--version"
        ),
        _tool(
            "p4c-barefoot",
            "what Tofino holds (`make chip-reports`)",
            "https://github.com/p4lang/p4c, backends/tofino",
            "--version",
        ),
        _dpdk(),
        _hyperscan(),
        _tool("tshark", "captures in words", "apt-get install tshark", "--version"),
        _tool("iperf3", "throughput tests", "apt-get install iperf3", "--version"),
        _python(),
        *(_package(name, use) for name, use in _PACKAGES),
    ]


_PACKAGES = (
    ("ortools", "placement"),
    ("grpcio", "P4Runtime and server management"),
    ("finsy", "P4Runtime messages"),
    ("starlette", "the page (`orchestrator ui`)"),
    ("uvicorn", "the page (`orchestrator ui`)"),
)


def _linux() -> Check:
    detail = f"{platform.system()} {platform.release()}"
    return Check("Linux", sys.platform == "linux", detail, "live networks", "a Linux machine or VM")


def _root() -> Check:
    uid = os.geteuid()
    return Check("root", uid == 0, f"user id {uid}", "live networks", "sudo orchestrator ...")


def _namespaces() -> Check:
    made = sys.platform == "linux" and can_unshare()
    detail = "network and mount namespaces can be made" if made else "unshare is refused"
    return Check("namespaces", made, detail, "live networks", "root; in a container: --privileged")


def _mininet() -> Check:
    folder, version = mininet_folder(), mininet_version()
    detail = f"{version} in {folder}" if folder else "not found"
    return Check("Mininet", folder is not None, detail, "live networks", "apt-get install mininet")


def _python() -> Check:
    detail = f"{platform.python_version()} ({sys.executable})"
    return Check(
        "Python", sys.version_info >= (3, 11), detail, "everything", "Python 3.11 or newer"
    )


def _package(name: str, use: str) -> Check:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        version = None
    return Check(name, version is not None, version or "not installed", use, f"pip install {name}")


def _dpdk() -> Check:
    get = "apt-get install libdpdk-dev pkg-config gcc"
    version = _first_line(["pkg-config", "--modversion", "libdpdk"])
    devbind = shutil.which("dpdk-devbind.py") or shutil.which("dpdk-devbind")
    detail = ", ".join(part for part in (version and f"libdpdk {version}", devbind) if part)
    return Check("DPDK", bool(detail), detail or "not found", "--switch dpdk, runtime dpdk", get)


def _hyperscan() -> Check:
    version = _first_line(["pkg-config", "--modversion", "libhs"])
    get = "apt-get install libhyperscan-dev (or libvectorscan-dev)"
    return Check("Hyperscan", bool(version), version or "not found", "ids on runtime dpdk", get)


def _tool(name: str, use: str, get: str, version_option: str) -> Check:
    path = shutil.which(name)
    if path is None:
        return Check(name, False, "not on PATH", use, get)
    version = _first_line([name, version_option])
    return Check(name, True, f"{version} ({path})" if version else path, use, get)


def _first_line(argv: list[str]) -> str | None:
    """The first line that a command prints, None when it cannot be run or fails."""
    if not shutil.which(argv[0]):
        return None
    try:
        shown = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    text = shown.stdout.strip() or shown.stderr.strip()
    return text.splitlines()[0].strip() if text and shown.returncode == 0 else None

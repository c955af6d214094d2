"""What a live network needs of the machine, checked before anything is changed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from glob import glob
from pathlib import Path

from orchestrator.errors import EnvironmentMissing

APT = "apt-get install mininet ethtool iproute2"


def require_emulation() -> None:
    """EnvironmentMissing that names everything that is missing and how to get it."""
    problems: list[str] = []
    if sys.platform != "linux":
        problems.append("a Linux kernel (network namespaces)")
    elif os.geteuid() != 0:
        problems.append("root (run it with sudo)")
    elif not can_unshare():
        problems.append("the right to make network namespaces (in a container: --privileged)")
    missing = [tool for tool in ("ip", "ethtool", "mnexec") if not shutil.which(tool)]
    if mininet_folder() is None:
        missing.insert(0, "mininet")
    if missing:
        problems.append(f"{', '.join(missing)} (`{APT}`)")
    if problems:
        raise EnvironmentMissing(
            f"a live network needs {'; '.join(problems)}; one in memory needs none of it: "
            "`orchestrator net up TOPOLOGY --memory`, or `orchestrator deploy GRAPH --network memory`"
        )


def require_root() -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        raise EnvironmentMissing("this needs root (run it with sudo)")


def can_unshare() -> bool:
    """Whether a network and a mount namespace can be made."""
    if not shutil.which("unshare"):
        return False
    made = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, check=False)
    return made.returncode == 0


def mininet_folder() -> Path | None:
    """The folder to append to sys.path so that `import mininet` finds the real package.

    Looked for by file: this project's own `mininet/` scripts look like a namespace package.
    """
    for folder in _python_folders():
        if (folder / "mininet" / "net.py").is_file():
            return folder
    return None


def mininet_version() -> str | None:
    folder = mininet_folder()
    if folder is None:
        return None
    text = (folder / "mininet" / "net.py").read_text(errors="replace")
    match = re.search(r'^VERSION = "([^"]+)"', text, re.MULTILINE)
    return match.group(1) if match else "unknown version"


def _python_folders() -> Iterable[Path]:
    system = ["/usr/lib/python3/dist-packages", *glob("/usr/local/lib/python3*/*-packages")]
    return (Path(folder) for folder in (*sys.path, *system) if folder)

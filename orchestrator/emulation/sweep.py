"""Remove whatever a network left on the machine, however it ended."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from orchestrator.emulation.naming import network_of_interface
from orchestrator.emulation.pins import pinned, unpin
from orchestrator.emulation.processes import kill_all, namespace_of
from orchestrator.emulation.state import Handle, load_handle
from orchestrator.errors import NetworkError, StoreError
from orchestrator.network.folders import state_file
from orchestrator.network.inventory import forget_inventory


def sweep(network: Handle) -> None:
    """Processes first (they hold namespaces and ports), then interfaces, then files."""
    check_namespace(network)
    folder = Path(network.run_dir)
    kill_all(network.processes, pinned(folder))
    delete_interfaces(network.id)
    if not _recorded(network):
        return  # Swept by somebody else, and its name may belong to a new network by now.
    unpin(folder)
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # Other networks' folders are beside it.
        folder.parent.rmdir()
    record = state_file(network.name)
    try:
        forget_inventory(network.name)
        record.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"{record}: {error.strerror}: the network is stopped, but its record cannot be removed"
        ) from error


def check_namespace(network: Handle) -> None:
    """Refuse to sweep from another network namespace: its switches would look like guests."""
    if network.namespace != namespace_of(os.getpid()) and any(
        process.is_alive for process in network.processes
    ):
        raise NetworkError(
            f"network '{network.name}' was started in another network namespace "
            "(a container?): stop it from there"
        )


def _recorded(network: Handle) -> bool:
    try:
        return load_handle(network.name).id == network.id
    except NetworkError:
        return False


def interfaces(network_id: str) -> list[str]:
    """The network's interfaces in this namespace: the switches' ends of all links."""
    return [i for i in os.listdir("/sys/class/net") if network_of_interface(i) == network_id]


def delete_interfaces(network_id: str, *, timeout: float = 10.0) -> None:
    """Delete them, their peers with them."""
    deadline = time.monotonic() + timeout
    while names := interfaces(network_id):
        if time.monotonic() > deadline:
            raise NetworkError(f"interfaces {', '.join(names)} cannot be deleted")
        # -force: a peer's end goes with the first one, so half of the names are gone by then.
        lines = "".join(f"link delete dev {name}\n" for name in names)
        subprocess.run(
            ["ip", "-force", "-batch", "-"],
            input=lines,
            text=True,
            capture_output=True,
            check=False,
        )

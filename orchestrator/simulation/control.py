"""Start and stop networks in memory: processes of their own (`serving`), known by their inventories."""

from __future__ import annotations

import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from orchestrator.errors import InputError, NetworkError
from orchestrator.model.plan import Core
from orchestrator.model.topology import Topology, public
from orchestrator.network.folders import list_inventories, private_dir, run_dir
from orchestrator.network.inventory import (
    Inventory,
    PipelineAddress,
    WorkerAddress,
    forget_inventory,
    load_inventory,
    save_inventory,
)
from orchestrator.network.names import check_network_name
from orchestrator.network.registry import check_free, is_in_memory, registry_lock
from orchestrator.resources import child_environment
from orchestrator.simulation.hosts import Hosts
from orchestrator.targets.softswitch import SOFTSWITCH

_MAX_SOCKET_PATH = 107
_START_S = 60.0
_STOP_S = 10.0


def start(topology: Topology, name: str, *, idle_s: float = 0, seed: int = 0) -> Inventory:
    """Start a network in memory and return when its devices listen; NetworkError if the name is taken.

    It ends when `stop` ends it, or when nobody asks for anything of it for `idle_s` (0: for ever).
    """
    inventory = _inventory(topology, check_network_name(name))
    folder = Path(inventory.folder)
    with registry_lock():
        if name in list_inventories() and is_in_memory(name) and not is_alive(name):
            _remove(load_inventory(name))
        check_free(name)
        private_dir(folder.parent)
        private_dir(folder)
        save_inventory(inventory)
        try:
            _run(inventory, ["--idle", str(idle_s), "--seed", str(seed)])
        except BaseException:
            _remove(inventory)
            raise
    return inventory


def is_alive(name: str) -> bool:
    """Whether the process of a network in memory answers."""
    try:
        Hosts(load_inventory(name).hosts).close()
    except NetworkError:
        return False
    return True


def stop(name: str) -> None:
    """End a network in memory, also one whose process has ended, and remove all of it."""
    inventory = load_inventory(name)
    try:
        hosts = Hosts(inventory.hosts)
    except NetworkError:
        pass
    else:
        pid = os.pidfd_open(hosts.pid)
        signal.pidfd_send_signal(pid, signal.SIGTERM)
        if not select.select([pid], [], [], _STOP_S)[0]:
            signal.pidfd_send_signal(pid, signal.SIGKILL)
        os.close(pid)
        hosts.close()
    with registry_lock():
        _remove(inventory)


def _remove(inventory: Inventory) -> None:
    forget_inventory(inventory.name)
    shutil.rmtree(inventory.folder, ignore_errors=True)


def _run(inventory: Inventory, options: list[str]) -> None:
    log = Path(inventory.folder) / "network.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.simulation", inventory.name, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=child_environment(),
            start_new_session=True,
        )
    assert process.stdout is not None
    with process.stdout as told:
        ready = select.select([told], [], [], _START_S)[0] and told.readline()
    if not ready:
        process.kill()
        process.wait()
        lines = log.read_text(errors="replace").splitlines()
        raise NetworkError(f"network {inventory.name} did not start: {' '.join(lines[-3:])}")
    process.returncode = 0  # it lives on, and is not waited for


def _inventory(topology: Topology, name: str) -> Inventory:
    """What the network will be: softswitches and workers at sockets of this user's."""
    folder = run_dir(f"{name}.{secrets.token_hex(3)}")  # others may have the name in another state
    switches = {n: replace(s, target=SOFTSWITCH) for n, s in public(topology).switches.items()}
    inventory = Inventory(
        name,
        replace(public(topology), switches=switches, source=topology.source),
        {s.name: PipelineAddress(f"unix:{folder}/s{s.id}.sock", s.id) for s in switches.values()},
        tuple(
            WorkerAddress(
                str(Core(server.name, index)),
                Core(server.name, index),
                f"unix:{folder}/w{server.id}.{index + 1}.sock",
            )
            for server in topology.servers.values()
            for index in server.worker_cores
        ),
        str(folder),
        hosts=f"{folder}/hosts.sock",
    )
    longest = max((inventory.hosts, *(w.address for w in inventory.workers)), key=len)
    if len(longest.removeprefix("unix:").encode()) > _MAX_SOCKET_PATH:
        raise InputError(
            f"socket path '{longest}' is longer than {_MAX_SOCKET_PATH} bytes: use a shorter --name, or "
            "a shorter $XDG_RUNTIME_DIR"
        )
    return inventory

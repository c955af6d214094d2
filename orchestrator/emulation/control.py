"""Start and stop networks: `net_up` and `net_down`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from orchestrator import errors
from orchestrator.emulation.agents import sockets
from orchestrator.emulation.children import log_end
from orchestrator.emulation.commands import resolve_targets
from orchestrator.emulation.environment import require_emulation, require_root
from orchestrator.emulation.naming import (
    network_of_interface,
    new_network_id,
    switch_socket,
)
from orchestrator.emulation.processes import namespace_of
from orchestrator.emulation.state import (
    Handle,
    NetworkState,
    load_handle,
    load_state,
    save_state,
)
from orchestrator.emulation.sweep import check_namespace, sweep
from orchestrator.emulation.tls import check_tls, exposures, with_writers
from orchestrator.emulation.wiring import wires, with_core_interfaces
from orchestrator.model.topology import Topology
from orchestrator.network.folders import list_inventories, list_networks, private_dir, run_dir
from orchestrator.network.names import check_network_name
from orchestrator.network.registry import registry_lock
from orchestrator.resources import child_environment, shipped
from orchestrator.targets import AUTO

_STOP_TIMEOUT = 15.0
_MAX_SOCKET_PATH = 107
"""sun_path of a Unix socket's address, without the terminating zero."""


def net_up(
    topology: Topology,
    *,
    switch: str = AUTO,
    name: str | None = None,
    progress: Callable[[str], None] = lambda line: None,
    warn: Callable[[str], None] = lambda line: None,
    workers: bool = True,
    limit_links: bool = False,
    tcp: bool = False,
    certificate: str = "",
    cle: str = "",
) -> NetworkState:
    """Start a topology as a live network and return once every switch and worker listens.

    Leftovers of a crashed network of the same name are removed first. On any failure, Ctrl-C
    included, everything that was started is removed again. `workers=False` starts none (tests);
    `limit_links` applies the links' capacities (their latencies are not emulated). Switches without
    TLS listen on Unix sockets that only this user reaches; with `tcp`, on ports that every user of the
    machine does. `certificate` is of whoever starts the network: it may write where neither
    `tls.writers` nor `tls.certificate` says who does. `warn` is told what others may do. What workers
    tell witnesses is shipped to `cle` (an address), if there is one.
    """
    name = check_network_name(name or topology.name)
    if cle and not cle.startswith("unix:/"):
        raise errors.InputError(
            f"--cle {cle}: servers of such a network reach Unix sockets only: unix:/PATH"
        )
    require_emulation()
    targets = resolve_targets(topology, switch)
    check_tls(topology, targets)
    topology = with_core_interfaces(with_writers(topology, certificate))
    for warning in exposures(topology, targets, tcp=tcp):
        warn(warning)
    folder = run_dir(name)
    _check_sockets(topology, folder)
    wires(topology, "0000")  # Interface names and links are checked before anything is changed.
    with registry_lock():
        _make_room(name, progress)
        state = NetworkState(
            name=name,
            id=new_network_id(_taken_ids()),
            phase="starting",
            topology=topology,
            created=time.time(),
            run_dir=str(folder),
            namespace=namespace_of(os.getpid()),
        )
        save_state(state)
    handle = Handle(name, state.id, state.run_dir, 0, state.namespace)
    try:
        private_dir(folder.parent)
        private_dir(folder)
        options = ["--switch", switch]
        options += [] if workers else ["--no-workers"]
        options += ["--limit-links"] if limit_links else []
        options += ["--tcp"] if tcp else []
        options += ["--cle", cle] if cle else []
        _supervise(state, options, progress)
        return load_state(name)
    except BaseException:
        _stop(_latest(handle))
        raise


def net_down(name: str) -> None:
    """Stop a network and remove everything of it, also when its supervisor has crashed."""
    require_root()
    _stop(load_handle(name))


def _supervise(state: NetworkState, options: list[str], progress: Callable[[str], None]) -> None:
    """Start the supervisor in the background and follow its report until it is ready."""
    script = shipped("mininet") / "network.py"
    with state.log.open("wb") as log:
        starter = subprocess.Popen(
            [sys.executable, str(script), state.name, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=child_environment(),
            start_new_session=True,
            text=True,
        )
    # The starter forks and ends at once: the supervisor is nobody's child.
    with starter:
        assert starter.stdout is not None
        for line in starter.stdout:
            if _follow(line, progress):
                return
    raise errors.NetworkError(f"the supervisor of '{state.name}' ended{log_end(state.log)}")


def _follow(line: str, progress: Callable[[str], None]) -> bool:
    """Act on one report line; true when the network is ready."""
    report = cast("dict[str, str]", json.loads(line))
    if "error" in report:
        raise errors.NetworkError(report["error"])
    if "progress" in report:
        progress(report["progress"])
    return "ready" in report


def _make_room(name: str, progress: Callable[[str], None]) -> None:
    if name not in list_networks():
        if name in list_inventories():
            raise errors.NetworkError(
                f"'{name}' is a network that was not started here (`orchestrator net detach {name}` "
                "lets go of it); another --name starts one beside it"
            )
        return
    old = load_handle(name)
    if old.is_up():
        raise errors.NetworkError(
            f"network '{name}' is up already; `orchestrator net down {name}` stops it, "
            "another --name starts a second one beside it"
        )
    progress(f"removing what a crashed run of '{name}' left")
    sweep(old)


def _stop(network: Handle) -> None:
    """Ask the supervisor, then remove whatever is left."""
    check_namespace(network)
    if network.is_up():
        os.kill(network.supervisor, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_TIMEOUT
        while network.is_up() and time.monotonic() < deadline:
            time.sleep(0.02)
    # What it started since is recorded, too.
    sweep(_latest(network))


def _latest(handle: Handle) -> Handle:
    """The handle with the supervisor's pid, which it recorded itself."""
    try:
        loaded = load_handle(handle.name)
    except errors.NetworkError:
        return handle
    return loaded if loaded.id == handle.id else handle


def _taken_ids() -> set[str]:
    here = {network_of_interface(name) for name in os.listdir("/sys/class/net")} - {None}
    recorded: set[str] = set()
    for name in list_networks():
        try:
            recorded.add(load_handle(name).id)
        except errors.NetworkError:
            continue
    return {*recorded, *(i for i in here if i)}


def _check_sockets(topology: Topology, folder: Path) -> None:
    paths = [f"{folder}/{switch_socket(switch.id)}" for switch in topology.switches.values()]
    paths += [path for server in topology.servers.values() for path in sockets(server, folder)]
    path = max(paths, key=len, default="")
    if len(path.encode()) > _MAX_SOCKET_PATH:
        raise errors.InputError(
            f"socket path '{path}' is longer than {_MAX_SOCKET_PATH} bytes: "
            "use a shorter --name, or a shorter $XDG_RUNTIME_DIR"
        )

"""Let go of an attached network: what is in force there stays, and is not known here any more."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from orchestrator.attachment.servers import open_agent
from orchestrator.deployment.journal import sqlite_store
from orchestrator.deployment.live import STORE_KEY, LiveNetwork, remembered_store
from orchestrator.errors import NetworkError, ReportedError, StoreError
from orchestrator.network.inventory import forget_inventory, load_inventory
from orchestrator.network.names import check_network_name
from orchestrator.network.registry import is_in_memory, is_started, registry_lock


@dataclass(frozen=True, slots=True)
class Detached:
    """Graphs that stay `in_force`, workers that were `stopped` (none while a graph is in force), what
    is `amiss` of those; `journal` is where the journal stays, if it is not only this user's."""

    name: str
    in_force: tuple[str, ...]
    stopped: tuple[str, ...]
    amiss: tuple[str, ...]
    journal: str = ""


def detach(name: str) -> Detached:
    """Remove a network's inventory and journal; NetworkError while a change of it is unfinished.

    Nothing is asked of switches. Workers go on while a graph is in force, since traffic must; without
    one they carry nothing, and their agents end them.
    """
    if is_started(check_network_name(name)) or is_in_memory(name):
        raise NetworkError(
            f"'{name}' was started here, and not attached: `orchestrator net down {name}` stops it"
        )
    network = LiveNetwork(load_inventory(name))
    with network.leading(), registry_lock():
        unfinished = network.journal.intent()
        if unfinished is not None:
            raise NetworkError(
                f"{name}: a change of {unfinished.graph} is unfinished; "
                f"`orchestrator recover -n {name}` first: nothing else knows how to finish it"
            )
        in_force = tuple(network.journal.deployed())
        stopped, amiss = ((), ()) if in_force else _stop_workers(network)
        forget_inventory(name)
    journal = _forget_journal(network)
    _remove_files(Path(network.inventory.folder), key_too=not journal)
    return Detached(name, in_force, stopped, amiss, journal)


def _stop_workers(network: LiveNetwork) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(workers that were ended, what is amiss)."""
    stopped: list[str] = []
    amiss: list[str] = []
    for name in network.inventory.agents:
        mine = [w.name for w in network.inventory.workers if w.core.server == name]
        try:
            with open_agent(network.topology.servers[name], network.access) as agent:
                for worker in mine:
                    agent.stop_worker(worker)
                    stopped.append(worker)
        except ReportedError as error:
            amiss.append(f"{error}; its workers may still run: {', '.join(mine)}")
    return tuple(stopped), tuple(amiss)


def _remove_files(folder: Path, *, key_too: bool) -> None:
    """What commands shared; the key of a journal that stays stays with it."""
    if key_too or not (folder / STORE_KEY).exists():
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in folder.iterdir():
        if path.name != STORE_KEY:
            path.unlink(missing_ok=True)


def _forget_journal(network: LiveNetwork) -> str:
    """Empty the journal if it is a file of this user's; where it stays otherwise."""
    shared = remembered_store(network.inventory.folder)
    if shared:  # other machines may have attached the network, too
        return shared
    try:
        sqlite_store(network.name).clear()
    except StoreError as error:
        raise StoreError(f"{network.name} is detached, but its journal stays: {error}") from error
    return ""

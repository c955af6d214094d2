"""Who has which network's name on this machine: decided by one command at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager

from orchestrator.errors import NetworkError
from orchestrator.network.folders import list_inventories, networks_dir, state_file
from orchestrator.network.inventory import load_inventory
from orchestrator.network.names import check_network_name


@contextmanager
def registry_lock() -> Generator[None]:
    """Names and ids are given to one network at a time; the folder itself is the lock."""
    descriptor = os.open(networks_dir(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_started(name: str) -> bool:
    """Whether a network of that name was started by `net up`, whether it came up or not."""
    return state_file(check_network_name(name)).exists()


def is_in_memory(name: str) -> bool:
    """Whether a network of that name is one in memory (`net up --memory`)."""
    return not is_started(name) and name in list_inventories() and bool(load_inventory(name).hosts)


def is_attached(name: str) -> bool:
    """Whether a network of that name is attached: known here, and started by somebody else."""
    return not is_started(name) and name in list_inventories() and not is_in_memory(name)


def check_free(name: str) -> None:
    """NetworkError when a network of that name is started or attached."""
    if is_started(name) or is_in_memory(name):
        raise NetworkError(
            f"'{name}' is a network that was started here (`orchestrator net down {name}` stops it); "
            "another --network NAME attaches one beside it"
        )
    if name in list_inventories():
        raise NetworkError(
            f"'{name}' is attached already (`orchestrator net detach {name}` lets go of it); another "
            "--network NAME attaches one beside it"
        )

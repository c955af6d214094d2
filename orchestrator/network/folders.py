"""Where state, sockets and logs live: the user's own folders, never the checkout."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from orchestrator.errors import NetworkError, StoreError


def networks_dir() -> Path:
    """`$XDG_STATE_HOME/orchestrator/networks`, made when missing."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return private_dir(hidden_dir(Path(state) / "orchestrator") / "networks")


def inventories_dir() -> Path:
    """`$XDG_STATE_HOME/orchestrator/inventories`, made when missing."""
    return private_dir(networks_dir().with_name("inventories"))


def list_networks() -> list[str]:
    """The names of all networks that `net up` started, whether they run or not."""
    return _names(networks_dir())


def list_inventories() -> list[str]:
    """The names of all networks that have an inventory."""
    return _names(inventories_dir())


def state_file(name: str) -> Path:
    return networks_dir() / f"{name}.json"


def attached_dir(name: str) -> Path:
    """What the commands on an attached network share; not made here. It outlives a reboot."""
    return private_dir(networks_dir().with_name("attached")) / name


def run_dir(name: str) -> Path:
    """The folder of a network's sockets and logs; not made here."""
    for base in (os.environ.get("XDG_RUNTIME_DIR"), "/run", tempfile.gettempdir()):
        # Under sudo XDG_RUNTIME_DIR may still be the calling user's: leave that one alone.
        if base and os.access(base, os.W_OK) and (base == "/run" or _trusted(Path(base))):
            return Path(base) / "orchestrator" / name
    raise NetworkError("no folder for sockets: set XDG_RUNTIME_DIR to one that you own")


def private_dir(path: Path) -> Path:
    """Make a folder (0700) and see that nobody else owns it, as could be under /tmp."""
    status = hidden_dir(path).lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise NetworkError(f"{path} is not a folder of user {os.geteuid()}: remove it")
    return path


def hidden_dir(path: Path) -> Path:
    """Make a folder, or make it one that only its owner looks into (0700), if that is this user."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
    except OSError as error:
        raise StoreError(f"{path}: cannot be made: {error.strerror}") from error
    if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) != 0o700:
        with suppress(OSError):  # read-only: nobody puts anything there
            path.chmod(0o700)
    return path


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.json"))


def _trusted(base: Path) -> bool:
    status = base.stat()
    return status.st_uid == os.geteuid() or bool(status.st_mode & stat.S_ISVTX)

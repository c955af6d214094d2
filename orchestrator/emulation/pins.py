"""Network namespaces as files, as `ip netns` keeps them: a number that is ours until we let go of it.

The kernel gives the number of a namespace that has ended to the next one at once. A bind mount keeps
the namespace, so that what is in it belongs to the network even when all that the network started in
it is gone. Removing the file ends the mount, also where another mount namespace has a copy of it.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

from orchestrator.errors import NetworkError

_BIND = 4096
_DETACH = 2
_SUFFIX = ".netns"
_libc = ctypes.CDLL(None, use_errno=True)


def pin(pid: int, folder: Path, name: str) -> None:
    """Keep the network namespace of a process as a file in `folder`."""
    file = folder / f"{name}{_SUFFIX}"
    file.touch(mode=0o600)
    if _libc.mount(f"/proc/{pid}/ns/net".encode(), bytes(file), None, _BIND, None):
        raise NetworkError(f"{file}: cannot be mounted: {os.strerror(ctypes.get_errno())}")


def pinned(folder: Path) -> set[int]:
    """The numbers of the namespaces that are kept in a folder."""
    namespaces = os.stat("/proc/self/ns/net").st_dev
    pins = [file.stat() for file in folder.glob(f"*{_SUFFIX}")]
    return {stat.st_ino for stat in pins if stat.st_dev == namespaces}


def unpin(folder: Path) -> None:
    """Let go of them all."""
    for file in folder.glob(f"*{_SUFFIX}"):
        _libc.umount2(bytes(file), _DETACH)
        with suppress(OSError):
            file.unlink()

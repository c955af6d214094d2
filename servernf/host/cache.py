"""What the compiler made, kept for the next process: bounded, the least recently used goes first.

Any number of processes use a folder at once. Each file is there whole or not at all, one process makes
it while others that want the same wait, and what was used a moment ago is not removed. Who has
loaded a file does not need it any more.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from servernf.wire.errors import EnvironmentMissing

SHARED = Path("/var/cache/orchestrator/fast")
"""Root's, which others read: `net up` makes there what the switches that it starts load."""
MAX_BYTES = 256 << 20
"""Of a folder; a program takes half a megabyte, with sanitizers four."""
KEPT_S = 600
"""What was used within so long stays, even if there is too much: somebody may be about to load it."""
_LOCKS = "lock-"
"""Before one digit of a name: who makes such a file, or removes files (`lock-`), holds it."""
_OWN = "orchestrator-fast-"
_ALIVE = f"{_LOCKS}alive"
"""Held as long as a process uses its own folder."""


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """The file of a name, which says all that it is made of; `make(path)` writes it where there is none.

    EnvironmentMissing if others than this user and root could have written what is there.
    """
    folder = folder_of_user()
    for cached in (SHARED, folder):
        if cached.is_dir() and _is_ours(cached) and _used(cached / name):
            return cached / name
    made = folder / name
    with _locked(folder, name[:1]):
        if not _used(made):
            with tempfile.TemporaryDirectory(dir=folder, prefix="making-") as work:
                make(Path(work) / name)
                (Path(work) / name).replace(made)
    prune(folder)
    return made


def prune(folder: Path, most: int = MAX_BYTES) -> None:
    """Remove the longest unused until `most` bytes are left, and what a dead process left."""
    with _locked(folder, ""):
        old = time.time() - KEPT_S
        files: list[tuple[float, int, Path]] = []
        for path in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                if stat.S_ISREG(status.st_mode) and not path.name.startswith(_LOCKS):
                    files.append((status.st_mtime, status.st_size, path))
                elif path.name.startswith("making-") and status.st_mtime < old:
                    shutil.rmtree(path, ignore_errors=True)
        left = sum(size for _, size, _ in files)
        for used, size, path in sorted(files):
            if left <= most or used > old:
                return
            path.unlink(missing_ok=True)
            left -= size


def _used(path: Path) -> bool:
    """Whether it is there; it is marked as used now, if this user may."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    except OSError:
        return path.exists()
    return True


@contextmanager
def _locked(folder: Path, which: str) -> Generator[None, None, None]:
    fd = os.open(folder / f"{_LOCKS}{which}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def folder_of_user() -> Path:
    """Where what is made here is kept: a folder that nobody else can write to."""
    base = os.environ.get("XDG_CACHE_HOME")
    if base is None and os.geteuid() != 0:
        base = os.path.expanduser("~/.cache")
    folder = SHARED if base is None else Path(base) / "orchestrator" / "fast"
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        ours = _is_ours(folder)
        writable = os.access(folder, os.W_OK)
    except OSError:
        return _own_folder()
    if not ours:
        raise EnvironmentMissing(
            f"{folder}: others can write there, and what is in it would be run"
        )
    return folder if writable else _own_folder()


def _is_ours(folder: Path) -> bool:
    """Whether only this user or root could have written what is there."""
    status = folder.stat()
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def make_folder_for(user: int) -> None:
    """Root makes it for the user that this process and its children become, who may have no home."""
    folder = _own_folder()
    if os.geteuid() == 0:
        os.chown(folder, user, user)


@cache
def _own_folder() -> Path:
    """For a user without a home: for the life of this process and its children."""
    remove_abandoned(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=_OWN))
    fcntl.flock(
        os.open(folder / _ALIVE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), fcntl.LOCK_EX
    )
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def remove_abandoned(base: Path) -> None:
    """Remove the folders in `base` of processes that were killed: nobody holds what they held."""
    for path in base.glob(f"{_OWN}*/{_ALIVE}"):
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path.parent, ignore_errors=True)
            finally:
                os.close(fd)

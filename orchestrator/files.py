"""Files at paths that a user gives: regular and bounded ones are read, all or nothing is written."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO

from orchestrator.errors import InputError, StoreError

MAX_BYTES = 256 << 20
"""Larger files are refused: everything here reads its input whole."""
MAX_SMALL_BYTES = 1 << 20
"""Of certificates, keys and the like."""
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_regular(path: Path, name: str) -> BinaryIO:
    """A regular file to read; InputError names it as the user wrote it.

    Opening waits for nobody: a pipe may have no writer.
    """
    try:
        return open(path, "rb", opener=_without_waiting)
    except FileNotFoundError:
        names = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
        near = get_close_matches(path.name, names, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise InputError(f"{name}: there is no such file{hint}") from None
    except _NotRegular as error:
        raise InputError(f"{name}: is {error}; a regular file is expected") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        why = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise InputError(f"{name}: cannot be read: {why}") from None


def read_regular(path: Path, name: str, most: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file of a bounded size, even if it grows."""
    with open_regular(path, name) as file:
        try:
            data = file.read(most + 1)
        except OSError as error:
            raise InputError(f"{name}: cannot be read: {error.strerror}") from None
    if len(data) > most:
        raise InputError(f"{name}: is larger than {most >> 20} MiB")
    return data


def read_small(path: Path, name: str) -> bytes:
    """The bytes of a certificate, a key or the like; nothing is said of what else its folder holds."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            data = file.read(MAX_SMALL_BYTES + 1)
    except _NotRegular as error:
        raise InputError(f"{name}: is {error}; a regular file is expected") from None
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None
    if len(data) > MAX_SMALL_BYTES:
        raise InputError(f"{name}: is larger than {MAX_SMALL_BYTES >> 20} MiB")
    return data


def read_start(path: Path, count: int) -> bytes:
    """The first bytes of a regular file; none of what cannot be read."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            return file.read(count)
    except (_NotRegular, OSError, ValueError):
        return b""


class _NotRegular(Exception):
    """What stands at a path instead of a regular file."""


def _without_waiting(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    kind = _KINDS.get(stat.S_IFMT(os.fstat(descriptor).st_mode))
    if kind is not None:
        os.close(descriptor)
        raise _NotRegular(kind)
    return descriptor


def write_whole(path: Path, data: bytes, check: Callable[[Path], None] | None = None) -> None:
    """Put the bytes in a file's place at once: whoever reads it sees the old ones or all of the new.

    `check` reads them back before, from a file with the same suffix, and may refuse them. What is no
    regular file (a pipe, /dev/stdout) is written to as it is. InputError where nothing can be written.
    """
    try:
        target = path.resolve()  # through a symbolic link, which stays
        special = target.exists() and not target.is_file()
        folder = None if special else target.parent
        descriptor, name = tempfile.mkstemp(target.suffix, f".{target.stem[:64]}-", folder)
        new = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, _mode(target))
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            if check is not None:
                check(new)
            if special:
                target.write_bytes(data)
            else:
                new.replace(target)
        finally:
            new.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: symbolic links in a circle
        why = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise InputError(f"{path}: cannot be written: {why}") from None


def replace_private(path: Path, data: bytes) -> None:
    """Put the bytes in place of a file of ours, readable by its owner only (0600), at once.

    StoreError where they cannot be written; then the old file stays.
    """
    new = path.with_suffix(f".{os.getpid()}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
        new.replace(path)
    except OSError as error:
        with suppress(OSError):
            new.unlink()
        raise StoreError(f"{path}: {error.strerror}") from error


def _mode(path: Path) -> int:
    """The permissions of the file that is replaced, or those that a new one would have."""
    if path.is_file():
        return stat.S_IMODE(path.stat().st_mode)
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask

"""Files of others, as bytes: regular ones only, of a bounded size, whatever stands at the path."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from orchestrator.errors import InputError, unknown

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


def read_regular(path: Path, name: str, most: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file; InputError names it as the user wrote it.

    Opening waits for nobody (a pipe without a writer), and a file that grows is not read for ever.
    """
    try:
        with open_regular(path, name) as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        near = sorted(p.name for p in path.parent.glob("*")) if path.parent.is_dir() else []
        raise InputError(f"{name}: {unknown('file', path.name, near)}") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        why = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise InputError(f"{name}: cannot be read: {why}") from None
    if len(data) > most:
        raise InputError(f"{name}: is larger than {most >> 20} MiB")
    return data


def read_small(path: Path, name: str) -> bytes:
    """A certificate, a key or the like; nothing is said about what else is in its folder."""
    try:
        with open_regular(path, name) as file:
            data = file.read(MAX_SMALL_BYTES + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_SMALL_BYTES:
        raise InputError(f"{name}: is larger than {MAX_SMALL_BYTES >> 20} MiB")
    return data


def read_start(path: Path, count: int) -> bytes:
    """The first bytes of a file; none of one that cannot be read."""
    try:
        with open_regular(path, str(path)) as file:
            return file.read(count)
    except (InputError, OSError, ValueError):
        return b""


def open_regular(path: Path, name: str) -> BinaryIO:
    """A regular file, open for reading; InputError for anything else, OSError as `open` has it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        kind = _KINDS.get(stat.S_IFMT(os.fstat(descriptor).st_mode))
        if kind is not None:
            raise InputError(f"{name}: is {kind}; a regular file is expected")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise

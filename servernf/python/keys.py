"""Key files: who reads them for an NF.

A worker that has given up root's rights cannot; `servernf.python.runtime.opener` does it for it then.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable

MAX_BYTES = 4096
"""More is no key; nothing of such a file is looked at."""
_HEXADECIMAL = re.compile(rb"\s*(?:[0-9a-fA-F]{2}\s*)*")


def read_key_file(path: str) -> bytes:
    """The bytes that a file holds as hexadecimal text (as `bytes.fromhex` reads it).

    OSError when it cannot be read or is no regular file, ValueError when it holds something else:
    neither tells what.
    """
    return _reader(path)


def from_file(path: str) -> bytes:
    """`read_key_file` in this process, with its own rights."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise ValueError("no key file")
        data = os.read(descriptor, MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > MAX_BYTES or not _HEXADECIMAL.fullmatch(data):
        raise ValueError("no hexadecimal text")
    return bytes.fromhex(data.decode("ascii"))


def use(reader: Callable[[str], bytes]) -> None:
    """Have key files read by somebody else from now on."""
    global _reader
    _reader = reader


_reader: Callable[[str], bytes] = from_file

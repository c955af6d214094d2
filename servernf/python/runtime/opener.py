"""The process that reads key files for a worker that is no longer root.

It may read any file (CAP_DAC_READ_SEARCH) and nothing else, and it hands over only what regular,
short files hold as hexadecimal text of one of the lengths that keys have: a worker that a stranger's
packet took over learns keys by it, as it would have, but no other file.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import threading
from collections.abc import Collection
from contextlib import suppress
from typing import NoReturn

from servernf.host.privileges import CAP_DAC_READ_SEARCH, confine, drop
from servernf.python.keys import from_file

_OK, _SYSTEM, _NO_KEY = b"+", b"!", b"?"
_MOST = 8192
_PR_SET_PDEATHSIG = 1


class Opener:
    """To be made by root before there are other threads; `read` may be called by any."""

    def __init__(self, user: int, sizes: Collection[int]) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            self._socket.close()
            _serve(theirs, user, sizes)
        theirs.close()

    def read(self, path: str) -> bytes:
        """What `servernf.python.keys.from_file` reads; ValueError, too, if it has no key's length."""
        name = path.encode()
        if len(name) > _MOST or b"\0" in name:
            raise ValueError("no path")
        with self._lock:
            self._socket.sendall(name or b"\0")
            answer = self._socket.recv(_MOST)
        kind, rest = answer[:1], answer[1:]
        if kind == _OK:
            return rest
        if kind == _NO_KEY:
            raise ValueError("no key")
        number = int.from_bytes(rest)
        raise OSError(number, os.strerror(number) if number else "the opener is gone")

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _serve(sock: socket.socket, user: int, sizes: Collection[int]) -> NoReturn:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the worker's end ends it
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        confine()
        drop(user, keep=(CAP_DAC_READ_SEARCH,))
        while name := sock.recv(_MOST + 1):
            sock.sendall(_answer(name, sizes))
    finally:
        os._exit(0)


def _answer(name: bytes, sizes: Collection[int]) -> bytes:
    try:
        key = from_file(name.decode())
    except OSError as error:
        return _SYSTEM + (error.errno or 0).to_bytes(4)
    except ValueError:
        return _NO_KEY
    return _OK + key if len(key) in sizes else _NO_KEY

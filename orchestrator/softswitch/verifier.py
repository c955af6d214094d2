"""Programs are verified in a process of their own: a stranger's costs the switch nothing.

To decode and compile JSON holds the interpreter, so packets would wait; and what
is bounded in size is not therefore quick. A process that was forked while
there was one thread waits for configurations; for each it forks a child with
limits on time and memory, whose only word is the error, or none.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import struct
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from finsy.proto import p4r

from orchestrator.errors import ReportedError, SwitchError
from servernf.host.privileges import confine, drop

MAX_CPU_S = 30
"""Processor seconds for one program; a pipeline of ours takes less than one."""
MAX_MEMORY = 1 << 30
"""Bytes of data for one program, beside what the verifying process has."""
MAX_ANSWER = 65_536

Find = Callable[[p4r.ForwardingPipelineConfig], object]

_HEAD = struct.Struct(">Q")


class Verifier:
    """To be made before there are other threads; `check` may be called by any.

    `find` raises what is wrong with a configuration, in the other process, which becomes `user`.
    """

    def __init__(self, find: Find, user: int | None = None) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self._socket.close()
            _serve(theirs, find, user)
        theirs.close()

    def check(self, config: p4r.ForwardingPipelineConfig) -> None:
        """Raises SwitchError with what is wrong with a configuration."""
        data = config.SerializeToString()
        with self._lock:
            try:
                self._socket.sendall(_HEAD.pack(len(data)) + data)
                answer = _receive(self._socket)
            except OSError as e:
                raise SwitchError(f"the verifying process is gone: {e}") from e
        if answer:
            raise SwitchError(answer.decode())

    def close(self) -> None:
        """End the process; a check that is running ends with it."""
        self._socket.close()
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def _receive(sock: socket.socket) -> bytes:
    def exactly(count: int) -> bytes:
        parts: list[bytes] = []
        while count:
            part = sock.recv(min(count, 1 << 20))
            if not part:
                raise ConnectionError("connection closed")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    return exactly(_HEAD.unpack(exactly(_HEAD.size))[0])


def _serve(sock: socket.socket, find: Find, user: int | None) -> NoReturn:
    """One configuration after the other, until the switch is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the switch ends it
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        if user is not None:
            confine()
            drop(user)
        while True:
            data = _receive(sock)
            answer = _limited(data, find)
            sock.sendall(_HEAD.pack(len(answer)) + answer)
    except OSError:
        os._exit(0)  # the switch is gone
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _limited(data: bytes, find: Find) -> bytes:
    """The error of one configuration, found in a child with limits."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S))
            most = _data_bytes() + MAX_MEMORY
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.write(writer, _error(data, find)[:MAX_ANSWER])
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        answer = answers.read()
    _, status = os.waitpid(pid, 0)
    if status:
        return (
            f"BMv2 JSON: to verify it takes more than {MAX_CPU_S} s or {MAX_MEMORY >> 20} MiB"
        ).encode()
    return answer


def _data_bytes() -> int:
    """What this process has of what RLIMIT_DATA counts (proc(5), statm)."""
    pages = Path("/proc/self/statm").read_text().split()[5]
    return int(pages) * resource.getpagesize()


def _error(data: bytes, find: Find) -> bytes:
    config = p4r.ForwardingPipelineConfig.FromString(data)
    try:
        find(config)
    except ReportedError as e:
        return str(e).encode()
    return b""

"""What a C process that moves frames and its parent say (`c/channel.c`, `c/ports.h`), in Python."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
from typing import IO

MAX_MESSAGE = 64 << 20
FRAME = struct.Struct("=II")
"""Port and size, before each frame of a message."""
PORT_REASONS = (
    "unknown_port",
    "receive_queue_full",
    "send_queue_full",
    "link_down",
    "too_long",
    "too_short",
    "event_queue_full",
)
"""Why whoever moves frames drops them, in the order of `enum drop`."""
_QUESTION, _ANSWER = struct.Struct("=III"), struct.Struct("=II")
_ERROR = 65


class ProcessRefusal(Exception):
    """What a process does not take, as a sentence that begins with it: `refuses a message: ...`."""


def ask(
    asking: socket.socket, kind: int, payload: bytes | bytearray = b"", number: int = 0
) -> bytes:
    """The answer to a message; Refusal in the process's words, OSError when there is no answer."""
    if _QUESTION.size + len(payload) > MAX_MESSAGE:
        raise ProcessRefusal(f"takes no more than {MAX_MESSAGE >> 20} MiB in one message")
    head = _QUESTION.pack(_QUESTION.size + len(payload), kind, number)
    sent = asking.sendmsg((head, payload))  # at once: it wakes once
    if sent < len(head) + len(payload):
        asking.sendall(memoryview(head + payload)[sent:])
    size, answer = _ANSWER.unpack(_read(asking, _ANSWER.size))
    body = _read(asking, size - _ANSWER.size)
    if answer == _ERROR:
        raise ProcessRefusal(f"refuses a message: {body.decode(errors='replace')}")
    return body


def _read(asked: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = asked.recv(min(size - len(parts), 1 << 20))
        if not part:
            raise ConnectionResetError("it ended")
        parts += part
    return bytes(parts)


def last_words(process: subprocess.Popen[bytes], errors: IO[bytes]) -> tuple[str, str]:
    """What a process has said of itself before it ended, and by which signal it did."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1)
    code = process.returncode
    how = f"ended by {signal.Signals(-code).name}" if code and code < 0 else ""
    # Where the process goes on writing is not moved.
    at = errors.fileno()
    said = os.pread(at, 4000, max(0, os.fstat(at).st_size - 4000))
    return said.decode(errors="replace").strip(), how

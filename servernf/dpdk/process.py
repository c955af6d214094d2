"""The C process of a core, and what passes on the socket between: c/boundary.h, in Python."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from pathlib import Path

from servernf.host import channel
from servernf.host.channel import FRAME, PORT_REASONS
from servernf.host.devices import CoreDevice
from servernf.wire.errors import ServerError

VERSION = 6
MOST_INSTANCES = 4096
_COMPILE_S = 300.0
_TOLD = struct.Struct("=II")
_MOST_TOLD = 1 << 18
_ANSWER_S = 30.0
"""The longest that an answer may take: then the process is taken for dead."""
WORKER_REASONS = (
    "bad_tag",
    "not_mine",
    "nsh_ttl",
    "unknown_path",
    "malformed",
    "no_next_hop",
    "loop",
    "standby_behind",
)
"""Why the worker itself drops frames, in the order of `enum lost`."""


class ProcessRequest(IntEnum):
    HELLO = 1
    MAKE = 2
    FORGET = 3
    TABLES = 4
    PACKETS = 5
    DROPS = 6
    STATE = 7
    END_STATE = 8
    STATS = 9
    WATCH = 10
    GROUP = 11
    BUILD = 12
    UNGROUP = 13
    FOLLOW = 14
    UNFOLLOW = 15
    TOUCHED = 16
    WRITE = 17
    DISCARD = 18
    ENTER = 19
    SCAN = 20
    CLEAR = 21
    GATE = 22
    UNGATE = 23
    KEPT = 24
    GIVE = 25
    MARKS = 26
    HOLD = 27
    ACKED = 28
    UNHOLD = 29
    COUNTED = 30
    SEND = 31


class ProcessGone(ServerError):
    """The process has ended, or does not answer."""


class WorkerProcess:
    """A running process; any thread may ask.

    `interface` or `device` is its port, if it has one; `memory` the descriptor of the counters. Once the
    port is open it becomes `user` (0: it stays what it is).
    """

    def __init__(
        self,
        executable: Path,
        mac: int,
        memory: int,
        *,
        interface: str = "",
        device: CoreDevice | None = None,
        user: int = 0,
    ) -> None:
        self._lock = threading.Lock()
        self._socket, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._told, telling = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_ANSWER_S)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
        fds = (asked.fileno(), telling.fileno(), memory)
        self._executable = executable
        words = [str(executable), *map(str, (*fds, mac, user))]
        if device is not None:
            words += device.words
        elif interface:
            words.append(f"0@{interface}")
        with asked, telling:
            self._process = subprocess.Popen(
                words,
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                cwd="/",
                env={},
            )
        try:
            self.reasons: Mapping[str, Sequence[str]] = _catalogue(self.ask(ProcessRequest.HELLO))
        except ServerError:
            self.close()
            raise
        """Why each of its NFs drops, by the NF's name."""

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def wait(self) -> str:
        """Until it ends; what it has said, and how it has ended."""
        self._process.wait()
        return self.last_words()

    def close(self) -> None:
        """End it; more than once does no harm."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._socket.close()
        self._told.close()

    def ask(self, kind: ProcessRequest, payload: bytes = b"", number: int = 0) -> bytes:
        """The answer to a message; ServerError when it is refused, ProcessGone without an answer."""
        with self._lock:
            try:
                return channel.ask(self._socket, kind, payload, number)
            except channel.ProcessRefusal as refusal:
                raise ServerError(f"the process that moves packets {refusal}") from None
            except OSError as error:
                self._process.kill()  # what is half sent or half read leaves no way to go on
                words = self.last_words() or str(error)
                raise ProcessGone(f"the process that moves packets is gone: {words}") from None

    def last_words(self) -> str:
        """What it has said of itself before it ended, and how that was."""
        return " ".join(part for part in channel.last_words(self._process, self._errors) if part)

    def packets(self, now_us: int, frames: Sequence[bytes]) -> list[bytes]:
        """What leaves, in order, for frames that come in at one instant."""
        packed = struct.pack("=Q", now_us) + packed_frames(frames)
        return unpacked_frames(self.ask(ProcessRequest.PACKETS, packed))

    def signatures(self, written: bytes) -> bytes:
        """Their database, as c/signatures.h says; another process makes it."""
        run = subprocess.run(
            [self._executable, "signatures"],
            input=written,
            capture_output=True,
            timeout=_COMPILE_S,
            check=False,
            cwd="/",
            env={},
        )
        if run.returncode:
            raise ServerError(run.stderr.decode(errors="replace").strip() or "no signatures")
        return run.stdout

    def told(self) -> tuple[int, int, bytes] | None:
        """The next note: its kind, the number of the tables that are meant, and what it says.

        None: there is none now. ProcessGone when there will be no more."""
        try:
            message = self._told.recv(_MOST_TOLD, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            raise ProcessGone(str(error)) from None
        if len(message) < _TOLD.size:
            raise ProcessGone("the process that moves packets tells nothing more")
        kind, number = _TOLD.unpack_from(message)
        return kind, number, message[_TOLD.size :]

    def wait_told(self) -> None:
        """Until there is a note, or the end of them."""
        with contextlib.suppress(OSError, ValueError):
            select.select([self._told], [], [], 1.0)

    def drops(self) -> dict[str, int]:
        """Frames dropped beside the data path so far, by reason."""
        counts = struct.unpack(f"={len(PORT_REASONS)}Q", self.ask(ProcessRequest.DROPS))
        return {reason: n for reason, n in zip(PORT_REASONS, counts, strict=True) if n}


def packed_frames(frames: Iterable[bytes]) -> bytes:
    """Frames as messages have them."""
    return b"".join(FRAME.pack(0, len(frame)) + frame for frame in frames)


def unpacked_frames(answer: bytes) -> list[bytes]:
    """Frames of an answer."""
    out: list[bytes] = []
    at = 0
    while at < len(answer):
        _, size = FRAME.unpack_from(answer, at)
        at += FRAME.size
        out.append(answer[at : at + size])
        at += size
    return out


def _catalogue(answer: bytes) -> dict[str, tuple[str, ...]]:
    (version,) = struct.unpack_from("=I", answer)
    if version != VERSION:
        raise ServerError(f"the process that moves packets speaks version {version}, not {VERSION}")
    catalogue: dict[str, tuple[str, ...]] = {}
    for entry in answer[4:].split(b"\0\0")[:-1]:
        name, *reasons = entry.decode().split("\0")
        catalogue[name] = tuple(reasons)
    return catalogue

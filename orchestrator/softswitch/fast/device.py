"""The process that a program runs in, and what passes on the socket between: c/boundary.h, in Python."""

from __future__ import annotations

import socket
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from orchestrator.errors import SwitchError

VERSION = 1
MAX_MESSAGE = 64 << 20
_HEAD = struct.Struct("=II")
_FRAME = struct.Struct("=II")
Frame = tuple[int, bytes]


class Ask(IntEnum):
    HELLO = 1
    CHANGES = 2
    ENTRIES = 3
    COUNTERS = 4
    REGISTERS = 5
    PACKETS = 6
    MEASURE = 7
    STATE = 8


_ANSWER, _ERROR, _DIGEST = 64, 65, 96


class State(NamedTuple):
    """What the device counts of itself."""

    received: int
    loops_cut: int
    faults: int
    no_room: int


class Device:
    """A running program; `on_digest(list number, words)` hears of digests. One thread at a time."""

    def __init__(
        self,
        executable: Path,
        on_digest: Callable[[int, tuple[int, ...]], None] = lambda number, words: None,
    ) -> None:
        self.on_digest = on_digest
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket = ours
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
        with theirs:
            self._process = subprocess.Popen(
                [str(executable), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                env={},
            )
        (version,) = struct.unpack("=I", self.ask(Ask.HELLO))
        if version != VERSION:
            self.close()
            raise SwitchError(
                f"{executable}: speaks version {version} of the boundary, not {VERSION}"
            )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def close(self) -> None:
        """End it; more than once does no harm."""
        self._socket.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, kind: Ask, payload: bytes | bytearray = b"") -> bytes:
        """The answer to a message; SwitchError if the device refuses it or is gone."""
        if _HEAD.size + len(payload) > MAX_MESSAGE:
            raise SwitchError(f"more than {MAX_MESSAGE >> 20} MiB in one message")
        try:
            self._socket.sendall(_HEAD.pack(_HEAD.size + len(payload), kind))
            self._socket.sendall(payload)
            while True:
                size, answer = _HEAD.unpack(self._read(_HEAD.size))
                body = self._read(size - _HEAD.size)
                if answer == _DIGEST:
                    (number,) = struct.unpack_from("=I", body)
                    self.on_digest(number, struct.unpack_from(f"={(len(body) - 4) // 8}Q", body, 4))
                elif answer == _ERROR:
                    raise SwitchError(f"the engine's process refuses a message: {body.decode()}")
                else:
                    return body
        except OSError as error:
            raise SwitchError(
                f"the engine's process is gone: {self._last_words() or error}"
            ) from None

    def _read(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            part = self._socket.recv(min(size - len(parts), 1 << 20))
            if not part:
                raise ConnectionResetError("it ended")
            parts += part
        return bytes(parts)

    def _last_words(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-4000:].decode(errors="replace").strip()

    # ------------------------------------------------------------------ messages

    def packets(self, now_us: int, frames: Iterable[Frame]) -> list[Frame]:
        """What leaves, in order, for frames that come in at one instant."""
        return _frames(self.ask(Ask.PACKETS, struct.pack("=Q", now_us) + _packed(frames)))

    def measure(self, rounds: int, frames: Iterable[Frame]) -> tuple[int, int]:
        """(nanoseconds of CPU, frames out) of frames that pass again and again, nothing else."""
        answer = self.ask(Ask.MEASURE, struct.pack("=Q", rounds) + _packed(frames))
        nanoseconds, out = struct.unpack("=QQ", answer)
        return nanoseconds, out

    def entries(self, handles: Sequence[int]) -> list[tuple[int, int, int]]:
        """(packets, bytes, used_us) of each."""
        answer = self.ask(Ask.ENTRIES, struct.pack(f"={len(handles)}I", *handles))
        return list(struct.iter_unpack("=QQQ", answer))

    def counters(self, array: int) -> list[tuple[int, int]]:
        """(packets, bytes) of each cell."""
        return list(struct.iter_unpack("=QQ", self.ask(Ask.COUNTERS, struct.pack("=I", array))))

    def registers(self, array: int, words: int) -> list[int]:
        """Each cell."""
        answer, size = self.ask(Ask.REGISTERS, struct.pack("=I", array)), 8 * words
        return [int.from_bytes(answer[i : i + size], "little") for i in range(0, len(answer), size)]

    def state(self) -> State:
        return State(*struct.unpack("=QQQQ", self.ask(Ask.STATE)))


def _packed(frames: Iterable[Frame]) -> bytes:
    return b"".join(_FRAME.pack(port, len(frame)) + frame for port, frame in frames)


def _frames(body: bytes) -> list[Frame]:
    out: list[Frame] = []
    at = 0
    while at < len(body):
        port, size = _FRAME.unpack_from(body, at)
        at += _FRAME.size
        out.append((port, body[at : at + size]))
        at += size
    return out

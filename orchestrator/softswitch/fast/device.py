"""The process that programs run in, and what passes on the sockets between: c/boundary.h, in Python."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from orchestrator.errors import SwitchError
from servernf.host import channel
from servernf.host.channel import FRAME, PORT_REASONS

VERSION = 3
_EVENT = struct.Struct("=II")
_EVENT_BYTES = 128 << 10
_EVENT_QUEUE = 4 << 20
_START_S = 30
Frame = tuple[int, bytes]


class EngineRequest(IntEnum):
    HELLO = 1
    LOAD = 2
    UNLOAD = 3
    RUN = 4
    PACKETS = 5
    MEASURE = 6
    INJECT = 7
    DROPS = 8
    CHANGES = 32
    ENTRIES = 33
    COUNTERS = 34
    REGISTERS = 35
    STATE = 36


_DIGEST, _PACKET_IN = 1, 2


class ProgramCounts(NamedTuple):
    """What a program counts of itself."""

    received: int
    loops_cut: int
    faults: int
    no_room: int


class EngineProcess:
    """A running process. One thread at a time asks; another one may take what it tells.

    `interfaces` are its ports, for which `executable` must have been built; once they are open it
    becomes `user`. `on_digest(slot, list number, words)` and `on_packet_in(slot, frame)` hear what it
    tells, in the thread that calls `take_told`.
    """

    def __init__(
        self,
        executable: Path,
        interfaces: Mapping[int, str] | None = None,
        *,
        cpu_port: int = 510,
        user: int = 0,
    ) -> None:
        self.on_digest: Callable[[int, int, tuple[int, ...]], None] = lambda slot, number, words: (
            None
        )
        self.on_packet_in: Callable[[int, bytes], None] = lambda slot, frame: None
        self._socket, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._events, told = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for option in (_SO_SNDBUFFORCE, socket.SO_SNDBUF):
            with contextlib.suppress(OSError):
                told.setsockopt(socket.SOL_SOCKET, option, _EVENT_QUEUE)
                break
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
        ports = [f"{number}@{name}" for number, name in (interfaces or {}).items()]
        numbers = [str(n) for n in (asked.fileno(), told.fileno(), cpu_port, user)]
        with asked, told:
            self._process = subprocess.Popen(
                [str(executable), *numbers, *ports],
                pass_fds=[asked.fileno(), told.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                cwd="/",
                env={},
            )

    def greet(self, start_ns: int) -> None:
        """Wait until it is ready, and give it its clock; SwitchError with its words if it has ended."""
        self._socket.settimeout(_START_S)
        (version,) = struct.unpack("=I", self.ask(EngineRequest.HELLO, struct.pack("=Q", start_ns)))
        self._socket.settimeout(None)
        if version != VERSION:
            raise SwitchError(f"the engine's process speaks version {version}, not {VERSION}")

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def close(self) -> None:
        """End it; more than once does no harm."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._events.close()
        self._errors.close()

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, kind: EngineRequest, payload: bytes | bytearray = b"", slot: int = 0) -> bytes:
        """The answer to a message; SwitchError if it is refused or the process is gone."""
        try:
            return channel.ask(self._socket, kind, payload, slot)
        except channel.ProcessRefusal as refusal:
            raise SwitchError(f"the engine's process {refusal}") from None
        except OSError as error:
            raise SwitchError(
                f"the engine's process is gone: {self.last_words() or error}"
            ) from None

    def last_words(self) -> str:
        """What it has said of itself before it ended, and how that was."""
        said, how = channel.last_words(self._process, self._errors)
        return said + (f" ({how})" if how else "")

    # ------------------------------------------------------------------ what it tells

    def take_told(self, *, wait: bool = False) -> bool:
        """Hand on what it has told so far, or the next of it; False: there will be nothing more."""
        while True:
            try:
                message = self._events.recv(_EVENT_BYTES, 0 if wait else socket.MSG_DONTWAIT)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not message:
                return False
            kind, slot = _EVENT.unpack_from(message)
            body = message[_EVENT.size :]
            if kind == _PACKET_IN:
                self.on_packet_in(slot, body)
            elif kind == _DIGEST:
                (number,) = struct.unpack_from("=I", body)
                words = struct.unpack_from(f"={(len(body) - 4) // 8}Q", body, 4)
                self.on_digest(slot, number, words)
            if wait:
                return True

    # ------------------------------------------------------------------ messages

    def load(self, engine: Path) -> LoadedProgram:
        """A program that is made ready; SwitchError if it cannot be."""
        (slot,) = struct.unpack("=I", self.ask(EngineRequest.LOAD, os.fsencode(engine)))
        return LoadedProgram(self, slot)

    def drops(self) -> dict[str, int]:
        """Frames dropped beside the program so far, by reason."""
        counts = struct.unpack(f"={len(PORT_REASONS)}Q", self.ask(EngineRequest.DROPS))
        return {reason: n for reason, n in zip(PORT_REASONS, counts, strict=True) if n}


_SO_SNDBUFFORCE = 32


class LoadedProgram:
    """A program that is loaded, with its tables."""

    def __init__(self, process: EngineProcess, slot: int) -> None:
        self.process = process
        self.slot = slot

    def ask(self, kind: EngineRequest, payload: bytes | bytearray = b"") -> bytes:
        """The answer to a message; SwitchError if it is refused or the process is gone."""
        return self.process.ask(kind, payload, self.slot)

    def run(self) -> None:
        """Packets of ports pass it from now on."""
        self.ask(EngineRequest.RUN)

    def unload(self) -> None:
        """It is needed no more."""
        self.ask(EngineRequest.UNLOAD)

    def packets(self, now_us: int, frames: Iterable[Frame]) -> list[Frame]:
        """What leaves, in order, for frames that come in at one instant."""
        return _frames(self.ask(EngineRequest.PACKETS, struct.pack("=Q", now_us) + _packed(frames)))

    def inject(self, frames: Iterable[Frame]) -> None:
        """Frames that come in now; what leaves goes to ports."""
        self.ask(EngineRequest.INJECT, _packed(frames))

    def measure(self, rounds: int, frames: Iterable[Frame]) -> tuple[int, int]:
        """(nanoseconds of CPU, frames out) of frames that pass again and again, nothing else."""
        answer = self.ask(EngineRequest.MEASURE, struct.pack("=Q", rounds) + _packed(frames))
        nanoseconds, out = struct.unpack("=QQ", answer)
        return nanoseconds, out

    def entries(self, handles: Sequence[int]) -> list[tuple[int, int, int]]:
        """(packets, bytes, used_us) of each."""
        answer = self.ask(EngineRequest.ENTRIES, struct.pack(f"={len(handles)}I", *handles))
        return list(struct.iter_unpack("=QQQ", answer))

    def counters(self, array: int) -> list[tuple[int, int]]:
        """(packets, bytes) of each cell."""
        return list(
            struct.iter_unpack("=QQ", self.ask(EngineRequest.COUNTERS, struct.pack("=I", array)))
        )

    def registers(self, array: int, words: int) -> list[int]:
        """Each cell."""
        answer, size = self.ask(EngineRequest.REGISTERS, struct.pack("=I", array)), 8 * words
        return [int.from_bytes(answer[i : i + size], "little") for i in range(0, len(answer), size)]

    def state(self) -> ProgramCounts:
        return ProgramCounts(*struct.unpack("=QQQQ", self.ask(EngineRequest.STATE)))


def _packed(frames: Iterable[Frame]) -> bytes:
    return b"".join(FRAME.pack(port, len(frame)) + frame for port, frame in frames)


def _frames(body: bytes) -> list[Frame]:
    out: list[Frame] = []
    at = 0
    while at < len(body):
        port, size = FRAME.unpack_from(body, at)
        at += FRAME.size
        out.append((port, body[at : at + size]))
        at += size
    return out

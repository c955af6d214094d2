"""Frames over a Unix socket (SOCK_SEQPACKET, one frame a message) in the place of an interface.

A worker that has one needs neither root nor a network namespace: `FramePipe.connect` is its side, and
whoever listens at the path is the wire. Beside it the frames are bytes of Ethernet as on an interface.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from servernf.wire.errors import ServerError

MAX_FRAME = 65_536


class FramePipe:
    """One end of the pipe, as a socket of frames (`packetio.PacketSocket`)."""

    def __init__(self, connected: socket.socket, batch: int = 64) -> None:
        self._socket = connected
        self._socket.setblocking(False)
        self.batch = batch
        self._dropped = 0

    @classmethod
    def connect(cls, path: str) -> Self:
        """The end of whoever has frames sent to it; OSError where nobody listens."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            made.connect(path)
        except OSError:
            made.close()
            raise
        return cls(made)

    def fileno(self) -> int:
        return self._socket.fileno()

    def recv_batch(self) -> list[bytes]:
        """Frames waiting, if any; never blocks. ServerError when the other end is gone."""
        frames: list[bytes] = []
        while len(frames) < self.batch:
            try:
                frame = self._socket.recv(MAX_FRAME)
            except BlockingIOError:
                break
            except OSError:
                frame = b""
            if not frame:
                if frames:
                    break
                raise ServerError("the other end of the frame pipe is gone")
            frames.append(frame)
        return frames

    def send_batch(self, frames: Sequence[bytes]) -> int:
        """Send frames in order; how many were taken, the rest is counted dropped."""
        taken = 0
        for frame in frames:
            try:
                self._socket.send(frame)
            except OSError:
                self._dropped += 1
            else:
                taken += 1
        return taken

    def queue(self) -> None:
        """The kernel does not tell how many frames wait in a Unix socket."""

    def drops(self) -> dict[str, int]:
        """Frames dropped so far, by reason."""
        return {"send_queue_full": self._dropped} if self._dropped else {}

    def close(self) -> None:
        """Close the end; further calls do nothing."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

"""Listens at an interface for `verify tap`: AF_PACKET (packet(7)), what is sent and what comes."""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import IO

from orchestrator.errors import EnvironmentMissing, InputError
from orchestrator.verification.taps import RECEIVED, SENT, TapWatcher, header, line
from servernf.host.packetio import overflowed

_ETH_P_ALL = 3
_OUTGOING, _HOST = 4, 0
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@qq")
_QUEUE_BYTES = 16 << 20
_MOST_FRAME = 1 << 16
_LOOK_S = 0.2
_FLUSH = 64


@contextmanager
def listening(interface: str, ether_type: int = _ETH_P_ALL) -> Generator[socket.socket]:
    """A socket that hears all frames of an interface, or those of an EtherType that no macvlan there
    takes; EnvironmentMissing where it may not."""
    if interface not in (name for _, name in socket.if_nameindex()):
        raise InputError(f"{interface}: there is no such interface here")
    try:
        port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except PermissionError:
        raise EnvironmentMissing(f"{interface}: raw sockets need CAP_NET_RAW") from None
    with port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _QUEUE_BYTES)
        port.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        port.bind((interface, ether_type))
        yield port


def tap(
    port: socket.socket,
    watcher: TapWatcher,
    said: tuple[str, str, float],
    file: IO[str],
    *,
    ended: Callable[[], bool],
    ready: Callable[[], None],
) -> int:
    """Write down watched packets until `ended`; how many. `said`: interface, the key's commitment, rate.

    A frame's time is the kernel's.
    """
    began_us = time.time_ns() // 1000
    file.write(json.dumps(header(*said, began_us)) + "\n")
    file.flush()
    overflowed(port)
    ready()
    seen = ended_us = 0
    while True:
        if not ended_us and ended():
            ended_us = time.time_ns() // 1000
        if not select.select([port], [], [], 0 if ended_us else _LOOK_S)[0]:
            if ended_us:
                break
            file.flush()
            continue
        frame, ancillary, _, address = port.recvmsg(_MOST_FRAME, 128)
        at_us, kind = _time_us(ancillary), address[2]
        if ended_us and at_us > ended_us:
            break
        if kind not in (_OUTGOING, _HOST):
            continue
        sight = watcher.saw(frame, at_us, SENT if kind == _OUTGOING else RECEIVED)
        if sight is not None:
            file.write(line(sight))
            seen += 1
            if seen % _FLUSH == 0:
                file.flush()
    file.write(json.dumps({"ended_us": ended_us, "missed": overflowed(port)}) + "\n")
    return seen


def _time_us(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            return seconds * 1_000_000 + nanoseconds // 1000
    return time.time_ns() // 1000

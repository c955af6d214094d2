"""New flows, one after another, inside hosts: each datagram from a source port of its own.

send HOST PORT FIRST RATE    numbered datagrams, RATE a second, from source ports FIRST, FIRST + 1, ...
hear PORT                    the numbers that arrive
Each says `ready`, runs until its standard input ends, and prints JSON: the times (monotonic seconds, one
clock for all namespaces of a machine) by number.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time

_NUMBER = struct.Struct("!Q")
_PORTS = 20_000


def send(host: str, port: str, first: str, rate: str) -> dict[int, float]:
    """Until told to end."""
    sent: dict[int, float] = {}
    started = time.monotonic()
    _ready()
    while not _ended(0.001):
        due = int((time.monotonic() - started) * int(rate))
        while len(sent) < due:
            number = len(sent)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
                out.bind(("", int(first) + number % _PORTS))
                out.sendto(_NUMBER.pack(number), (host, int(port)))
            sent[number] = time.monotonic()
    return sent


def hear(port: str) -> dict[int, float]:
    """Until told to end."""
    heard: dict[int, float] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as incoming:
        incoming.bind(("", int(port)))
        _ready()
        while True:
            readable, _, _ = select.select([incoming, sys.stdin], [], [])
            if incoming not in readable:
                return heard
            (number,) = _NUMBER.unpack(incoming.recv(64)[: _NUMBER.size])
            heard.setdefault(number, time.monotonic())


def _ended(pause: float) -> bool:
    readable, _, _ = select.select([sys.stdin], [], [], pause)
    return bool(readable)


def _ready() -> None:
    print("ready", flush=True)


if __name__ == "__main__":
    command, *words = sys.argv[1:]
    print(json.dumps({"send": send, "hear": hear}[command](*words)))

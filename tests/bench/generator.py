"""Sends frames at bounded rates, from inside a namespace; or sends every frame back.

generator.py send IF CPU FILE     FILE: hex lines; then "RATE SECONDS" lines on the standard
                                  input, each answered by {"sent", "seconds"}
generator.py echo IF CPU          what a worker costs at least
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from itertools import cycle, islice
from pathlib import Path

from servernf.host.packetio import PacketSocket

BURST = 16


def send(interface: str, file: Path) -> None:
    frames = [bytes.fromhex(line) for line in file.read_text().split()]
    with PacketSocket(interface, promiscuous=False, rcvbuf=1 << 16) as port:
        endless = cycle(frames)
        print("ready", flush=True)
        for line in sys.stdin:
            rate, seconds = map(float, line.split())
            wanted, sent = round(rate * seconds), 0
            started = time.monotonic()
            while sent < wanted:
                ahead = started + sent / rate - time.monotonic()
                if ahead > 0:
                    time.sleep(ahead)
                sent += port.send_batch(list(islice(endless, min(BURST, wanted - sent))))
            print(json.dumps({"sent": sent, "seconds": time.monotonic() - started}), flush=True)


def echo(interface: str) -> None:
    with PacketSocket(interface, promiscuous=False) as port:
        print("ready", flush=True)
        while True:
            select.select([port], [], [])
            port.send_batch(port.recv_batch())


if __name__ == "__main__":
    what, name, cpu, *rest = sys.argv[1:]
    os.sched_setaffinity(0, {int(cpu)})
    if what == "send":
        send(name, Path(rest[0]))
    else:
        echo(name)

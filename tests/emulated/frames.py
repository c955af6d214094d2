"""Raw frames, from inside a namespace: hex lines in, hex lines out.

send IF RATE          send every frame of the standard input, at most RATE a second
ask IF SECONDS TEXT   send the first frame, print the frames that contain TEXT (hex)
"""

from __future__ import annotations

import sys
import time

from servernf.host.packetio import PacketSocket

BURST = 16


def send(interface: str, rate: float) -> None:
    frames = [bytes.fromhex(line) for line in sys.stdin]
    with PacketSocket(interface, promiscuous=False) as port:
        started = time.monotonic()
        for at in range(0, len(frames), BURST):
            time.sleep(max(0.0, started + at / rate - time.monotonic()))
            port.send_batch(frames[at : at + BURST])


def ask(interface: str, seconds: float, wanted: bytes) -> None:
    with PacketSocket(interface) as port:
        port.send_batch([bytes.fromhex(sys.stdin.readline())])
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            answers = [frame for frame in port.recv_batch() if wanted in frame]
            for frame in answers:
                print(frame.hex())
            if answers:
                return
            time.sleep(0.01)


if __name__ == "__main__":
    what, interface, *rest = sys.argv[1:]
    if what == "send":
        send(interface, float(rest[0]))
    else:
        ask(interface, float(rest[0]), bytes.fromhex(rest[1]))
